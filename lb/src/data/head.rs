//! The head: what a client sends before a replica is chosen.
//!
//! It is bounded in bytes and by one deadline, and nothing of it is changed or lost. Where connections may be handed over, it
//! is only looked at and stays in the stream for the replica. A client that waits costs no buffer: there is none before its
//! first byte.

use std::io::{self, ErrorKind};

use proto::key::KeyKind;
use proto::line::{self, FirstLine};
use proto::{hello, http};
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
    /// What they say.
    pub(super) says: Says,
    /// Whether it begins with a header of the PROXY protocol, which is not read: it says who the client behind a proxy is.
    pub(super) has_proxy_header: bool,
}

/// What a head says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Says {
    /// Whether it is HTTP/1, so an error can be answered in HTTP.
    pub(super) is_http: bool,
    /// What it holds of the key.
    pub(super) found: Found,
    /// The protocols that a TLS client offers (ALPN).
    pub(super) protocols: Option<String>,
}

/// What a head holds of the key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Found {
    /// This value.
    Value(Vec<u8>),
    /// It could hold one, and holds none.
    Nothing,
    /// It can hold none, is too long, or is too slow: the client's address has to do.
    #[default]
    Unknown,
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
    if let Some(says) = step(client.source()?, reading, false, &mut bytes, limits)? {
        return Ok(Head::new(bytes, says, reading));
    }
    let client = client.watch()?;
    let first_line = async {
        loop {
            // Asked before the read, so that the read finds everything that came before the end.
            let has_ended = client.ready(Interest::READABLE).await?.is_read_closed();
            let says = step(Source::Watched(client), reading, has_ended, &mut bytes, limits);
            if says.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
                sleep(SOON).await;
                continue;
            }
            if reading == Reading::Peek && has_ended {
                // A peek at the bytes before a reset does not report the reset.
                client.take_error()?.map_or(Ok(()), Err)?;
            }
            if let Some(says) = says? {
                return Ok(says);
            }
        }
    };
    let in_time: Result<io::Result<Says>, _> = timeout_at(deadline, first_line).await;
    let says = in_time.unwrap_or_else(|_| Ok(Says::unknown(&bytes)))?;
    Ok(Head::new(bytes, says, reading))
}

/// One read or peek. `None`: the head is incomplete, and `bytes` is the known part.
fn step(
    client: Source<'_>,
    reading: Reading,
    has_ended: bool,
    bytes: &mut Vec<u8>,
    limits: &Limits,
) -> io::Result<Option<Says>> {
    if reading == Reading::Peek {
        bytes.clear();
    }
    let room = limits.first_line_max - bytes.len();
    let read = client.read(reading, room, |chunk, _| bytes.extend_from_slice(chunk))?;
    let Some(read) = read else { return Ok(None) };
    understand(bytes, read == 0 || reading == Reading::Peek && has_ended, limits)
}

/// What the head says, if `bytes`, which is everything received so far, are enough to tell.
fn understand(bytes: &[u8], has_ended: bool, limits: &Limits) -> io::Result<Option<Says>> {
    if has_ended && bytes.is_empty() {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection ended before its first byte"));
    }
    let says = match &limits.key {
        KeyKind::ServerName => of_tls(bytes),
        // (Under `source`, a head is read only to answer its client.)
        KeyKind::Id | KeyKind::Source => of_line(bytes, has_ended, &limits.id_param),
        KeyKind::Path => of_http(bytes, has_ended, |target| http::Progress::Found(Some(http::path(target)))),
        KeyKind::Header(name) => of_http(bytes, has_ended, |_| http::header(bytes, has_ended, name)),
        KeyKind::Cookie(name) => of_http(bytes, has_ended, |_| http::cookie(bytes, has_ended, name)),
    };
    let is_all = has_ended || bytes.len() >= limits.first_line_max;
    Ok(says.or_else(|| is_all.then(|| Says::unknown(bytes))))
}

/// What the first message of a TLS client says. `None`: it is not whole.
fn of_tls(bytes: &[u8]) -> Option<Says> {
    match hello::read(bytes) {
        hello::Progress::More => None,
        hello::Progress::Other => Some(Says::unknown(bytes)),
        hello::Progress::Hello(hello) => Some(Says {
            is_http: false,
            found: hello.server_name.map_or(Found::Unknown, |name| Found::Value(name.into_bytes())),
            protocols: hello.protocols,
        }),
    }
}

/// What the first line says. `None`: it is not whole.
fn of_line(bytes: &[u8], has_ended: bool, id_param: &str) -> Option<Says> {
    match line::read(bytes, has_ended) {
        line::Progress::More => None,
        line::Progress::Opaque => Some(Says::default()),
        line::Progress::Line(line) => {
            Some(Says::of(matches!(line, FirstLine::Http(_)), line.request_id(id_param)))
        }
    }
}

/// What an HTTP/1 head says, in which `find` finds the value, given the target. `None`: it is not whole.
fn of_http<'a>(
    bytes: &'a [u8],
    has_ended: bool,
    find: impl FnOnce(&'a [u8]) -> http::Progress<'a>,
) -> Option<Says> {
    let target = match line::read(bytes, has_ended) {
        line::Progress::More => return None,
        line::Progress::Line(FirstLine::Http(target)) => target,
        line::Progress::Opaque | line::Progress::Line(_) => return Some(Says::default()),
    };
    match find(target) {
        http::Progress::More => None,
        http::Progress::Found(value) => Some(Says::of(true, value)),
    }
}

impl Head {
    fn new(bytes: Vec<u8>, says: Says, reading: Reading) -> Self {
        let has_proxy_header = line::is_proxy_header(&bytes);
        Head { bytes: if reading == Reading::Peek { Vec::new() } else { bytes }, says, has_proxy_header }
    }
}

impl Says {
    /// Of a head that holds this value, or could and does not.
    fn of(is_http: bool, value: Option<&[u8]>) -> Self {
        let found = value.map_or(Found::Nothing, |value| Found::Value(value.to_vec()));
        Says { is_http, found, protocols: None }
    }

    /// Of a head that tells nothing of the key, as far as it has come.
    fn unknown(bytes: &[u8]) -> Self {
        let is_http = matches!(line::read(bytes, false), line::Progress::Line(FirstLine::Http(_)));
        Says { is_http, ..Says::default() }
    }
}
