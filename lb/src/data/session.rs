//! One client connection from accept to the last byte: read the head, bring the client to a replica, relay, log.
//!
//! It decides nothing about replicas: which one is tried is the walk's decision, and its state is the control plane's.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use proto::control::Transport;
use proto::key::KeyKind;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use tokio::time::{sleep, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::admission::{Places, Source};
use super::client::Client;
use super::connect::{Reached, Request, Upstream, first_reachable};
use super::head::{self, Head};
use super::header::{Ends, Unserved};
use super::key::Key;
use super::outcome::{Course, End, Outcome};
use super::pair::Pair;
use super::relay::{self, Traffic};
use super::rules::Rules;
use super::socket::{SOON, reset, write_some};
use super::source::{Reading, discard};
use super::story::Story;
use super::stream::Stream;
use super::{Limits, Plane};
use crate::net::is_local;
use crate::refusals::Reason;
use crate::replica::{Ending, Lease, Way};

/// How long a client that gets no replica may take to read the answer.
const FAREWELL: Duration = Duration::from_secs(1);
/// The body of the answer to an HTTP client that gets no replica.
const NO_REPLICA: &str = r#"{"message":"<Error> no server replica is available","status":"failure"}"#;

/// What a session has a part of until it ends.
pub(super) struct Room {
    /// It counts as a session.
    pub(super) counted: TaskTrackerToken,
    /// Its places, where connections are limited.
    pub(super) places: Option<Arc<Places>>,
}

/// Serves one client.
///
/// The first poll happens here, so a client that is handed over without a wait costs no task. Everything before the relay is a
/// separate future, which is freed when the relay begins: most open connections are in the relay.
pub(super) fn start(
    client: StdStream,
    peer: SocketAddr,
    worker: u16,
    (plane, rules): (Arc<Plane>, Arc<Rules>),
    room: Room,
) {
    let course = Course::begin(worker);
    let mut opening = Box::pin(Session::open(Client::new(client), peer, course, (plane, rules), room));
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
    course: Course,
    /// Only if it will be told.
    story: Option<Box<Story>>,
    /// It counts as a session.
    _counted: TaskTrackerToken,
}

impl Session {
    /// Reads the head and brings the client to a replica. Returns the session with the client's bytes that are not written to
    /// the replica yet. `None`: there is nothing to relay.
    async fn open(
        mut client: Client,
        peer: SocketAddr,
        mut course: Course,
        (plane, rules): (Arc<Plane>, Arc<Rules>),
        mut room: Room,
    ) -> Option<(Self, Box<[u8]>)> {
        let mut ends = Ends { peer, knocked: None };
        let limits = &rules.limits;
        let begun = beginning(&mut client, &mut ends, &mut room, course.begun(), &rules).await;
        let peer = ends.peer;
        let Head { mut bytes, says, has_proxy_header } = match begun {
            Ok(read) => read,
            Err(unserved) => {
                plane.refuse_on(&course, peer, give_up(client, peer, unserved, &plane));
                return None;
            }
        };
        plane.has_read(&mut course, bytes.len(), &limits.key);
        if has_proxy_header {
            plane.warnings.proxy_header(peer);
        }

        let key = Key::of(&says, &limits.key, peer.ip());
        plane.introduce_to_replica(&mut bytes, (&client, &ends), &key, (limits.send_proxy, course.worker()));
        let mut failed = Vec::new();
        let snapshot = plane.fleet.load_full();
        let places = room.places.as_ref();
        let request = Request { key: key.bytes(), id: key.given(), head: &bytes, limits, places };
        let reached = first_reachable(&snapshot, &request, &client, &plane, &mut failed).await;
        let story = Story::if_told(plane.is_logged(), || {
            let reached = reached.as_ref().map(|(slot, reached)| (*slot, reached.replica()));
            key.story(peer, &says, reached, &failed)
        });
        let reached = reached.map(|(_, reached)| reached);
        drop(snapshot);

        let Upstream { stream: replica, lease, forwarded } = match reached {
            Some(Reached::Connected(upstream)) => upstream,
            Some(Reached::HandedOver(replica)) => {
                client.let_go();
                plane.has_reached(&mut course, failed.len());
                replica.counters.ended(Ending::HandedOver);
                plane.conclude(&course, End::Ended(Ending::HandedOver), story.as_deref());
                return None;
            }
            None => {
                course.tried(failed.len());
                refuse_for_want_of_a_replica(client, says.is_http, &plane, limits).await;
                plane.conclude(&course, End::Refused(Reason::NoReplica), story.as_deref());
                return None;
            }
        };
        plane.has_reached(&mut course, failed.len());
        lease.replica().counters.moved(Way::Up, course.head());
        let client = match client.into_stream() {
            Ok(client) => client,
            Err(error) => {
                plane.has_lost_a_client(&error, &replica, &lease);
                plane.conclude(&course, End::Ended(Ending::Local), story.as_deref());
                return None;
            }
        };
        let (client, Room { counted, places }) = ((client, Source::of(peer.ip().to_canonical())), room);
        let pair = Pair::new(client, replica, lease, plane, places);
        let unsent = bytes.split_off(forwarded.min(bytes.len())).into_boxed_slice();
        Some((Session { pair, course, story, _counted: counted }, unsent))
    }

    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn would keep each argument twice for as long as the session lasts"
    )]
    fn relay(mut self, unsent: Box<[u8]>) -> impl Future<Output = ()> + Send {
        async move {
            let (ending, traffic) = relay::run(&self.pair, unsent.into_vec()).await;
            self.close(ending, traffic);
        }
    }

    /// Reports how the relay ended: to the replica, and to whatever counts or shows it.
    fn close(&mut self, ending: Ending, traffic: Traffic) {
        if ending == Ending::ReplicaReset && traffic.down == 0 {
            self.pair.lease.replica().probe_soon();
        }
        if ending == Ending::Local {
            self.pair.plane.has_failed(&self.pair.error());
        }
        self.pair.lease.replica().counters.ended(ending);
        let total = self.tell(ending, traffic);
        self.pair.plane.metrics.lane(self.course.worker()).session.observe(total);
    }

    /// Tells whatever shows connections how it ended, once. Returns how long it lasted.
    fn tell(&mut self, ending: Ending, traffic: Traffic) -> Duration {
        let Some(story) = self.story.take() else { return self.course.total() };
        let outcome = self.course.end(End::Ended(ending), traffic);
        self.pair.plane.tell(&outcome, &story);
        outcome.total
    }
}

