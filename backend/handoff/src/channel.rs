//! The load balancer's side: sockets go out, the numbers of closed connections come back.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::protocol::{MOST_CLOSED, Malformed, Metadata, decode_closed};
use crate::socket;

/// Sends sockets to one replica, from any number of threads. It needs no runtime.
#[derive(Clone, Debug)]
pub struct Channel {
    replica: Arc<AsyncFd<OwnedFd>>,
}

impl Channel {
    /// Connects to the replica that listens at `path`. Call it within the runtime in which [`Closed`] is used.
    ///
    /// # Errors
    /// Those of connect(2). `NotFound`, `ConnectionRefused`: there is no replica yet. `WouldBlock`: it does not accept.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<(Self, Closed)> {
        let replica = Arc::new(watch(socket::connect(path.as_ref())?)?);
        Ok((Channel { replica: Arc::clone(&replica) }, Closed { replica }))
    }

    /// The user of the process that listens at the path, as of its listen(2) (unix(7), `SO_PEERCRED`).
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn peer(&self) -> io::Result<u32> {
        // Not rustix::net::sockopt::socket_peercred (1.x): a peer in another PID namespace has the PID 0 here, and there that
        // becomes an error.
        Ok(getsockopt(self.replica.get_ref(), PeerCredentials)?.uid())
    }

    /// Hands a connected, non-blocking TCP socket over; it never waits. The caller closes its own descriptor afterwards.
    /// No runtime may still watch the socket (epoll(7), question 6).
    ///
    /// # Errors
    /// The replica does not get the socket. The socket is unchanged.
    pub fn send(&self, socket: impl AsFd, metadata: &Metadata) -> Result<(), Refused> {
        socket::send(self.replica.get_ref(), metadata.as_bytes(), Some(socket.as_fd())).map_err(Refused::of)
    }
}

/// Why a socket could not be handed over. The sender still owns it, unchanged.
#[derive(Debug)]
pub enum Refused {
    /// Try later. The queue of the replica is full (`EAGAIN`), or this machine is short of memory (`ENOBUFS`, `ENOMEM`) or
    /// of sockets in flight over all channels of this user (`ETOOMANYREFS`, unix(7)).
    Full(io::Error),
    /// This channel is finished: the replica has died, stops, or has closed the Unix connection.
    Gone(io::Error),
}

impl Refused {
    fn of(error: Errno) -> Self {
        let gone = [Errno::PIPE, Errno::CONNRESET, Errno::NOTCONN, Errno::CONNREFUSED, Errno::SHUTDOWN];
        if gone.contains(&error) { Refused::Gone(error.into()) } else { Refused::Full(error.into()) }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Full(error) => write!(f, "the replica takes no connection now: {error}"),
            Refused::Gone(error) => write!(f, "the replica takes no more connections: {error}"),
        }
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Refused::Full(error) | Refused::Gone(error) => Some(error),
        }
    }
}

/// Receives the reports of a replica. Dropping it ends the Unix connection; every [`Channel`] then fails with
/// [`Refused::Gone`].
#[derive(Debug)]
pub struct Closed {
    replica: Arc<AsyncFd<OwnedFd>>,
}

impl Closed {
    /// Waits for the next batch of numbers (1 to 512) of handed-over connections that are closed. Cancel safe.
    ///
    /// # Errors
    /// The Unix connection has ended. Connections that were not reported by then never will be.
    pub async fn next(&mut self) -> Result<Vec<u64>, Ended> {
        let report = self.replica.async_io(Interest::READABLE, receive).await;
        let report = report.map_err(Ended::Lost)?;
        report.inspect_err(|_| self.end())
    }

    fn end(&self) {
        // It fails only if there is no connection any more.
        let _ = rustix::net::shutdown(self.replica.get_ref(), Shutdown::Both);
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.end();
    }
}

/// Registers the socket for reading only. Sends never wait for room, and interest in writability would wake the runtime
/// with every message that the replica receives.
#[expect(
    deprecated,
    reason = "unsound for a descriptor that changes while it is watched; this one is owned, and never given away"
)]
fn watch(replica: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    Ok(AsyncFd::try_with_interest(replica, Interest::READABLE)?)
}

/// Receives one message. The kernel closes descriptors in it. If the replica has closed with unread messages, the first
/// call fails with ECONNRESET, once, before what the replica has sent.
fn receive(replica: &OwnedFd) -> io::Result<Result<Vec<u64>, Ended>> {
    let mut buffer = [0; MOST_CLOSED * 8 + 1];
    let mut receive = || rustix::net::recv(replica, &mut buffer, RecvFlags::DONTWAIT);
    let (_, length) = match receive() {
        Err(Errno::CONNRESET) => receive()?,
        received => received?,
    };
    let message = buffer.get(..length).unwrap_or_default();
    if message.is_empty() {
        return Ok(Err(Ended::Gone));
    }
    Ok(decode_closed(message).map_err(Ended::Malformed))
}

/// How a Unix connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Ended {
    /// The replica has closed it: it has died, or has closed its last connection after a stop.
    Gone,
    /// The replica has sent a message that is not a report.
    Malformed(Malformed),
    /// The socket failed.
    Lost(io::Error),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Gone => write!(f, "the replica is gone"),
            Ended::Malformed(error) => write!(f, "invalid report from the replica: {error}"),
            Ended::Lost(error) => write!(f, "the connection to the replica is lost: {error}"),
        }
    }
}

impl std::error::Error for Ended {}
