//! System calls of `lb` that fail or hang on demand, by strace(1).

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::harness::{Lb, eventually, signal};

/// The threads of `lb` with this name.
pub(crate) fn threads_named(lb: &Lb, name: &str) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{}/task", lb.pid())).unwrap().map_while(Result::ok);
    let is_it =
        |path: &std::path::Path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name);
    let found = threads.filter(|thread| is_it(&thread.path()));
    found.map(|thread| thread.file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// System calls of some threads that do not do what they should, until this is dropped.
pub(crate) struct Tracer {
    strace: Child,
    log: tempfile::NamedTempFile,
}

impl Tracer {
    /// Tampers with the system calls of these threads, as strace(1) describes under `--inject`. `None` without strace, or where
    /// tracing is forbidden; with the variable `CI` that is a failure.
    pub(crate) fn tamper(threads: &[u32], call: &str, how: &str) -> Option<Tracer> {
        assert!(!threads.is_empty(), "there is such a thread");
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("strace");
        command.args(["-q", "-o"]).arg(log.path());
        command.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{how}")]);
        command.args(threads.iter().map(|thread| format!("--attach={thread}")));
        let strace = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut tracer = strace.ok().map(|strace| Tracer { strace, log });
        let works = tracer.as_mut().is_some_and(|tracer| {
            eventually("strace at work", || {
                let ended = tracer.strace.try_wait().unwrap().is_some();
                let is_traced = |thread: &u32| {
                    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
                    // A thread that is gone was traced.
                    status.is_empty()
                        || status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
                };
                if threads.iter().all(is_traced) { Some(true) } else { ended.then_some(false) }
            })
        });
        if !works {
            eprintln!("skipped: strace cannot trace here");
            assert!(std::env::var_os("CI").is_none(), "strace cannot trace here");
        }
        tracer.filter(|_| works)
    }

    /// How many calls were made meanwhile.
    pub(crate) fn calls(&self) -> usize {
        self.lines().len()
    }

    /// The calls that were made meanwhile, as strace(1) shows them.
    pub(crate) fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.log.path()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if self.strace.try_wait().is_ok_and(|ended| ended.is_none()) {
            // Told to end, it lets the threads go.
            signal(self.strace.id(), "TERM");
        }
        let _ = self.strace.wait();
    }
}
