//! The Unix connection from one `lb`: messages come in, streams go out.

use std::io;
use std::net::TcpStream as StdStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::sockopt::socket_protocol;
use rustix::net::{Shutdown, ipproto};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use crate::protocol::{LONGEST_MESSAGE, Malformed, Metadata};
use crate::reports::{Reports, Room};
use crate::socket::{self, Received};
use crate::stream::Stream;

#[derive(Debug)]
pub(crate) struct Link {
    lb: Arc<UnixStream>,
    reports: Arc<Reports>,
}

/// What a link yields.
#[derive(Debug)]
pub(crate) enum Event {
    Connection(Stream, Metadata),
    /// A connection was lost here and reported as closed; the link continues.
    Lost(io::Error),
    /// The link has ended; with an error unless `lb` just closed it.
    End(Option<io::Error>),
}

impl Link {
    /// A link over the Unix connection `lb`. A task sends its reports and may outlive it.
    pub(crate) fn new(lb: UnixStream, room: Arc<Room>) -> Self {
        let (lb, reports) = (Arc::new(lb), Arc::new(Reports::new(room)));
        tokio::spawn(Arc::clone(&reports).send_all(Arc::clone(&lb)));
        Link { lb, reports }
    }

    /// Polls for the next event. While `lb` does not read the reports there is none.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.reports.are_full() {
            return Poll::Pending;
        }
        loop {
            if let Err(error) = ready!(self.lb.poll_read_ready(cx)) {
                return Poll::Ready(Event::End(Some(error)));
            }
            match self.lb.try_io(Interest::READABLE, || self.now()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Event::End(Some(error))),
                Ok(event) => return Poll::Ready(event),
            }
        }
    }

    /// The next connection that was received before the link was stopped.
    pub(crate) fn last(&self) -> Option<(Stream, Metadata)> {
        loop {
            match self.now() {
                Ok(Event::Connection(stream, metadata)) => return Some((stream, metadata)),
                Ok(Event::Lost(_)) => {}
                Ok(Event::End(_)) | Err(_) => return None,
            }
        }
    }

    /// The event that can be received without waiting; else `WouldBlock`.
    fn now(&self) -> io::Result<Event> {
        let mut buffer = [0; LONGEST_MESSAGE + 1];
        let received = socket::receive(&self.lb, &mut buffer)?;
        Ok(match received.length {
            0 => Event::End(None),
            length => self.event(buffer.get(..length).unwrap_or_default(), received),
        })
    }

    fn event(&self, message: &[u8], received: Received) -> Event {
        let malformed = |error| Event::End(Some(io::Error::new(io::ErrorKind::InvalidData, error)));
        let metadata = match Metadata::decode(message) {
            Ok(metadata) => metadata,
            Err(error) => return malformed(error),
        };
        match (received.descriptors, received.descriptor) {
            (1, Some(descriptor)) if !received.is_cut => {
                if socket_protocol(&descriptor).ok().flatten() != Some(ipproto::TCP) {
                    return malformed(Malformed::NoTcp);
                }
                let open = self.reports.open(metadata.number());
                match watch(descriptor) {
                    Ok(tcp) => Event::Connection(Stream::new(tcp, Some(open)), metadata),
                    Err(error) => Event::Lost(error),
                }
            }
            (0, _) if received.is_cut => {
                drop(self.reports.open(metadata.number()));
                Event::Lost(Errno::MFILE.into())
            }
            (count, _) => malformed(Malformed::Descriptors(count)),
        }
    }

    /// Stops receiving. Messages that `lb` has sent can still be received; its further sends fail (unix(7), shutdown(2)).
    pub(crate) fn stop(&self) {
        // It fails only if `lb` is gone.
        let _ = rustix::net::shutdown(&self.lb, Shutdown::Read);
        self.reports.stop();
    }

    /// Ends the link: nothing is received or reported any more.
    pub(crate) fn end(&self) {
        self.reports.end();
    }
}

/// The reports may keep the Unix socket open. The connections that wait in it are closed here, for they have no server.
impl Drop for Link {
    fn drop(&mut self) {
        self.stop();
        let mut buffer = [0; LONGEST_MESSAGE + 1];
        while let Ok(received @ Received { length: 1.., .. }) = socket::receive(&self.lb, &mut buffer) {
            let message = buffer.get(..received.length).unwrap_or_default();
            drop(received);
            if let Ok(metadata) = Metadata::decode(message) {
                drop(self.reports.open(metadata.number()));
            }
        }
    }
}

/// Registers the socket with the runtime. A peer may have sent a blocking one, so it is set to non-blocking.
fn watch(descriptor: OwnedFd) -> io::Result<TcpStream> {
    let socket = StdStream::from(descriptor);
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket)
}
