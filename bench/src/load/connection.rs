//! A connection of the generator: opened, written to and read from with as few system calls as there can be.
//!
//! On loopback a connection is made by the time `connect` returns, so the request is sent at once, before the socket is
//! registered with the runtime, and the first thing that is waited for is the answer.

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

/// What one read takes at most.
const SCRATCH: usize = 256 * 1024;
/// Loopback addresses that connections come from, one after the other as each has no more ports: 127.0.0.1 to 127.0.0.30.
const SOURCES: u8 = 30;

thread_local! {
    /// Where bytes are read to; nothing stays there from one read to the next.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// Opens connections.
#[derive(Debug)]
pub(super) struct Dialer {
    /// The last byte of the loopback address that they come from; 1 is left to the kernel.
    source: u8,
}

impl Dialer {
    pub(super) fn new() -> Self {
        Dialer { source: 1 }
    }

    /// Begins a connection and sends `first`; how many bytes of it are on their way (none where the connection takes
    /// its time, and is awaited by the next write).
    pub(super) fn open(&mut self, target: SocketAddr, first: &[u8]) -> io::Result<(TcpStream, usize)> {
        let socket = self.connect(target)?;
        let sent = match socket.send(first) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        Ok((TcpStream::from_std(socket.into())?, sent))
    }

    /// A socket that is connected, or about to be.
    fn connect(&mut self, target: SocketAddr) -> io::Result<Socket> {
        let domain = Domain::for_address(target);
        for source in 0..=SOURCES {
            let is_last = source == SOURCES || !has_sources(target);
            let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
            let connected = self.bind(&socket).and_then(|()| socket.connect(&target.into()));
            match connected {
                // By then old connections of the first address may be forgotten.
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

/// Every loopback address has ports of its own.
fn has_sources(target: SocketAddr) -> bool {
    target.is_ipv4() && target.ip().is_loopback()
}

/// The kernel says the one when it is to choose a port at `connect`, and the other at `bind`.
fn is_out_of_ports(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse)
}

/// Sends what is left of a request when `sent` bytes of its head are on their way.
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
