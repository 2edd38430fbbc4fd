//! One client connection from accept to the last byte: read the head, bring the client to a replica, relay, log.
//!
//! It decides nothing about replicas: which one is tried is the walk's decision, and its state is the control plane's.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream as StdStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use proto::control::Transport;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use tokio::time::{sleep, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{Level, debug, enabled};

use super::admission::Places;
use super::client::Client;
use super::connect::{Attempt, Reached, Request, Upstream, first_reachable};
use super::head::{self, Head, Kind};
use super::pair::Pair;
use super::relay::{self, Ending, Traffic};
use super::socket::{SOON, reset, write_some};
use super::source::{Reading, discard};
use super::{KeyKind, Limits, Plane};
use crate::net::is_local;
use crate::refusals::Reason;

/// How long a client that gets no replica may take to read the answer.
const FAREWELL: Duration = Duration::from_secs(1);
/// The body of the answer to an HTTP client that gets no replica.
const NO_REPLICA: &str = r#"{"message":"<Error> no server replica is available","status":"failure"}"#;

/// What a session has a part of until it ends.
pub(super) struct Room {
    /// It counts as a session.
    #[expect(dead_code, reason = "nothing reads it: it is dropped with the session")]
    pub(super) counted: TaskTrackerToken,
    /// Its places, where connections are limited.
    pub(super) places: Option<Arc<Places>>,
}

/// Serves one client.
///
/// The first poll happens here, so a client that is handed over without a wait costs no task. Everything before the relay is a
/// separate future, which is freed when the relay begins: most open connections are in the relay.
pub(super) fn start(client: StdStream, peer: SocketAddr, plane: Arc<Plane>, room: Room) {
    let mut opening = Box::pin(Session::open(Client::new(client), peer, plane, room));
    let relay = |opened: Option<(Session, Box<[u8]>)>| {
        if let Some((session, unsent)) = opened {
            tokio::spawn(session.relay(unsent));
        }
    };
    let mut context = Context::from_waker(Waker::noop());
    // As in a task: a panic over one client must not end the worker.
    match catch_unwind(AssertUnwindSafe(|| opening.as_mut().poll(&mut context))) {
        Ok(Poll::Ready(opened)) => relay(opened),
        Ok(Poll::Pending) => drop(tokio::spawn(async move { relay(opening.await) })),
        Err(_) => {}
    }
}

/// A client that is connected to a replica.
struct Session {
    pair: Pair,
    /// Only if a log line will be written.
    story: Option<Box<Story>>,
    _room: Room,
}

impl Session {
    /// Reads the head and brings the client to a replica. Returns the session with the client's bytes that are not written to
    /// the replica yet. `None`: there is nothing to relay.
    async fn open(
        mut client: Client,
        peer: SocketAddr,
        plane: Arc<Plane>,
        room: Room,
    ) -> Option<(Self, Box<[u8]>)> {
        let begun = Instant::now();
        let Head { mut bytes, kind, has_proxy_header } =
            match read_head(&mut client, begun, &plane.limits).await {
                Ok(read) => read,
                Err(error) => {
                    give_up(client, peer, &error, &plane);
                    return None;
                }
            };
        if has_proxy_header {
            plane.warnings.proxy_header(peer);
        }

        let key = Key::of(&kind, peer.ip());
        let mut failed = Vec::new();
        let snapshot = plane.fleet.load_full();
        let request =
            Request { key: key.bytes(), id: key.given(), head: &bytes, places: room.places.as_ref() };
        let reached = first_reachable(&snapshot, &request, &client, &plane, &mut failed).await;
        drop(snapshot);

        let Upstream { stream: replica, lease, forwarded } = match reached {
            Some(Reached::Connected(upstream)) => upstream,
            Some(Reached::HandedOver(replica)) => {
                client.let_go();
                debug!(
                    %peer, id = %key.id(), %key, replica = replica.hostname, attempts = %Attempts(&failed),
                    "session: handed over"
                );
                return None;
            }
            None => {
                debug!(%peer, id = %key.id(), %key, attempts = %Attempts(&failed), "session: no replica is available");
                plane.refusals.count(Reason::NoReplica);
                if let Err(error) = turn_away(client, kind, &plane.limits).await
                    && is_local(&error)
                {
                    plane.has_failed(&error);
                }
                return None;
            }
        };
        let client = match client.into_stream() {
            Ok(client) => client,
            Err(error) => {
                debug!(%peer, %error, "session: the client cannot be watched");
                plane.has_failed(&error);
                reset(&replica);
                return None;
            }
        };
        let story =
            enabled!(Level::DEBUG).then(|| Box::new(Story::new(begun, peer, bytes.len(), &key, &failed)));
        let pair = Pair::new(client, peer.ip(), replica, lease, plane);
        let unsent = bytes.split_off(forwarded.min(bytes.len())).into_boxed_slice();
        Some((Session { pair, story, _room: room }, unsent))
    }

    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn would keep each argument twice for as long as the session lasts"
    )]
    fn relay(self, unsent: Box<[u8]>) -> impl Future<Output = ()> + Send {
        async move {
            let (ending, traffic) = relay::run(&self.pair, unsent.into_vec()).await;
            self.close(ending, &traffic);
        }
    }

    /// Reports how the relay ended: to the replica, and in the log.
    fn close(&self, ending: Ending, traffic: &Traffic) {
        let replica = self.pair.lease.replica();
        if ending == Ending::ReplicaReset && traffic.down == 0 {
            replica.probe_soon();
        }
        if ending == Ending::Local {
            self.pair.plane.has_failed(&self.pair.error());
        }
        if let Some(story) = &self.story {
            story.tell(&replica.hostname, traffic, ending);
        }
    }
}

