//! Writing and ending: what the data plane does to a connected socket beside reading from it.
//!
//! Each function makes the fewest system calls it can, on the runtime's readiness. It knows neither client nor replica.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, connect_unspec, send, sockopt::set_socket_linger};
use socket2::SockRef;
use tokio::io::Interest;

use super::stream::Stream;

/// Writes as much of `bytes` as there is room for now. If they are the last ones, they wait for the end of the stream and
/// travel with it (send(2), `MSG_MORE`); the end has to follow at once.
pub(super) fn write_some(stream: &Stream, bytes: &[u8], are_last: bool) -> io::Result<usize> {
    let flags = if are_last { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
    let written = once(stream, Interest::WRITABLE, bytes.len(), || Ok(send(stream, bytes, flags)?))?;
    Ok(written.unwrap_or(0))
}

/// Makes one system call that moves up to `most` bytes, if the stream is ready for it. `None`: it is not.
///
/// If the call moves some bytes but fewer than `most`, the next one would only fail with EAGAIN, so the readiness is cleared
/// without that call (epoll(7), question 9).
pub(super) fn once(
    stream: &Stream,
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
pub(super) fn is_dead(stream: &Stream) -> bool {
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