impl Drop for Session {
    /// A worker that fails drops its sessions: how much they had moved is not known then.
    fn drop(&mut self) {
        if self.story.is_some() {
            self.tell(Ending::Local, Traffic::default());
        }
    }
}

impl Plane {
    /// A connection was refused before anything of it was read.
    pub(super) fn refuse(&self, peer: SocketAddr, reason: Reason) {
        self.refuse_on(&Course::begin(0), peer, reason);
    }

    /// A connection was refused of which no more is known than its course.
    fn refuse_on(&self, course: &Course, peer: SocketAddr, reason: Reason) {
        let story = Story::if_told(self.is_logged(), || Story::of(peer));
        self.conclude(course, End::Refused(reason), story.as_deref());
    }

    /// A client cannot be watched whose replica is connected already.
    fn has_lost_a_client(&self, error: &io::Error, replica: &Stream, lease: &Lease) {
        self.has_failed(error);
        reset(replica);
        lease.replica().counters.ended(Ending::Local);
    }

    /// A connection has ended that was not relayed. Where that is not told, its outcome is not made.
    fn conclude(&self, course: &Course, end: End, story: Option<&Story>) {
        if let Some(story) = story {
            self.tell(&course.end(end, Traffic::default()), story);
        }
    }

    /// It is known what the first line of a connection says, after a head of so many bytes.
    fn has_read(&self, course: &mut Course, head: usize, kind: &KeyKind) {
        course.knows(head);
        // Where the key is the address, nothing was waited for.
        if *kind != KeyKind::Source
            && let Some(time) = course.first_line()
        {
            self.metrics.lane(course.worker()).first_line.observe(time);
        }
    }