/// What a log line says about a session, beside how it ended.
struct Story {
    begun: Instant,
    peer: SocketAddr,
    /// How many bytes the head had.
    head: u64,
    id: Cow<'static, str>,
    key: String,
    attempts: String,
}

impl Story {
    fn new(begun: Instant, peer: SocketAddr, head: usize, key: &Key<'_>, failed: &[Attempt]) -> Self {
        let (id, key, attempts) = (key.id(), key.to_string(), Attempts(failed).to_string());
        Story { begun, peer, head: head as u64, id, key, attempts }
    }

    fn tell(&self, replica: &str, traffic: &Traffic, ending: Ending) {
        let Story { begun, peer, head, id, key, attempts } = self;
        debug!(
            %peer, %id, %key, replica, %attempts, up = head + traffic.up, down = traffic.down,
            duration = ?begun.elapsed(), %ending, "session"
        );
    }
}

/// Reads the head. A client that is to be handed over leaves it in its stream, and the runtime does not watch it.
async fn read_head(client: &mut Client, begun: Instant, limits: &Limits) -> io::Result<Head> {
    let reading = match limits.transport {
        Transport::Proxy => Reading::Take,
        Transport::Handoff => Reading::Peek,
    };
    let head = match limits.key {
        KeyKind::Source => Head::default(),
        KeyKind::Id => {
            let deadline = (begun + limits.first_line_timeout).into();
            head::read(client, reading, deadline, limits).await?
        }
    };
    match limits.transport {
        Transport::Proxy => {
            client.watch()?;
        }
        Transport::Handoff => client.unwatch(),
    }
    Ok(head)
}

/// Ends a connection whose first line did not come, or cannot be read.
fn give_up(client: Client, peer: SocketAddr, error: &io::Error, plane: &Plane) {
    if error.kind() != ErrorKind::UnexpectedEof && client.is_alive() {
        debug!(%peer, %error, "session: the first line cannot be read");
        plane.has_failed(error);
    } else {
        debug!(%peer, %error, "session: the client left before its first line");
        plane.refusals.count(Reason::LeftEarly);
    }
    if error.kind() == ErrorKind::UnexpectedEof {
        client.let_go();
    }
}

/// The key of a connection, and where it comes from.
enum Key<'a> {
    /// The request id in the first line.
    Given(&'a [u8]),
    /// A random number: the first line holds no request id.
    Random(String),
    /// The client's address: there is no first line.
    Source(String),
}

impl<'a> Key<'a> {
    fn of(kind: &'a Kind, client: IpAddr) -> Self {
        match kind {
            Kind::Http(Some(id)) | Kind::Text(Some(id)) => Key::Given(id),
            Kind::Http(None) | Kind::Text(None) => Key::Random(fastrand::u32(100_000..=999_999).to_string()),
            Kind::Opaque => Key::Source(client.to_canonical().to_string()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Key::Given(id) => id,
            Key::Random(text) | Key::Source(text) => text.as_bytes(),
        }
    }

    /// The request id, if the first line holds one.
    fn given(&self) -> Option<&[u8]> {
        match self {
            Key::Given(id) => Some(id),
            Key::Random(_) | Key::Source(_) => None,
        }
    }

    /// The request id, as text that is safe in a log.
    fn id(&self) -> Cow<'static, str> {
        match self {
            Key::Source(_) => Cow::Borrowed("none"),
            Key::Given(_) | Key::Random(_) => Cow::Owned(self.to_string()),
        }
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes().escape_ascii())
    }
}

/// The attempts that failed, each with its reason.
struct Attempts<'a>(&'a [Attempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for attempt in self.0 {
            write!(f, "{separator}{attempt}")?;
            separator = "; ";
        }
        Ok(())
    }
}

/// Ends a connection for which there is no replica; an HTTP client is told why.
async fn turn_away(mut client: Client, mut kind: Kind, limits: &Limits) -> io::Result<()> {
    if limits.key == KeyKind::Source {
        // Its first line has not been read yet.
        let deadline = (Instant::now() + FAREWELL).into();
        kind = match head::read(&mut client, Reading::Take, deadline, limits).await {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                client.let_go();
                return Ok(());
            }
            head => head?.kind,
        };
    }
    if matches!(kind, Kind::Http(_)) {
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{NO_REPLICA}",
            NO_REPLICA.len()
        );
        let stream = client.watch()?;
        timeout(FAREWELL, stream.writable()).await??;
        let mut sent = write_some(stream, answer.as_bytes(), false);
        if sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
            sleep(SOON).await;
            sent = write_some(stream, answer.as_bytes(), false);
        }
        // It fits into the send buffer of a new connection. If it is not sent as a whole, the client is reset.
        if sent? < answer.len() {
            return Err(Errno::NOBUFS.into());
        }
    }
    let client = client.into_stream()?;
    // Unread bytes would turn the close into a reset, and that would overtake the answer.
    let _ = shutdown(&client, Shutdown::Write);
    discard(&client, FAREWELL).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, F: Future>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_open_session_is_small() {
        let size = size_of_future(Session::relay);
        println!("a session is {size} bytes");
        // The DNS client brings the runtime for several threads along. With it, each of the two timers takes 8 bytes more.
        assert!(size <= 488, "a session has {size} bytes; box what is rare");
    }
}
