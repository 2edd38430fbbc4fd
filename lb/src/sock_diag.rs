//! Questions to the kernel about TCP sockets, over netlink (sock_diag(7)). It changes nothing.
//!
//! A question about connections takes about a microsecond for each TCP socket of the network namespace, so it is not for a
//! data-plane thread. One about listening sockets looks at these only: it is fast, whatever the number of connections is.
//! (`/proc/net/tcp` walks through the table of connections, which takes tens of milliseconds even if that is empty.)

use std::io;
use std::time::Duration;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use rustix::fd::OwnedFd;
use rustix::io::retry_on_intr;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// The kernel answers in pieces of at most 32 KiB.
const PIECE: usize = 64 * 1024;
/// The kernel answers at once; this is for one that does not.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes every TCP socket of this network namespace that is in one of these states, IPv4 first.
///
/// # Errors
/// The kernel cannot be asked.
pub(crate) fn each(
    states: &StateFlags,
    extensions: &ExtensionFlags,
    mut take: impl FnMut(&InetResponse),
) -> io::Result<()> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        let (states, extensions) = (states.clone(), extensions.clone());
        let request = InetRequest { family, protocol: IPPROTO_TCP, extensions, states, socket_id };
        send(&socket, &message(request), SendFlags::empty())?;
        receive(&socket, &mut take)?;
    }
    Ok(())
}

fn message(request: InetRequest) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Reads the answer to one request.
fn receive(socket: &OwnedFd, take: &mut impl FnMut(&InetResponse)) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let (length, _) = retry_on_intr(|| recv(socket, &mut piece[..], RecvFlags::empty()))?;
        let mut rest = &piece[..length];
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(socket)) => take(&socket),
                NetlinkPayload::Done(done) if done.code == 0 => return Ok(()),
                NetlinkPayload::Done(done) => return Err(io::Error::from_raw_os_error(-done.code)),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            // Messages are aligned to four bytes: netlink(7).
            let taken = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(taken.max(4)..).unwrap_or_default();
        }
    }
}
