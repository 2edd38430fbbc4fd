//! What the kernel knows of stalled sockets. It changes nothing, and it is not for a data-plane thread ([`sock_diag`]).

use std::io;
use std::time::Duration;

use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetResponse, StateFlags, Timer};

use crate::sock_diag;

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
    // Every socket that may still have bytes for its peer.
    let states = StateFlags::ESTABLISHED
        | StateFlags::CLOSE_WAIT
        | StateFlags::FIN_WAIT1
        | StateFlags::CLOSING
        | StateFlags::LAST_ACK;
    let mut found = Vec::new();
    sock_diag::each(&states, &ExtensionFlags::INFO, |socket| found.extend(Stalled::of(socket)))?;
    Ok(found)
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
