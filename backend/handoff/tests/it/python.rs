//! The Python example: another language implements the specification, and a replica that can be killed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use handoff::{Channel, Closed, Ended, Refused};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep};

use crate::harness::*;
use crate::raw::{connect, is_ended, send};

/// The example as a process that ends with the test.
struct Python {
    child: Child,
    port: u16,
}

impl Python {
    /// `None` on a machine without Python; in CI that is a failure.
    fn start(path: &Path) -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/replica.py");
        let mut command = Command::new("python3");
        command.arg(script).env("LB_HANDOFF", path).env("SERVER_ID", "S5").env_remove("PORT");
        let mut child = match command.stdout(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "python3 cannot be run: {error}");
                eprintln!("skipped: python3 cannot be run: {error}");
                return None;
            }
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim_end().rsplit(' ').next().and_then(|port| port.parse().ok());
        let mut python = Python { child, port: 0 };
        python.port = port.unwrap_or_else(|| panic!("{line}"));
        Some(python)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + HANG;
    while !is_so() {
        assert!(Instant::now() < deadline, "did not happen: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn replica() -> Option<(Site, Python, Channel, Closed)> {
    let site = Site::new();
    let python = Python::start(&site.path())?;
    let (channel, closed) = site.connect();
    Some((site, python, channel, closed))
}

/// Hands over a client that has asked for /NUMBER.
fn ask(channel: &Channel, number: u64) -> Result<Client, Refused> {
    let (client, socket) = client(&format!("GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n"));
    channel.send(&socket, &about(number)).map(|()| client)
}

async fn is_answered(client: &mut Client, path: &str) {
    let mut lines = vec![client.line().await];
    while lines.last().unwrap() != "\r\n" {
        lines.push(client.line().await);
    }
    assert_eq!(lines[0], "HTTP/1.1 200 OK\r\n");
    assert_eq!(client.line().await, format!("hello from S5: {path}\n"));
}

#[tokio::test]
async fn it_serves_requests_and_reports_closes() {
    let Some((_site, python, channel, mut closed)) = replica() else { return };
    is_answered(&mut ask(&channel, 200).unwrap(), "/200").await;
    assert_eq!(reported(&mut closed, 1).await, [200]);
    let files = python.files();
    for number in 0..200 {
        let mut client = ask(&channel, number).unwrap();
        is_answered(&mut client, &format!("/{number}")).await;
        client.send("GET /again HTTP/1.1\r\nHost: x\r\n\r\n").await;
        is_answered(&mut client, "/again").await;
    }
    assert_eq!(reported(&mut closed, 200).await, (0..200).collect::<Vec<_>>());
    eventually("the descriptors are closed", || python.files() == files).await;
    let own = tokio::net::TcpStream::connect(("127.0.0.1", python.port)).await.unwrap();
    let mut own = Client(tokio::io::BufReader::new(own));
    own.0.write_all(b"GET /own HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    is_answered(&mut own, "/own").await;
}

#[tokio::test]
async fn it_goes_on_without_lb_and_with_the_next_one() {
    let Some((site, _python, channel, closed)) = replica() else { return };
    let mut client = ask(&channel, 1).unwrap();
    is_answered(&mut client, "/1").await;
    drop((channel, closed));
    client.send("GET /still HTTP/1.1\r\nHost: x\r\n\r\n").await;
    is_answered(&mut client, "/still").await;
    let (channel, mut closed) = site.connect();
    is_answered(&mut ask(&channel, 1).unwrap(), "/1").await;
    assert_eq!(reported(&mut closed, 1).await, [1]);
}

#[tokio::test]
async fn clients_in_the_queue_of_a_killed_replica_are_cut_off() {
    let Some((_site, mut python, channel, mut closed)) = replica() else { return };
    let mut served = ask(&channel, 0).unwrap();
    is_answered(&mut served, "/0").await;
    python.signal(Signal::STOP);
    let mut clients: Vec<Client> = (1..20).map(|number| ask(&channel, number).unwrap()).collect();
    python.signal(Signal::KILL);
    for client in &mut clients {
        client.is_cut_off().await;
    }
    assert!(served.end().await.is_ok());
    assert!(matches!(ended(&mut closed).await, Ended::Gone));
    assert!(matches!(ask(&channel, 99), Err(Refused::Gone(_))));
    assert!(!python.child.wait().unwrap().success());
}

#[tokio::test]
async fn a_replica_that_hangs_is_full_and_serves_its_queue_when_it_goes_on() {
    let Some((_site, python, channel, mut closed)) = replica() else { return };
    is_answered(&mut ask(&channel, 0).unwrap(), "/0").await;
    assert_eq!(reported(&mut closed, 1).await, [0]);
    python.signal(Signal::STOP);
    let mut clients = Vec::new();
    let refused = loop {
        match ask(&channel, clients.len() as u64) {
            Ok(client) => clients.push(client),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Refused::Full(_)), "{refused}");
    python.signal(Signal::CONT);
    for (number, client) in clients.iter_mut().enumerate() {
        is_answered(client, &format!("/{number}")).await;
    }
    let count = clients.len();
    drop(clients);
    assert_eq!(reported(&mut closed, count).await, (0..count as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn garbage_ends_its_own_unix_connection_and_no_other() {
    let Some((site, _python, channel, mut closed)) = replica() else { return };
    let message = about(1);
    let good = message.as_bytes();
    for garbage in [b"hello".to_vec(), [&good[..8], b"\x02", &good[9..]].concat(), [good, b"x"].concat()] {
        let bad = connect(&site.path());
        send(&bad, &garbage, &[]);
        is_ended(bad).await;
    }
    is_answered(&mut ask(&channel, 1).unwrap(), "/1").await;
    assert_eq!(reported(&mut closed, 1).await, [1]);
}
