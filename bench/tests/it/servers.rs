//! Servers for `bench` to talk to: the demo replica, and some that misbehave.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::harness::program;

/// A running demo replica, killed when it is dropped.
pub(crate) struct Backend {
    child: Child,
    pub(crate) address: String,
}

impl Backend {
    pub(crate) fn start(id: &str) -> Backend {
        let mut command = Command::new(program("backend"));
        command.args(["--listen", "127.0.0.1:0", "--id", id]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_whitespace().find(|word| word.starts_with("127.")).unwrap().to_owned();
        Backend { child, address }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running `lb`, ended when it is dropped.
pub(crate) struct Lb {
    child: Child,
    pub(crate) data: String,
    pub(crate) control: String,
}

impl Lb {
    /// Starts it on free ports, and waits until its replicas are in rotation.
    pub(crate) fn start(flags: &[&str]) -> Lb {
        let mut command = Command::new(program("lb"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]).args(flags);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = log.find(|line| line.contains(" ready data=")).unwrap();
        // Its log must still be read, or lb would block.
        thread::spawn(move || log.for_each(drop));
        let address =
            |name| line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap().to_owned();
        Lb { child, data: address("data="), control: address("control=") }
    }

    /// The answer to `rep`.
    pub(crate) fn replicas(&self) -> String {
        let mut stream = TcpStream::connect(&self.control).unwrap();
        stream.write_all(b"{\"cmd\":\"rep\"}\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Lb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that runs `serve` with each connection and its number, from 0 on.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, serve) = (listener.local_addr().unwrap(), Arc::new(serve));
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (serve, number) = (Arc::clone(&serve), count.fetch_add(1, SeqCst));
                thread::spawn(move || serve(stream, number));
            }
        });
        Server { address, accepted }
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

/// Reads a line, waits, and sends it back after a name.
pub(crate) fn echo_line(stream: &TcpStream, after: Duration) {
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream);
    while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        delay(after);
        if (&*stream).write_all(&[b"slow ", line.as_slice()].concat()).is_err() {
            return;
        }
        line.clear();
    }
}

#[expect(clippy::disallowed_methods, reason = "a server that is slow")]
fn delay(time: Duration) {
    thread::sleep(time);
}

/// Reads, and never answers.
pub(crate) fn hold(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}
