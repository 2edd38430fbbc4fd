//! The answer to an HTTP/1.1 request, read while it arrives: framing (RFC 9112, section 6) and a check of its body.
//!
//! It keeps the head, and of bodies only the short greeting that names the server.

use std::borrow::Cow;

use serde::Deserialize;

use super::failure::Failure;
use super::line::is_name;
use super::payload::is_payload;

/// The longest head, and the longest body that is kept.
const KEPT_MAX: usize = 64 * 1024;
/// The maximum number of header fields.
const FIELDS: usize = 64;

/// The body that is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The demo replica's greeting.
    Hello,
    /// This many bytes of the payload.
    Payload(u64),
    /// Any body.
    Anything,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// This many bytes of the body are left.
    Length(u64),
    /// The body ends with the connection.
    UntilClose,
    Chunked(Chunk),
    Complete,
}

/// The position in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// In a line with a size.
    Size,
    /// This many bytes of the chunk are left.
    Data(u64),
    /// In the line end after a chunk.
    End,
    /// In the lines after the last chunk.
    Trailer,
}

/// An answer while it arrives.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    expected: Expected,
    state: State,
    head: Vec<u8>,
    /// The body, if it is kept.
    kept: Vec<u8>,
    /// The line that is being read in a chunked body.
    line: Vec<u8>,
    received: u64,
    server: Vec<u8>,
    is_last: bool,
}

#[derive(Deserialize)]
struct Hello<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
}

impl HttpAnswer {
    pub(crate) fn new(expected: Expected) -> Self {
        let (head, kept, line, server) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        HttpAnswer { expected, state: State::Head, head, kept, line, received: 0, server, is_last: false }
    }

    pub(crate) fn begin(&mut self) {
        for buffer in [&mut self.head, &mut self.kept, &mut self.line, &mut self.server] {
            buffer.clear();
        }
        (self.state, self.received, self.is_last) = (State::Head, 0, false);
    }

    pub(crate) fn server(&self) -> &[u8] {
        &self.server
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn is_last(&self) -> bool {
        self.is_last
    }

    pub(crate) fn beginning(&self) -> &[u8] {
        if self.kept.is_empty() { &self.head } else { &self.kept }
    }

    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<bool, Failure> {
        while !bytes.is_empty() {
            let used = match self.state {
                State::Head => self.head(bytes)?,
                State::Length(left) => self.length(left, bytes)?,
                State::UntilClose => {
                    self.body(bytes)?;
                    bytes.len()
                }
                State::Chunked(Chunk::Data(left)) => self.chunk(left, bytes)?,
                State::Chunked(place) => self.chunk_line(place, bytes)?,
                // More than was asked for.
                State::Complete => return Err(Failure::Wrong),
            };
            bytes = &bytes[used..];
        }
        Ok(self.state == State::Complete)
    }

    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        if self.state != State::UntilClose {
            return Err(Failure::Closed);
        }
        self.complete()
    }

    /// Takes bytes of the head; returns how many.
    fn head(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let head = std::mem::take(&mut self.head);
        let parsed = response.parse(&head).map_err(|_| Failure::Wrong);
        let state = match &parsed {
            Ok(httparse::Status::Complete(_)) => self.framing(&response),
            _ => Ok(State::Head),
        };
        self.head = head;
        self.state = state?;
        match parsed? {
            httparse::Status::Complete(length) => {
                self.head.truncate(length);
                if self.state == State::Length(0) {
                    self.complete()?;
                }
                Ok(length - before)
            }
            httparse::Status::Partial if self.head.len() > KEPT_MAX => Err(Failure::Wrong),
            httparse::Status::Partial => Ok(bytes.len()),
        }
    }

