//! The head: what a client sends before a replica is chosen.
//!
//! It is bounded in bytes and by one deadline, and nothing of it is changed or lost. Where connections may be handed over, it
//! is only looked at and stays in the stream for the replica. A client that waits costs no buffer: there is none before its
//! first byte.

use std::io::{self, ErrorKind};

use proto::line::{self, FirstLine, Progress};
use tokio::io::Interest;
use tokio::time::{Instant, sleep, timeout_at};

use super::Limits;
use super::client::Client;
use super::socket::SOON;
use super::source::{Reading, Source};

/// What a client sent before its replica was chosen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The bytes that were taken from its stream and have to be forwarded.
    pub(super) bytes: Vec<u8>,
    /// What its first line says.
    pub(super) kind: Kind,
    /// Whether it begins with a header of the PROXY protocol, which is not read: it says who the client behind a proxy is.
    pub(super) has_proxy_header: bool,
}

/// What a first line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// HTTP/1, so an error can be answered in HTTP. Holds the request id, if there is one.
    Http(Option<Vec<u8>>),
    /// Other text, or HTTP/2. Holds the request id, if there is one.
    Text(Option<Vec<u8>>),
    /// There is no first line: it is not text, too long, or too slow.
    #[default]
    Opaque,
}

/// Reads or peeks until it is known what the first line says, until `deadline`, and as far as `limits` allow.
///
/// If the whole first line has already arrived, it neither waits nor has the runtime watch the client.
///
/// # Errors
/// The client has left (`UnexpectedEof`) or has reset the connection, or cannot be watched.
pub(super) async fn read(
    client: &mut Client,
    reading: Reading,
    deadline: Instant,
    limits: &Limits,
) -> io::Result<Head> {
    let mut bytes = Vec::new();
    if let Some(kind) = step(client.source()?, reading, false, &mut bytes, limits)? {
        return Ok(Head::new(bytes, kind, reading));
    }
    let client = client.watch()?;
    let first_line = async {
        loop {
            // Asked before the read, so that the read finds everything that came before the end.
            let has_ended = client.ready(Interest::READABLE).await?.is_read_closed();
            let kind = step(Source::Watched(client), reading, has_ended, &mut bytes, limits);
            if kind.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
                sleep(SOON).await;
                continue;
            }
            if reading == Reading::Peek && has_ended {
                // A peek at the bytes before a reset does not report the reset.
                client.take_error()?.map_or(Ok(()), Err)?;
            }
            if let Some(kind) = kind? {
                return Ok(kind);
            }
        }
    };
    let kind: io::Result<Kind> = timeout_at(deadline, first_line).await.unwrap_or(Ok(Kind::Opaque));
    Ok(Head::new(bytes, kind?, reading))
}

/// One read or peek. `None`: the first line is incomplete, and `bytes` is the known part.
fn step(
    client: Source<'_>,
    reading: Reading,
    has_ended: bool,
    bytes: &mut Vec<u8>,
    limits: &Limits,
) -> io::Result<Option<Kind>> {
    if reading == Reading::Peek {
        bytes.clear();
    }
    let room = limits.first_line_max - bytes.len();
    let read = client.read(reading, room, |chunk, _| bytes.extend_from_slice(chunk))?;
    let Some(read) = read else { return Ok(None) };
    understand(bytes, read == 0 || reading == Reading::Peek && has_ended, limits)
}

/// What the first line says, if `bytes`, which is everything received so far, are enough to tell.
fn understand(bytes: &[u8], has_ended: bool, limits: &Limits) -> io::Result<Option<Kind>> {
    if has_ended && bytes.is_empty() {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection ended before its first byte"));
    }
    Ok(match line::read(bytes, has_ended) {
        Progress::More if bytes.len() < limits.first_line_max => None,
        Progress::More | Progress::Opaque => Some(Kind::Opaque),
        Progress::Line(line) => Some(Kind::of(&line, &limits.id_param)),
    })
}

impl Head {
    fn new(bytes: Vec<u8>, kind: Kind, reading: Reading) -> Self {
        let has_proxy_header = line::is_proxy_header(&bytes);
        Head { bytes: if reading == Reading::Peek { Vec::new() } else { bytes }, kind, has_proxy_header }
    }
}

impl Kind {
    fn of(line: &FirstLine<'_>, id_param: &str) -> Self {
        let id = line.request_id(id_param).map(<[u8]>::to_vec);
        match line {
            FirstLine::Http(_) => Kind::Http(id),
            FirstLine::Http2 | FirstLine::Raw(_) => Kind::Text(id),
        }
    }
}
