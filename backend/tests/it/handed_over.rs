//! Connections that arrive by hand-off.

use std::io::Write as _;
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::process::Stdio;

use handoff::{Channel, Closed, Ended, Metadata, Refused};
use tempfile::TempDir;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::program::{Program, program};
use crate::{Client, HANG};

const HOME: &str = "GET /home?id=132574 HTTP/1.1\r\nHost: x\r\n\r\n";

/// The program, and a way to hand connections over to it.
struct Replica {
    program: Program,
    port: u16,
    channel: Channel,
    closed: Closed,
    _folder: TempDir,
}

impl Replica {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replica");
        let mut program =
            Program::start(program(&["--listen", "127.0.0.1:0", "--id", "S5"]).env("LB_HANDOFF", &path));
        let (port, _) = program.listening("127.0.0.1").await;
        assert_eq!(
            program.log_line().await,
            format!("connections may be handed over at {}\n", path.display())
        );
        let (channel, closed) = Channel::connect(&path).unwrap();
        Replica { program, port, channel, closed, _folder: folder }
    }

    fn hand_over(&self, number: u64, bytes: &str) -> Result<Client, Refused> {
        let (client, socket) = accepted(bytes);
        let metadata = Metadata::new(number, b"server2", b"132574", Some(b"132574"));
        self.channel.send(&socket, &metadata).map(|()| client)
    }

    async fn reported(&mut self) -> Vec<u64> {
        timeout(HANG, self.closed.next()).await.expect("no report").unwrap()
    }

    async fn is_gone(&mut self) {
        let end = timeout(HANG, async {
            loop {
                if let Err(end) = self.closed.next().await {
                    return end;
                }
            }
        });
        assert!(matches!(end.await.expect("no end"), Ended::Gone));
    }
}

/// A client that has sent `bytes`, and its accepted connection, unread.
fn accepted(bytes: &str) -> (Client, StdStream) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let mut client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(bytes.as_bytes()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    assert!(bytes.is_empty() || accepted.peek(&mut [0]).unwrap() == 1);
    accepted.set_nonblocking(true).unwrap();
    client.set_nonblocking(true).unwrap();
    (Client(BufReader::new(TcpStream::from_std(client).unwrap())), accepted)
}

#[tokio::test]
async fn handed_over_connections_are_answered_like_direct_ones() {
    let mut replica = Replica::start().await;
    let mut handed_over = replica.hand_over(1, HOME).unwrap();
    let mut own = Client::connect(([127, 0, 0, 1], replica.port).into()).await;
    own.send(HOME).await;
    let (theirs, its) = (handed_over.answer().await, own.answer().await);
    assert_eq!(theirs.text(), r#"{"message":"Hello from Server: S5","status":"successful"}"#);
    assert_eq!(theirs.text(), its.text());
    for (name, value) in [("lb-server-id", "s5"), ("content-type", "application/json")] {
        assert_eq!((theirs.header(name), its.header(name)), (Some(value), Some(value)));
    }
    drop(handed_over);
    assert_eq!(replica.reported().await, [1]);

    let mut raw = replica.hand_over(2, "132574\n").unwrap();
    assert_eq!(raw.line().await, b"S5 132574\n");
    raw.send("again\n").await;
    assert_eq!(raw.line().await, b"S5 again\n");
    raw.finish().await;
    assert_eq!(raw.rest().await, b"");
    assert_eq!(replica.reported().await, [2]);
}

#[tokio::test]
async fn sigterm_finishes_open_and_queued_connections() {
    let mut replica = Replica::start().await;
    let mut busy = replica.hand_over(1, "GET /bytes/50000000 HTTP/1.1\r\n\r\n").unwrap();
    assert!(busy.head().await.starts_with("http/1.1 200 "));
    let mut idle = replica.hand_over(2, "").unwrap();
    // While it is stopped, its queue fills; when it continues, it finds the queue and the signal.
    replica.program.signal("STOP").await;
    let mut waiting: Vec<Client> = (3..10).map(|number| replica.hand_over(number, HOME).unwrap()).collect();
    replica.program.signal("TERM").await;
    replica.program.signal("CONT").await;
    for client in &mut waiting {
        assert_eq!(client.answer().await.status(), "200");
        assert_eq!(client.rest().await, b"");
    }
    assert_eq!(idle.rest().await, b"");
    assert_eq!(busy.rest().await.len(), 50_000_000);
    assert_eq!(replica.program.exit().await.code(), Some(0));
    replica.is_gone().await;
    assert!(matches!(replica.hand_over(11, HOME), Err(Refused::Gone(_))));
}

#[tokio::test]
async fn handed_over_connections_outlive_lb() {
    let mut replica = Replica::start().await;
    let mut client = replica.hand_over(1, "a\n").unwrap();
    assert_eq!(client.line().await, b"S5 a\n");
    drop((replica.closed, replica.channel));
    client.send("b\n").await;
    assert_eq!(client.line().await, b"S5 b\n");
    replica.program.signal("TERM").await;
    assert_eq!(replica.program.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_shortage_of_descriptors_loses_no_queued_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replica");
    let limited = r#"ulimit -n 32; exec "$0" --listen 127.0.0.1:0 --id S5"#;
    let mut command = Command::new("sh");
    command.args(["-c", limited, env!("CARGO_BIN_EXE_backend")]).env("LB_HANDOFF", &path);
    let mut program = Program::start(command.stdin(Stdio::null()));
    program.listening("127.0.0.1").await;
    program.log_line().await;
    let (channel, mut closed) = Channel::connect(&path).unwrap();
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..100 {
        let (client, socket) = accepted("a\n");
        channel.send(&socket, &Metadata::new(number, b"server1", b"a", None)).unwrap();
        clients.push(client);
    }
    // Each client is served as soon as earlier clients have freed descriptors.
    for mut client in clients {
        assert_eq!(client.line().await, b"S5 a\n");
    }
    let mut reported = Vec::new();
    while reported.len() < 100 {
        reported.extend(timeout(HANG, closed.next()).await.expect("no report").unwrap());
    }
    reported.sort_unstable();
    assert_eq!(reported, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_empty_path_turns_hand_off_off() {
    let mut program = Program::start(program(&["--listen", "127.0.0.1:0"]).env("LB_HANDOFF", ""));
    program.listening("127.0.0.1").await;
    program.signal("TERM").await;
    assert_eq!(program.exit().await.code(), Some(0));
    assert_eq!(program.log_line().await, "");
}

#[tokio::test]
async fn a_path_that_cannot_be_bound_ends_it_with_1_and_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nowhere").join("replica");
    let mut program = Program::start(program(&["--listen", "127.0.0.1:0"]).env("LB_HANDOFF", &path));
    assert_eq!(program.exit().await.code(), Some(1));
    let reason = program.log_line().await;
    assert!(reason.starts_with(&format!("cannot listen on {}: ", path.display())), "{reason}");
}