    /// How the body after this head is framed.
    fn framing(&mut self, response: &httparse::Response<'_, '_>) -> Result<State, Failure> {
        let code = response.code.unwrap_or_default();
        if !(200..300).contains(&code) {
            return Err(Failure::Status(code));
        }
        let field = |name: &str| {
            let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            found.map(|field| field.value.trim_ascii())
        };
        let name = field("lb-server-id").filter(|name| is_name(name));
        self.server.extend_from_slice(name.unwrap_or_default());
        let closes = |value: &[u8]| value.eq_ignore_ascii_case(b"close");
        self.is_last = response.version == Some(0) || field("connection").is_some_and(closes);
        if code == 204 {
            return Ok(State::Length(0));
        }
        if field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked")) {
            return Ok(State::Chunked(Chunk::Size));
        }
        let Some(length) = field("content-length") else {
            self.is_last = true;
            return Ok(State::UntilClose);
        };
        let length = str::from_utf8(length).ok().and_then(|length| length.parse().ok());
        length.map(State::Length).ok_or(Failure::Wrong)
    }

    fn length(&mut self, left: u64, bytes: &[u8]) -> Result<usize, Failure> {
        let used = left.min(bytes.len() as u64) as usize;
        self.body(&bytes[..used])?;
        self.state = State::Length(left - used as u64);
        if self.state == State::Length(0) {
            self.complete()?;
        }
        Ok(used)
    }

    fn chunk(&mut self, left: u64, bytes: &[u8]) -> Result<usize, Failure> {
        let used = left.min(bytes.len() as u64) as usize;
        self.body(&bytes[..used])?;
        let left = left - used as u64;
        self.state = State::Chunked(if left == 0 { Chunk::End } else { Chunk::Data(left) });
        Ok(used)
    }

    /// Takes bytes of a line between the data of two chunks.
    fn chunk_line(&mut self, place: Chunk, bytes: &[u8]) -> Result<usize, Failure> {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let used = end.map_or(bytes.len(), |end| end + 1);
        self.line.extend_from_slice(&bytes[..used]);
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            self.state = after_line(place, &line)?;
            if self.state == State::Complete {
                self.complete()?;
            }
        } else if self.line.len() > KEPT_MAX {
            return Err(Failure::Wrong);
        }
        Ok(used)
    }

    /// Checks bytes of the body.
    fn body(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let offset = self.received;
        self.received += bytes.len() as u64;
        match self.expected {
            Expected::Anything => Ok(()),
            Expected::Payload(size) if self.received <= size && is_payload(offset, bytes) => Ok(()),
            Expected::Payload(_) => Err(Failure::Wrong),
            Expected::Hello if self.kept.len() + bytes.len() <= KEPT_MAX => {
                self.kept.extend_from_slice(bytes);
                Ok(())
            }
            Expected::Hello => Err(Failure::Wrong),
        }
    }

    /// Checks the body as a whole.
    fn complete(&mut self) -> Result<(), Failure> {
        self.state = State::Complete;
        match self.expected {
            Expected::Anything => Ok(()),
            Expected::Payload(size) if self.received == size => Ok(()),
            Expected::Payload(_) => Err(Failure::Wrong),
            Expected::Hello => {
                let hello: Hello<'_> = serde_json::from_slice(&self.kept).map_err(|_| Failure::Wrong)?;
                let server = hello.message.strip_prefix("Hello from Server: ");
                let is_right = |name: &&str| hello.status == "successful" && !name.contains(char::is_control);
                let server = server.filter(is_right).filter(|name| name.len() < 256).ok_or(Failure::Wrong)?;
                self.server.clear();
                self.server.extend_from_slice(server.as_bytes());
                Ok(())
            }
        }
    }
}

/// What follows a line of a chunked body.
fn after_line(place: Chunk, line: &[u8]) -> Result<State, Failure> {
    let is_empty = matches!(line, b"\r\n" | b"\n");
    let next = match place {
        Chunk::End if is_empty => Chunk::Size,
        Chunk::Trailer if is_empty => return Ok(State::Complete),
        Chunk::Trailer => Chunk::Trailer,
        Chunk::Size => match httparse::parse_chunk_size(line) {
            Ok(httparse::Status::Complete((_, 0))) => Chunk::Trailer,
            Ok(httparse::Status::Complete((_, size))) => Chunk::Data(size),
            _ => return Err(Failure::Wrong),
        },
        Chunk::End | Chunk::Data(_) => return Err(Failure::Wrong),
    };
    Ok(State::Chunked(next))
}
