//! The answer to `backends`: every slot, its replica and the replica's state.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::value::Weight;

/// Every slot, including those that are being added or drained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backends {
    /// How many slots the fleet has.
    #[serde(rename = "N")]
    pub n: usize,
    /// The slots, by index.
    pub backends: Vec<Backend>,
    /// Healthy replicas without a slot, ready to take one over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spares: Vec<Backend>,
    /// The connections that were not served.
    #[serde(default)]
    pub refused: Refused,
    /// The version of what several `lb`s of the fleet agree on; left out in JSON where there is one `lb`. Equal epochs are equal slots and
    /// equal mappings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// How questions to the DNS have ended; left out if no name is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Resolutions>,
    /// How reads of the file of backends have ended; left out if there is no such file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backends_file: Option<FileReads>,
}

/// How many reads of a file that is watched have ended how since `lb` started. One that finds nothing new is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReads {
    /// What it said was made.
    pub applied: u64,
    /// It was wrong, or what it said could not be made; nothing was changed.
    pub refused: u64,
    /// Why the last read was refused; left out if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<String>,
}

/// How many questions to the DNS have ended how since `lb` started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolutions {
    /// With records.
    pub records: u64,
    /// With the answer that there is no such name, or no such record.
    pub nothing: u64,
    /// Without an answer that can be used. What was known before stays in use.
    pub failed: u64,
    /// The name that was last asked for in vain, and why; left out if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// How many connections were not served, or not to their end, since `lb` started, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// No replica could be had.
    pub no_replica: u64,
    /// All places were taken, or memory was short: these waited, and were served later.
    pub max_connections: u64,
    /// The source had as many connections as it may (`--max-connections-per-source`).
    pub per_source: u64,
    /// The source made connections faster than it may (`--rate-per-source`).
    pub rate: u64,
    /// The address is not let in (`--deny`, `--allow`).
    pub denied: u64,
    /// The client left before its first line was complete.
    pub left_early: u64,
    /// A system call failed for a reason of the machine, and the connection was reset, early or late. (An older `lb` does not say.)
    #[serde(default)]
    pub local: u64,
}

impl Refused {
    /// Each reason with its number.
    #[must_use]
    pub fn by_reason(&self) -> [(&'static str, u64); 7] {
        let Refused { no_replica, max_connections, per_source, rate, denied, left_early, local } = *self;
        [
            ("no_replica", no_replica),
            ("max_connections", max_connections),
            ("per_source", per_source),
            ("rate", rate),
            ("denied", denied),
            ("left_early", left_early),
            ("local", local),
        ]
    }
}

/// One slot and the replica in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// The slot's index; a spare has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// The slot's name, which the mapping hashes; a spare has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The hostname of the replica that runs there, or ran there last.
    pub hostname: String,
    /// The replica's address, as soon as it is known.
    pub address: Option<String>,
    /// The name of the machine that it runs on, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The id of its task, where something else than `lb` runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Where the replica is, as `--backend`, the file of backends or `add` gave it; left out where `lb` starts replicas or finds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The id of its process, where it is a child process of `lb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The id of its container, where `lb` has started one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The slot's weight; left out in JSON where it is the default.
    #[serde(default, skip_serializing_if = "Weight::is_usual")]
    pub weight: Weight,
    /// The state of the slot.
    pub state: State,
    /// Why the slot is in that state, if there is a reason to give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In how many seconds the next replica is started; left out unless the slot waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry: Option<f64>,
    /// When the slot got into that state: RFC 3339, UTC.
    pub since: String,
    /// How many times the replica of this slot was replaced.
    pub restarts: u64,
    /// How a new connection gets to the replica; left out in JSON where it is the default.
    #[serde(default, skip_serializing_if = "Transport::is_usual")]
    pub transport: Transport,
    /// The replica's connections.
    pub connections: Connections,
}

/// How a client's connection gets to its replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// `lb` opens a connection to the replica and relays the bytes.
    #[default]
    Proxy,
    /// `lb` hands the client's socket over to the replica.
    Handoff,
}

impl Transport {
    fn is_usual(&self) -> bool {
        *self == Transport::Proxy
    }
}

/// Connections of one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Open now.
    pub open: usize,
    /// All since the replica started, open ones included.
    pub total: u64,
    /// Attempts to connect that failed; left out in JSON where there are none.
    #[serde(default, skip_serializing_if = "FailedConnects::is_none")]
    pub failed: FailedConnects,
}

/// Attempts to connect to a replica that failed, since it started, by how they did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedConnects {
    /// It refused.
    pub refused: u64,
    /// It did not answer in time.
    pub timeout: u64,
    /// `lb`'s own machine had no port, file or memory left, or forbade the call. This is not held against the replica.
    pub local: u64,
    /// Any other way: a reset, no route.
    pub other: u64,
}

impl FailedConnects {
    fn is_none(&self) -> bool {
        *self == FailedConnects::default()
    }
}

/// The state of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A replica is being started, or has not passed its first probes.
    Starting,
    /// In rotation.
    Up,
    /// Out of rotation: its replica fails its probes, or has ended and the next one is not started yet.
    Down,
    /// Gets no new connections, and is stopped when the open ones have ended.
    Draining,
    /// Too many starts failed here; the next try comes after a long pause.
    Quarantined,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
