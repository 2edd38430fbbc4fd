//! Writing and ending: what the data plane does to a connected socket beside reading from it.
//!
//! Each function makes the fewest system calls it can, on the runtime's readiness. It knows neither client nor replica.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, connect_unspec, send, sockopt::set_socket_linger};
use socket2::SockRef;
use tokio::io::Interest;

use super::stream::Stream;

/// How long a call that was interrupted waits before it is made again.
pub(super) const SOON: Duration = Duration::from_millis(20);

/// Writes as much of `bytes` as there is room for now. If they are the last ones, they wait for the end of the stream and
/// travel with it (send(2), `MSG_MORE`); the end has to follow at once.
pub(super) fn write_some(stream: &Stream, bytes: &[u8], are_last: bool) -> io::Result<usize> {
    let flags = if are_last { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
    let written = once(stream, Interest::WRITABLE, bytes.len(), || Ok(send(stream, bytes, flags)?))?;
    Ok(written.unwrap_or(0))
}

/// Makes one system call that moves up to `most` bytes, if the stream is ready for it. `None`: it is not. An error is that of [`insist`].
///
/// If the call moves some bytes but fewer than `most`, the next one would only fail with EAGAIN, so the readiness is cleared
/// without that call (epoll(7), question 9).
pub(super) fn once(
    stream: &Stream,
    interest: Interest,
    most: usize,
    call: impl FnMut() -> io::Result<usize>,
) -> io::Result<Option<usize>> {
    let mut moved = None;
    let outcome = stream.try_io(interest, || {
        let bytes = *moved.insert(insist(stream, interest, call)?);
        if 0 < bytes && bytes < most { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match outcome {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(moved),
    }
}

/// Makes a call for which the runtime takes the stream to be ready.
///
/// After EAGAIN the runtime waits until it hears of a *change* (epoll(7), edge-triggered). If the stream is ready all the same, none may
/// ever come: send(2) says EAGAIN when memory for TCP is short, for example. So the kernel is asked, and the call is made once more.
/// (Bytes may also have come in between.) If that is in vain, too, the error is EINTR: the call has to be made again, a little later.
pub(super) fn insist<R>(
    stream: &Stream,
    interest: Interest,
    mut call: impl FnMut() -> io::Result<R>,
) -> io::Result<R> {
    for _ in 0..2 {
        match call() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !is_ready(stream, interest) {
                    return Err(error);
                }
            }
            done => return done,
        }
    }
    Err(Errno::INTR.into())
}

/// Whether the kernel says that the stream can be read from, or written to.
fn is_ready(stream: &Stream, interest: Interest) -> bool {
    let events = if interest.is_readable() { PollFlags::IN } else { PollFlags::OUT };
    let mut asked = [PollFd::new(stream, events)];
    poll(&mut asked, Some(&Timespec::default())).is_ok() && asked[0].revents().intersects(events)
}

/// Makes dropping the stream reset the connection.
pub(super) fn reset(stream: impl AsFd) {
    // If it fails on an open socket, the connection is dissolved instead, which resets it at once (connect(2), AF_UNSPEC).
    if set_socket_linger(&stream, Some(Duration::ZERO)).is_err() {
        let _ = connect_unspec(&stream);
    }
}

/// Whether the connection exists no more: it was reset, or the kernel has given it up. (A connection on which both sides have
/// sent their end counts as well.)
///
/// An error of a call does not tell that: a call can fail because memory is short.
pub(super) fn is_dead(stream: &impl AsFd) -> bool {
    // HUP is always reported: poll(2).
    let mut hung_up = [PollFd::new(stream, PollFlags::empty())];
    let polled = poll(&mut hung_up, Some(&Timespec::default()));
    polled.is_ok() && hung_up[0].revents().contains(PollFlags::HUP)
}

/// Waits until all written bytes are sent, and all but the last few kilobytes are acknowledged.
///
/// With `TCP_NOTSENT_LOWAT` at 1 and the smallest send buffer, a socket is writable only when it has nothing left to send and
/// little left to be acknowledged (tcp(7)). The runtime may still hold an older readiness, so that is cleared first. If
/// poll(2) finds the socket not writable, the kernel reports the change (epoll(7), edge-triggered).
pub(super) async fn all_sent(stream: &Stream) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use rustix::net::{Shutdown, shutdown};

    use super::*;
    use crate::data::testing::connection;

    /// What comes of a call that says EAGAIN so often, on a stream that is ready for it or not.
    async fn insisted(times: usize, peer_speaks: bool) -> (io::Result<usize>, usize) {
        let (peer, stream) = connection().await;
        if peer_speaks {
            peer.try_write(b"x").unwrap();
            stream.readable().await.unwrap();
        }
        let mut calls = 0;
        let outcome = insist(&stream, Interest::READABLE, || {
            calls += 1;
            if calls > times { Ok(1) } else { Err(ErrorKind::WouldBlock.into()) }
        });
        (outcome, calls)
    }

    #[tokio::test]
    async fn a_call_that_would_block_although_its_stream_is_ready_is_made_again() {
        let kind =
            |(outcome, calls): (io::Result<usize>, usize)| (outcome.map_err(|error| error.kind()), calls);
        assert_eq!(kind(insisted(0, true).await), (Ok(1), 1));
        assert_eq!(kind(insisted(1, true).await), (Ok(1), 2));
        assert_eq!(kind(insisted(9, true).await), (Err(ErrorKind::Interrupted), 2));
        assert_eq!(kind(insisted(9, false).await), (Err(ErrorKind::WouldBlock), 1));
    }

    #[tokio::test]
    async fn only_a_connection_that_exists_no_more_is_dead() {
        let (peer, stream) = connection().await;
        assert!(!is_dead(&stream));
        shutdown(&peer, Shutdown::Write).unwrap();
        while !stream.ready(Interest::READABLE).await.unwrap().is_read_closed() {}
        assert!(!is_dead(&stream), "it can still be written to");
        reset(&peer);
        drop(peer);
        stream.ready(Interest::ERROR).await.unwrap();
        assert!(is_dead(&stream));
    }
}
