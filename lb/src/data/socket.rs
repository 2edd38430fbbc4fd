//! Writing and ending: what the data plane does to a connected socket beside reading from it.
//!
//! Each function makes the fewest system calls it can, on the runtime's readiness. It knows neither client nor replica.

use std::io::{self, ErrorKind};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, send};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Writes as much of `bytes` as there is room for now. If they are the last ones, they wait for the end of the stream and
/// travel with it (send(2), `MSG_MORE`); the end has to follow at once.
pub(super) fn write_some(stream: &TcpStream, bytes: &[u8], are_last: bool) -> io::Result<usize> {
    let flags = if are_last { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
    let written = once(stream, Interest::WRITABLE, bytes.len(), || Ok(send(stream, bytes, flags)?))?;
    Ok(written.unwrap_or(0))
}

/// Makes one system call that moves up to `most` bytes, if the stream is ready for it. `None`: it is not.
///
/// If the call moves some bytes but fewer than `most`, the next one would only fail with EAGAIN, so the readiness is cleared
/// without that call (epoll(7), question 9).
pub(super) fn once(
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

/// Makes dropping the stream reset the connection.
pub(super) fn reset(stream: &TcpStream) {
    // This fails only on a socket that is closed already.
    let _ = stream.set_zero_linger();
}

/// Waits until all written bytes are sent, and all but the last few kilobytes are acknowledged.
///
/// With `TCP_NOTSENT_LOWAT` at 1 and the smallest send buffer, a socket is writable only when it has nothing left to send and
/// little left to be acknowledged (tcp(7)). The runtime may still hold an older readiness, so that is cleared first. If
/// poll(2) finds the socket not writable, the kernel reports the change (epoll(7), edge-triggered).
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
