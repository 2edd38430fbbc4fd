//! Brings a client to a replica: tries the candidates for its key in order, a bounded number of them, each with a deadline.
//!
//! There are two transports. A replica that takes connections over gets the client's socket; to any other replica a second
//! connection is made (proxy). If a replica refuses, does not answer, or drops the connection before a byte was forwarded, the
//! next candidate is tried. A failure on this side of the connection is never held against a replica.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

use handoff::Refused;
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_quickack;
use rustix::net::{SendFlags, send};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::Client;
use super::{Limits, Plane};
use crate::net::{KEEPALIVE, SECOND_THOUGHT, is_local, look_twice, more_telling};
use crate::replica::{About, HandedOver, Lease, Replica};
use crate::snapshot::Snapshot;

/// What is known of a client that needs a replica.
pub(super) struct Request<'a> {
    /// Its key.
    pub(super) key: &'a [u8],
    /// The request id, where the first line holds one.
    pub(super) id: Option<&'a [u8]>,
    /// The bytes that have to be forwarded to a replica.
    pub(super) head: &'a [u8],
}

/// How a client reached a replica.
pub(super) enum Reached {
    /// There is a connection to it.
    Connected(Upstream),
    /// It has the client's socket; nothing is left to do.
    HandedOver(Arc<Replica>),
}

/// How a transport answers for one candidate.
enum Step {
    /// The client has its replica.
    Done(Reached),
    /// The next candidate's turn.
    Next,
    /// This candidate again, by the other transport.
    Stay(Lease),
}

/// A connection to a replica that has received the head, or the beginning of it.
pub(super) struct Upstream {
    pub(super) stream: TcpStream,
    pub(super) lease: Lease,
    /// How many bytes of the head are written; nearly always all of them.
    pub(super) forwarded: usize,
}

/// An attempt that failed.
#[derive(Debug)]
pub(super) struct Attempt {
    hostname: String,
    /// The transport, as the log shows it.
    transport: &'static str,
    error: io::Error,
}

impl Attempt {
    fn refused(replica: &Replica, refused: Refused) -> Self {
        let (Refused::Full(error) | Refused::Gone(error)) = refused;
        Attempt { hostname: replica.hostname.clone(), transport: "hand-off: ", error }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{}", self.hostname, self.transport, self.error)
    }
}

/// Brings a client to the first candidate for its key that can be reached: hands it over, or makes a connection and forwards
/// its head. `None`: no replica can be reached.
///
/// Every attempt that fails is added to `failed`.
pub(super) async fn first_reachable(
    snapshot: &Snapshot,
    request: &Request<'_>,
    client: &Client,
    plane: &Plane,
    failed: &mut Vec<Attempt>,
) -> Option<Reached> {
    let candidates = snapshot.leases(request.key).take(plane.limits.connect_attempts);
    for (attempt, (slot, lease)) in candidates.enumerate() {
        let about = About { slot: &slot.name, key: request.key, request_id: request.id, attempt };
        let step = match hand_over(lease, client, about, plane, failed) {
            Step::Stay(lease) => proxy(lease, request.head, &plane.limits, failed).await,
            step => step,
        };
        if let Step::Done(reached) = step {
            return Some(reached);
        }
    }
    None
}

/// Hands the client's socket to the replica, if the replica takes connections over and the runtime does not watch the socket.
fn hand_over(
    lease: Lease,
    client: &Client,
    about: About<'_>,
    plane: &Plane,
    failed: &mut Vec<Attempt>,
) -> Step {
    let (Client::Unwatched(socket), Some(link)) = (client, lease.replica().link()) else {
        return Step::Stay(lease);
    };
    let replica = Arc::clone(lease.replica());
    lease.connected();
    let Err(refused) =
        link.hand_over(socket, HandedOver { lease, counted: plane.handed_over.token() }, about)
    else {
        return Step::Done(Reached::HandedOver(replica));
    };
    replica.not_connected();
    let is_full = is_full(&refused);
    failed.push(Attempt::refused(&replica, refused));
    if is_full {
        replica.probe_soon();
        return Step::Next;
    }
    // The replica may be well, so its key stays at home.
    Step::Stay(replica.lease(about.key))
}

