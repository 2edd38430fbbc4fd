//! Socket options of both connections of a session: when a silent peer counts as gone, and how much memory one may take.
//!
//! Accepted sockets inherit them from the listener, so they cost a call only for a connection to a replica.

use std::time::Duration;

use rustix::net::sockopt::set_tcp_user_timeout;
use socket2::{SockRef, TcpKeepalive};

/// The options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerOptions {
    /// How long a peer that has vanished may stay unnoticed while nothing is sent (tcp(7), `TCP_KEEPIDLE`).
    pub keepalive: Duration,
    /// How long a peer may answer nothing while bytes are on their way (tcp(7), `TCP_USER_TIMEOUT`); `None`: as long as the kernel
    /// tries.
    pub ack_timeout: Option<Duration>,
    /// The size of each buffer of a socket in bytes (socket(7), `SO_RCVBUF`, `SO_SNDBUF`); `None`: the kernel decides.
    pub buffer: Option<usize>,
}

/// Unanswered keepalive probes after which a peer is gone.
const PROBES: u32 = 4;

impl PeerOptions {
    /// The time for acknowledgements. The kernel applies it to keepalive probes as well (tcp(7), `TCP_USER_TIMEOUT`), so it is
    /// not longer than the time for those.
    pub(crate) fn unacknowledged(&self) -> Option<Duration> {
        self.ack_timeout.map(|timeout| timeout.min(self.keepalive))
    }

    /// The first probe after so long, and the time between two.
    ///
    /// When the time for acknowledgements is over, one unanswered probe is enough for the kernel. So the first one is sent early
    /// enough for three more.
    fn probes(&self) -> (Duration, Duration) {
        let all = self.unacknowledged().unwrap_or(self.keepalive);
        let whole_seconds = |time: Duration| Duration::from_secs(time.as_secs().max(1));
        let first = whole_seconds(all / 2);
        (first, whole_seconds(all.saturating_sub(first) / PROBES))
    }

    /// Sets what notices that a peer has vanished. An option that cannot be set stays as it is: the connection works without it.
    pub(super) fn set<'s>(&self, socket: impl Into<SockRef<'s>>) {
        let socket = socket.into();
        let (first, next) = self.probes();
        let keepalive = TcpKeepalive::new().with_time(first).with_interval(next).with_retries(PROBES);
        let _ = socket.set_tcp_keepalive(&keepalive);
        if let Some(timeout) = self.unacknowledged() {
            let _ = set_tcp_user_timeout(&*socket, u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
        }
    }

    /// Sets the size of both buffers, before the handshake: the window is scaled by it.
    pub(super) fn set_buffers<'s>(&self, socket: impl Into<SockRef<'s>>) {
        if let Some(size) = self.buffer {
            let socket = socket.into();
            let _ = socket.set_recv_buffer_size(size);
            let _ = socket.set_send_buffer_size(size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vanished_peer_is_noticed_in_time_and_never_by_one_lost_probe() {
        for (keepalive, ack_timeout) in
            [(120, Some(55)), (120, None), (30, Some(55)), (8, None), (3600, Some(60))]
        {
            let (keepalive, ack_timeout) =
                (Duration::from_secs(keepalive), ack_timeout.map(Duration::from_secs));
            let options = PeerOptions { keepalive, ack_timeout, buffer: None };
            let (first, next) = options.probes();
            let all = options.unacknowledged().unwrap_or(keepalive);
            assert!(all <= keepalive && first + next * PROBES <= all, "{first:?}, then every {next:?}");
            assert!(first + next * 2 < all, "at least three probes");
        }
    }
}