    /// A connection has reached a replica, after so many that failed.
    fn has_reached(&self, course: &mut Course, failed: usize) {
        course.reaches(failed);
        if let Some(time) = course.connect() {
            self.metrics.lane(course.worker()).connect.observe(time);
        }
    }

    /// Tells whatever shows connections how one ended.
    fn tell(&self, outcome: &Outcome, story: &Story) {
        story.tell(outcome, self.access.now().as_deref());
    }

    /// Whether there is a log of connections.
    fn is_logged(&self) -> bool {
        self.access.now().is_some()
    }
}

/// Reads what comes before a replica is chosen: from a proxy first the header, whose ends count from then on.
async fn beginning(
    client: &mut Client,
    ends: &mut Ends,
    room: &mut Room,
    begun: Instant,
    rules: &Rules,
) -> Result<Head, Unserved> {
    // A replica takes over connections over TCP only (docs/HANDOFF.md). A peer over TCP has a port.
    let is_tcp = ends.peer.port() != 0;
    let transport = if is_tcp { rules.limits.transport } else { Transport::Proxy };
    if rules.expect_header(ends.peer.ip()) {
        // Boxed, because other connections need no room for it.
        Box::pin(rules.introduce(client, ends, &mut room.places, begun)).await?;
    }
    Ok(read_head(client, begun, transport, &rules.limits).await?)
}

/// Reads the head. A client that is to be handed over leaves it in its stream, and the runtime does not watch it.
async fn read_head(
    client: &mut Client,
    begun: Instant,
    transport: Transport,
    limits: &Limits,
) -> io::Result<Head> {
    let reading = match transport {
        Transport::Proxy => Reading::Take,
        Transport::Handoff => Reading::Peek,
    };
    let head = match &limits.key {
        KeyKind::Source => Head::default(),
        _ => {
            let deadline = (begun + limits.first_line_timeout).into();
            head::read(client, reading, deadline, limits).await?
        }
    };
    match transport {
        Transport::Proxy => {
            client.watch()?;
        }
        Transport::Handoff => client.unwatch(),
    }
    Ok(head)
}

/// Ends a connection whose first line did not come, or cannot be read. Returns why.
fn give_up(client: Client, peer: SocketAddr, unserved: Unserved, plane: &Plane) -> Reason {
    let error = match unserved {
        Unserved::Failed(error) => error,
        Unserved::Violation(what) => {
            plane.warnings.header_violation(peer, what);
            plane.refusals.count(Reason::Denied);
            return Reason::Denied;
        }
        Unserved::Refused(reason) => {
            plane.refusals.count(reason);
            return reason;
        }
    };
    let reason = if error.kind() != ErrorKind::UnexpectedEof && client.is_alive() {
        plane.has_failed(&error);
        Reason::Local
    } else {
        plane.refusals.count(Reason::LeftEarly);
        Reason::LeftEarly
    };
    if error.kind() == ErrorKind::UnexpectedEof {
        client.let_go();
    }
    reason
}

/// Counts a connection for which there is no replica, and ends it.
async fn refuse_for_want_of_a_replica(client: Client, is_http: bool, plane: &Plane, limits: &Limits) {
    plane.refusals.count(Reason::NoReplica);
    if let Err(error) = turn_away(client, is_http, limits).await
        && is_local(&error)
    {
        plane.has_failed(&error);
    }
}

/// Ends a connection for which there is no replica; an HTTP client is told why.
async fn turn_away(mut client: Client, mut is_http: bool, limits: &Limits) -> io::Result<()> {
    if limits.key == KeyKind::Source {
        // Its first line has not been read yet.
        let deadline = (Instant::now() + FAREWELL).into();
        is_http = match head::read(&mut client, Reading::Take, deadline, limits).await {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                client.let_go();
                return Ok(());
            }
            head => head?.says.is_http,
        };
    }
    if is_http {
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
        // 32 are for what is counted when the connection ends.
        assert!(size <= 520, "a session has {size} bytes; box what is rare");
    }
}
