//! The client's end of a session until the relay begins: a socket that is reset when it is dropped, unless it is let go in order.
//!
//! A client that was not served must not see an end. So a session that stops by an error or a panic, or with its worker, resets
//! the client. The ways out in order, [`Client::into_stream`] and [`Client::let_go`], make no system call for that.
//!
//! The runtime watches the socket only once the session has to wait for it. That saves the two calls that begin and end the
//! watch. A connection that is handed over must not be watched at all: an epoll set watches the connection itself, whichever
//! process has it open (epoll(7), question 6).

use std::io::{self, ErrorKind};
use std::mem;
use std::net::TcpStream as StdStream;

use super::socket::{is_dead, reset};
use super::source::Source;
use super::stream::Stream;

/// A client's socket.
#[derive(Debug)]
pub(super) struct Client(Socket);

#[derive(Debug)]
enum Socket {
    /// As it was accepted.
    Unwatched(StdStream),
    /// The runtime reports when it is ready.
    Watched(Stream),
    /// It is no longer here.
    Gone,
}

impl Client {
    /// A client that was just accepted.
    pub(super) fn new(socket: StdStream) -> Self {
        Client(Socket::Unwatched(socket))
    }

    /// Where its bytes are read from.
    pub(super) fn source(&self) -> io::Result<Source<'_>> {
        match &self.0 {
            Socket::Unwatched(socket) => Ok(Source::Unwatched(socket)),
            Socket::Watched(stream) => Ok(Source::Watched(stream)),
            Socket::Gone => Err(gone()),
        }
    }

    /// The socket, if the runtime does not watch it.
    pub(super) fn unwatched(&self) -> Option<&StdStream> {
        if let Socket::Unwatched(socket) = &self.0 { Some(socket) } else { None }
    }

    /// Whether the connection still exists.
    pub(super) fn is_alive(&self) -> bool {
        match &self.0 {
            Socket::Unwatched(socket) => !is_dead(socket),
            Socket::Watched(stream) => !is_dead(stream),
            Socket::Gone => false,
        }
    }

    /// Has the runtime watch it.
    pub(super) fn watch(&mut self) -> io::Result<&Stream> {
        if let Socket::Unwatched(_) = &self.0
            && let Socket::Unwatched(socket) = mem::replace(&mut self.0, Socket::Gone)
        {
            match Stream::watch(socket) {
                Ok(stream) => self.0 = Socket::Watched(stream),
                Err((socket, error)) => {
                    self.0 = Socket::Unwatched(socket);
                    return Err(error);
                }
            }
        }
        if let Socket::Watched(stream) = &self.0 { Ok(stream) } else { Err(gone()) }
    }

    /// Has the runtime forget it.
    pub(super) fn unwatch(&mut self) {
        if let Socket::Watched(_) = &self.0
            && let Socket::Watched(stream) = mem::replace(&mut self.0, Socket::Gone)
        {
            self.0 = Socket::Unwatched(stream.into_std());
        }
    }

    /// The socket, watched by the runtime. From now on its owner decides how it ends.
    pub(super) fn into_stream(mut self) -> io::Result<Stream> {
        self.watch()?;
        if let Socket::Watched(stream) = mem::replace(&mut self.0, Socket::Gone) {
            Ok(stream)
        } else {
            Err(gone())
        }
    }

    /// Closes it without a reset: it was served, or handed over, or has left.
    pub(super) fn let_go(mut self) {
        self.0 = Socket::Gone;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        match &self.0 {
            Socket::Unwatched(socket) => reset(socket),
            Socket::Watched(stream) => reset(stream),
            Socket::Gone => {}
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(ErrorKind::NotConnected, "the client's socket is gone")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::connection;

    /// How the peer's connection ends after `end` had the client.
    async fn end(end: impl FnOnce(Client)) -> io::Result<usize> {
        let (peer, client) = connection().await;
        end(Client::new(client.into_std()));
        peer.readable().await.unwrap();
        peer.try_read(&mut [0])
    }

    #[tokio::test]
    async fn a_client_that_is_dropped_is_reset_and_one_that_is_let_go_is_not() {
        let dropped: [fn(Client); 2] = [drop, |mut client| {
            client.watch().unwrap();
        }];
        for drop in dropped {
            assert_eq!(end(drop).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        let ended: [fn(Client); 3] = [
            Client::let_go,
            |client| drop(client.into_stream().unwrap()),
            |mut client| {
                client.watch().unwrap();
                client.let_go();
            },
        ];
        for end_in_order in ended {
            assert_eq!(end(end_in_order).await.unwrap(), 0);
        }
    }
}
