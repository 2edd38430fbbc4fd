//! The target of a load as a person gives it: an address, or a URL as other load generators take it.

use std::net::{SocketAddr, ToSocketAddrs as _};

/// The default port of a URL.
const HTTP: u16 = 80;

/// A target: an address, and the path of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// With its query; `None` if there was none.
    pub(crate) path: Option<String>,
}

impl Target {
    /// Reads `HOST:PORT` or `http://HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    /// It is neither, or the host has no address.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("http://") else {
            if text.contains("://") {
                return Err("expected HOST:PORT or http://HOST:PORT/PATH".to_owned());
            }
            return Ok(Target { address: address(text)?, path: None });
        };
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let host = if has_port { host.to_owned() } else { format!("{host}:{HTTP}") };
        let path = match path {
            "" => None,
            path if path.starts_with('?') => Some(format!("/{path}")),
            path => Some(path.to_owned()),
        };
        Ok(Target { address: address(&host)?, path })
    }
}

/// An address, or the first address of a host name.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| format!("expected HOST:PORT, such as 127.0.0.1:5000 ({error})"))?;
    addresses.next().ok_or_else(|| "expected a host name that has an address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_a_url_is_a_target() {
        for (text, address, path) in [
            ("127.0.0.1:5000", "127.0.0.1:5000", None),
            ("[::1]:5000", "[::1]:5000", None),
            ("http://127.0.0.1:5000", "127.0.0.1:5000", None),
            ("http://127.0.0.1:5000/", "127.0.0.1:5000", Some("/")),
            ("http://127.0.0.1/a/b?c=d", "127.0.0.1:80", Some("/a/b?c=d")),
            ("http://127.0.0.1?c=/", "127.0.0.1:80", Some("/?c=/")),
            ("http://[::1]/x", "[::1]:80", Some("/x")),
        ] {
            let expected = Target { address: address.parse().unwrap(), path: path.map(str::to_owned) };
            assert_eq!(Target::parse(text), Ok(expected), "{text}");
        }
        for (text, part) in [
            ("https://127.0.0.1/", "http://HOST:PORT/PATH"),
            ("127.0.0.1", "expected HOST:PORT"),
            ("http://127.0.0.1:x/", "expected HOST:PORT"),
            ("http:///x", "expected HOST:PORT"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
