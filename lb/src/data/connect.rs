//! Brings a client to a replica: tries the candidates for its key in order, a bounded number of them, each with a deadline.
//!
//! There are two transports. A replica that takes connections over gets the client's socket; to any other replica a second
//! connection is made (proxy). If a replica refuses, does not answer, or drops the connection before a byte was forwarded, the
//! next candidate is tried. A failure on this side of the connection is never held against a replica.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use handoff::Refused;
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_quickack;
use rustix::net::{SendFlags, send};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::time::{Instant, sleep, timeout};

use super::admission::Places;
use super::client::Client;
use super::socket::write_some;
use super::source::{Reading, Source};
use super::stream::Stream;
use super::{Limits, Plane};
use crate::net::{Endpoint, SECOND_THOUGHT, is_local, look_twice, more_telling, no_answer_at_path};
use crate::replica::{About, Dialled, HandedOver, Lease, Replica};
use crate::snapshot::{Slot, Snapshot};

/// How long a connect to a Unix socket waits when its queue is full, before it is tried again.
const QUEUE: Duration = Duration::from_millis(20);

/// What is known of a client that needs a replica.
pub(super) struct Request<'a> {
    /// Its key.
    pub(super) key: &'a [u8],
    /// The request id, where the first line holds one.
    pub(super) id: Option<&'a [u8]>,
    /// The bytes that have to be forwarded to a replica.
    pub(super) head: &'a [u8],
    /// How far it may go.
    pub(super) limits: &'a Limits,
    /// What the connection holds until its end.
    pub(super) places: Option<&'a Arc<Places>>,
}

/// How a client reached a replica.
pub(super) enum Reached {
    /// There is a connection to it.
    Connected(Upstream),
    /// It has the client's socket; nothing is left to do.
    HandedOver(Arc<Replica>),
}

impl Reached {
    /// The replica that it reached.
    pub(super) fn replica(&self) -> &Replica {
        match self {
            Reached::Connected(upstream) => upstream.lease.replica(),
            Reached::HandedOver(replica) => replica,
        }
    }
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
    pub(super) stream: Stream,
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
/// its head. Returns the slot of that replica as well. `None`: no replica can be reached.
///
/// Every attempt that fails is added to `failed`.
pub(super) async fn first_reachable<'a>(
    snapshot: &'a Snapshot,
    request: &Request<'a>,
    client: &Client,
    plane: &Plane,
    failed: &mut Vec<Attempt>,
) -> Option<(&'a Slot, Reached)> {
    let candidates = snapshot.leases(request.key).take(request.limits.connect_attempts);
    for (attempt, (slot, lease)) in candidates.enumerate() {
        let about = About { slot: &slot.name, key: request.key, request_id: request.id, attempt };
        let offer = Offer { client, places: request.places, most: snapshot.most_per_replica() };
        let step = match hand_over(lease, &offer, about, plane, failed) {
            Step::Stay(lease) => proxy(lease, request, plane, failed).await,
            step => step,
        };
        if let Step::Done(reached) = step {
            return Some((slot, reached));
        }
    }
    None
}

/// A client that may be handed over.
struct Offer<'a> {
    client: &'a Client,
    places: Option<&'a Arc<Places>>,
    /// The most connections that a replica may have.
    most: usize,
}

/// Hands the client's socket to the replica, if the replica takes connections over and the runtime does not watch the socket.
fn hand_over(
    lease: Lease,
    offer: &Offer<'_>,
    about: About<'_>,
    plane: &Plane,
    failed: &mut Vec<Attempt>,
) -> Step {
    let (Some(socket), Some(link)) = (offer.client.unwatched(), lease.replica().link()) else {
        return Step::Stay(lease);
    };
    let replica = Arc::clone(lease.replica());
    lease.connected();
    let places = offer.places.map(|places| Arc::clone(places) as _);
    let held = HandedOver { lease, counted: plane.handed_over.token(), places };
    let Err(refused) = link.hand_over(socket, held, about) else {
        replica.counters.dialled(Dialled::Ok);
        return Step::Done(Reached::HandedOver(replica));
    };
    replica.not_connected();
    let is_full = is_full(&refused);
    failed.push(Attempt::refused(&replica, refused));
    if is_full {
        replica.probe_soon();
        return Step::Next;
    }
    // The replica may be well, so its key stays at home, unless another connection has taken its last place meanwhile.
    replica.lease_within(about.key, offer.most).map_or(Step::Next, Step::Stay)
}

/// Connects to the replica and forwards the head.
async fn proxy(lease: Lease, request: &Request<'_>, plane: &Plane, failed: &mut Vec<Attempt>) -> Step {
    let replica = lease.replica();
    match connect_to_any(replica, request.head, request.limits).await {
        Ok((stream, forwarded)) => {
            replica.counters.dialled(Dialled::Ok);
            lease.connected();
            Step::Done(Reached::Connected(Upstream { stream, lease, forwarded }))
        }
        Err(error) => {
            let outcome = outcome(&error);
            replica.counters.dialled(outcome);
            if outcome == Dialled::Local {
                plane.warnings.local_connect(&replica.hostname, &error);
            } else {
                replica.suspicion.raise();
                replica.probe_soon();
            }
            failed.push(Attempt { hostname: replica.hostname.clone(), transport: "", error });
            Step::Next
        }
    }
}

