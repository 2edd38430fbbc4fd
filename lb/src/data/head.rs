//! The head: what is read from a client before a replica is chosen.
//!
//! It is bounded in bytes and by one deadline, and nothing of it is changed or lost: [`Head::bytes`] is what has to be
//! forwarded. A client that waits costs no buffer, because there is none before the first byte is there.

use std::io;

use proto::line::{self, FirstLine, Progress};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Limits;
use super::socket::read_some;

/// What a client has sent before its replica was chosen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// All of it, as it came.
    pub(super) bytes: Vec<u8>,
    /// What its first line is.
    pub(super) kind: Kind,
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

/// Reads until it is known what the first line says, for as long and as far as `limits` allow.
///
/// `None`: the client has left without a byte.
///
/// # Errors
/// The client has reset the connection.
pub(super) async fn read(client: &TcpStream, limits: &Limits) -> io::Result<Option<Head>> {
    let mut bytes = Vec::new();
    let kind = match timeout(limits.first_line_timeout, first_line(client, &mut bytes, limits)).await {
        Ok(Ok(Some(kind))) => kind,
        Ok(Ok(None)) => return Ok(None),
        Ok(Err(error)) => return Err(error),
        Err(_too_slow) => Kind::Opaque,
    };
    Ok(Some(Head { bytes, kind }))
}

async fn first_line(client: &TcpStream, bytes: &mut Vec<u8>, limits: &Limits) -> io::Result<Option<Kind>> {
    while bytes.len() < limits.first_line_max {
        client.readable().await?;
        let room = limits.first_line_max - bytes.len();
        let ended = match read_some(client, room, |chunk| bytes.extend_from_slice(chunk))? {
            None => continue,
            Some(n) => n == 0,
        };
        if ended && bytes.is_empty() {
            return Ok(None);
        }
        match line::read(bytes, ended) {
            Progress::More => {}
            Progress::Opaque => return Ok(Some(Kind::Opaque)),
            Progress::Line(line) => return Ok(Some(Kind::of(&line, &limits.id_param))),
        }
    }
    Ok(Some(Kind::Opaque))
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
