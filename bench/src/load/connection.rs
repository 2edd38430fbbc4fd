//! A connection of the generator: opened, written to and read from with few system calls.
//!
//! On loopback the connection exists when `connect` returns. So the request is sent at once, before the socket is registered
//! with the runtime, and the first wait is the one for the answer.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::exchange::{Answer, Request};
use super::failure::Failure;
use super::payload::payload;

/// The maximum size of one read.
const SCRATCH: usize = 256 * 1024;
/// The number of source addresses on loopback, 127.0.0.1 to 127.0.0.30. When one has no free port, the next one is used.
const SOURCES: u8 = 30;

thread_local! {
    /// The read buffer; nothing stays in it between two reads.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// Opens connections.
#[derive(Debug)]
pub(super) struct Dialer {
    /// The last byte of the source address; for 1 the kernel chooses.
    source: u8,
}

impl Dialer {
    pub(super) fn new() -> Self {
        Dialer { source: 1 }
    }

    /// Begins a connection and sends `first`; returns how many bytes were sent (none if the connection is still being made;
    /// then the next write waits for it).
    pub(super) fn open(&mut self, target: SocketAddr, first: &[u8]) -> io::Result<(TcpStream, usize)> {
        let socket = self.connect(target)?;
        let sent = match socket.send(first) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        Ok((TcpStream::from_std(socket.into())?, sent))
    }

    /// A socket that is connected or connecting.
    fn connect(&mut self, target: SocketAddr) -> io::Result<Socket> {
        let domain = Domain::for_address(target);
        for source in 0..=SOURCES {
            let is_last = source == SOURCES || !has_sources(target);
            let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
            let connected = self.bind(&socket).and_then(|()| socket.connect(&target.into()));
            match connected {
                // When all are used, ports of the first address may be free again.
                Err(error) if is_out_of_ports(&error) && !is_last => self.source = self.source % SOURCES + 1,
                Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                    return Err(error);
                }
                _ => return Ok(socket),
            }
        }
        Err(ErrorKind::AddrNotAvailable.into())
    }

    fn bind(&self, socket: &Socket) -> io::Result<()> {
        if self.source == 1 {
            return Ok(());
        }
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, self.source), 0)).into())
    }
}

/// Whether other source addresses can be used: every loopback address has its own ports.
fn has_sources(target: SocketAddr) -> bool {
    target.is_ipv4() && target.ip().is_loopback()
}

/// The kernel reports the first error when it chooses a port at `connect`, and the second one at `bind`.
fn is_out_of_ports(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse)
}

/// Sends the rest of a request after `sent` bytes of its head.
pub(super) async fn send(stream: &mut WriteHalf<'_>, request: &Request, sent: usize) -> io::Result<()> {
    if sent < request.head.len() {
        stream.write_all(&request.head[sent..]).await?;
    }
    let mut offset = request.sent_with_head;
    while offset < request.payload {
        let piece = payload(offset, request.payload - offset);
        stream.write_all(piece).await?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// Reads until the answer is complete.
pub(super) async fn receive(
    stream: &ReadHalf<'_>,
    request: &Request,
    answer: &mut Answer,
) -> Result<(), Failure> {
    loop {
        stream.readable().await.map_err(|error| Failure::of(&error))?;
        let fed = BUFFER.with_borrow_mut(|buffer| match stream.try_read(buffer) {
            Ok(0) => answer.end().map(|()| true),
            Ok(count) => answer.feed(&buffer[..count], request),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(Failure::of(&error)),
        });
        if fed? {
            return Ok(());
        }
    }
}
