//! The story of one client connection: read the head, pick, connect, relay, log.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::control::Transport;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::debug;

use super::client::Client;
use super::connect::{Attempt, Reached, Request, first_reachable};
use super::head::{self, Head, Kind};
use super::relay::{self, Ending, Traffic};
use super::{KeyKind, Limits, Plane, socket};

/// How long a client that was turned away may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// The answer to an HTTP client when no replica can be had.
const NO_REPLICA: &str = r#"{"message":"<Error> no server replica is available","status":"failure"}"#;

/// Serves one client, from accept to the last byte. It counts as a session for as long as it has the token.
pub(super) async fn run(client: StdStream, peer: SocketAddr, plane: Arc<Plane>, _counted: TaskTrackerToken) {
    let begun = Instant::now();
    let (client, Head { bytes, kind }) = match read_head(client, begun, &plane.limits).await {
        Ok(read) => read,
        Err(error) => return debug!(%peer, %error, "session: the client left before its first line"),
    };

    let key = Key::of(&kind, peer.ip());
    let mut failed = Vec::new();
    let snapshot = plane.fleet.load_full();
    let request = Request { key: key.bytes(), id: key.given(), head: &bytes };
    let reached = Box::pin(first_reachable(&snapshot, &request, client, &plane, &mut failed)).await;
    drop(snapshot);

    let (client, upstream) = match reached {
        Ok(Reached::Connected(client, upstream)) => (client, upstream),
        Ok(Reached::HandedOver(replica)) => {
            return debug!(
                %peer, id = %key.id(), %key, replica = replica.hostname, attempts = %Attempts(&failed),
                "session: handed over"
            );
        }
        Ok(Reached::Nobody(client)) => {
            debug!(%peer, id = %key.id(), %key, attempts = %Attempts(&failed), "session: no replica is available");
            return turn_away(client, &kind, &plane.limits).await;
        }
        Err(error) => return debug!(%peer, %error, "session: the client cannot be watched"),
    };

    let mut traffic = Traffic { up: bytes.len() as u64, down: 0 };
    let unsent = bytes.get(upstream.forwarded..).unwrap_or_default().to_vec();
    drop(bytes);
    let lease = &upstream.lease;
    let relayed = relay::run(&client, &upstream.stream, lease, &plane.pipes, unsent, &mut traffic);
    let ending = tokio::select! {
        ending = relayed => ending,
        () = lease.evicted() => relay::cut(&client, &upstream.stream),
    };
    if ending == Ending::ReplicaReset && traffic.down == 0 {
        lease.replica().suspect();
    }
    debug!(
        %peer, id = %key.id(), %key, replica = lease.replica().hostname, attempts = %Attempts(&failed),
        up = traffic.up, down = traffic.down, duration = ?begun.elapsed(), %ending, "session"
    );
}

/// Reads the head. Most of the time the first line comes with the connection, and is read before the runtime watches it.
async fn read_head(client: StdStream, begun: Instant, limits: &Limits) -> io::Result<(Client, Head)> {
    let mut bytes = Vec::new();
    let there = match limits.key {
        KeyKind::Source => Some(Kind::Opaque),
        KeyKind::Id => head::at_once(&client, &mut bytes, limits)?,
    };
    let mut client = Client::Unwatched(client);
    let kind = match there {
        Some(kind) => kind,
        None => {
            let watched = client.watched()?;
            let kind =
                head::read(&watched, &mut bytes, (begun + limits.first_line_timeout).into(), limits).await?;
            client = Client::Watched(watched);
            kind
        }
    };
    match limits.transport {
        Transport::Proxy => Ok((Client::Watched(client.watched()?), Head { bytes, kind })),
        // Nothing was taken from the stream.
        Transport::Handoff => Ok((Client::Unwatched(client.unwatched()?), Head { bytes: Vec::new(), kind })),
    }
}

/// What is hashed, and whether it is a request id.
enum Key<'a> {
    /// From the first line.
    Given(&'a [u8]),
    /// The first line held none.
    Random(String),
    /// There was no first line.
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

/// Ends a connection for which there is no replica; an HTTP client is told.
async fn turn_away(client: Client, kind: &Kind, limits: &Limits) {
    // What fails here fails on a client that is gone, or for want of memory.
    let Ok(mut client) = client.watched() else { return };
    if speaks_http(&client, kind, limits).await {
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{NO_REPLICA}",
            NO_REPLICA.len()
        );
        let _ = timeout(FAREWELL, client.write_all(answer.as_bytes())).await;
    }
    // Unread bytes would turn the close into a reset, and that would overtake the answer.
    let _ = client.shutdown().await;
    // Who was only looked at has to be watched anew: the runtime has told already that there is something to be read.
    if let Ok(client) = Client::Watched(client).unwatched().and_then(TcpStream::from_std) {
        socket::discard(&client, FAREWELL).await;
    }
}

/// Whether a client that gets no replica can be told in HTTP. With `--key source` its first line has not been read yet.
async fn speaks_http(client: &TcpStream, kind: &Kind, limits: &Limits) -> bool {
    match limits.key {
        KeyKind::Id => matches!(kind, Kind::Http(_)),
        KeyKind::Source => {
            let head = head::read(client, &mut Vec::new(), (Instant::now() + FAREWELL).into(), limits).await;
            matches!(head, Ok(Kind::Http(_)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, F: Future>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_open_session_is_small() {
        let size = size_of_future(run);
        println!("a session is {size} bytes");
        assert!(size <= 1024, "{size} bytes; box what is rare");
    }
}
