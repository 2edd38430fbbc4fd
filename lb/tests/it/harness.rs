//! A real `lb` on free ports, replicas that misbehave on demand, and ways to wait for a state instead of a time.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub(crate) use crate::arguments::{Stage, fixed, flags, with_files};
pub(crate) use crate::gate::{Gate, demo_after};
use crate::namespaces::inside;
pub(crate) use crate::processes::{group_of, is_alive, processes_with, signal};
pub(crate) use crate::replica::Replica;
pub(crate) use crate::streams::{patient, raw_answer, reset, say, session};
pub(crate) use crate::wire::{Wire, every_relay, every_relay_with};

/// The longest wait for any state. A slow machine stays below it; a hang does not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` returns a value.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, condition)
}

/// Like [`eventually`], for what takes longer than others.
#[track_caller]
pub(crate) fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        breathe();
    }
}

#[expect(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
fn breathe() {
    thread::sleep(Duration::from_millis(2));
}

/// A running `lb`. Dropping it kills the process, and its children end with it.
pub(crate) struct Lb {
    child: Child,
    pub(crate) data: SocketAddr,
    pub(crate) control: SocketAddr,
    /// The network namespace of its ports; `None` for that of this process.
    namespace: Option<File>,
    log: Arc<Log>,
    /// Keeps the log's pipe open after the last line was read.
    _reader: thread::JoinHandle<BufReader<ChildStderr>>,
}

