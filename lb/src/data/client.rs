//! The client's end of a session: a socket that the runtime watches only when somebody has to wait for it.
//!
//! That saves the two calls that begin and end the watch, and a connection that is handed over must not be watched at all
//! (epoll(7), question 6: an epoll set watches the connection, whoever has it open).

use std::io;
use std::net::TcpStream as StdStream;

use tokio::net::TcpStream;

/// A client's socket.
#[derive(Debug)]
pub(super) enum Client {
    /// As it was accepted.
    Unwatched(StdStream),
    /// The runtime says when there is something to be done.
    Watched(TcpStream),
}

impl Client {
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
