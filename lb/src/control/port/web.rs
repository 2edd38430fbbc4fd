//! Web pages: which of them may send a command by way of a browser on an operator's machine. Pure.
//!
//! A browser says from which page a request comes (`Origin`), and which name it has looked up for it (`Host`). A page whose name leads
//! to the control port (DNS rebinding) has an origin of its own, so `Host` counts as well.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most characters of a refused value in a message.
const SHOWN: usize = 100;

/// Whether an `Origin` (RFC 6454, section 6.2: scheme, host and port, and nothing else) is a web page of this machine.
pub(super) fn is_loopback_origin(origin: &[u8]) -> bool {
    web_authority(origin).and_then(host).is_some_and(Host::is_loopback)
}

/// Whether an `Origin` is the page that is served under this `Host`, and that `Host` cannot be the name of a foreign web page.
///
/// A page of the same machine under another port is foreign.
pub(super) fn is_own_origin(origin: &[u8], host: &[u8]) -> bool {
    let (Some(web), true) = (web_authority(origin), is_local_host(host)) else { return false };
    web.as_bytes().eq_ignore_ascii_case(host)
}

/// Whether a `Host` (RFC 9110, section 7.2) cannot be the name of a foreign web page: an address, `localhost`, or a name of one label,
/// which is no public name.
pub(super) fn is_local_host(authority: &[u8]) -> bool {
    match str::from_utf8(authority).ok().and_then(host) {
        Some(Host::Address(_)) => true,
        Some(Host::Name(name)) => !name.contains('.'),
        None => false,
    }
}

/// A value for a message: clipped, without control characters.
pub(super) fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(value).chars().take(SHOWN).flat_map(char::escape_debug).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host<'a> {
    Address(IpAddr),
    /// Without its last dot.
    Name(&'a str),
}

impl Host<'_> {
    fn is_loopback(self) -> bool {
        match self {
            Host::Address(address) => address.to_canonical().is_loopback(),
            Host::Name(name) => name.eq_ignore_ascii_case("localhost"),
        }
    }
}

/// The host of `HOST` or `HOST:PORT`; `None` if it is anything else.
fn host(authority: &str) -> Option<Host<'_>> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (address, port) = bracketed.split_once(']')?;
            (Host::Address(address.parse::<Ipv6Addr>().ok()?.into()), port)
        }
        None => {
            let (name, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let address = name.parse::<Ipv4Addr>().ok().map(|address| Host::Address(address.into()));
            (address.or_else(|| label_by_label(name))?, port)
        }
    };
    let is_port = |digits: &str| {
        digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse().is_ok_and(|port: u16| port > 0)
    };
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(host)
}

/// The host and port of an `Origin` that is a web page.
fn web_authority(origin: &[u8]) -> Option<&str> {
    let (scheme, authority) = str::from_utf8(origin).ok()?.split_once("://")?;
    ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web)).then_some(authority)
}

fn label_by_label(name: &str) -> Option<Host<'_>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_plain);
    name.split('.').all(is_label).then_some(Host::Name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &[&str] = &[
        "http://localhost",
        "http://localhost:3000",
        "https://LocalHost:1",
        "HTTP://127.0.0.1:5001",
        "http://127.1.2.3:65535",
        "http://[::1]:8080",
        "http://[0:0:0:0:0:0:0:1]",
        "http://[::ffff:127.0.0.1]",
    ];

    const FOREIGN: &[&str] = &[
        "",
        "*",
        "null",
        "localhost",
        "//localhost",
        "://localhost",
        "http:localhost",
        "ftp://localhost",
        "file://localhost",
        "http://",
        "http://:5001",
        "http://localhost:",
        "http://localhost:0",
        "http://localhost:65536",
        "http://localhost:+80",
        "http://localhost:5001/",
        "http://localhost:5001?",
        "http://localhost#",
        "http://localhost:5001:5001",
        "http://localhost http://evil.example",
        "http://localhost, http://evil.example",
        " http://localhost",
        "http://localhost\t",
        "http://127.0.0.1:5001.evil.example",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example:5001",
        "http://evil.example",
        "http://evil.example:5001",
        "http://evil.example/127.0.0.1",
        "http://127.0.0.1@evil.example",
        "http://localhost:5001@evil.example",
        "http://user@localhost",
        "http://user:5001@127.0.0.1:5001",
        "http://evil.example\\@localhost",
        "http://[::1].evil.example",
        "http://[::1]evil.example",
        "http://[::1]:5001.evil.example",
        "http://[::1",
        "http://::1",
        "http://[127.0.0.1]",
        "http://[localhost]",
        "http://[::2]",
        "http://[::ffff:10.0.0.1]",
        "http://0.0.0.0",
        "http://10.0.0.1:5001",
        "http://lb:5001",
        "http://2130706433",
        "http://127.1",
        "http://0x7f.0.0.1",
        "http://loc\u{30f}alhost",
    ];

    #[test]
    fn an_origin_is_compared_as_a_whole() {
        for origin in OURS {
            assert!(is_loopback_origin(origin.as_bytes()), "{origin}");
        }
        for origin in FOREIGN {
            assert!(!is_loopback_origin(origin.as_bytes()), "{origin}");
        }
        assert!(!is_loopback_origin(b"http://localhost\xff"));
    }

    #[test]
    fn an_origin_is_the_own_one_if_host_and_port_are_the_same() {
        for (origin, host) in [
            ("http://192.0.2.7:5001", "192.0.2.7:5001"),
            ("https://192.0.2.7", "192.0.2.7"),
            ("http://[2001:db8::1]:5001", "[2001:DB8::1]:5001"),
            ("http://lb:5001", "LB:5001"),
        ] {
            assert!(is_own_origin(origin.as_bytes(), host.as_bytes()), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://192.0.2.7:5001", "192.0.2.7"),
            ("http://192.0.2.7:5001", "192.0.2.7:5002"),
            ("http://192.0.2.8:5001", "192.0.2.7:5001"),
            ("ftp://192.0.2.7:5001", "192.0.2.7:5001"),
            ("http://192.0.2.7:5001/", "192.0.2.7:5001/"),
            ("http://lb:5001", "lb.:5001"),
            // A name that leads here, and could be of a foreign page.
            ("http://evil.example:5001", "evil.example:5001"),
            ("http://", ""),
            ("null", "null"),
        ] {
            assert!(!is_own_origin(origin.as_bytes(), host.as_bytes()), "{origin} {host}");
        }
    }

    #[test]
    fn a_host_is_an_address_or_a_name_of_one_label() {
        for host in [
            "localhost",
            "LOCALHOST:5001",
            "lb:5001",
            "lb.",
            "my_host-1",
            "127.0.0.1:5001",
            "192.0.2.7",
            "[::1]:5001",
            "[2001:DB8::1]",
        ] {
            assert!(is_local_host(host.as_bytes()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:5001",
            "evil.example.",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "127.0.0.1@evil.example",
            "user@localhost",
            "localhost:5001@evil.example",
            "localhost:x",
            "localhost:",
            "localhost/",
            "localhost ",
            "local host",
            "localhost,evil.example",
            "[::1",
            "::1",
            "..",
            ":5001",
            "127.1",
        ] {
            assert!(!is_local_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_refused_value_cannot_write_to_a_terminal() {
        assert_eq!(shown(b"a\x1b[31m\xff"), "a\\u{1b}[31m\u{fffd}");
        assert_eq!(shown(&[b'x'; 5000]).len(), SHOWN);
    }
}
