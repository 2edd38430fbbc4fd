//! A connected socket that the runtime watches.
//!
//! It is not tokio's `TcpStream`, because that closes the socket, with an end, when it cannot be watched. A client that was not
//! served must not see an end.

use std::io;
use std::net::TcpStream as StdStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};

use rustix::net::sockopt::socket_error;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

/// A watched socket.
#[derive(Debug)]
pub(super) struct Stream(AsyncFd<StdStream>);

impl Stream {
    /// Has the runtime watch a socket that does not block.
    ///
    /// # Errors
    /// It cannot be watched; the socket comes back.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, because some types may close their file early; this one owns it"
    )]
    pub(super) fn watch(socket: StdStream) -> Result<Self, (StdStream, io::Error)> {
        let both = Interest::READABLE | Interest::WRITABLE;
        AsyncFd::try_with_interest(socket, both).map(Stream).map_err(|error| error.into_parts())
    }

    /// Has the runtime forget it.
    pub(super) fn into_std(self) -> StdStream {
        self.0.into_inner()
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(cx).map_ok(|_| ())
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_write_ready(cx).map_ok(|_| ())
    }

    /// Waits until it is ready for one of these.
    pub(super) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        Ok(self.0.ready(interest).await?.ready())
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.ready(Interest::READABLE).await.map(|_| ())
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.ready(Interest::WRITABLE).await.map(|_| ())
    }

    /// Makes a call if the socket is ready for it. The error `WouldBlock` clears the readiness.
    pub(super) fn try_io<R>(
        &self,
        interest: Interest,
        call: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        self.0.try_io(interest, |_| call())
    }

    /// Takes the error that the kernel keeps for it.
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(socket_error(self)?.err().map(io::Error::from))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

/// What only tests do with it.
#[cfg(test)]
impl Stream {
    pub(super) fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        use std::io::Read as _;
        self.try_io(Interest::READABLE, || self.0.get_ref().read(bytes))
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        use std::io::Write as _;
        self.0.get_ref().write(bytes)
    }

    pub(super) fn std(&self) -> &StdStream {
        self.0.get_ref()
    }
}