/// The lines of a log so far.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Lb {
    /// Starts `lb serve` on free ports with these flags, and waits until all replicas are in rotation.
    pub(crate) fn start(flags: &[&str]) -> Lb {
        let lb = Lb::launch(flags);
        lb.wait_for_log("ready data=");
        lb
    }

    /// Like [`Lb::start`], without waiting for the replicas.
    pub(crate) fn launch(flags: &[&str]) -> Lb {
        Lb::launch_as(Lb::command(flags))
    }

    /// `lb serve` on free ports with these flags, for a test that changes the command before it launches it.
    pub(crate) fn command(flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]).args(flags);
        command
    }

    /// Launches a command that becomes `lb` in another network namespace (exec), and waits until it listens.
    pub(crate) fn launch_elsewhere(command: Command) -> Lb {
        let mut lb = Lb::launch_as(command);
        lb.namespace = Some(File::open(format!("/proc/{}/ns/net", lb.pid())).unwrap());
        lb
    }

    /// Launches a command that is `lb` or becomes it (exec), and waits until it listens.
    pub(crate) fn launch_as(command: Command) -> Lb {
        Lb::launch_read_until(command, |_| false)
    }

    /// Like [`Lb::launch_as`], but the log is read only up to the line that says where `lb` listens.
    pub(crate) fn launch_unread(command: Command) -> Lb {
        Lb::launch_read_until(command, |line| line.contains("listening data="))
    }

    fn launch_read_until(mut command: Command, is_last: impl Fn(&str) -> bool + Send + 'static) -> Lb {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (log, stderr) = (Arc::new(Log::default()), child.stderr.take().unwrap());
        let sink = Arc::clone(&log);
        let reader = thread::spawn(move || {
            let mut stderr = BufReader::new(stderr);
            for line in stderr.by_ref().lines().map_while(Result::ok) {
                let is_last = is_last(&line);
                sink.lines.lock().unwrap().push(line);
                sink.more.notify_all();
                if is_last {
                    break;
                }
            }
            stderr
        });
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut lb = Lb { child, data: unknown, control: unknown, namespace: None, log, _reader: reader };
        let line = lb.wait_for_log("listening data=");
        // In a JSON log, a quote ends the last address. Of several, it is the first.
        let address = |name| field(&line, name).split(['"', ',']).next().unwrap().parse().unwrap();
        (lb.data, lb.control) = (address("data="), address("control="));
        lb
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lines.lock().unwrap().clone()
    }

    /// Waits until a line of the log contains `part`; lines that are there already count.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, part: &str) -> String {
        self.wait_for_line(part, |line| line.contains(part))
    }

    /// Waits for the line that a finished session of this client writes to the log at level `debug`.
    #[track_caller]
    pub(crate) fn session_of(&self, client: SocketAddr) -> String {
        let client = client.to_string();
        self.wait_for_line(&client, |line| field(line, "peer=") == client)
    }

    #[track_caller]
    fn wait_for_line(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let find = |lines: &[String]| lines.iter().find(|line| is_it(line)).cloned();
        let lines = self.log.lines.lock().unwrap();
        let is_missing = |lines: &mut Vec<String>| find(lines).is_none();
        let (lines, _) = self.log.more.wait_timeout_while(lines, PATIENCE, is_missing).unwrap();
        let found = find(&lines);
        drop(lines); // A failure prints the log, which takes the lock.
        found.unwrap_or_else(|| panic!("no line of the log contains {what:?}"))
    }

    /// Sends a signal to the process: `signal("TERM")`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits until the process has ended.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the end of lb", || self.child.try_wait().unwrap())
    }

    /// A new connection to the data port.
    pub(crate) fn connect(&self) -> TcpStream {
        self.dial(self.data)
    }

    /// A new connection to one of its ports.
    pub(crate) fn dial(&self, address: SocketAddr) -> TcpStream {
        let dial = || patient(TcpStream::connect(address).unwrap());
        match &self.namespace {
            None => dial(),
            Some(namespace) => inside(namespace, dial),
        }
    }

    /// Sends `bytes` and FIN to the data port; everything that comes back.
    pub(crate) fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    /// Sends this request id as a raw line; the hostname of the demo replica that answers, or "" if none does.
    pub(crate) fn route(&self, id: &str) -> String {
        let answer = String::from_utf8(self.exchange(format!("{id}\n").as_bytes())).unwrap();
        answer.split(' ').next().unwrap_or_default().to_owned()
    }

    /// Everything that comes back for an HTTP request, until the connection ends or breaks.
    pub(crate) fn get(&self, target: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // If the connection breaks, the answer is incomplete.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    /// The answer of the control port to one JSON line.
    pub(crate) fn ask(&self, command: &Value) -> Value {
        let mut stream = self.dial(self.control);
        stream.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("not an answer: {line:?}: {error}"))
    }

    /// The message of a successful answer.
    #[track_caller]
    pub(crate) fn done(&self, command: &Value) -> Value {
        let answer = self.ask(command);
        assert_eq!(answer["status"], "successful", "{command}: {answer}");
        answer["message"].clone()
    }

    /// The message of a failure.
    #[track_caller]
    pub(crate) fn refused(&self, command: &Value) -> String {
        let answer = self.ask(command);
        assert_eq!(answer["status"], "failure", "{command}: {answer}");
        answer["message"].as_str().unwrap().to_owned()
    }

    /// The hostnames that `rep` lists.
    pub(crate) fn hostnames(&self) -> Vec<String> {
        let replicas = self.done(&json!({"cmd": "rep"}))["replicas"].clone();
        serde_json::from_value(replicas).unwrap()
    }

    /// Every slot, as `backends` shows it.
    pub(crate) fn backends(&self) -> Vec<Value> {
        self.done(&json!({"cmd": "backends"}))["backends"].as_array().unwrap().clone()
    }

    /// Every spare, as `backends` shows it.
    pub(crate) fn spares(&self) -> Vec<Value> {
        let backends = self.done(&json!({"cmd": "backends"}));
        backends.get("spares").map_or_else(Vec::new, |spares| spares.as_array().unwrap().clone())
    }

    /// The slot with this index.
    pub(crate) fn slot(&self, index: u64) -> Value {
        let found = self.backends().into_iter().find(|slot| slot["index"] == index);
        found.unwrap_or_else(|| panic!("there is no slot {index}"))
    }

    /// Waits until the slot with this index is in `state`, and returns the slot.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, index: u64, state: &str) -> Value {
        eventually(&format!("slot {index} in state {state}"), || {
            self.backends().into_iter().find(|slot| slot["index"] == index && slot["state"] == state)
        })
    }

    /// Waits until the slot with this index is up and has been refilled `restarts` times, and returns the slot.
    #[track_caller]
    pub(crate) fn wait_for_restarts(&self, index: u64, restarts: u64) -> Value {
        eventually(&format!("slot {index} up after {restarts} restarts"), || {
            Some(self.slot(index)).filter(|slot| slot["state"] == "up" && slot["restarts"] == restarts)
        })
    }

    /// Waits until another replica than `before` is up in the slot of `before`, and returns the slot.
    #[track_caller]
    pub(crate) fn wait_for_replacement(&self, before: &Value) -> Value {
        let slot = eventually("a replacement in rotation", || {
            let slot = self.slot(before["index"].as_u64().unwrap());
            (slot["state"] == "up" && slot["restarts"] != before["restarts"]).then_some(slot)
        });
        assert_eq!(slot["name"], before["name"]);
        slot
    }

    /// Waits until every slot is up.
    #[track_caller]
    pub(crate) fn wait_until_all_up(&self) {
        eventually("all slots up", || self.backends().iter().all(|slot| slot["state"] == "up").then_some(()));
    }

    /// The child processes that `lb` has now.
    pub(crate) fn children(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = std::fs::read_to_string(path).unwrap_or_default();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).filter(|&pid| is_alive(pid)).collect()
    }

    /// The process id of the demo replica with this hostname.
    #[track_caller]
    pub(crate) fn process_of(&self, hostname: &str) -> u32 {
        let children = self.children();
        let found =
            processes_with(&format!("SERVER_ID={hostname}")).into_iter().find(|pid| children.contains(pid));
        found.unwrap_or_else(|| panic!("{hostname} does not run"))
    }

    /// The number of open file descriptors of `lb`.
    pub(crate) fn open_files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid());
        // Only root may list them. Since Linux 6.2 their number is the size of the folder.
        match std::fs::read_dir(&folder) {
            Ok(files) => files.count(),
            Err(_) => std::fs::metadata(&folder).unwrap().len() as usize,
        }
    }

    /// The most files that `lb` may have open when all connections have ended. Probes may keep one connection to each replica, and
    /// may not have begun to.
    pub(crate) fn files_at_rest(&self) -> usize {
        self.open_files() + self.backends().len()
    }

    /// The resident memory of `lb`, in bytes.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// The names of the slots in the order in which `id` tries them, according to `explain`.
    pub(crate) fn order(&self, id: &str) -> Vec<String> {
        let explanation = self.done(&json!({"cmd": "explain", "id": id}));
        let candidates = explanation["candidates"].as_array().unwrap();
        candidates.iter().map(|candidate| candidate["name"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Lb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of lb ---\n{}", self.log().join("\n"));
        }
    }
}

/// What follows `name` in the word of `line` that begins with it; "" if there is no such word.
pub(crate) fn field<'a>(line: &'a str, name: &str) -> &'a str {
    line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap_or_default()
}

/// The text of a JSON string.
#[track_caller]
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

/// An id whose first candidate is the slot `name`, according to `explain`.
#[track_caller]
pub(crate) fn id_for(lb: &Lb, name: &str) -> String {
    let goes_there = |id: &String| {
        let explanation = lb.done(&json!({"cmd": "explain", "id": id}));
        explanation["candidates"][0]["name"] == name
    };
    (100_000..101_000).map(|id| id.to_string()).find(goes_there).unwrap()
}
