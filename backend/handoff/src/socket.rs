//! The system calls on Unix sockets of type `SOCK_SEQPACKET` (unix(7)): each is made once, and none of them waits.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;

use rustix::cmsg_space;
use rustix::fs::{FileType, Mode, fchmod, lstat, unlink};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, recvmsg, sendmsg,
};
use tokio::net::UnixStream;

/// How many Unix connections may wait to be accepted. One is made in the life of an `lb`.
const BACKLOG: i32 = 128;
/// Everything here is non-blocking, and no child gets it.
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
/// There is room for one descriptor more than a message may have, so that a second one is seen.
const ROOM: usize = cmsg_space!(ScmRights(2));

fn new() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?)
}

/// A socket that listens at `path`, for the owner of this process alone. A socket that nobody listens at any more makes way.
pub(crate) fn listen(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = new()?;
    // On Linux the mode of the socket becomes that of its file: there is no moment in which others could connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    match rustix::net::bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            remove_stale(path, &address)?;
            rustix::net::bind(&socket, &address)?;
        }
        bound => bound?,
    }
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn remove_stale(path: &Path, address: &SocketAddrUnix) -> io::Result<()> {
    let is_socket = FileType::from_raw_mode(lstat(path)?.st_mode).is_socket();
    // Refused: there was a listener (connect(2), ECONNREFUSED). Anything else speaks for somebody who is alive.
    let is_stale = is_socket && rustix::net::connect(new()?, address) == Err(Errno::CONNREFUSED);
    if !is_stale {
        return Err(Errno::ADDRINUSE.into());
    }
    Ok(unlink(path)?)
}

/// The connection to whoever listens at `path`. It is there at once or not at all (connect(2), `EAGAIN`).
pub(crate) fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = new()?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// The next connection that waits to be accepted.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<UnixStream> {
    watch(accept_with(listener, FLAGS)?)
}

/// To the runtime a socket is a socket, whatever its type: it is asked only when there is something to be done.
fn watch(socket: OwnedFd) -> io::Result<UnixStream> {
    UnixStream::from_std(StdStream::from(socket))
}

/// Sends one message, with a descriptor if there is one.
pub(crate) fn send(
    socket: impl AsFd,
    message: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let (mut room, descriptors) = ([MaybeUninit::uninit(); ROOM], descriptor.as_slice());
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    // A message is sent whole or not at all.
    sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// A message, as it was received.
#[derive(Debug)]
pub(crate) struct Received {
    /// How many bytes it has; 0 at the end of the connection.
    pub(crate) length: usize,
    /// The first descriptor in it.
    pub(crate) descriptor: Option<OwnedFd>,
    /// How many there were. Those after the first are closed.
    pub(crate) descriptors: usize,
    /// Whether there were more, for which there was no room, or no free number in this process (unix(7), `MSG_CTRUNC`).
    pub(crate) is_cut: bool,
}

/// Receives one message into `buffer`.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let mut receive = || recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags);
    // The peer was closed before it had read everything. That is told once, and *before* what it has sent.
    let message = match receive() {
        Err(Errno::CONNRESET) => receive()?,
        received => received?,
    };
    let mut received = Received {
        length: message.bytes,
        descriptor: None,
        descriptors: 0,
        is_cut: message.flags.contains(ReturnFlags::CTRUNC),
    };
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = part {
            for descriptor in descriptors {
                received.descriptors += 1;
                received.descriptor.get_or_insert(descriptor);
            }
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_owner_may_connect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _listener = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_stale_socket_makes_way_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = listen(&path).unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        drop(listen(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_path_that_is_too_long_is_an_error() {
        assert_eq!(listen(Path::new(&"x".repeat(200))).unwrap_err().raw_os_error(), Some(36));
    }
}
