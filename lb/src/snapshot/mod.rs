//! What the data plane knows of the fleet: the one thing that both planes see.
//!
//! The controller publishes a [`Snapshot`] into the [`Cell`]; a session loads exactly one and drops it before it copies
//! bytes. A published snapshot never changes. What does change, and is shared, are the counters of a [`Replica`].

#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;

use arc_swap::ArcSwap;
use mapping::{BalanceFactor, Full, Location, Mapping, MappingPolicy};
use proto::control::State;

pub use walk::{Bound, Outlook, Skipped};

use crate::replica::Replica;

/// Where the newest snapshot is.
pub type Cell = ArcSwap<Snapshot>;

/// The fleet at one moment.
#[derive(Debug)]
pub struct Snapshot {
    mapping: Arc<Mapping>,
    slots: Vec<Slot>,
    balance: Option<BalanceFactor>,
    /// The sum of the weights of all slots in rotation.
    weight: u64,
}

/// A slot on the ring and the replica in it.
#[derive(Debug)]
pub struct Slot {
    /// Its stable index.
    pub index: u32,
    /// Its stable name, which the ring hashes.
    pub name: String,
    /// Its share of the keys against the others'; with 0 it is no candidate.
    pub weight: u32,
    /// The hostname of the replica in it, or of the last one.
    pub hostname: String,
    /// Its state.
    pub state: State,
    /// Why it is in that state, where there is something to say.
    pub reason: Option<String>,
    /// The replica in it, if one runs and its address is known.
    pub replica: Option<Arc<Replica>>,
}

impl Slot {
    /// Its replica, if it is in rotation.
    ///
    /// # Errors
    /// Why it is not.
    pub fn in_rotation(&self) -> Result<&Arc<Replica>, Skipped> {
        match (&self.replica, self.state) {
            _ if self.weight == 0 => Err(Skipped::NoWeight),
            (Some(replica), State::Up) => Ok(replica),
            (Some(_), State::Down) => Err(Skipped::FailsProbes),
            _ => Err(Skipped::NoReplica),
        }
    }
}

impl Snapshot {
    /// A snapshot of `slots`, in the order of the members that `mapping` was built from.
    #[must_use]
    pub fn new(mapping: Arc<Mapping>, slots: Vec<Slot>, balance: Option<BalanceFactor>) -> Self {
        let in_rotation = slots.iter().filter(|slot| slot.in_rotation().is_ok());
        let weight = in_rotation.map(|slot| u64::from(slot.weight)).sum();
        Snapshot { mapping, slots, balance, weight }
    }

    /// A fleet without slots.
    ///
    /// # Errors
    /// The mapping has no room for even none.
    pub fn empty(policy: &MappingPolicy) -> Result<Self, Full> {
        Ok(Snapshot::new(Arc::new(Mapping::build(&policy.scheme, &[])?), Vec::new(), policy.balance))
    }

    /// The mapping, to be used again as long as the slots are the same.
    #[must_use]
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// All slots, by index.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Where a key falls.
    #[must_use]
    pub fn locate(&self, key: &[u8]) -> Location {
        self.mapping.locate(key)
    }

    /// The slot that owns a key, whatever its state.
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> Option<&Slot> {
        self.mapping.owner(key).and_then(|ordinal| self.slots.get(ordinal))
    }
}
