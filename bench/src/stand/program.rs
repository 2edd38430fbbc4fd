//! A started program and its log.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, PidfdFlags, Signal, getppid, kill_process, pidfd_open, set_parent_process_death_signal,
};
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Log lines that are kept.
const KEPT: usize = 200;
/// Log lines in an error message.
const SHOWN: usize = 5;
/// How long a program may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(20);

/// The path of a program beside this one: `cargo` puts all programs of the workspace into one folder.
///
/// # Errors
/// It does not exist; the message says how to build it.
pub(crate) fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the path of this program")?;
    let path = own.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    let is_release = own.parent().is_some_and(|folder| folder.ends_with("release"));
    let profile = if is_release { " --release" } else { "" };
    bail!("{name} is not built: run cargo build{profile} --bin lb --bin backend")
}

/// Becomes another program, which gets SIGTERM when `parent` ends, and which runs on `core` if one is given.
///
/// # Errors
/// The program or the core does not exist, or the parent has already ended.
pub(crate) fn become_program(
    parent: i32,
    core: Option<usize>,
    command: &[OsString],
) -> anyhow::Result<Infallible> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    if getppid() != Pid::from_raw(parent) {
        bail!("bench has ended");
    }
    if let Some(core) = core {
        pin(core)?;
    }
    let (program, arguments) = command.split_first().context("there is no program")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// Pins this thread, and those that it starts, to a core.
///
/// # Errors
/// This process cannot use the core.
pub(crate) fn pin(core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("cannot use core {core} alone"))
}

/// A running program. Dropping it ends the program and waits for it.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
    log: Arc<Log>,
}

#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Lines>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Lines {
    last: VecDeque<String>,
    is_over: bool,
}

impl Program {
    /// Starts a program. It gets its own process group, so that Ctrl-C reaches only `bench`; and it ends with the thread that
    /// starts it, which should be the main one.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(command: &Command, core: Option<usize>) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy();
        let name = name.rsplit('/').next().unwrap_or_default().to_owned();
        let mut outer =
            Command::new(std::env::current_exe().context("cannot find the path of this program")?);
        outer.args(["child", "--parent", &std::process::id().to_string()]);
        if let Some(core) = core {
            outer.args(["--core", &core.to_string()]);
        }
        outer.arg("--").arg(command.get_program()).args(command.get_args());
        // Every flag of lb is also a variable. Variables of the user's lb must not change the measurement.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"LB_")) {
            outer.env_remove(name);
        }
        outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        outer.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = outer.spawn().with_context(|| format!("cannot start {name}"))?;
        let log = Arc::new(Log::default());
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            thread::spawn(move || listen(BufReader::new(stderr), &log));
        }
        Ok(Program { name, child, log })
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a log line that contains `part`; returns the line.
    ///
    /// # Errors
    /// The program ends first, or takes too long; the message has its last lines.
    pub(crate) async fn says(&self, part: &str, patience: Duration) -> anyhow::Result<String> {
        self.says_one(|line| line.contains(part), patience).await
    }

    /// Waits until it ends or the time is over, and returns the error. For a program that never logs that it is ready.
    pub(crate) async fn fails(&self, patience: Duration) -> anyhow::Error {
        match self.says_one(|_| false, patience).await {
            Ok(line) => anyhow!("{} logs {line}", self.name),
            Err(error) => error,
        }
    }

    async fn says_one(&self, is_it: impl Fn(&str) -> bool, patience: Duration) -> anyhow::Result<String> {
        let line = async {
            loop {
                let more = self.log.more.notified();
                match self.log.find(&is_it) {
                    (Some(line), _) => return Some(line),
                    (None, true) => return None,
                    (None, false) => more.await,
                }
            }
        };
        match timeout(patience, line).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => bail!("{} has ended: {}", self.name, self.last_words()),
            Err(_) => bail!("{} did not get ready within {patience:?}: {}", self.name, self.last_words()),
        }
    }

    /// The last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        let lines = self.log.lines();
        let shown: Vec<&str> = lines.last.iter().rev().take(SHOWN).rev().map(String::as_str).collect();
        if shown.is_empty() { "its log is empty".to_owned() } else { shown.join("\n") }
    }

    /// Ends it with SIGTERM, and waits for it; returns how it ended.
    ///
    /// # Errors
    /// It cannot be ended.
    pub(crate) fn finish(mut self) -> io::Result<ExitStatus> {
        self.end()
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let ended = pidfd_open(pid, PidfdFlags::empty())?;
            kill_process(pid, Signal::TERM)?;
            let limit = Timespec { tv_sec: GRACE.as_secs().cast_signed(), tv_nsec: 0 };
            // A signal to this process must not end the wait.
            let waited = retry_on_intr(|| poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&limit)));
            if waited? == 0 {
                self.child.kill()?;
            }
        }
        self.child.wait()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A program that cannot be ended now gets a signal when this process ends.
        let _ = self.end();
    }
}

impl Log {
    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, is_it: impl Fn(&str) -> bool) -> (Option<String>, bool) {
        let lines = self.lines();
        (lines.last.iter().find(|line| is_it(line)).cloned(), lines.is_over)
    }
}

/// Keeps the last lines of a program's log, until it ends.
fn listen(stderr: impl io::BufRead, log: &Log) {
    for line in stderr.lines().map_while(Result::ok) {
        let mut lines = log.lines();
        if lines.last.len() == KEPT {
            lines.last.pop_front();
        }
        lines.last.push_back(line);
        drop(lines);
        log.more.notify_waiters();
    }
    log.lines().is_over = true;
    log.more.notify_waiters();
}
