//! The demo replica on real loopback sockets: every row of its contract, its start and its shutdown.

#![cfg(test)]

mod handed_over;
mod http;
mod life;
mod program;
mod raw;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A step that takes longer than this hangs. Far above the time of any step, and above the replica's own grace period.
const HANG: Duration = Duration::from_secs(30);

/// A replica in this process, on a port of its own.
struct Replica {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Replica {
    async fn start() -> Self {
        Self::start_as("server1").await
    }

    async fn start_as(id: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let serving = tokio::spawn(backend::serve(listener, id, stop.clone().cancelled_owned()));
        Self { address, stop, serving }
    }

    async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Sends `request` on a connection of its own and returns the answer.
    async fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await
    }

    /// Stops the replica, and returns when it has ended.
    async fn stop(self) {
        self.stop.cancel();
        timeout(HANG, self.serving).await.expect("the shutdown hangs").unwrap();
    }
}

/// One connection; each method reads only what it returns.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(timeout(HANG, TcpStream::connect(address)).await.unwrap().unwrap()))
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(HANG, self.0.write_all(bytes.as_ref())).await.expect("not read").unwrap();
    }

    /// Sends the FIN. The connection can still receive.
    async fn finish(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// The next line, with its ending.
    async fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        timeout(HANG, self.0.read_until(b'\n', &mut line)).await.expect("no line").unwrap();
        line
    }

    async fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        timeout(HANG, self.0.read_exact(&mut bytes)).await.expect("too few bytes").unwrap();
        bytes
    }

    /// Everything up to the end of the replica's stream.
    async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        timeout(HANG, self.0.read_to_end(&mut bytes)).await.expect("no end").unwrap();
        bytes
    }

    /// Ends the connection with an RST.
    fn reset(self) {
        self.0.get_ref().set_zero_linger().unwrap();
    }

    /// The status line and the header lines of the next answer, in lower case.
    async fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let line = self.line().await;
            assert!(!line.is_empty(), "the head ends early: {head:?}");
            head.push_str(str::from_utf8(&line).unwrap());
        }
        head.to_lowercase()
    }

    /// The next answer, which has a Content-Length.
    async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let length = Answer::header_in(&head, "content-length").expect("a length").parse().unwrap();
        Answer { body: self.exactly(length).await, head }
    }
}

struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        Self::header_in(&self.head, name)
    }

    fn header_in<'a>(head: &'a str, name: &str) -> Option<&'a str> {
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}
