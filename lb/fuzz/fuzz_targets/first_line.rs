//! The first bytes of a connection: a decision never changes when more bytes arrive, and values found in a line are slices of
//! that line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::line::{FirstLine, Progress, is_proxy_header, query_parameter, read};

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let early = read(&bytes[..bytes.len().min(cut.into())], false);
    if early != Progress::More {
        assert_eq!(early, read(bytes, false));
    }
    assert_ne!(read(bytes, true), Progress::More);
    if let Progress::Line(line) = read(bytes, true) {
        check(bytes, &line);
    }
    let _ = is_proxy_header(bytes);
    let _ = query_parameter(bytes, "");
    if let Some(value) = query_parameter(bytes, "id") {
        assert!(lies_in(value, bytes) && !value.contains(&b'&'));
    }
});

fn check(bytes: &[u8], line: &FirstLine<'_>) {
    let whole = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let whole = whole.strip_suffix(b"\r").unwrap_or(whole);
    assert!(
        !whole.iter().any(|byte| matches!(byte, 0..=6 | 0x0e..=0x1a | 0x1c..=0x1f | 0x7f)),
        "no text holds it"
    );
    match line {
        FirstLine::Http(target) => {
            let parts: Vec<&[u8]> = whole.split(|&byte| byte == b' ').collect();
            assert_eq!((parts.len(), parts[1]), (3, *target));
            assert!(!parts[0].is_empty() && !target.is_empty() && parts[2].starts_with(b"HTTP/1."));
        }
        FirstLine::Http2 => assert_eq!(whole, b"PRI * HTTP/2.0"),
        FirstLine::Raw(raw) => assert_eq!(whole, *raw),
    }
    if let Some(id) = line.request_id("id") {
        assert!(!id.is_empty() && lies_in(id, whole));
        assert!(!matches!(line, FirstLine::Raw(_)) || !id.iter().any(u8::is_ascii_whitespace));
    }
}

/// Whether `part` is a slice of `bytes`, not a copy.
fn lies_in(part: &[u8], bytes: &[u8]) -> bool {
    let (part, bytes) = (part.as_ptr_range(), bytes.as_ptr_range());
    bytes.start <= part.start && part.end <= bytes.end
}
