//! Warnings about what happens to many connections: rare in the log, however often it happens.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use tracing::warn;

use crate::net::Throttle;

/// The shortest time between two warnings about a PROXY header: the cause is a setting, and does not go away by itself.
const SETTING: Duration = Duration::from_secs(60);

/// When each warning was logged last.
#[derive(Debug)]
pub(crate) struct Warnings {
    proxy_header: Throttle,
    local: Throttle,
}

impl Default for Warnings {
    fn default() -> Self {
        Warnings { proxy_header: Throttle::every(SETTING), local: Throttle::default() }
    }
}

impl Warnings {
    /// A connection begins with a header of the PROXY protocol.
    pub(super) fn proxy_header(&self, peer: SocketAddr) {
        if let Some(connections) = self.proxy_header.ask() {
            warn!(
                from = %peer.ip(), connections,
                "data port: connections begin with a PROXY protocol header, which this version takes for their first line, so they \
                 have no id of their own: let the proxy in front send none (a flag for it, --proxy-protocol-from, is to come)"
            );
        }
    }

    /// A connect to this replica failed for a reason of this machine.
    pub(super) fn local(&self, replica: &str, error: &dyn Display) {
        if let Some(attempts) = self.local.ask() {
            warn!(replica, attempts, "data port: connects fail for a reason of this machine: {error}");
        }
    }
}
