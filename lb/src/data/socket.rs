//! What the data plane does to a connected socket: the fewest system calls, on the runtime's readiness.
//!
//! It knows neither client nor replica, and keeps nothing from one call to the next but a scratch buffer for each worker.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::TcpStream as StdStream;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The most that is read at once, and so the most that can wait for a slow reader, in bytes.
pub(super) const SCRATCH: usize = 32 * 1024;
/// The most that is looked at: the longest first line that can be asked for (`--first-line-max`).
const LOOK: usize = 64 * 1024;

thread_local! {
    static SCRATCH_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LOOK]);
}

/// Reads at most `most` bytes (and at most [`SCRATCH`]) if there are any, and gives them to `take`. `Some(0)` is the end
/// of the stream, `None` that there is nothing to read now.
pub(super) fn read_some(
    stream: &TcpStream,
    most: usize,
    take: impl FnOnce(&[u8]),
) -> io::Result<Option<usize>> {
    SCRATCH_BUFFER.with_borrow_mut(|scratch| {
        let room = &mut scratch[..most.min(SCRATCH)];
        let read = once(stream, Interest::READABLE, room.len(), || {
            Ok(recv(stream, &mut *room, RecvFlags::empty())?.0)
        })?;
        if let Some(bytes) = read {
            take(&room[..bytes]);
        }
        Ok(read)
    })
}

/// Reads at most `most` bytes (and at most [`SCRATCH`]) of a socket that the runtime does not know, and gives them to
/// `take`; 0 is the end of the stream.
pub(super) fn receive(socket: &StdStream, most: usize, take: impl FnOnce(&[u8])) -> io::Result<usize> {
    SCRATCH_BUFFER.with_borrow_mut(|scratch| {
        let room = &mut scratch[..most.min(SCRATCH)];
        let (read, _) = recv(socket, &mut *room, RecvFlags::empty())?;
        take(&room[..read]);
        Ok(read)
    })
}

/// Shows `take` what the stream begins with, at most `most` bytes (and at most [`LOOK`]), and leaves it there. As for
/// [`read_some`], but nothing tells the end of a stream that has bytes in it.
pub(super) fn peek_some(
    stream: &TcpStream,
    most: usize,
    take: impl FnOnce(&[u8]),
) -> io::Result<Option<usize>> {
    let room = most.min(LOOK);
    once(stream, Interest::READABLE, room, || peek(stream, room, take))
}

/// The same for a socket that the runtime does not know.
pub(super) fn peek(socket: impl AsFd, most: usize, take: impl FnOnce(&[u8])) -> io::Result<usize> {
    SCRATCH_BUFFER.with_borrow_mut(|scratch| {
        let room = &mut scratch[..most.min(LOOK)];
        let (seen, _) = recv(socket, &mut *room, RecvFlags::PEEK)?;
        take(&room[..seen]);
        Ok(seen)
    })
}

/// Writes as much of `bytes` as there is room for now.
pub(super) fn write_some(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let written =
        once(stream, Interest::WRITABLE, bytes.len(), || Ok(send(stream, bytes, SendFlags::NOSIGNAL)?))?;
    Ok(written.unwrap_or(0))
}

/// One system call that moves up to `most` bytes, if the stream is ready for it.
///
/// Fewer bytes than that, but some, mean that the next call would only say EAGAIN: the readiness is taken back without
/// asking (epoll(7), question 9).
fn once(
    stream: &TcpStream,
    interest: Interest,
    most: usize,
    call: impl FnOnce() -> io::Result<usize>,
) -> io::Result<Option<usize>> {
    let mut moved = None;
    let outcome = stream.try_io(interest, || {
        let bytes = *moved.insert(call()?);
        if 0 < bytes && bytes < most { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match outcome {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(moved),
    }
}

/// Has the connection reset when it is dropped.
pub(super) fn reset(stream: &TcpStream) {
    // It fails only on a socket that is gone already.
    let _ = stream.set_zero_linger();
}

/// Waits until the bytes that were written have arrived, but for the last few kilobytes, which are only sent by then.
///
/// With `TCP_NOTSENT_LOWAT` at 1 and the smallest send buffer, a socket is writable only when nothing is left to be sent
/// and little to be acknowledged (tcp(7)). The runtime knows from before that it is writable, so that is forgotten first;
/// and to ask the kernel in vain is to be told when it changes (epoll(7), edge-triggered).
pub(super) async fn all_sent(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(1)?;
    socket.set_send_buffer_size(1)?;
    loop {
        let _ = stream.try_io(Interest::WRITABLE, || Err::<(), _>(ErrorKind::WouldBlock.into()));
        if poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&Timespec::default()))? > 0 {
            return Ok(());
        }
        stream.writable().await?;
    }
}

/// Reads and forgets what comes, until the end of the stream, an error, or `limit`.
pub(super) async fn discard(stream: &TcpStream, limit: Duration) {
    let until_the_end = async {
        while stream.readable().await.is_ok() {
            if matches!(read_some(stream, SCRATCH, |_| ()), Ok(Some(0)) | Err(_)) {
                break;
            }
        }
    };
    let _ = timeout(limit, until_the_end).await;
}
