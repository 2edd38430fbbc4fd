//! The first line of a connection: its kind, and the request id in it.
//!
//! This module never looks past the first line feed, never decodes percent signs and never changes a byte: the line is
//! forwarded as it was received.

use std::borrow::Cow;

use crate::proxy;

/// What is known about a first line when only some of its bytes may have arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// The line has not ended yet: more bytes are needed.
    More,
    /// The line is complete.
    Line(FirstLine<'a>),
    /// A byte has come that no text line holds there (TLS, binary protocols): there will be no request id.
    Opaque,
}

/// A complete first line, without its line ending.
#[derive(Debug, PartialEq, Eq)]
pub enum FirstLine<'a> {
    /// `METHOD TARGET HTTP/1.x` (RFC 9112, section 3); holds the target.
    Http(&'a [u8]),
    /// `PRI * HTTP/2.0`, the preface of an HTTP/2 client with prior knowledge (RFC 9113, section 3.4).
    Http2,
    /// Any other text.
    Raw(&'a [u8]),
}

/// Reads the first line of `bytes`, which are all bytes so far; `ended` says that no more will come.
///
/// A line ends with LF or with the end of the stream; one CR before either is not part of it. An empty line is an empty
/// [`FirstLine::Raw`].
#[must_use]
pub fn read(bytes: &[u8], ended: bool) -> Progress<'_> {
    if !begins_as_text(bytes) {
        return Progress::Opaque;
    }
    match bytes.iter().position(|&byte| byte == b'\n' || !is_in_text(byte)) {
        Some(at) if bytes[at] != b'\n' => Progress::Opaque,
        Some(end) => Progress::Line(FirstLine::parse(&bytes[..end])),
        None if ended => Progress::Line(FirstLine::parse(bytes)),
        None => Progress::More,
    }
}

/// Text begins with a printable ASCII character, or is a blank line (LF, or CR LF).
fn begins_as_text(bytes: &[u8]) -> bool {
    match bytes {
        [] | [b'\n', ..] | [b'\r'] | [b'\r', b'\n', ..] => true,
        [first, ..] => matches!(first, b' '..=b'~'),
    }
}

/// Whether text may hold this byte: a printable one, one beyond ASCII, or a control character that people and terminals use
/// (BEL, BS, TAB, LF, VT, FF, CR, ESC). These are the text bytes of file(1).
fn is_in_text(byte: u8) -> bool {
    matches!(byte, 0x07..=0x0d | 0x1b | b' '..=b'~' | 0x80..)
}

/// Whether these first bytes of a connection are a header of the PROXY protocol: `PROXY ` and a protocol (version 1), or the
/// binary signature (version 2). The header itself is read by [`proxy`].
#[must_use]
pub fn is_proxy_header(bytes: &[u8]) -> bool {
    bytes.starts_with(proxy::SIGNATURE) || proxy::TEXT.iter().any(|text| bytes.starts_with(text))
}

impl<'a> FirstLine<'a> {
    fn parse(line: &'a [u8]) -> Self {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line == b"PRI * HTTP/2.0" {
            return FirstLine::Http2;
        }
        http_target(line).map_or(FirstLine::Raw(line), FirstLine::Http)
    }

    /// The request id in this line, without decoding: in an HTTP request the value of the first query parameter named
    /// `param`, in raw text the first token. `None` if there is none or it is empty.
    #[must_use]
    pub fn request_id(&self, param: &str) -> Option<&'a [u8]> {
        match self {
            FirstLine::Http(target) => query_parameter(target, param),
            FirstLine::Http2 => None,
            FirstLine::Raw(line) => line.split(u8::is_ascii_whitespace).find(|token| !token.is_empty()),
        }
    }
}

/// The target of `METHOD TARGET HTTP/1.x`, where `line` is exactly that (RFC 9112, section 3).
fn http_target(line: &[u8]) -> Option<&[u8]> {
    let (request, version) = line.split_at_checked(line.len().checked_sub(" HTTP/1.x".len())?)?;
    let [b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] = version else { return None };
    // httparse knows which bytes a method and a target may hold. It sets both before it reads the version, of which it
    // knows only 1.0 and 1.1: so its result is ignored.
    let ascii = as_ascii(line);
    let mut parsed = httparse::Request::new(&mut []);
    let _ = parsed.parse(&ascii);
    let (method, target) = (parsed.method?, parsed.path?);
    let exact = method.len() + b" ".len() + target.len() == request.len();
    (exact && request[..method.len()].is_ascii()).then(|| &request[method.len() + b" ".len()..])
}

/// The line with an `x` in place of each byte beyond ASCII. Browsers send such targets, in whatever encoding, and httparse
/// refuses some of them.
fn as_ascii(line: &[u8]) -> Cow<'_, [u8]> {
    if line.is_ascii() {
        return Cow::Borrowed(line);
    }
    line.iter().map(|&byte| if byte.is_ascii() { byte } else { b'x' }).collect()
}

