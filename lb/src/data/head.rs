//! The head: what is read from a client before a replica is chosen.
//!
//! It is bounded in bytes and by one deadline, and nothing of it is changed or lost. Where connections may be handed over
//! it is only looked at, and stays where it is for whoever reads next. A client that waits costs no buffer, because there is
//! none before the first byte is there.

use std::io::{self, ErrorKind};
use std::net::TcpStream as StdStream;

use proto::line::{self, FirstLine, Progress};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::Limits;
use super::socket::{peek, peek_some, read_some, receive};

/// What a client has sent before its replica was chosen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// What was taken from the client's stream, and has to be forwarded.
    pub(super) bytes: Vec<u8>,
    /// What its first line is.
    pub(super) kind: Kind,
}

/// What becomes of the bytes of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// They are taken from the stream.
    Take,
    /// They are left there.
    Look,
}

/// What a first line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// HTTP/1: can be answered in its language. Holds the request id, if there is one.
    Http(Option<Vec<u8>>),
    /// Other text, or HTTP/2.
    Text(Option<Vec<u8>>),
    /// Not text, too long, or too slow: there is no first line.
    #[default]
    Opaque,
}

/// The head, if the first line is there already: it costs no more than one read then.
///
/// `None`: there is more to come. What was read is in `bytes`.
///
/// # Errors
/// The client has left, or has reset the connection.
pub(super) fn at_once(
    client: &StdStream,
    bytes: &mut Vec<u8>,
    reading: Reading,
    limits: &Limits,
) -> io::Result<Option<Kind>> {
    let (room, keep) = (limits.first_line_max, |chunk: &[u8]| bytes.extend_from_slice(chunk));
    let read = match reading {
        Reading::Take => receive(client, room, keep),
        Reading::Look => peek(client, room, keep),
    };
    match read {
        Ok(read) => understand(bytes, read == 0, limits),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads on, after `bytes`, until it is known what the first line says, until `deadline` and as far as `limits` allow.
///
/// # Errors
/// The client has left, or has reset the connection.
pub(super) async fn read(
    client: &TcpStream,
    bytes: &mut Vec<u8>,
    reading: Reading,
    deadline: Instant,
    limits: &Limits,
) -> io::Result<Kind> {
    let first_line = async {
        loop {
            let ready = client.ready(Interest::READABLE).await?;
            let read = match reading {
                Reading::Take => more(client, bytes, limits)?.map(|read| read == 0),
                // Known before the look: whatever came before the end is there then.
                Reading::Look => all(client, bytes, limits)?.map(|_| ready.is_read_closed()),
            };
            if reading == Reading::Look && ready.is_read_closed() {
                // To look at the bytes before a reset does not tell it.
                client.take_error()?.map_or(Ok(()), Err)?;
            }
            if let Some(has_ended) = read
                && let Some(kind) = understand(bytes, has_ended, limits)?
            {
                return Ok(kind);
            }
        }
    };
    timeout_at(deadline, first_line).await.unwrap_or(Ok(Kind::Opaque))
}

/// What has come since.
fn more(client: &TcpStream, bytes: &mut Vec<u8>, limits: &Limits) -> io::Result<Option<usize>> {
    read_some(client, limits.first_line_max - bytes.len(), |chunk| bytes.extend_from_slice(chunk))
}

/// All that has come.
fn all(client: &TcpStream, bytes: &mut Vec<u8>, limits: &Limits) -> io::Result<Option<usize>> {
    peek_some(client, limits.first_line_max, |chunk| {
        bytes.clear();
        bytes.extend_from_slice(chunk);
    })
}

/// What the first line is, if that can be told from all the `bytes` so far.
fn understand(bytes: &[u8], has_ended: bool, limits: &Limits) -> io::Result<Option<Kind>> {
    if has_ended && bytes.is_empty() {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "not a byte came"));
    }
    Ok(match line::read(bytes, has_ended) {
        Progress::More if bytes.len() < limits.first_line_max => None,
        Progress::More | Progress::Opaque => Some(Kind::Opaque),
        Progress::Line(line) => Some(Kind::of(&line, &limits.id_param)),
    })
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
