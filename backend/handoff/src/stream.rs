//! A client's connection at the replica.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::reports::Open;

/// A client connection from which nothing has been read: handed over by `lb`, or accepted by this process
/// (`Stream::from`).
///
/// It behaves like the [`TcpStream`] inside. Dropping it closes the connection and, if `lb` handed it over, reports that
/// to `lb`.
#[derive(Debug)]
pub struct Stream {
    // Fields drop in this order: the connection is closed before it is reported as closed.
    tcp: TcpStream,
    open: Option<Open>,
}

impl Stream {
    pub(crate) fn new(tcp: TcpStream, open: Option<Open>) -> Self {
        Stream { tcp, open }
    }

    /// The client's address.
    ///
    /// # Errors
    /// The client has reset the connection (getpeername(2), `ENOTCONN`).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }

    /// The address that the client connected to; for a handed-over connection that is the address of `lb`.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Splits it into the connection and its guard, if it is counted. Drop the guard after the connection.
    pub fn into_parts(self) -> (TcpStream, Option<Open>) {
        (self.tcp, self.open)
    }

    fn tcp(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().tcp)
    }
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Self {
        Stream { tcp, open: None }
    }
}

impl AsRef<TcpStream> for Stream {
    fn as_ref(&self) -> &TcpStream {
        &self.tcp
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_read(cx, into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.tcp().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.tcp().poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}
