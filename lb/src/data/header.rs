//! The header of the PROXY protocol (`--proxy-protocol-from`): who the client behind a proxy is.
//!
//! It is looked at in the stream, and then exactly its bytes are taken: what the client sent stays there, for the head or for a replica
//! that takes the connection over. It is read only from peers that are known to send one, and those must.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::proxy::{self, Header, Progress};
use tokio::io::Interest;
use tokio::time::{sleep, timeout_at};

use super::admission::Places;
use super::client::Client;
use super::rules::Rules;
use super::socket::SOON;
use super::source::{Reading, Source};
use crate::refusals::Reason;

/// The longest time for the header. `--first-line-timeout` is for the header and the first line together.
const LONGEST: Duration = Duration::from_secs(5);

/// Who is connected to whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The client: the peer of the connection, until a header names another.
    pub(super) peer: SocketAddr,
    /// Where the client knocked, if a header names that.
    pub(super) knocked: Option<SocketAddr>,
}

/// Why a client is not served before its first line is known.
#[derive(Debug)]
pub(super) enum Unserved {
    /// The connection has ended, or a call has failed.
    Failed(io::Error),
    /// It comes from a proxy and does not begin with a right header. Holds what is wrong.
    Violation(String),
    /// The client behind the proxy is not let in.
    Refused(Reason),
}

impl From<io::Error> for Unserved {
    fn from(error: io::Error) -> Self {
        Unserved::Failed(error)
    }
}

impl Rules {
    /// Whether connections from this address have to begin with a header.
    pub(super) fn expect_header(&self, peer: IpAddr) -> bool {
        self.proxies.as_ref().is_some_and(|proxies| proxies.contain(peer.to_canonical()))
    }

    /// Reads the header, and asks whether the client that it names is let in. From then on, `ends` are those in the header, and
    /// `places` hold its place among the connections of its source.
    pub(super) async fn introduce(
        &self,
        client: &mut Client,
        ends: &mut Ends,
        places: &mut Option<Arc<Places>>,
        begun: Instant,
    ) -> Result<(), Unserved> {
        let deadline = begun + self.limits.first_line_timeout.min(LONGEST);
        let late = || Unserved::Violation("no whole header came in time".to_owned());
        let header = timeout_at(deadline.into(), read(client)).await.map_err(|_| late())??;
        ends.peer = header.source.unwrap_or(ends.peer);
        ends.knocked = header.destination;
        let Some(admission) = &self.admission else { return Ok(()) };
        let seat = match header.source {
            Some(source) => admission.admit(source.ip()),
            None => admission.admit_proxy(ends.peer.ip()),
        };
        if let Some(seat) = seat.map_err(Unserved::Refused)? {
            *places = Places::with_seat(places.take(), seat);
        }
        Ok(())
    }
}

/// Reads the header, and takes it from the stream.
async fn read(client: &mut Client) -> Result<Header, Unserved> {
    let header = match look(client.source()?, false)? {
        Some(header) => header,
        None => {
            let header = wait(client).await?;
            // A look makes the runtime forget that there are bytes. It hears of them when it watches the client again.
            client.unwatch();
            header
        }
    };
    let mut left = header.length;
    while left > 0 {
        let taken = client.source()?.read(Reading::Take, left, |_, _| ())?;
        // They have been seen, so they are there.
        left -= taken.filter(|&taken| taken > 0).ok_or(io::Error::from(ErrorKind::UnexpectedEof))?;
    }
    Ok(header)
}

/// Waits for a whole header.
async fn wait(client: &mut Client) -> Result<Header, Unserved> {
    let stream = client.watch()?;
    loop {
        // Asked before the look, so that the look finds everything that came before the end.
        let has_ended = stream.ready(Interest::READABLE).await?.is_read_closed();
        match look(Source::Watched(stream), has_ended) {
            Ok(Some(header)) => return Ok(header),
            Ok(None) => {}
            Err(Unserved::Failed(error)) if error.kind() == ErrorKind::Interrupted => sleep(SOON).await,
            Err(unserved) => return Err(unserved),
        }
    }
}

/// Looks at what has come. `None`: the header is not whole yet.
fn look(client: Source<'_>, has_ended: bool) -> Result<Option<Header>, Unserved> {
    let mut progress = Progress::More;
    let seen = client.read(Reading::Peek, proxy::LONGEST, |bytes, _| progress = proxy::read(bytes))?;
    match progress {
        Progress::Header(header) => Ok(Some(header)),
        Progress::Violation(violation) => Err(Unserved::Violation(violation.to_string())),
        Progress::More if seen == Some(0) => Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
        Progress::More if has_ended && seen.is_some() => {
            Err(Unserved::Violation("the connection ended within the header".to_owned()))
        }
        Progress::More => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::stream::Stream;
    use crate::data::testing::connection;

    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n";

    /// A client that is connected, and its other end.
    async fn client() -> (Stream, Client) {
        let (peer, client) = connection().await;
        (peer, Client::new(client.into_std()))
    }

    #[tokio::test]
    async fn exactly_the_header_is_taken_from_the_stream() {
        for pieces in [&[&b""[..], HEADER][..], &[&HEADER[..9], &HEADER[9..]]] {
            let (peer, mut client) = client().await;
            for piece in pieces {
                assert!(futures_util::poll!(Box::pin(read(&mut client))).is_pending());
                peer.try_write(piece).unwrap();
            }
            peer.try_write(b"7\n").unwrap();
            assert_eq!(read(&mut client).await.unwrap().source, "192.0.2.7:5000".parse().ok());
            let mut behind = Vec::new();
            client.watch().unwrap().readable().await.unwrap();
            let source = client.source().unwrap();
            source.read(Reading::Take, 100, |bytes, _| behind.extend_from_slice(bytes)).unwrap();
            assert_eq!(behind, b"7\n");
        }
    }

    #[tokio::test]
    async fn the_end_within_a_header_is_a_violation_and_before_it_is_none() {
        for (sent, expected) in [(&b""[..], "UnexpectedEof"), (&HEADER[..9], "Violation")] {
            let (peer, mut client) = client().await;
            peer.try_write(sent).unwrap();
            drop(peer);
            let unserved = format!("{:?}", read(&mut client).await.unwrap_err());
            assert!(unserved.contains(expected), "{unserved}");
        }
    }
}
