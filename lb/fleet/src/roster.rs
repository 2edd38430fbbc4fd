//! The roster: what all `lb`s of a fleet agree on.
//!
//! Where several `lb`s serve one fleet, the roster is a record outside of them that changes by compare-and-set: an `lb` that has
//! read the newest version may replace it, as a whole. There is no leader, and no `lb` talks to another. The mapping is a pure function of the seats and
//! the mapping policy, so `lb`s that follow the same [`Epoch`](crate::Epoch) make the same choice for every key.
//!
//! Every service that exists is named in the roster from before it is created until after it is removed, so that a crash of an `lb`
//! leaves nothing behind that the others do not know:
//!
//! ```text
//! (add) ──► coming ──► seats ◄──► spares          a ready spare and the lost replica of a slot change places
//!              │         │
//!              │         └─ (rm) ──► leaving      drains until its time is over
//!              └─ given up ───────► leaving       at once
//!                                      └─ removed ──► forgotten
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use mapping::{MappingPolicy, Member};
use proto::control::Hostname;
use serde::{Deserialize, Serialize};

use crate::nouns::Seat;
use crate::policy_text;

/// A moment on the wall clock: the time since 1970-01-01T00:00Z. Machines agree on it within a second or so.
pub type UnixTime = Duration;

/// What all `lb`s of a fleet agree on, as one [`Epoch`](crate::Epoch). See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// How keys are mapped. The record need not hold the seed: an `lb` that has another one must not follow the record.
    #[serde(with = "policy_text")]
    pub mapping: MappingPolicy,
    /// The slots in the mapping, by index, each with the hostname of its replica.
    pub seats: Vec<Seat>,
    /// The hostnames of the replicas outside the mapping that wait for a slot.
    pub spares: BTreeSet<Hostname>,
    /// The slots of every `add` under way. They enter the seats together.
    pub coming: Vec<Coming>,
    /// What has left the seats, or never got there.
    pub leaving: Vec<Leaving>,
}

/// A slot of an `add` under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coming {
    /// The seat that it will be.
    pub seat: Seat,
    /// When the `add` counts as given up, by any `lb`: the one that carries it out may have died.
    pub until: UnixTime,
}

/// A replica that has left the seats, or never got there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Its hostname. Nothing else gets it until the replica is removed.
    pub hostname: Hostname,
    /// When its sessions may be cut off and any `lb` removes it.
    pub until: UnixTime,
}

impl Roster {
    /// The slots in the mapping and those that are coming, as the mapping sees them: what it has to have room for.
    #[must_use]
    pub fn future_members(&self) -> Vec<Member> {
        self.seats.iter().chain(self.coming.iter().map(|coming| &coming.seat)).map(Seat::member).collect()
    }

    /// The hostname of every replica that exists or may exist, each once.
    pub fn hostnames(&self) -> impl Iterator<Item = &Hostname> {
        let seats = self.seats.iter().map(|seat| &seat.hostname);
        let coming = self.coming.iter().map(|coming| &coming.seat.hostname);
        seats.chain(&self.spares).chain(coming).chain(self.leaving.iter().map(|leaving| &leaving.hostname))
    }
}

/// Why a roster was not replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rejection {
    /// It was no longer of the expected epoch. The newer one is adopted before this is reported.
    Stale,
    /// It could not be written, for this reason; as far as is known, nothing has changed.
    Failed(String),
}
