//! The fleet as the data plane sees it.
//!
//! The controller publishes a [`Snapshot`] into the [`Cell`]. A session loads one snapshot and drops it before it copies
//! bytes. A published snapshot never changes; only the shared counters of a [`Replica`] do.

#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;

use arc_swap::ArcSwap;
use mapping::{BalanceFactor, Full, Location, Mapping, MappingPolicy};
use proto::control::State;

pub use walk::{Bound, Outlook, Skipped};

use crate::replica::Replica;

/// Holds the newest snapshot.
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

/// A slot and the replica in it.
#[derive(Debug)]
pub struct Slot {
    /// Its stable index.
    pub index: u32,
    /// Its stable name, which the mapping hashes.
    pub name: String,
    /// Its share of the keys relative to the other slots. A slot with 0 is no candidate.
    pub weight: u32,
    /// The hostname of its replica, or of the last one.
    pub hostname: String,
    /// Its state.
    pub state: State,
    /// The reason for its state, if there is one.
    pub reason: Option<String>,
    /// The replica in it, if one runs and its address is known.
    pub replica: Option<Arc<Replica>>,
}

impl Slot {
    /// Its replica, if the slot is in rotation.
    ///
    /// # Errors
    /// The reason why it is out of rotation.
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

    /// A snapshot without slots.
    ///
    /// # Errors
    /// The mapping cannot be built, even for no slot.
    pub fn empty(policy: &MappingPolicy) -> Result<Self, Full> {
        Ok(Snapshot::new(Arc::new(Mapping::build(&policy.scheme, &[])?), Vec::new(), policy.balance))
    }

    /// The mapping. The controller reuses it while slots and weights stay the same.
    #[must_use]
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// All slots, by index.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Where a key falls in the mapping.
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
