//! The head of an HTTP/1 request: one header, one cookie, or the path of its target, as they stand.
//!
//! Source: RFC 9112, sections 3 and 5; RFC 6265, section 5.4. It never decodes anything and never looks behind the head. A decision never changes when
//! more bytes arrive, and is made as soon as the line is there that holds the value.

/// What is known of a value when only some of the bytes of the head may have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// More bytes are needed.
    More,
    /// The value, which is not empty; `None`: the head has none.
    Found(Option<&'a [u8]>),
}

/// The value of the first header with this name, which is compared without regard to case.
///
/// `bytes` are all bytes of the request so far, its first line included; `ended` says that no more will come.
#[must_use]
pub fn header<'a>(bytes: &'a [u8], ended: bool, name: &str) -> Progress<'a> {
    find(bytes, ended, |header, value| header.eq_ignore_ascii_case(name.as_bytes()).then_some(value))
}

/// The value of the first cookie with this name. Arguments as in [`header`].
#[must_use]
pub fn cookie<'a>(bytes: &'a [u8], ended: bool, name: &str) -> Progress<'a> {
    find(bytes, ended, |header, value| {
        header.eq_ignore_ascii_case(b"cookie").then(|| value.split(|&byte| byte == b';'))?.find_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(value)
        })
    })
}

/// The first value that `is_it` finds in a header. An empty one counts as none.
fn find<'a>(
    bytes: &'a [u8],
    ended: bool,
    is_it: impl Fn(&'a [u8], &'a [u8]) -> Option<&'a [u8]>,
) -> Progress<'a> {
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n').skip(1);
    for line in &mut lines {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Progress::Found(None);
        }
        // A line that begins with a space goes on with the one before, and has no name.
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        if let Some(value) = is_it(&line[..colon], line[colon + 1..].trim_ascii()) {
            return Progress::Found(Some(value).filter(|value| !value.is_empty()));
        }
    }
    if ended { Progress::Found(None) } else { Progress::More }
}

/// The path of a target: without the query, and of an absolute one without scheme and host. It is not empty.
#[must_use]
pub fn path(target: &[u8]) -> &[u8] {
    let target = target.split(|&byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let Some(at) = target.windows(3).position(|part| part == b"://").filter(|_| !target.starts_with(b"/"))
    else {
        return if target.is_empty() { b"/" } else { target };
    };
    let behind = &target[at + 3..];
    behind.iter().position(|&byte| byte == b'/').map_or(b"/", |at| &behind[at..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &[u8] = b"GET /?id=5 HTTP/1.1\r\nHost: a.example\r\nX-User:\t ann \r\nX-Empty:\r\nx-user: bob\r\n folded: no\r\n\
                          no colon\r\nCookie: a=1; sid=s3\"x; sid=no\r\ncookie:b=2;c=\r\nX : space\r\n\r\nX-Late: 1\r\n";

    #[test]
    fn the_first_header_of_a_name_counts_as_it_stands() {
        let found = |name| header(HEAD, false, name);
        assert_eq!(found("x-user"), Progress::Found(Some(b"ann")));
        assert_eq!(found("HOST"), Progress::Found(Some(b"a.example")));
        for none in ["x-empty", "x-late", "folded", "x", "x-use", "GET /?id=5 HTTP/1.1"] {
            assert_eq!(found(none), Progress::Found(None), "{none}");
        }
    }

    #[test]
    fn the_first_cookie_of_a_name_counts_as_it_stands() {
        let found = |name| cookie(HEAD, false, name);
        assert_eq!(found("a"), Progress::Found(Some(b"1")));
        assert_eq!(found("sid"), Progress::Found(Some(b"s3\"x")));
        assert_eq!(found("b"), Progress::Found(Some(b"2")));
        for none in ["A", "c", "si", "id", "s", "host"] {
            assert_eq!(found(none), Progress::Found(None), "{none}");
        }
    }

    #[test]
    fn a_value_is_known_when_its_line_has_ended_and_none_when_the_head_has() {
        let line = HEAD.windows(5).position(|part| part == b"ann \r").unwrap() + 6;
        for end in 0..HEAD.len() {
            let expected = if end < line { Progress::More } else { Progress::Found(Some(&b"ann"[..])) };
            assert_eq!(header(&HEAD[..end], false, "x-user"), expected, "{end}");
        }
        let whole = HEAD.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(header(&HEAD[..whole - 1], false, "none"), Progress::More);
        assert_eq!(header(&HEAD[..whole], false, "none"), Progress::Found(None));
        assert_eq!(
            header(b"GET / HTTP/1.1\r\nX: 1", true, "x"),
            Progress::Found(None),
            "its line is cut off"
        );
        assert_eq!(header(b"GET / HTTP/1.0\n\n", false, "x"), Progress::Found(None));
    }

    #[test]
    fn a_path_has_no_query_and_no_host() {
        for (target, expected) in [
            ("/", "/"),
            ("/a/b?c=/d", "/a/b"),
            ("/a%2Fb#x", "/a%2Fb"),
            ("*", "*"),
            ("http://h/x/y?z", "/x/y"),
            ("http://h", "/"),
            ("http://h?x=/y", "/"),
            ("/r?u=http://h/x", "/r"),
            ("/http://h/x", "/http://h/x"),
            ("h:443", "h:443"),
            ("?x", "/"),
        ] {
            assert_eq!(path(target.as_bytes()), expected.as_bytes(), "{target}");
        }
    }

    proptest! {
        #[test]
        fn more_bytes_never_change_a_decision(
            text in r"[a-z]{0,9}\r?\n((x|cookie|y)[: =;]{1,3}[a-z=;]{0,8}\r?\n|[ :\r\nxc=]){0,9}", cut in 0usize..200, ended in any::<bool>(),
        ) {
            let bytes = text.as_bytes();
            let cut = &bytes[..cut.min(bytes.len())];
            for read in [header, cookie] {
                let early = read(cut, false, "x");
                if early != Progress::More {
                    prop_assert_eq!(early, read(bytes, ended, "x"));
                }
                prop_assert!(read(bytes, true, "x") != Progress::More);
                if let Progress::Found(value) = read(bytes, ended, "x") {
                    prop_assert!(value.is_none_or(|value| !value.is_empty() && !value.contains(&b'\n')));
                }
            }
        }

        #[test]
        fn a_path_is_never_empty(target in prop::collection::vec(any::<u8>(), 0..40), text in "[:/?#*a]{0,12}") {
            prop_assert!(!path(&target).is_empty() && !path(text.as_bytes()).is_empty());
        }
    }
}
