//! From a key to a connected replica: the candidates in order, each with a deadline, a bounded number of them.
//!
//! A replica that refuses, does not answer or drops the connection before a byte could be forwarded is passed over for
//! the next *distinct* one. What goes wrong on this side of the connection is never held against a replica.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_quickack;
use rustix::net::{SendFlags, send};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Limits;
use crate::net::{KEEPALIVE, SECOND_THOUGHT, is_local, look_twice};
use crate::snapshot::{Lease, Replica, Snapshot};

/// A connected replica that has got the head, or the beginning of it.
pub(super) struct Upstream {
    pub(super) stream: TcpStream,
    pub(super) lease: Lease,
    /// How many bytes of the head are written; nearly always all.
    pub(super) forwarded: usize,
}

/// An attempt that failed.
#[derive(Debug)]
pub(super) struct Attempt {
    hostname: String,
    error: io::Error,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.hostname, self.error)
    }
}

/// Connects to the first candidate for `key` that can be reached, and forwards `head` to it.
///
/// Every attempt that fails is added to `failed`. `None` where no replica can be had.
pub(super) async fn first_reachable(
    snapshot: &Snapshot,
    key: &[u8],
    head: &[u8],
    limits: &Limits,
    failed: &mut Vec<Attempt>,
) -> Option<Upstream> {
    for lease in snapshot.leases(key).take(limits.connect_attempts) {
        let replica = lease.replica();
        match attempt(replica, head, limits).await {
            Ok((stream, forwarded)) => {
                lease.connected();
                return Some(Upstream { stream, lease, forwarded });
            }
            Err(error) => {
                if !is_local(&error) {
                    replica.suspect();
                }
                failed.push(Attempt { hostname: replica.hostname.clone(), error });
            }
        }
    }
    None
}

/// Connects, and forwards what it can of `head`: the stream, and how many bytes that were.
///
/// One write: as soon as any of it is forwarded, there is no other replica for this connection.
async fn attempt(replica: &Replica, head: &[u8], limits: &Limits) -> io::Result<(TcpStream, usize)> {
    let is_suspect = replica.is_suspect();
    let is_sent_at_once = !head.is_empty() && !is_suspect;
    let mut stream = TcpStream::from_std(dial(replica.address, is_sent_at_once)?.into())?;
    if is_sent_at_once {
        // On the same machine the handshake is over before `connect` returns. Else this says that it is not, and that
        // nothing was taken (connect(2), EINPROGRESS; tcp(7) queues nothing before the handshake).
        match send(&stream, head, SendFlags::NOSIGNAL) {
            Ok(forwarded) => {
                acknowledge_at_once(&stream);
                return Ok((stream, forwarded));
            }
            Err(Errno::AGAIN | Errno::NOTCONN) => {}
            Err(error) => return Err(stream.take_error()?.unwrap_or_else(|| error.into())),
        }
    }
    let connected = timeout(limits.connect_timeout, stream.writable());
    connected.await.map_err(|_| io::Error::new(ErrorKind::TimedOut, "no answer to the connect"))??;
    stream.take_error()?.map_or(Ok(()), Err)?;
    if is_suspect {
        // Nothing is forwarded yet, so there is still another replica for this connection. (Boxed, because it is rare.)
        Box::pin(look_twice(&stream, SECOND_THOUGHT)).await?;
        replica.trust();
    }
    let forwarded = if head.is_empty() { 0 } else { stream.write(head).await? };
    if is_sent_at_once {
        acknowledge_at_once(&stream);
    }
    Ok((stream, forwarded))
}

/// Ends what [`dial`] began: a replica that writes twice and has not turned Nagle's algorithm off waits with the second
/// write until the first is acknowledged, and that would take 40 ms.
fn acknowledge_at_once(stream: &TcpStream) {
    // It is slower, but right, if it fails.
    let _ = set_tcp_quickack(stream, true);
}

/// A socket that connects, or has connected. With `bytes_follow` the last step of the handshake travels with them, and
/// not in a packet of its own (tcp(7), `TCP_QUICKACK`).
fn dial(address: SocketAddr, bytes_follow: bool) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if !address.ip().is_loopback() {
        // A machine that vanishes says nothing; one that is this machine cannot.
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    }
    if bytes_follow {
        set_tcp_quickack(&socket, false)?;
    }
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use rustix::net::sockopt::tcp_quickack;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::data::KeyKind;

    fn limits() -> Limits {
        Limits {
            key: KeyKind::Id,
            id_param: "id".to_owned(),
            first_line_timeout: Duration::from_secs(30),
            first_line_max: 8192,
            connect_timeout: Duration::from_secs(30),
            connect_attempts: 1,
        }
    }

    fn replica(address: SocketAddr) -> Replica {
        Replica::new("a".to_owned(), address, CancellationToken::new())
    }

    /// Nagle's algorithm on the other side holds back a second write as long as the first is not acknowledged.
    #[tokio::test]
    async fn what_a_replica_writes_first_is_acknowledged_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let replica = replica(listener.local_addr().unwrap());
        for head in [b"132574\n".as_slice(), b""] {
            let (stream, forwarded) = attempt(&replica, head, &limits()).await.unwrap();
            assert_eq!(forwarded, head.len());
            assert!(tcp_quickack(&stream).unwrap());
        }
    }

    #[tokio::test]
    async fn a_refused_connect_says_so() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for head in [b"132574\n".as_slice(), b""] {
            let error = attempt(&replica(gone), head, &limits()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        }
    }
}
