//! Runs `bench` and reads its output and files.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A limit for every wait: generous, because the machine may be slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(900);

/// A program of the workspace. `cargo test --workspace` builds all of them before the first test runs.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_bench")).with_file_name(name);
    assert!(path.is_file(), "{name} is not built: cargo build --bin lb --bin backend");
    path
}

/// `bench` with these arguments.
pub(crate) fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The result of a run of `bench`.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn of(output: &Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    #[track_caller]
    pub(crate) fn succeeded(self) -> Ran {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// It refused its command line, with these words.
    #[track_caller]
    pub(crate) fn refused_with(self, words: &str) {
        assert_eq!(self.code, Some(2), "{}\n{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(words), "{words:?} is not in: {}", self.stderr);
    }

    /// It failed at run time, with these words.
    #[track_caller]
    pub(crate) fn failed_with(self, words: &str) -> Ran {
        assert_eq!(self.code, Some(1), "{}\n{}", self.stdout, self.stderr);
        assert!(
            self.stderr.contains("error: ") && self.stderr.contains(words),
            "{words:?} is not in: {}",
            self.stderr
        );
        self
    }
}

/// Runs `bench` to its end.
pub(crate) fn run(arguments: &[&str]) -> Ran {
    end_of(bench(arguments).spawn().unwrap())
}

/// Waits for the end of a running `bench`; kills it and fails if it hangs.
#[track_caller]
pub(crate) fn end_of(mut child: Child) -> Ran {
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            pipe.unwrap().read_to_end(&mut text).map(|_| text)
        })
    };
    let stdout = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("bench hangs: {:?}", stderr.join().unwrap());
        }
        breathe();
    };
    let [stdout, stderr] = [stdout, stderr].map(|reader| reader.join().unwrap().unwrap());
    Ran::of(&Output { status, stdout, stderr })
}

/// A folder, and a file in it for `--json`.
pub(crate) struct Results(TempDir);

impl Results {
    pub(crate) fn new() -> Results {
        Results(TempDir::new().unwrap())
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.0.path().join("out")
    }

    pub(crate) fn file(&self) -> String {
        self.0.path().join("numbers.json").to_str().unwrap().to_owned()
    }

    /// The content of the file.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.file()).unwrap()).unwrap()
    }
}

/// Runs `bench` with `--json`; returns its result and the numbers.
pub(crate) fn measured(arguments: &[&str]) -> (Ran, Value) {
    let results = Results::new();
    let ran = run(&[arguments, &["--json", &results.file()]].concat());
    assert!(Path::new(&results.file()).is_file(), "there are no numbers: {ran:?}");
    (ran, results.json())
}

/// Waits until `condition` gives something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        breathe();
    }
}

#[expect(clippy::disallowed_methods, reason = "the pause between two checks of a condition")]
fn breathe() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Waits until a `bench` has used some CPU time.
pub(crate) fn until_it_works(child: &Child) {
    eventually("a run under way", || (ticks(child.id()) > 10).then_some(()));
}

/// The CPU time of a process in clock ticks.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
