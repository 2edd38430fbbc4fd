//! The client's end of a session: a socket that the runtime watches only once the session has to wait for it.
//!
//! That saves the two calls that begin and end the watch. A connection that is handed over must not be watched at all: an
//! epoll set watches the connection itself, whichever process has it open (epoll(7), question 6).

use std::io;
use std::net::TcpStream as StdStream;

use tokio::net::TcpStream;

use super::source::Source;

/// A client's socket.
#[derive(Debug)]
pub(super) enum Client {
    /// As it was accepted.
    Unwatched(StdStream),
    /// The runtime reports when it is ready.
    Watched(TcpStream),
}

impl Client {
    /// Where its bytes are read from.
    pub(super) fn source(&self) -> Source<'_> {
        match self {
            Client::Unwatched(socket) => Source::Unwatched(socket),
            Client::Watched(stream) => Source::Watched(stream),
        }
    }

    /// Has the runtime watch it.
    pub(super) fn watched(self) -> io::Result<TcpStream> {
        match self {
            Client::Unwatched(socket) => TcpStream::from_std(socket),
            Client::Watched(stream) => Ok(stream),
        }
    }

    /// Has the runtime forget it.
    pub(super) fn unwatched(self) -> io::Result<StdStream> {
        match self {
            Client::Unwatched(socket) => Ok(socket),
            Client::Watched(stream) => stream.into_std(),
        }
    }
}
