//! What the fleet and the providers of its replicas talk about.

use std::time::Duration;

use mapping::Member;
use proto::control::{Hostname, Location, Weight};
use serde::{Deserialize, Serialize};

/// Time since the start of the program.
pub type Time = Duration;

/// The number of one running replica. Each replica gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReplicaId(pub u64);

/// The version of a roster: equal epochs are equal rosters, and a later one is larger. 0 is before the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// The stable identity of a slot: what the mapping hashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotId {
    /// Its number, from 1 on; no two slots have the same one at a time.
    pub index: u32,
    /// Its name.
    pub name: Hostname,
}

impl SlotId {
    /// The slot as a mapping sees it.
    #[must_use]
    pub fn member(&self, weight: Weight) -> Member {
        Member { index: self.index, name: self.name.to_string(), weight: weight.get() }
    }
}

/// A slot, its share of the keys, and the hostname of the replica in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// The slot.
    pub slot: SlotId,
    /// Its share of the keys.
    pub weight: Weight,
    /// The hostname of its replica.
    pub hostname: Hostname,
    /// Where its replica is, if that is given and not found out: the replica is a server that runs already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

impl Seat {
    /// A seat whose replica may be anywhere.
    #[must_use]
    pub fn new(slot: SlotId, weight: Weight, hostname: Hostname) -> Self {
        Seat { slot, weight, hostname, location: None }
    }

    /// Whether it is given where its replica is, as a name that has to be resolved.
    #[must_use]
    pub fn has_host_name(&self) -> bool {
        matches!(self.location, Some(Location::Host(..)))
    }

    /// The slot as a mapping sees it.
    #[must_use]
    pub fn member(&self) -> Member {
        self.slot.member(self.weight)
    }
}

/// What a new replica is started as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The hostname that it gets.
    pub hostname: Hostname,
    /// The slot that it is started for; `None` for a spare.
    pub slot: Option<SlotId>,
    /// Where it is, if that is given: then it runs already.
    pub location: Option<Location>,
    /// Whether a command waits for it: then a provider that cannot start it now says so soon, instead of waiting until it can. Where
    /// lost replicas come back by themselves, this one is new and has to be created; any other is only followed.
    pub is_urgent: bool,
    /// The epoch of the roster that it is started for; 0 without a roster. What is created has to be told from what had its name before
    /// ([`Effect::Remove`](crate::Effect::Remove)).
    pub since: Epoch,
}

/// How a replica is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// It is asked to end, and killed if it does not end in time.
    Gently,
    /// It is killed: it no longer responds. Where lost replicas come back by themselves, it is replaced there, unless that has happened
    /// already; what is started under its hostname next is never the same replica.
    AtOnce,
    /// It is left running, where the provider can do that, and no longer looked after.
    Release,
}
