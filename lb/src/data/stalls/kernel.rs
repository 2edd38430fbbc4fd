//! What the kernel knows of stalled sockets, asked over netlink (sock_diag(7)). It changes nothing.
//!
//! A question takes about a microsecond for each TCP socket of the network namespace, so it is not for a data-plane thread.

use std::io;
use std::time::Duration;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, Timer,
};
use rustix::fd::OwnedFd;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// The kernel answers in pieces of at most 32 KiB.
const PIECE: usize = 64 * 1024;
/// The kernel answers at once; this is for one that does not.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where fields of `struct tcp_info` are, in bytes (linux/tcp.h). `tcpi_snd_wnd` is there since Linux 5.4.
const LAST_ACK_RECV: usize = 56;
const SND_WND: usize = 228;

/// A socket with bytes that its peer does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stalled {
    /// The number of its inode: fstat(2).
    pub(super) inode: u32,
    /// How long its peer has acknowledged nothing. An answer to a window probe counts.
    pub(super) silence: Duration,
}

/// All stalled TCP sockets of this network namespace.
///
/// # Errors
/// The kernel cannot be asked.
pub(super) fn stalled() -> io::Result<Vec<Stalled>> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let mut found = Vec::new();
    for (family, any) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        send(&socket, &request(family, any), SendFlags::empty())?;
        receive(&socket, &mut found)?;
    }
    Ok(found)
}

/// Asks for every socket that may still have bytes for its peer.
fn request(family: u8, socket_id: SocketId) -> Vec<u8> {
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO,
        states: StateFlags::ESTABLISHED
            | StateFlags::CLOSE_WAIT
            | StateFlags::FIN_WAIT1
            | StateFlags::CLOSING
            | StateFlags::LAST_ACK,
        socket_id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Reads the answer to one request.
fn receive(socket: &OwnedFd, found: &mut Vec<Stalled>) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let (length, _) = recv(socket, &mut piece[..], RecvFlags::empty())?;
        let mut rest = &piece[..length];
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(socket)) => {
                    found.extend(Stalled::of(&socket));
                }
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

impl Stalled {
    /// `None`: its peer takes its bytes, or whether it does is not known yet.
    fn of(socket: &InetResponse) -> Option<Self> {
        // For a connection it is the number of bytes that are not acknowledged.
        if socket.header.send_queue == 0 {
            return None;
        }
        let info = socket
            .nlas
            .iter()
            .find_map(|nla| if let Nla::TcpInfo(info) = nla { Some(info) } else { None })?;
        let is_stalled = match socket.header.timer {
            Some(Timer::Probe(_)) => true,
            // A window that is closed over bytes on their way is probed with these bytes (`tcp_retransmit_timer`).
            Some(Timer::Retransmit(_, _)) => field(info, SND_WND) == Some(0),
            _ => false,
        };
        let silence = Duration::from_millis(field(info, LAST_ACK_RECV)?.into());
        is_stalled.then_some(Stalled { inode: socket.header.inode, silence })
    }
}

fn field(info: &[u8], at: usize) -> Option<u32> {
    info.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}
