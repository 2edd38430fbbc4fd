//! A peer that writes and reads raw messages, valid or not.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, recv, sendmsg,
};
use tokio::time::timeout;

use crate::harness::HANG;

pub(crate) fn socket() -> OwnedFd {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

pub(crate) fn connect(path: &Path) -> OwnedFd {
    try_connect(path).unwrap()
}

pub(crate) fn try_connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket();
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

pub(crate) fn send(to: &OwnedFd, message: &[u8], descriptors: &[BorrowedFd<'_>]) {
    try_send(to, message, descriptors).unwrap();
}

pub(crate) fn try_send(to: &OwnedFd, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(to, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for a message or the end, without taking it; its length (0 for the end).
pub(crate) async fn peeked(socket: &Arc<OwnedFd>) -> usize {
    let socket = Arc::clone(socket);
    let peek = tokio::task::spawn_blocking(move || recv(&*socket, &mut [0; 16], RecvFlags::PEEK).unwrap().1);
    timeout(HANG, peek).await.expect("nothing comes").unwrap()
}

pub(crate) async fn is_ended(socket: OwnedFd) {
    assert_eq!(peeked(&Arc::new(socket)).await, 0);
}
