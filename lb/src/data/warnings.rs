//! Warnings about what happens to many connections: rare in the log, however often it happens.
//!
//! The workers count, and the control plane's runtime logs.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tracing::warn;

use crate::net::{Tally, Throttle};

/// The shortest time between two warnings about a PROXY header: the cause is a setting, and does not go away by itself.
const SETTING: Duration = Duration::from_secs(60);

/// What is to be logged.
#[derive(Debug)]
pub(crate) struct Warnings {
    proxy_header: Throttle,
    connects: Tally<(String, String)>,
    resets: Tally<String>,
}

impl Default for Warnings {
    fn default() -> Self {
        Warnings {
            proxy_header: Throttle::every(SETTING),
            connects: Tally::default(),
            resets: Tally::default(),
        }
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
    pub(super) fn local_connect(&self, replica: &str, error: &io::Error) {
        self.connects.count((replica.to_owned(), error.to_string()));
    }

    /// A connection was reset for a reason of this machine.
    pub(super) fn local_reset(&self, error: &io::Error) {
        self.resets.count(error.to_string());
    }

    /// Logs what is counted, until it is dropped.
    pub(crate) async fn report(&self) -> Infallible {
        let connects = self.connects.report(|attempts, (replica, error)| {
            warn!(replica, attempts, "data port: connects fail for a reason of this machine: {error}");
        });
        let resets = self.resets.report(|connections, error| {
            warn!(connections, "data port: connections are reset for a reason of this machine: {error}");
        });
        tokio::select! {
            never = connects => never,
            never = resets => never,
        }
    }
}
