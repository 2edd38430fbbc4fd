//! The side of `lb`: sockets go out, numbers of closed connections come back.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::protocol::{MOST_CLOSED, Malformed, Metadata, decode_closed};
use crate::socket;

/// The way to a replica, for any number of threads. It does not need a runtime.
#[derive(Clone, Debug)]
pub struct Channel {
    replica: Arc<AsyncFd<OwnedFd>>,
}

impl Channel {
    /// Connects to the replica that listens at `path`. Has to be called within a runtime: the one in which [`Closed`] is
    /// used.
    ///
    /// # Errors
    /// Those of connect(2). `NotFound`, `ConnectionRefused`: there is no replica yet. `WouldBlock`: it does not accept.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<(Self, Closed)> {
        let replica = Arc::new(watch(socket::connect(path.as_ref())?)?);
        Ok((Channel { replica: Arc::clone(&replica) }, Closed { replica }))
    }

    /// Hands a connected, non-blocking TCP socket over, without ever waiting. The caller closes its own descriptor
    /// afterwards, and must have had no runtime watch the socket any more (epoll(7), question 6).
    ///
    /// # Errors
    /// The replica does not get the socket, which is as it was: nothing has been done to it.
    pub fn send(&self, socket: impl AsFd, metadata: &Metadata) -> Result<(), Refused> {
        socket::send(self.replica.get_ref(), metadata.as_bytes(), Some(socket.as_fd())).map_err(Refused::of)
    }
}

/// Why a socket could not be handed over. It is still the sender's, and as good as before.
#[derive(Debug)]
pub enum Refused {
    /// Not now. The replica takes nothing at the moment (`EAGAIN`), or this machine has a shortage: of memory (`ENOBUFS`,
    /// `ENOMEM`), or of sockets that may be under way at a time, in all channels of this user (`ETOOMANYREFS`, unix(7)).
    Full(io::Error),
    /// Never again on this channel: the replica is dead, or stops, or has ended the Unix connection.
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

/// What a replica has closed. To drop it is to end the Unix connection: every [`Channel`] says [`Refused::Gone`] then.
#[derive(Debug)]
pub struct Closed {
    replica: Arc<AsyncFd<OwnedFd>>,
}

impl Closed {
    /// Waits for the next batch of numbers, each of a connection that was handed over and is closed: 1 to 512. Nothing is
    /// lost when the future is dropped.
    ///
    /// # Errors
    /// The end of the Unix connection. Of connections that have not been reported nobody will say anything any more.
    pub async fn next(&mut self) -> Result<Vec<u64>, Ended> {
        let report = self.replica.async_io(Interest::READABLE, receive).await;
        let report = report.map_err(Ended::Lost)?;
        report.inspect_err(|_| self.end())
    }

    fn end(&self) {
        // It can only fail when there is no connection.
        let _ = rustix::net::shutdown(self.replica.get_ref(), Shutdown::Both);
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.end();
    }
}

/// The runtime looks for reports only: nobody waits for room, and who looks for that is woken by each message that the
/// replica receives.
#[expect(
    deprecated,
    reason = "unsound for a descriptor that changes while it is watched; this one is owned, and never given away"
)]
fn watch(replica: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    Ok(AsyncFd::try_with_interest(replica, Interest::READABLE)?)
}

/// One message; descriptors in it are closed by the kernel. That the replica has not received everything is told before
/// what it has sent, and once.
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

/// How a Unix connection has ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Ended {
    /// The replica has closed it. It is dead, or it had stopped and has closed its last connection.
    Gone,
    /// The replica has sent what is no report.
    Malformed(Malformed),
    /// The socket has failed.
    Lost(io::Error),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Gone => write!(f, "the replica is gone"),
            Ended::Malformed(error) => write!(f, "the replica reports nonsense: {error}"),
            Ended::Lost(error) => write!(f, "the connection to the replica is lost: {error}"),
        }
    }
}

impl std::error::Error for Ended {}
