//! What is told of a connection in words: who came, with which key, and where it went. It is kept only where it is told.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tracing::{Level, debug, enabled};

use super::connect::Attempt;
use super::outcome::{End, Outcome};
use super::relay::Traffic;
use crate::access::AccessLog;
use crate::access::record::Record;
use crate::replica::Ending;

/// Where a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// What the head holds: the name of the kind of key.
    Found(&'static str),
    /// A random number: the head could hold a key, and holds none.
    Random,
    /// The client's address: there is no head that could.
    Source,
}

impl Origin {
    /// Its name, as programs read it.
    fn name(self) -> &'static str {
        match self {
            Origin::Found(name) => name,
            Origin::Random => "random",
            Origin::Source => "source",
        }
    }
}

/// A connection in words.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) peer: SocketAddr,
    /// The key that was hashed, as text that is safe in a log; `None` before the first line is known.
    pub(super) key: Option<String>,
    /// Where the key comes from.
    pub(super) origin: Option<Origin>,
    /// The protocols that a TLS client offers (ALPN), where its first message was read.
    pub(super) protocols: Option<String>,
    /// The name of the slot that it reached.
    pub(super) slot: Option<String>,
    /// The hostname of the replica that it reached.
    pub(super) replica: Option<String>,
    /// The attempts that failed, each with its reason.
    pub(super) attempts: String,
}

impl Story {
    /// A story, if it will be told.
    pub(super) fn if_told(is_logged: bool, story: impl FnOnce() -> Story) -> Option<Box<Self>> {
        (is_logged || enabled!(Level::DEBUG)).then(|| Box::new(story()))
    }

    /// The story of a connection of which nothing has been read.
    pub(super) fn of(peer: SocketAddr) -> Self {
        Story {
            peer,
            key: None,
            origin: None,
            protocols: None,
            slot: None,
            replica: None,
            attempts: String::new(),
        }
    }

    /// The request id, or what else the head holds; `None` if there is none.
    fn id(&self) -> Option<&str> {
        self.key.as_deref().filter(|_| self.origin != Some(Origin::Source))
    }

    /// Tells how the connection ended.
    pub(super) fn tell(&self, outcome: &Outcome, access: Option<&AccessLog>) {
        self.debug(outcome);
        if let Some(access) = access {
            access.log(&self.record(outcome));
        }
    }

    fn record(&self, outcome: &Outcome) -> Record<'_> {
        let Traffic { up, down } = outcome.traffic;
        let (ending, reason) = outcome.end.names();
        Record {
            client: SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port()),
            id: self.id(),
            key: self.origin.map(Origin::name),
            alpn: self.protocols.as_deref(),
            slot: self.slot.as_deref(),
            replica: self.replica.as_deref(),
            attempts: outcome.attempts,
            traffic: (outcome.end != End::Ended(Ending::HandedOver)).then_some((up, down)),
            first_line: outcome.first_line,
            connect: outcome.connect,
            total: outcome.total,
            ending,
            reason,
        }
    }

    fn debug(&self, outcome: &Outcome) {
        let Story { peer, key, slot, replica, attempts, protocols, .. } = self;
        let id = self.key.as_ref().map(|_| self.id().unwrap_or("none"));
        let Outcome { end, first_line, connect, total, attempts: tried, traffic } = outcome;
        let seconds = |time: &Option<Duration>| time.map(|time| time.as_secs_f64());
        debug!(
            %peer, id = id.map(display), key = key.as_deref().map(display), alpn = protocols, slot, replica, tried, %attempts,
            up = traffic.up, down = traffic.down, first_line = seconds(first_line), connect = seconds(connect),
            duration = total.as_secs_f64(), ending = %end, "session"
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
