//! Where a server listens.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

/// An address at which a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket. It is shared: no connection copies it.
    Unix(Arc<Path>),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => address.fmt(f),
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Endpoint::Tcp(address)
    }
}

/// Why a Unix socket cannot be connected to (unix(7), connect(2)), as it would be told of a TCP address: without a file nothing listens there,
/// and a full queue is a server that does not answer. What this machine is short of stays what it is.
pub(crate) fn no_answer_at_path(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::NOMEM | Errno::NOBUFS) | None => error,
        Some(Errno::NOENT) => io::Error::new(ErrorKind::ConnectionRefused, "there is no such socket"),
        Some(Errno::AGAIN) => io::Error::new(ErrorKind::TimedOut, "its queue is full"),
        Some(_) => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::is_local;

    #[test]
    fn only_a_shortage_is_not_held_against_a_unix_socket() {
        for (errno, kind) in [
            (Errno::NOENT, ErrorKind::ConnectionRefused),
            (Errno::CONNREFUSED, ErrorKind::ConnectionRefused),
            (Errno::AGAIN, ErrorKind::TimedOut),
            (Errno::ACCESS, ErrorKind::PermissionDenied),
        ] {
            let told = no_answer_at_path(errno.into());
            assert!(told.kind() == kind && !is_local(&told), "{errno}: {told}");
        }
        assert!(is_local(&no_answer_at_path(Errno::NOMEM.into())));
    }

    #[test]
    fn an_endpoint_is_shown_as_it_is_given() {
        let shown = [Endpoint::Tcp(([127, 0, 0, 1], 80).into()), Endpoint::Unix(Path::new("/a.sock").into())];
        assert_eq!(shown.map(|one| one.to_string()), ["127.0.0.1:80", "unix:/a.sock"]);
    }
}
