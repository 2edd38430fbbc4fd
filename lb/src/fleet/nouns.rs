//! What the fleet and the providers of its replicas talk about.

use mapping::Member;
use proto::control::{Hostname, Weight};

/// The number of one running replica. Each replica gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ReplicaId(pub(crate) u64);

/// The stable identity of a slot: what the mapping hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotId {
    pub(crate) index: u32,
    pub(crate) name: Hostname,
}

impl SlotId {
    /// The slot as a mapping sees it.
    pub(crate) fn member(&self, weight: Weight) -> Member {
        Member { index: self.index, name: self.name.to_string(), weight: weight.get() }
    }
}

/// A slot, its share of the keys, and the hostname of the replica in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) slot: SlotId,
    pub(crate) weight: Weight,
    pub(crate) hostname: Hostname,
}

impl Seat {
    /// The slot as a mapping sees it.
    pub(crate) fn member(&self) -> Member {
        self.slot.member(self.weight)
    }
}

/// What a new replica is started as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) hostname: Hostname,
    /// The slot that it is started for; `None` for a spare.
    pub(crate) slot: Option<SlotId>,
    /// Whether a command waits for it: then a provider that cannot start it now says so soon, instead of waiting until it can.
    pub(crate) is_urgent: bool,
}

/// How a replica is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopping {
    /// It is asked to end, and killed if it does not end in time.
    Gently,
    /// It is killed: it no longer responds.
    AtOnce,
    /// It is left running, where the provider can do that.
    Release,
}
