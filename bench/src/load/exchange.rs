//! One request and its answer, in each protocol of the generator.
//!
//! A request is composed once for each id. An answer is checked to its last byte while it arrives, and never kept whole. No
//! sockets here.

use super::failure::Failure;
use super::http::{self, HttpAnswer};
use super::line::LineAnswer;
use super::payload::payload;

/// What one request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// A raw line of `size` bytes with its line feed, or longer if the id is; it comes back after a server's name and a
    /// space.
    Line { size: usize },
    /// An HTTP GET. The answer to `/home` must be the demo replica's greeting; to any other path it must be a 2xx.
    Get { path: String },
    /// An HTTP GET of `/bytes/RECEIVE` with a body of `send` bytes.
    Bytes { send: u64, receive: u64 },
    /// An HTTP POST of `size` bytes to `/echo`.
    Echo { size: u64 },
}

/// The longest raw line, with its line feed, that the demo replica answers.
pub(crate) const LINE_MAX: usize = 64 * 1024;

/// Payload up to this size travels in one write with the head.
const TOGETHER: u64 = 16 * 1024;

/// A request as it is sent: `head`, and after it the payload from `sent_with_head` to `payload`.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) head: Vec<u8>,
    pub(crate) sent_with_head: u64,
    pub(crate) payload: u64,
    is_line: bool,
}

impl Request {
    /// Whether the request is complete when `sent` bytes of its head are sent.
    pub(super) fn is_sent(&self, sent: usize) -> bool {
        sent >= self.head.len() && self.sent_with_head == self.payload
    }

    /// Bytes of payload; for a raw line the whole line.
    pub(super) fn carries(&self) -> u64 {
        if self.is_line { self.head.len() as u64 } else { self.payload }
    }
}

impl Exchange {
    /// Composes the request for an id.
    pub(crate) fn compose(&self, id: &[u8], keep_open: bool, request: &mut Request) {
        request.head.clear();
        (request.payload, request.sent_with_head) = (0, 0);
        request.is_line = matches!(self, Exchange::Line { .. });
        match self {
            Exchange::Line { size } => {
                request.head.extend_from_slice(id);
                if *size >= id.len() + 2 {
                    request.head.push(b' ');
                    request.head.extend_from_slice(payload(0, (size - id.len() - 2) as u64));
                }
                request.head.push(b'\n');
            }
            Exchange::Get { path } => http_head(request, ("GET", path), id, keep_open),
            Exchange::Bytes { send, receive } => {
                request.payload = *send;
                http_head(request, ("GET", &format!("/bytes/{receive}")), id, keep_open);
            }
            Exchange::Echo { size } => {
                request.payload = *size;
                http_head(request, ("POST", "/echo"), id, keep_open);
            }
        }
    }

    /// The checker for an answer to this.
    pub(crate) fn answer(&self) -> Answer {
        match self {
            Exchange::Line { .. } => Answer::Line(LineAnswer::default()),
            Exchange::Get { path } if path == "/home" => Answer::Http(HttpAnswer::new(http::Expected::Hello)),
            Exchange::Get { .. } => Answer::Http(HttpAnswer::new(http::Expected::Anything)),
            Exchange::Bytes { receive: size, .. } | Exchange::Echo { size } => {
                Answer::Http(HttpAnswer::new(http::Expected::Payload(*size)))
            }
        }
    }
}

/// The head of an HTTP request, and the part of the payload that travels with it.
fn http_head(request: &mut Request, (method, path): (&str, &str), id: &[u8], keep_open: bool) {
    let head = &mut request.head;
    let mark = if path.contains('?') { "&id=" } else { "?id=" };
    for part in [method, " ", path, mark] {
        head.extend_from_slice(part.as_bytes());
    }
    head.extend_from_slice(id);
    head.extend_from_slice(b" HTTP/1.1\r\nHost: bench\r\n");
    if request.payload > 0 || method == "POST" {
        head.extend_from_slice(format!("Content-Length: {}\r\n", request.payload).as_bytes());
    }
    head.extend_from_slice(if keep_open { b"\r\n" } else { b"Connection: close\r\n\r\n" });
    if request.payload <= TOGETHER {
        head.extend_from_slice(payload(0, request.payload));
        request.sent_with_head = request.payload;
    }
}

