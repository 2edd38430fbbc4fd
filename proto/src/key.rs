//! What the key of a connection is (`--key`). The key itself is found by [`mod@crate::line`], [`crate::http`] and [`mod@crate::hello`].

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::http;

/// What a connection's key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// The request id in the first line.
    Id,
    /// The client's IP address; nothing is read from the client before the replica is chosen.
    Source,
    /// The server that a TLS client asks for.
    ServerName,
    /// The path of an HTTP/1 request.
    Path,
    /// The value of this header of an HTTP/1 request.
    Header(String),
    /// The value of this cookie of an HTTP/1 request.
    Cookie(String),
}

/// It is none of the kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "id, source, sni, path, header:NAME or cookie:NAME, with a NAME of letters, digits and !#$%&'*+-.^_`|~"
)]
pub struct Expected;

impl FromStr for KeyKind {
    type Err = Expected;

    fn from_str(given: &str) -> Result<Self, Expected> {
        let name = |name: &str| Some(name.to_owned()).filter(|name| is_token(name)).ok_or(Expected);
        match given.split_once(':') {
            None if given == "id" => Ok(KeyKind::Id),
            None if given == "source" => Ok(KeyKind::Source),
            None if given == "sni" => Ok(KeyKind::ServerName),
            None if given == "path" => Ok(KeyKind::Path),
            Some(("header", header)) => name(header).map(KeyKind::Header),
            Some(("cookie", cookie)) => name(cookie).map(KeyKind::Cookie),
            _ => Err(Expected),
        }
    }
}

/// As it is given on a command line.
impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyKind::Header(name) | KeyKind::Cookie(name) => write!(f, "{}:{name}", self.name()),
            _ => f.write_str(self.name()),
        }
    }
}

impl KeyKind {
    /// Its name, without that of a header or a cookie.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            KeyKind::Id => "id",
            KeyKind::Source => "source",
            KeyKind::ServerName => "sni",
            KeyKind::Path => "path",
            KeyKind::Header(_) => "header",
            KeyKind::Cookie(_) => "cookie",
        }
    }

    /// The key of a connection for which a person gives this text: an id, an address, the name of a server, a target or a value.
    #[must_use]
    pub fn of(&self, text: &str) -> String {
        match self {
            KeyKind::Id | KeyKind::Header(_) | KeyKind::Cookie(_) => text.to_owned(),
            KeyKind::Source => {
                text.parse::<IpAddr>().map_or_else(|_| text.to_owned(), |ip| ip.to_canonical().to_string())
            }
            KeyKind::ServerName => text.to_ascii_lowercase(),
            // A part of UTF-8 text that begins and ends beside ASCII is UTF-8.
            KeyKind::Path => String::from_utf8_lossy(http::path(text.as_bytes())).into_owned(),
        }
    }
}

/// Whether it can be the name of a header or a cookie (RFC 9110, section 5.6.2).
fn is_token(name: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_shown_as_it_is_given() {
        for given in ["id", "source", "sni", "path", "header:X-User", "cookie:__Host-sid"] {
            assert_eq!(given.parse::<KeyKind>().unwrap().to_string(), given);
        }
        for wrong in
            ["", "ID", "id:x", "header", "header:", "header:a b", "header:a:b", "cookie:a=b", "cookie:é"]
        {
            assert_eq!(wrong.parse::<KeyKind>(), Err(Expected), "{wrong}");
        }
    }

    #[test]
    fn a_text_is_the_key_that_a_connection_would_have() {
        for (kind, text, key) in [
            ("id", "A%20b", "A%20b"),
            ("source", "::ffff:192.0.2.7", "192.0.2.7"),
            ("source", "2001:DB8:0::7", "2001:db8::7"),
            ("source", "no address", "no address"),
            ("sni", "Example.ORG", "example.org"),
            ("path", "/a/ü?b=/c", "/a/ü"),
            ("header:x", "Ann", "Ann"),
            ("cookie:x", "Ann", "Ann"),
        ] {
            assert_eq!(kind.parse::<KeyKind>().unwrap().of(text), key, "{kind} {text}");
        }
    }
}
