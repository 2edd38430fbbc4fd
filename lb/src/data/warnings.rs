//! Warnings about what happens to many connections: rare in the log, however often it happens.
//!
//! The workers count, and the control plane's runtime logs.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
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
    headers: Tally<(IpAddr, String)>,
}

impl Default for Warnings {
    fn default() -> Self {
        Warnings {
            proxy_header: Throttle::every(SETTING),
            connects: Tally::default(),
            resets: Tally::default(),
            headers: Tally::default(),
        }
    }
}

impl Warnings {
    /// A connection begins with a header of the PROXY protocol.
    pub(super) fn proxy_header(&self, peer: SocketAddr) {
        if let Some(connections) = self.proxy_header.ask() {
            warn!(
                from = %peer.ip(), connections,
                "data port: connections begin with a PROXY protocol header, which is taken for their first line, so they have no id \
                 of their own: name the proxy with --proxy-protocol-from, or let it send no header"
            );
        }
    }

    /// A connection from a proxy does not begin with a right header.
    pub(super) fn header_violation(&self, proxy: SocketAddr, what: String) {
        self.headers.count((proxy.ip().to_canonical(), what));
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
            warn!(replica, attempts, %error, "data port: connects fail for a reason of this machine");
        });
        let resets = self.resets.report(|connections, error| {
            warn!(connections, %error, "data port: connections are reset for a reason of this machine");
        });
        let headers = self.headers.report(|connections, (from, what)| {
            warn!(%from, connections, error = %what, "data port: closed: no right PROXY protocol header (--proxy-protocol-from)");
        });
        tokio::select! {
            never = connects => never,
            never = headers => never,
            never = resets => never,
        }
    }
}
