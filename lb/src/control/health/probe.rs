//! One probe: asks a replica, with a deadline. It judges the answer, and nothing else.
//!
//! A probe is never a reason for a healthy server to complain. An HTTP answer is read to its end. A TCP connection is reset before
//! the server's program sees it: a connection that is made and closed without a word would count as a broken client there, and a
//! server may ban such a client.
//!
//! Each probe makes a connection of its own. A connection that is kept would show that an old one works, not that a new client is
//! served, and it would hold one of the threads of a server that has one for each connection.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::header::{CONNECTION, HOST};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt::set_tcp_quickack;
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::net::{SECOND_THOUGHT, look_twice};

/// The response header in which a replica may name itself: its hostname, which it gets as `SERVER_ID`. An address can pass to
/// another server, which may answer probes as well.
const SERVER_ID: &str = "lb-server-id";
/// The longest part of a foreign name in a reason, in bytes.
const LONGEST_NAME: usize = 100;
/// The longest body of an answer that is read to its end, in bytes. It bounds what a probe costs the thread of all probes.
const LONGEST_BODY: usize = 4 << 20;

/// The kinds of probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Passes if `GET` of this path is answered with a status below 400.
    Http(String),
    /// Passes if a connection can be made. While the replica is in doubt, it must not close the connection at once either.
    Tcp,
}

/// Sends one probe. It passes if the result is `Ok`.
///
/// The bytes `first` come before all others. With `identity`, an answer that names another hostname fails. `in_doubt`: the replica is not known to be healthy.
///
/// # Errors
/// Why the probe failed, or a shortage on this machine ([`is_local`](crate::net::is_local)).
pub(super) async fn ask(
    probe: &Probe,
    (address, first): (SocketAddr, &[u8]),
    identity: Option<&str>,
    in_doubt: bool,
    limit: Duration,
) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    let late = |_| io::Error::new(ErrorKind::TimedOut, format!("no answer within {limit:?}"));
    match probe {
        Probe::Http(path) => {
            let answer = timeout_at(deadline, Answer::to_get(address, first, path)).await.map_err(late)??;
            let verdict = answer.judge(identity);
            // What it says is known. The rest is read for the server's sake, and may be late.
            let _ = timeout_at(deadline, answer.read_to_the_end()).await;
            verdict
        }
        Probe::Tcp => {
            let look = in_doubt.then(|| SECOND_THOUGHT.min(limit / 2));
            timeout_at(deadline, ask_tcp(address, first, look)).await.map_err(late)?
        }
    }
}

/// The answer to an HTTP request, up to its body.
struct Answer {
    response: Response<Incoming>,
    /// Moves the bytes of the connection. Dropped with the answer, it closes the connection.
    _connection: AbortOnDropHandle<()>,
}

impl Answer {
    async fn to_get(address: SocketAddr, first: &[u8], path: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(first).await?;
        let (mut sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| in_full(&error))?;
        // An error of the connection is the error of the request.
        let connection = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
        let request = hyper::Request::get(path).header(HOST, address.to_string()).header(CONNECTION, "close");
        let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(|error| in_full(&error))?;
        Ok(Answer { response, _connection: connection })
    }

    fn judge(&self, identity: Option<&str>) -> io::Result<()> {
        let status = self.response.status();
        if status.as_u16() >= 400 {
            return Err(io::Error::other(format!("status {status}")));
        }
        match (identity, self.response.headers().get(SERVER_ID)) {
            (Some(identity), Some(given)) if given != identity => {
                let name = &given.as_bytes()[..given.len().min(LONGEST_NAME)];
                Err(io::Error::other(format!("another server answers there: \"{}\"", name.escape_ascii())))
            }
            _ => Ok(()),
        }
    }

    /// Reads the body to its end. A server whose answer is cut off logs an error.
    async fn read_to_the_end(mut self) {
        let mut room = LONGEST_BODY;
        while let Some(Ok(frame)) = self.response.body_mut().frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match room.checked_sub(length) {
                Some(less) => room = less,
                None => return,
            }
        }
    }
}

/// The error with its causes, which hyper leaves out.
fn in_full(error: &hyper::Error) -> io::Error {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    io::Error::other(text)
}

/// Connects, and takes a `look` at whether the replica closes the connection at once. Ends with a reset.
///
/// Without a look, the last step of the handshake waits (tcp(7), `TCP_QUICKACK`) and the reset takes its place: the server's program
/// never sees the connection.
async fn ask_tcp(address: SocketAddr, first: &[u8], look: Option<Duration>) -> io::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    if look.is_none() {
        set_tcp_quickack(&socket, false)?;
    }
    let mut stream = socket.connect(address).await?;
    match look {
        Some(moment) => {
            stream.write_all(first).await?;
            look_twice(&stream, moment).await
        }
        None => Ok(()),
    }
}