/// The value of the first query parameter named `name` in an HTTP request target, without decoding; `None` if there is no
/// such parameter or the first one is empty.
#[must_use]
pub fn query_parameter<'a>(target: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let start = target.iter().position(|&byte| byte == b'?')? + 1;
    let value = target[start..].split(|&byte| byte == b'&').find_map(|pair| {
        let rest = pair.strip_prefix(name.as_bytes())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"=") }
    })?;
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id_of(bytes: &[u8]) -> Option<&[u8]> {
        match read(bytes, false) {
            Progress::Line(line) => line.request_id("id"),
            other => panic!("not a whole line: {other:?}"),
        }
    }

    #[test]
    fn the_id_of_an_http_request_is_the_first_id_parameter_without_decoding() {
        let cases: [(&[u8], Option<&[u8]>); 13] = [
            (b"GET /home?id=132574 HTTP/1.1\r\n", Some(b"132574")),
            (b"GET /home?id=132574 HTTP/1.0\n", Some(b"132574")),
            (b"DELETE /x?a=1&id=7&id=8 HTTP/1.1\r\n", Some(b"7")),
            (b"GET http://host/x?id=abc HTTP/1.1\r\n", Some(b"abc")),
            (b"GET /?id=a%20b HTTP/1.1\r\n", Some(b"a%20b")),
            (b"GET /?id=a=b HTTP/1.9\r\n", Some(b"a=b")),
            (b"GET /?x=\xff&id=\xe4\xff HTTP/1.1\r\n", Some(b"\xe4\xff")),
            (b"GET /?id=1?id=2 HTTP/1.1\r\n", Some(b"1?id=2")),
            (b"GET /?id=&id=5 HTTP/1.1\r\n", None),
            (b"GET /?id&id=5 HTTP/1.1\r\n", None),
            (b"GET /?ids=1&xid=2&ID=3 HTTP/1.1\r\n", None),
            (b"GET /id=5 HTTP/1.1\r\n", None),
            (b"OPTIONS * HTTP/1.1\r\n", None),
        ];
        for (bytes, id) in cases {
            assert_eq!(id_of(bytes), id, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_id_of_raw_text_is_its_first_token() {
        let cases: [(&[u8], Option<&[u8]>); 12] = [
            (b"132574\n", Some(b"132574")),
            (b"132574\r\n", Some(b"132574")),
            (b"  132574 \t rest\n", Some(b"132574")),
            (b"a\x1b[1mb c\n", Some(b"a\x1b[1mb")),
            ("s\u{e9}ance 7\n".as_bytes(), Some("s\u{e9}ance".as_bytes())),
            (b"GET /home\n", Some(b"GET")),
            (b"G\xe4T /home HTTP/1.1\n", Some(b"G\xe4T")),
            (b"GET /a b HTTP/1.1\n", Some(b"GET")),
            (b"GET /home HTTP/1.1 \n", Some(b"GET")),
            (b"\n", None),
            (b"\r\n", None),
            (b"   \n", None),
        ];
        for (bytes, id) in cases {
            assert_eq!(id_of(bytes), id, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn an_id_is_the_same_key_in_http_and_in_raw_text() {
        assert_eq!(id_of(b"GET /?id=abc HTTP/1.1\r\n"), id_of(b"abc\n"));
    }

    #[test]
    fn the_parameter_of_the_id_can_have_another_name() {
        let Progress::Line(line) = read(b"GET /?id=1&user=2 HTTP/1.1\n", false) else { panic!("no line") };
        assert_eq!(line.request_id("user"), Some(b"2".as_slice()));
    }

    #[test]
    fn an_http2_preface_has_no_id() {
        assert_eq!(read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false), Progress::Line(FirstLine::Http2));
        assert_eq!(FirstLine::Http2.request_id("id"), None);
    }

    #[test]
    fn bytes_that_are_not_text_are_recognised_by_the_first() {
        for first in [0x00, 0x01, 0x09, 0x16, 0x7f, 0x80, 0xef, 0xff] {
            assert_eq!(read(&[first], false), Progress::Opaque, "{first:#x}");
            assert_eq!(read(&[first, b'\n'], true), Progress::Opaque, "{first:#x}");
        }
        assert_eq!(read(b"\rx", false), Progress::Opaque);
    }

    #[test]
    fn a_byte_that_no_text_holds_decides_at_once_wherever_it_is() {
        for byte in (0x00..=0x06).chain(0x0e..=0x1a).chain(0x1c..=0x1f).chain([0x7f]) {
            assert_eq!(read(&[b'a', b' ', byte], false), Progress::Opaque, "{byte:#x}");
            assert_eq!(read(&[b'a', byte, b'\n'], true), Progress::Opaque, "{byte:#x}");
            let behind = [b'a', b'\n', byte];
            assert_eq!(read(&behind, false), Progress::Line(FirstLine::Raw(b"a")), "behind the line");
        }
        assert_eq!(read(b"003egit-upload-pack /x.git\0host=example.org\0", false), Progress::Opaque);
        assert_eq!(read(b"GET /?id=5\0 HTTP/1.1\r\n", false), Progress::Opaque);
        for byte in (0x07..=0x09).chain(0x0b..=0x0d).chain([0x1b]).chain(b' '..=b'~').chain(0x80..=0xff) {
            assert_eq!(read(&[b'a', byte], false), Progress::More, "{byte:#x}");
        }
    }

    #[test]
    fn a_header_of_the_proxy_protocol_is_recognised_by_its_beginning() {
        let headers: [&[u8]; 4] = [
            b"PROXY TCP4 10.0.0.7 10.0.0.1 5000 80\r\nGET /",
            b"PROXY TCP6 ::1 ::1 5000 80\r\n",
            b"PROXY UNKNOWN\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
        ];
        for header in headers {
            assert!(is_proxy_header(header), "{}", header.escape_ascii());
        }
        let others: [&[u8]; 6] =
            [b"", b"PROXY", b"PROXY 7\n", b"proxy TCP4 x", b"\r\n\r\n", b"GET /?id=PROXY HTTP/1.1\r\n"];
        for other in others {
            assert!(!is_proxy_header(other), "{}", other.escape_ascii());
        }
    }

    #[test]
    fn the_end_of_the_stream_ends_a_line() {
        assert_eq!(read(b"132574", false), Progress::More);
        assert_eq!(read(b"\r", false), Progress::More);
        assert_eq!(read(b"132574\r", true), Progress::Line(FirstLine::Raw(b"132574")));
        assert_eq!(read(b"GET /?id=5 HTTP/1.1", true), Progress::Line(FirstLine::Http(b"/?id=5")));
        assert_eq!(read(b"", true), Progress::Line(FirstLine::Raw(b"")));
    }

    /// Whether `part` is a slice of `bytes`, not a copy.
    fn lies_in(part: &[u8], bytes: &[u8]) -> bool {
        let (part, bytes) = (part.as_ptr_range(), bytes.as_ptr_range());
        bytes.start <= part.start && part.end <= bytes.end
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic_and_more_bytes_never_change_a_decision(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200,
        ) {
            let early = read(&bytes[..cut.min(bytes.len())], false);
            if early != Progress::More {
                prop_assert_eq!(early, read(&bytes, false));
            }
            let whole = read(&bytes, true);
            if let Progress::Line(line) = &whole {
                let _ = line.request_id("id");
            }
            let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
            prop_assert!(line.iter().all(|&byte| is_in_text(byte)) || whole == Progress::Opaque);
            let _ = is_proxy_header(&bytes);
        }

        #[test]
        fn an_id_is_a_slice_of_the_line(
            text in r"(GET |POST )?(/?[a-z/]{0,4}[?&=]|id=|id|&|=|[ \t\r\n]|[0-9a-z]){0,20}( HTTP/1\.[0-9])?\r?\n?[a-z\n]{0,9}",
            noise in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            for bytes in [text.as_bytes(), &noise] {
                let Progress::Line(line) = read(bytes, true) else { continue };
                let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
                if let Some(id) = line.request_id("id") {
                    prop_assert!(!id.is_empty() && lies_in(id, &bytes[..end]));
                    let ends_it = |byte: &u8| match line {
                        FirstLine::Raw(_) => byte.is_ascii_whitespace(),
                        _ => matches!(byte, b'&' | b' '),
                    };
                    prop_assert!(!id.iter().any(ends_it), "{}", id.escape_ascii());
                }
            }
        }

        #[test]
        fn a_parameter_is_a_slice_of_the_target(
            target in r"[?&=id0-9/]{0,30}", noise in proptest::collection::vec(any::<u8>(), 0..40), name in "[id]{0,2}",
        ) {
            for target in [target.as_bytes(), &noise] {
                if let Some(value) = query_parameter(target, &name) {
                    prop_assert!(!value.is_empty() && !value.contains(&b'&') && lies_in(value, target));
                }
            }
        }

        #[test]
        fn only_exact_http_is_read_as_http(line in "[A-Z]{1,4}[ ]{0,2}[/a?=id&1 ]{0,12}[ ]{0,2}HTTP/[12][.][0-9][ ]{0,1}") {
            let bytes = format!("{line}\n");
            if let Progress::Line(FirstLine::Http(target)) = read(bytes.as_bytes(), false) {
                let parts: Vec<&str> = line.split(' ').collect();
                prop_assert_eq!(parts.len(), 3);
                prop_assert_eq!(parts[1].as_bytes(), target);
            }
        }
    }
}