/// Connects to the replica and forwards the head.
async fn proxy(lease: Lease, head: &[u8], limits: &Limits, failed: &mut Vec<Attempt>) -> Step {
    let replica = lease.replica();
    match connect_to_any(replica, head, limits).await {
        Ok((stream, forwarded)) => {
            lease.connected();
            Step::Done(Reached::Connected(Upstream { stream, lease, forwarded }))
        }
        Err(error) => {
            if !is_local(&error) {
                replica.suspect();
                replica.probe_soon();
            }
            failed.push(Attempt { hostname: replica.hostname.clone(), transport: "", error });
            Step::Next
        }
    }
}

/// Whether the replica does not read its link at the moment. (A shortage on this machine is not its fault.)
fn is_full(refused: &Refused) -> bool {
    matches!(refused, Refused::Full(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Connects to the first address of the replica that answers, and forwards `head`. Returns as [`connect`].
async fn connect_to_any(replica: &Replica, head: &[u8], limits: &Limits) -> io::Result<(TcpStream, usize)> {
    let mut failure = None;
    for address in replica.addresses().iter() {
        match connect(replica, address, head, limits).await {
            Ok(connected) => {
                replica.prefer(address);
                return Ok(connected);
            }
            Err(error) => failure = Some(more_telling(failure, error)),
        }
    }
    Err(failure.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into()))
}

/// Connects, and forwards `head` with one write. Returns the stream, and how many bytes were written.
///
/// From the first byte that is forwarded, no other address or replica is tried for this connection.
async fn connect(
    replica: &Replica,
    address: SocketAddr,
    head: &[u8],
    limits: &Limits,
) -> io::Result<(TcpStream, usize)> {
    let is_suspect = replica.is_suspect();
    let is_sent_at_once = !head.is_empty() && !is_suspect;
    let mut stream = TcpStream::from_std(dial(address, is_sent_at_once)?.into())?;
    if is_sent_at_once {
        // On one machine the handshake is over when `connect` returns. Otherwise this fails and takes no byte (connect(2),
        // EINPROGRESS; tcp(7) queues nothing before the handshake).
        match send(&stream, head, SendFlags::NOSIGNAL) {
            Ok(forwarded) => return Ok((stream, forwarded)),
            Err(Errno::AGAIN | Errno::NOTCONN) => {}
            Err(error) => return Err(stream.take_error()?.unwrap_or_else(|| error.into())),
        }
    }
    let connected = timeout(limits.connect_timeout, stream.writable());
    connected.await.map_err(|_| io::Error::new(ErrorKind::TimedOut, "no answer to the connect"))??;
    stream.take_error()?.map_or(Ok(()), Err)?;
    if is_suspect {
        // Nothing is forwarded yet, so another replica may still be tried. (Boxed, because it is rare.)
        Box::pin(look_twice(&stream, SECOND_THOUGHT)).await?;
        replica.trust();
    }
    let forwarded = if head.is_empty() { 0 } else { stream.write(head).await? };
    Ok((stream, forwarded))
}

/// Makes a socket that connects, or has connected. With `bytes_follow`, the last step of the handshake waits for those bytes
/// instead of taking its own packet (tcp(7), `TCP_QUICKACK`).
///
/// The socket is set up for one message each way. The relay sets it up for more when there are more.
fn dial(address: SocketAddr, bytes_follow: bool) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    if !address.ip().is_loopback() {
        // Another machine may vanish without a word; this one cannot.
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

    use proto::control::Transport;
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
            transport: Transport::Proxy,
        }
    }

    fn replica(address: SocketAddr) -> Replica {
        Replica::new("a".to_owned(), address.into(), CancellationToken::new())
    }

    #[tokio::test]
    async fn a_refused_connect_says_so() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for head in [b"132574\n".as_slice(), b""] {
            let error = connect_to_any(&replica(gone), head, &limits()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        }
    }
}
