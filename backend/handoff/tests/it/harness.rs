//! Clients, senders and replicas for the tests.

use std::io::{self, ErrorKind, Write as _};
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use handoff::{Channel, Closed, Ended, Listener, Metadata, Refused, Stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A step that takes longer than this hangs. Far above the time of any step.
pub(crate) const HANG: Duration = Duration::from_secs(30);

static RAISED: Once = Once::new();

/// A folder with room for a socket.
pub(crate) struct Site {
    folder: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        // The tests share one process and need more open files than the usual limit allows.
        RAISED.call_once(|| {
            let limit = getrlimit(Resource::Nofile);
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
        });
        Site { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("replica")
    }

    pub(crate) fn listen(&self) -> Listener {
        Listener::bind(self.path()).unwrap()
    }

    pub(crate) fn connect(&self) -> (Channel, Closed) {
        Channel::connect(self.path()).unwrap()
    }
}

/// A client that has sent `line`, and its connection as `lb` has accepted it, unread.
pub(crate) fn client(line: &str) -> (Client, StdStream) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let mut client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(line.as_bytes()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    assert!(line.is_empty() || accepted.peek(&mut [0]).unwrap() == 1);
    accepted.set_nonblocking(true).unwrap();
    client.set_nonblocking(true).unwrap();
    (Client(BufReader::new(TcpStream::from_std(client).unwrap())), accepted)
}

/// The client's end of a connection.
pub(crate) struct Client(pub(crate) BufReader<TcpStream>);

impl Client {
    pub(crate) async fn send(&mut self, bytes: &str) {
        timeout(HANG, self.0.write_all(bytes.as_bytes())).await.expect("not read").unwrap();
    }

    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(HANG, self.0.read_line(&mut line)).await.expect("no line").unwrap();
        line
    }

    pub(crate) async fn exactly(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        timeout(HANG, self.0.read_exact(&mut bytes)).await.expect("too few bytes").unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// How the connection ends. It must end without another byte.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        let mut rest = Vec::new();
        timeout(HANG, self.0.read_to_end(&mut rest)).await.expect("no end")?;
        assert_eq!(rest.escape_ascii().to_string(), "");
        Ok(())
    }

    /// Waits until the connection has been cut off.
    pub(crate) async fn is_cut_off(&mut self) {
        assert_eq!(self.end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

/// A message about connection `number` in the slot "server1", with its number as the key.
pub(crate) fn about(number: u64) -> Metadata {
    Metadata::new(number, b"server1", number.to_string().as_bytes(), None)
}

/// Hands a new client over, as `number`; its first line is "NUMBER".
pub(crate) fn hand_over(channel: &Channel, number: u64) -> Result<Client, Refused> {
    let (client, socket) = client(&format!("{number}\n"));
    channel.send(&socket, &about(number)).map(|()| client)
}

/// Serves every client: each line comes back behind the key, until the client ends.
pub(crate) fn serve(mut listener: Listener) -> Serving {
    Serving(tokio::spawn(async move {
        loop {
            if let Ok((stream, metadata)) = listener.accept().await {
                tokio::spawn(echo(stream, metadata));
            }
        }
    }))
}

/// A task that is aborted when the test ends.
pub(crate) struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves one connection.
pub(crate) async fn echo(stream: Stream, metadata: Metadata) -> io::Result<()> {
    let (mut stream, mut line) = (BufReader::new(stream), Vec::new());
    while stream.read_until(b'\n', &mut line).await? > 0 {
        stream.write_all(&[metadata.key(), b": ", &line].concat()).await?;
        line.clear();
    }
    stream.shutdown().await
}

/// What [`echo`] answers to the first line of the client of [`hand_over`].
pub(crate) fn answer(number: u64) -> String {
    format!("{number}: {number}\n")
}

/// Waits for reports about `count` connections; their numbers, sorted.
pub(crate) async fn reported(closed: &mut Closed, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        numbers.extend(timeout(HANG, closed.next()).await.expect("no report").unwrap());
    }
    assert_eq!(numbers.len(), count);
    numbers.sort_unstable();
    numbers
}

/// Waits for the end of the Unix connection. No further report may come before it.
pub(crate) async fn ended(closed: &mut Closed) -> Ended {
    timeout(HANG, closed.next()).await.expect("no end").unwrap_err()
}

/// Hands sockets over until one is refused: how many were accepted, and why the next was not.
pub(crate) fn fill(channel: &Channel, socket: &StdStream) -> (u64, Refused) {
    for number in 0..10_000 {
        if let Err(refused) = channel.send(socket, &about(number)) {
            return (number, refused);
        }
    }
    panic!("the queue never fills");
}
