//! What is told of a connection in words: who came, with which key, and where it went. It is kept only where it is told.

use std::fmt;
use std::net::SocketAddr;

use tracing::{Level, debug, enabled};

use super::connect::Attempt;
use super::outcome::Outcome;

/// A connection in words.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) peer: SocketAddr,
    /// The request id, as text that is safe in a log; `None` before the first line is known.
    pub(super) id: Option<String>,
    /// The key that was hashed, likewise.
    pub(super) key: Option<String>,
    /// The hostname of the replica that it reached.
    pub(super) replica: Option<String>,
    /// The attempts that failed, each with its reason.
    pub(super) attempts: String,
}

impl Story {
    /// A story, if it will be told.
    pub(super) fn if_told(story: impl FnOnce() -> Story) -> Option<Box<Self>> {
        enabled!(Level::DEBUG).then(|| Box::new(story()))
    }

    /// The story of a connection of which nothing has been read.
    pub(super) fn of(peer: SocketAddr) -> Self {
        Story { peer, id: None, key: None, replica: None, attempts: String::new() }
    }

    /// Tells how the connection ended.
    pub(super) fn tell(&self, outcome: &Outcome) {
        let Story { peer, id, key, replica, attempts } = self;
        let Outcome { end, first_line, connect, total, attempts: tried, traffic } = outcome;
        debug!(
            %peer, id, key, replica, attempts, tried, up = traffic.up, down = traffic.down,
            ?first_line, ?connect, duration = ?total, ending = %end, "session"
        );
    }
}

/// The attempts that failed, each with its reason.
pub(super) struct Attempts<'a>(pub(super) &'a [Attempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for attempt in self.0 {
            write!(f, "{separator}{attempt}")?;
            separator = "; ";
        }
        Ok(())
    }
}
