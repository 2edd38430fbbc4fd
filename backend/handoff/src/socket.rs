//! System calls on Unix sockets of type `SOCK_SEQPACKET` (unix(7)). None of them blocks.

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

/// How many Unix connections may wait to be accepted. Each `lb` makes one.
const BACKLOG: i32 = 128;
/// Sockets are non-blocking and not inherited by child processes.
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
/// Room for two descriptors. A message may hold one; a second one has to be detected.
const ROOM: usize = cmsg_space!(ScmRights(2));

fn new() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?)
}

/// Returns a socket that listens at `path`, for the owner of this process alone. It replaces a stale socket.
pub(crate) fn listen(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = new()?;
    // On Linux the mode of the socket becomes the mode of its file, so other users can never connect.
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
    // ECONNREFUSED: the listener is gone (connect(2)). With any other result it may be alive.
    let is_stale = is_socket && rustix::net::connect(new()?, address) == Err(Errno::CONNREFUSED);
    if !is_stale {
        return Err(Errno::ADDRINUSE.into());
    }
    Ok(unlink(path)?)
}

/// Connects to the listener at `path`, at once or not at all (connect(2), `EAGAIN`).
pub(crate) fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = new()?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Accepts the next waiting connection.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<UnixStream> {
    watch(accept_with(listener, FLAGS)?)
}

/// Registers the socket with the runtime. Its type does not matter: the runtime only reports readiness.
fn watch(socket: OwnedFd) -> io::Result<UnixStream> {
    UnixStream::from_std(StdStream::from(socket))
}

/// Sends one message, with the descriptor if one is given.
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
    // A SOCK_SEQPACKET message is sent whole or not at all.
    sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// A received message.
#[derive(Debug)]
pub(crate) struct Received {
    /// Its length in bytes; 0 at the end of the connection.
    pub(crate) length: usize,
    /// Its first descriptor.
    pub(crate) descriptor: Option<OwnedFd>,
    /// The number of descriptors. All but the first are closed.
    pub(crate) descriptors: usize,
    /// Whether descriptors were lost for lack of room, or of free descriptor numbers in this process (unix(7), `MSG_CTRUNC`).
    pub(crate) is_cut: bool,
}

/// Receives one message into `buffer`.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let mut receive = || recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags);
    // ECONNRESET: the peer closed before it had read everything. It comes once, before the messages that the peer sent.
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