/// An answer while it arrives. Call [`Answer::begin`] before each request.
#[derive(Debug)]
pub(crate) enum Answer {
    Line(LineAnswer),
    Http(HttpAnswer),
}

impl Answer {
    /// Forgets the last answer.
    pub(crate) fn begin(&mut self) {
        match self {
            Answer::Line(line) => line.begin(),
            Answer::Http(answer) => answer.begin(),
        }
    }

    /// Takes in the bytes that arrived; returns whether the answer is complete.
    ///
    /// # Errors
    /// These bytes are not the answer to `request`.
    pub(crate) fn feed(&mut self, bytes: &[u8], request: &Request) -> Result<bool, Failure> {
        match self {
            Answer::Line(line) => line.feed(bytes, &request.head),
            Answer::Http(answer) => answer.feed(bytes),
        }
    }

    /// Takes in the end of the stream, which may complete an answer.
    ///
    /// # Errors
    /// The answer is not complete.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        match self {
            Answer::Line(_) => Err(Failure::Closed),
            Answer::Http(answer) => answer.end(),
        }
    }

    /// The name of the server that answered; empty if the answer has none.
    pub(crate) fn server(&self) -> &[u8] {
        match self {
            Answer::Line(line) => line.server(),
            Answer::Http(answer) => answer.server(),
        }
    }

    /// Bytes of payload in the answer.
    pub(crate) fn received(&self) -> u64 {
        match self {
            Answer::Line(line) => line.received(),
            Answer::Http(answer) => answer.received(),
        }
    }

    /// Whether the server will close the connection after this answer.
    pub(crate) fn is_last(&self) -> bool {
        match self {
            Answer::Line(_) => false,
            Answer::Http(answer) => answer.is_last(),
        }
    }

    /// Its first bytes, for an error message.
    pub(crate) fn beginning(&self) -> &[u8] {
        match self {
            Answer::Line(line) => line.server(),
            Answer::Http(answer) => answer.beginning(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(exchange: &Exchange, keep_open: bool) -> Request {
        let mut request = Request::default();
        exchange.compose(b"132574", keep_open, &mut request);
        request
    }

    /// Feeds `answer` in pieces of every size; how it ends, the same for all.
    fn outcome(exchange: &Exchange, bytes: &[u8]) -> Result<String, Failure> {
        let request = composed(exchange, true);
        let mut outcomes: Vec<_> =
            (1..=bytes.len()).map(|size| fed(exchange, &request, bytes.chunks(size))).collect();
        outcomes.dedup();
        assert_eq!(outcomes.len(), 1, "it depends on the pieces: {outcomes:?}");
        outcomes.remove(0)
    }

    fn fed<'a>(
        exchange: &Exchange,
        request: &Request,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Result<String, Failure> {
        let mut answer = exchange.answer();
        answer.begin();
        let mut is_complete = false;
        for piece in pieces {
            assert!(!is_complete || piece.is_empty(), "more than a complete answer");
            is_complete = answer.feed(piece, request)?;
        }
        if !is_complete {
            answer.end()?;
        }
        Ok(String::from_utf8(answer.server().to_vec()).unwrap())
    }

    #[test]
    fn requests_are_what_the_wire_wants() {
        let line = composed(&Exchange::Line { size: 0 }, false);
        assert_eq!(line.head, b"132574\n");
        let line = composed(&Exchange::Line { size: 64 }, false);
        assert_eq!((line.head.len(), &line.head[..9], line.head[63]), (64, &b"132574 !\""[..], b'\n'));
        let get = composed(&Exchange::Get { path: "/home".into() }, false);
        assert_eq!(
            String::from_utf8(get.head).unwrap(),
            "GET /home?id=132574 HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
        );
        let get = composed(&Exchange::Get { path: "/a?b=c".into() }, true);
        assert_eq!(
            String::from_utf8(get.head).unwrap(),
            "GET /a?b=c&id=132574 HTTP/1.1\r\nHost: bench\r\n\r\n"
        );
        let echo = composed(&Exchange::Echo { size: 3 }, true);
        assert!(echo.head.ends_with(b"Content-Length: 3\r\n\r\n!\"#"));
        assert_eq!((echo.payload, echo.sent_with_head), (3, 3));
        let bulk = composed(&Exchange::Bytes { send: 1 << 20, receive: 9 }, true);
        assert!(bulk.head.starts_with(b"GET /bytes/9?id=132574 ") && bulk.head.ends_with(b"1048576\r\n\r\n"));
        assert_eq!((bulk.payload, bulk.sent_with_head), (1 << 20, 0));
    }

    #[test]
    fn a_line_comes_back_behind_a_name() {
        let line = Exchange::Line { size: 20 };
        let sent = String::from_utf8(composed(&line, false).head).unwrap();
        assert_eq!(outcome(&line, format!("server1 {sent}").as_bytes()), Ok("server1".into()));
        for (wrong, failure) in [
            (format!("server1 {}", sent.replace("132574", "132575")), Failure::Wrong),
            (format!("server1 {}", &sent[..19]), Failure::Closed),
            ("server1".into(), Failure::Closed),
            ("server\u{1}1 ".into(), Failure::Wrong),
            (format!("{} {sent}", "x".repeat(300)), Failure::Wrong),
            ("HTTP/1.1 400 Bad Request\r\n\r\n".into(), Failure::Wrong),
        ] {
            assert_eq!(outcome(&line, wrong.as_bytes()), Err(failure), "{wrong:?}");
        }
    }

    #[test]
    fn hello_is_believed_only_from_the_demo_replica() {
        let home = Exchange::Get { path: "/home".into() };
        let hello = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let right = r#"{"message":"Hello from Server: S5","status":"successful"}"#;
        assert_eq!(outcome(&home, hello(right).as_bytes()), Ok("S5".into()));
        assert_eq!(
            outcome(&home, hello(&right.replace("S5", r#"a \"b\""#)).as_bytes()),
            Ok(r#"a "b""#.into())
        );
        for (wrong, failure) in [
            (hello(&right.replace("Hello", "Hallo")), Failure::Wrong),
            (hello(&right.replace("successful", "failure")), Failure::Wrong),
            (hello("{}"), Failure::Wrong),
            (hello("nonsense"), Failure::Wrong),
            (hello(right).replace("200 OK", "503 No"), Failure::Status(503)),
            (hello(right).replace("length: 5", "length: 9"), Failure::Closed),
            (format!("{}more", hello(right)), Failure::Wrong),
            ("\u{1}\u{2}\u{3}\r\n\r\n".into(), Failure::Wrong),
            ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n".into(), Failure::Wrong),
        ] {
            assert_eq!(outcome_allowing_more(&home, wrong.as_bytes()), Err(failure), "{wrong:?}");
        }
    }

    /// Like `outcome`, in one piece: that something follows a complete answer shows only within one piece.
    fn outcome_allowing_more(exchange: &Exchange, bytes: &[u8]) -> Result<String, Failure> {
        fed(exchange, &composed(exchange, true), std::iter::once(bytes))
    }

    #[test]
    fn bodies_are_framed_in_three_ways() {
        let get = Exchange::Get { path: "/any".into() };
        for answer in [
            "HTTP/1.1 204 No Content\r\nlb-server-id: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nLb-Server-Id: a\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nLb-Server-Id: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nLb-Server-Id: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n",
            "HTTP/1.0 200 OK\r\nLb-Server-Id: a\r\n\r\nuntil the end",
        ] {
            assert_eq!(outcome(&get, answer.as_bytes()), Ok("a".into()), "{answer:?}");
        }
        for (answer, failure) in [
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Failure::Closed),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", Failure::Wrong),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", Failure::Wrong),
            ("HTTP/1.1 200 OK\r\n", Failure::Closed),
            ("HTTP/1.1 404 Not Found\r\n\r\n", Failure::Status(404)),
        ] {
            assert_eq!(outcome(&get, answer.as_bytes()), Err(failure), "{answer:?}");
        }
    }

    #[test]
    fn a_payload_has_to_be_whole_and_right() {
        let bytes = Exchange::Bytes { send: 0, receive: 100 };
        let answer = |body: &[u8]| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            [head.as_bytes(), body].concat()
        };
        assert_eq!(outcome(&bytes, &answer(payload(0, 100))), Ok(String::new()));
        assert_eq!(outcome(&bytes, &answer(payload(0, 99))), Err(Failure::Wrong));
        assert_eq!(outcome(&bytes, &answer(payload(1, 100))), Err(Failure::Wrong));
        let mut short = answer(payload(0, 100));
        short.pop();
        assert_eq!(outcome(&bytes, &short), Err(Failure::Closed));
    }
}
