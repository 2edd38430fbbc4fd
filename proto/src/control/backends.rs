//! The answer to `backends`: every slot, what is in it, and how it is doing.

use std::fmt;

use serde::Serialize;

use super::Weight;

/// Every slot, those on their way in and out included.
#[derive(Clone, Debug, Serialize)]
pub struct Backends {
    /// How many slots the fleet has.
    #[serde(rename = "N")]
    pub n: usize,
    /// The slots, by index.
    pub backends: Vec<Backend>,
    /// Replicas outside the ring, ready to take over a slot.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spares: Vec<Backend>,
}

/// One slot and the replica in it.
#[derive(Clone, Debug, Serialize)]
pub struct Backend {
    /// The slot's index; a spare has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// The slot's name, which the ring hashes; a spare has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The hostname of the replica that runs there, or ran there last.
    pub hostname: String,
    /// Where the replica listens, as soon as that is known.
    pub address: Option<String>,
    /// The slot's share of the keys, where it is not the usual one.
    #[serde(skip_serializing_if = "Weight::is_usual")]
    pub weight: Weight,
    /// The state of the slot.
    pub state: State,
    /// Why it is in that state, where there is something to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it has been in that state: RFC 3339, UTC.
    pub since: String,
    /// How many replicas this slot has had after its first.
    pub restarts: u64,
    /// What becomes of a new connection for the replica that runs there, where that is not the usual.
    #[serde(skip_serializing_if = "Transport::is_usual")]
    pub transport: Transport,
    /// The connections of the replica that runs there.
    pub connections: Connections,
}

/// How a client's connection gets to its replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// There are two connections, and bytes are passed from one to the other.
    #[default]
    Proxy,
    /// The replica gets the client's connection itself.
    Handoff,
}

impl Transport {
    fn is_usual(&self) -> bool {
        *self == Transport::Proxy
    }
}

/// Connections of one replica.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Connections {
    /// Open now.
    pub open: usize,
    /// Made since the replica started.
    pub total: u64,
}

/// The state of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A replica is being started, or has not passed its first checks.
    Starting,
    /// In rotation.
    Up,
    /// Out of rotation: its replica fails its probes, or has gone and the next one waits for its turn.
    Down,
    /// Gets no new connections; stopped when the old ones have ended.
    Draining,
    /// Too many replicas failed here; tried again now and then.
    Quarantined,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Starting => "starting",
            State::Up => "up",
            State::Down => "down",
            State::Draining => "draining",
            State::Quarantined => "quarantined",
        })
    }
}
