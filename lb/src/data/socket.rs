//! What the data plane does to a connected socket: the fewest system calls, on the runtime's readiness.
//!
//! It knows neither client nor replica, and keeps nothing from one call to the next but a scratch buffer for each worker.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::TcpStream as StdStream;
use std::os::fd::AsFd;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::flow::Behind;

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

/// The same, with as many bytes as there may be, and with what is behind them where the end was there already.
pub(super) fn read_and_look(
    stream: &TcpStream,
    take: impl FnOnce(&[u8], Behind),
) -> io::Result<Option<usize>> {
    SCRATCH_BUFFER.with_borrow_mut(|scratch| {
        let (scratch, mut behind) = (&mut scratch[..SCRATCH], Behind::Unknown);
        let read = once(stream, Interest::READABLE, SCRATCH, || {
            let (mut read, _) = recv(stream, &mut *scratch, RecvFlags::empty())?;
            if 0 < read && read < SCRATCH && has_ended(stream) {
                // There may still be bytes: a call stops at urgent data.
                match recv(stream, &mut scratch[read..], RecvFlags::empty()) {
                    Ok((0, _)) => behind = Behind::End,
                    Ok((more, _)) => read += more,
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(_) => behind = Behind::Reset,
                }
            }
            Ok(read)
        })?;
        if let Some(bytes) = read {
            take(&scratch[..bytes], behind);
        }
        Ok(read)
    })
}

/// Whether the runtime has heard that nothing will come after what is there. It has to be readable, or it has to be asked at
/// some cost.
fn has_ended(stream: &TcpStream) -> bool {
    let ready = pin!(stream.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop()));
    matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
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

/// Writes as much of `bytes` as there is room for now. The last ones, if nothing keeps them apart, wait for the end of the
/// stream and travel with it (send(2), `MSG_MORE`): it has to follow at once.
pub(super) fn write_some(stream: &TcpStream, bytes: &[u8], are_last: bool) -> io::Result<usize> {
    let flags = if are_last { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
    let written = once(stream, Interest::WRITABLE, bytes.len(), || Ok(send(stream, bytes, flags)?))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::connection;

    /// What is read from a connection on which this was sent, when the runtime has heard of its end.
    async fn read(send: impl FnOnce(TcpStream)) -> Vec<(Vec<u8>, Behind)> {
        let (client, stream) = connection().await;
        send(client);
        while !stream.ready(Interest::READABLE).await.unwrap().is_read_closed() {
            let _ = stream.try_io(Interest::READABLE, || Err::<(), _>(ErrorKind::WouldBlock.into()));
        }
        let mut all = Vec::new();
        while read_and_look(&stream, |bytes, behind| all.push((bytes.to_vec(), behind)))
            .is_ok_and(|read| read > Some(0))
        {}
        all
    }

    #[tokio::test]
    async fn the_end_is_seen_behind_the_last_bytes() {
        let last = read(|client| assert_eq!(client.try_write(b"last").unwrap(), 4)).await;
        assert_eq!(last[0], (b"last".to_vec(), Behind::End));
    }

    #[tokio::test]
    async fn a_reset_behind_bytes_is_no_end() {
        let cut = read(|client| {
            client.try_write(b"cut").unwrap();
            reset(&client);
        });
        assert_eq!(cut.await[0], (b"cut".to_vec(), Behind::Reset));
    }

    #[tokio::test]
    async fn urgent_data_does_not_hide_what_is_behind_it() {
        let urgent = read(|client| {
            client.try_write(b"before").unwrap();
            SockRef::from(&client).send_out_of_band(b"!").unwrap();
            client.try_write(b"behind").unwrap();
        });
        assert_eq!(urgent.await[0], (b"beforebehind".to_vec(), Behind::Unknown));
    }
}
