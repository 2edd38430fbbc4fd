//! A real `lb` on free ports, replicas that misbehave on demand, and ways to wait for a state instead of a time.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long any state may take to come: the machine may be slow, a hang is not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

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

#[expect(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
fn breathe() {
    thread::sleep(Duration::from_millis(2));
}

/// A running `lb`, killed when it is dropped (and with it its children).
pub(crate) struct Lb {
    child: Child,
    pub(crate) data: SocketAddr,
    pub(crate) control: SocketAddr,
    log: Arc<Log>,
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

    /// The same, without waiting for its replicas.
    pub(crate) fn launch(flags: &[&str]) -> Lb {
        Lb::launch_as(Lb::command(flags))
    }

    /// `lb serve` on free ports with these flags, to be changed before it is launched.
    pub(crate) fn command(flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]).args(flags);
        command
    }

    /// Launches a command that is (or in the end becomes) `lb`, and waits until it listens.
    pub(crate) fn launch_as(mut command: Command) -> Lb {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (log, stderr) = (Arc::new(Log::default()), child.stderr.take().unwrap());
        let sink = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                sink.lines.lock().unwrap().push(line);
                sink.more.notify_all();
            }
        });
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut lb = Lb { child, data: unknown, control: unknown, log };
        let line = lb.wait_for_log("listening data=");
        lb.data = field(&line, "data=").parse().unwrap();
        lb.control = field(&line, "control=").parse().unwrap();
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

    /// Waits for a line of the log that holds `part`, from the start of the log on.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, part: &str) -> String {
        let lines = self.log.lines.lock().unwrap();
        let is_missing = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(part));
        let (lines, timed_out) = self.log.more.wait_timeout_while(lines, PATIENCE, is_missing).unwrap();
        assert!(!timed_out.timed_out(), "no line of the log holds {part:?}:\n{}", lines.join("\n"));
        lines.iter().find(|line| line.contains(part)).unwrap().clone()
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
        patient(TcpStream::connect(self.data).unwrap())
    }

    /// Sends `bytes` and FIN to the data port; all that comes back.
    pub(crate) fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    /// The hostname of the demo replica that gets this request id, by the raw line mode; "" if none answers.
    pub(crate) fn route(&self, id: &str) -> String {
        let answer = String::from_utf8(self.exchange(format!("{id}\n").as_bytes())).unwrap();
        answer.split(' ').next().unwrap_or_default().to_owned()
    }

    /// The answer of the control port to one JSON line.
    pub(crate) fn ask(&self, command: &Value) -> Value {
        let mut stream = patient(TcpStream::connect(self.control).unwrap());
        stream.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?} is no answer: {error}"))
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

    /// The slot with this index.
    pub(crate) fn slot(&self, index: u64) -> Value {
        let found = self.backends().into_iter().find(|slot| slot["index"] == index);
        found.unwrap_or_else(|| panic!("there is no slot {index}"))
    }

    /// Waits until the slot with this index is in `state`; the slot.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, index: u64, state: &str) -> Value {
        eventually(&format!("slot {index} in state {state}"), || {
            Some(self.slot(index)).filter(|slot| slot["state"] == state)
        })
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

    /// The process of the demo replica with this hostname.
    #[track_caller]
    pub(crate) fn process_of(&self, hostname: &str) -> u32 {
        let wanted = format!("SERVER_ID={hostname}");
        let is_it = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|variable| variable == wanted.as_bytes())
        };
        self.children().into_iter().find(is_it).unwrap_or_else(|| panic!("{hostname} does not run"))
    }

    /// How many files `lb` has open.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
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

/// The rest of a word in a line.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap_or_default()
}

/// Sends a signal to a process: `signal(pid, "KILL")`.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -s {name} {pid}");
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// A stream that does not wait for ever.
pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Ends a connection with a reset.
pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// A replica in this process: passes its probes as long as it is told to, and does with every other connection what the
/// test says.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    /// Whether probes are answered with 200; else with 500.
    pub(crate) healthy: Arc<AtomicBool>,
    /// Connections that were no probes.
    pub(crate) sessions: Arc<AtomicUsize>,
}

impl Replica {
    /// `serve` gets every connection that is no probe, with what was read from it to find that out (perhaps nothing).
    pub(crate) fn start(serve: impl Fn(TcpStream, Vec<u8>) + Send + Sync + 'static) -> Replica {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (healthy, sessions) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (is_healthy, count, serve) = (Arc::clone(&healthy), Arc::clone(&sessions), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (is_healthy, count, serve) =
                    (Arc::clone(&is_healthy), Arc::clone(&count), Arc::clone(&serve));
                thread::spawn(move || {
                    let mut stream = patient(stream);
                    let mut first = [0; 4096];
                    let Ok(n) = stream.read(&mut first) else { return };
                    if first[..n].starts_with(b"GET /heartbeat ") {
                        let status = if is_healthy.load(Ordering::Relaxed) { "200 OK" } else { "500 Sick" };
                        let _ = write!(
                            stream,
                            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                        );
                    } else {
                        count.fetch_add(1, Ordering::Relaxed);
                        serve(stream, first[..n].to_vec());
                    }
                });
            }
        });
        Replica { address, healthy, sessions }
    }

    /// A replica that sends back what it gets.
    pub(crate) fn echo() -> Replica {
        Replica::start(|mut stream, first| {
            let _ = stream.write_all(&first);
            let mut reader = stream.try_clone().unwrap();
            let _ = std::io::copy(&mut reader, &mut stream);
        })
    }

    /// A replica that answers with its name and leaves.
    pub(crate) fn named(name: &'static str) -> Replica {
        Replica::start(move |mut stream, _| {
            let _ = stream.write_all(name.as_bytes());
        })
    }
}

/// The flags for a fixed fleet of these replicas, called a, b, c ...
pub(crate) fn fixed(replicas: &[SocketAddr]) -> Vec<String> {
    let backends =
        ('a'..).zip(replicas).flat_map(|(name, address)| ["--backend".into(), format!("{name}={address}")]);
    ["--provider".to_owned(), "fixed".to_owned()].into_iter().chain(backends).collect()
}

/// Flags as `Lb::start` takes them.
pub(crate) fn flags(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

/// An id that goes to the slot called `name`, by `explain`.
#[track_caller]
pub(crate) fn id_for(lb: &Lb, name: &str) -> String {
    let goes_there = |id: &String| {
        let explanation = lb.done(&json!({"cmd": "explain", "id": id}));
        explanation["candidates"][0]["name"] == name
    };
    (100_000..101_000).map(|id| id.to_string()).find(goes_there).unwrap()
}