/// What a failed attempt counts as.
fn outcome(error: &io::Error) -> Dialled {
    match error.kind() {
        _ if is_local(error) => Dialled::Local,
        ErrorKind::ConnectionRefused => Dialled::Refused,
        ErrorKind::TimedOut => Dialled::Timeout,
        _ => Dialled::Other,
    }
}

/// Whether the replica does not read its link at the moment. (A shortage on this machine is not its fault.)
fn is_full(refused: &Refused) -> bool {
    matches!(refused, Refused::Full(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Connects to the first address of the replica that answers, and forwards `head`. Returns as [`connect`].
async fn connect_to_any(replica: &Replica, head: &[u8], limits: &Limits) -> io::Result<(Stream, usize)> {
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
    address: &Endpoint,
    head: &[u8],
    limits: &Limits,
) -> io::Result<(Stream, usize)> {
    let is_suspect = replica.suspicion.is_raised();
    let is_sent_at_once = !head.is_empty() && !is_suspect;
    let socket = match address {
        Endpoint::Tcp(address) => dial(*address, is_sent_at_once, limits)?,
        // Boxed, because it rarely waits.
        Endpoint::Unix(path) => Box::pin(dial_path(path, limits)).await?,
    };
    let stream = Stream::watch(socket.into()).map_err(|(_, error)| error)?;
    if is_sent_at_once {
        // On one machine the handshake is over when `connect` returns. Otherwise this fails and takes no byte (connect(2),
        // EINPROGRESS; tcp(7) queues nothing before the handshake).
        match send(&stream, head, SendFlags::NOSIGNAL) {
            Ok(forwarded) => return Ok((stream, forwarded)),
            Err(Errno::AGAIN | Errno::NOTCONN | Errno::INTR) => {}
            Err(error) => return Err(stream.take_error()?.unwrap_or_else(|| error.into())),
        }
    }
    let connected = timeout(limits.connect_timeout, stream.writable());
    connected.await.map_err(|_| io::Error::new(ErrorKind::TimedOut, "no answer to the connect"))??;
    stream.take_error()?.map_or(Ok(()), Err)?;
    if is_suspect {
        // Nothing is forwarded yet, so another replica may still be tried. (Boxed, because it is rare.)
        Box::pin(look_twice(peek(&stream), SECOND_THOUGHT)).await?;
        replica.suspicion.clear();
    }
    // What is not written now goes with the relay.
    if head.is_empty() {
        return Ok((stream, 0));
    }
    match write_some(&stream, head, false) {
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok((stream, 0)),
        written => Ok((stream, written?)),
    }
}

/// Waits for a first byte without taking it. Returns how many bytes there are, at most one; at the end, none.
async fn peek(stream: &Stream) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        if let Some(bytes) = Source::Watched(stream).read(Reading::Peek, 1, |_, _| ())? {
            return Ok(bytes);
        }
    }
}

/// Makes a socket that connects, or has connected. With `bytes_follow`, the last step of the handshake waits for those bytes
/// instead of taking its own packet (tcp(7), `TCP_QUICKACK`).
///
/// The socket is set up for one message each way. The relay sets it up for more when there are more.
fn dial(address: SocketAddr, bytes_follow: bool, limits: &Limits) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    if !address.ip().is_loopback() {
        // Another machine may vanish without a word; this one cannot.
        limits.peer.set(&socket);
    }
    limits.peer.set_buffers(&socket);
    if bytes_follow {
        // If it fails, the connection takes one packet more.
        let _ = set_tcp_quickack(&socket, false);
    }
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Makes a socket that has connected to a Unix socket. One whose queue is full is tried again until the time for a connect is over: the
/// kernel does not tell when there is room (connect(2), EAGAIN).
async fn dial_path(path: &Path, limits: &Limits) -> io::Result<Socket> {
    let deadline = Instant::now() + limits.connect_timeout;
    let address = SockAddr::unix(path)?;
    let socket = Socket::new_raw(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    limits.peer.set_buffers(&socket);
    loop {
        match socket.connect(&address) {
            Ok(()) => return Ok(socket),
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                sleep(QUEUE).await;
            }
            Err(error) => return Err(no_answer_at_path(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::data::testing::limits;

    fn replica(address: SocketAddr) -> Replica {
        Replica::new("a".to_owned(), address.into(), CancellationToken::new())
    }

    #[test]
    fn each_failed_attempt_counts_as_what_it_is() {
        let cases = [
            (Errno::CONNREFUSED.into(), Dialled::Refused),
            (Errno::TIMEDOUT.into(), Dialled::Timeout),
            (io::Error::new(ErrorKind::TimedOut, "no answer"), Dialled::Timeout),
            (Errno::ADDRNOTAVAIL.into(), Dialled::Local),
            (Errno::MFILE.into(), Dialled::Local),
            (Errno::HOSTUNREACH.into(), Dialled::Other),
            (io::Error::new(ErrorKind::ConnectionAborted, "at once"), Dialled::Other),
        ];
        for (error, expected) in cases {
            assert_eq!(outcome(&error), expected, "{error}");
        }
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
