//! The fleet as the data plane sees it.
//!
//! The controller publishes a [`Snapshot`] into the [`Cell`]. A session loads one snapshot and drops it before it copies
//! bytes. A published snapshot never changes; only the shared counters of a [`Replica`](crate::replica::Replica) do.

mod slot;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;

use arc_swap::ArcSwap;
use mapping::{BalanceFactor, Full, Location, Mapping, MappingPolicy};

pub(crate) use slot::{Bound, Skipped, Slot};
pub(crate) use walk::Outlook;

/// Holds the newest snapshot.
pub(crate) type Cell = ArcSwap<Snapshot>;

/// The fleet at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    mapping: Arc<Mapping>,
    slots: Vec<Slot>,
    balance: Option<BalanceFactor>,
    /// The most connections of a replica, whatever the others have.
    most: usize,
    /// The sum of the weights of all slots in rotation.
    weight: u64,
}

impl Snapshot {
    /// A snapshot of `slots`, in the order of the members that `mapping` was built from.
    #[must_use]
    pub(crate) fn new(
        mapping: Arc<Mapping>,
        slots: Vec<Slot>,
        balance: Option<BalanceFactor>,
        most_per_replica: Option<usize>,
    ) -> Self {
        let in_rotation = slots.iter().filter(|slot| slot.in_rotation().is_ok());
        let weight = in_rotation.map(|slot| u64::from(slot.weight)).sum();
        Snapshot { mapping, slots, balance, most: most_per_replica.unwrap_or(usize::MAX), weight }
    }

    /// A snapshot without slots.
    ///
    /// # Errors
    /// The mapping cannot be built, even for no slot.
    pub(crate) fn empty(policy: &MappingPolicy) -> Result<Self, Full> {
        Ok(Snapshot::new(Arc::new(Mapping::build(&policy.scheme, &[])?), Vec::new(), policy.balance, None))
    }

    /// The mapping. The controller reuses it while slots and weights stay the same.
    #[must_use]
    pub(crate) fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// All slots, by index.
    #[must_use]
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The bound of loads, if there is one.
    #[must_use]
    pub(crate) fn balance(&self) -> Option<BalanceFactor> {
        self.balance
    }

    /// The most connections of a replica; `usize::MAX` without a limit.
    #[must_use]
    pub(crate) fn most_per_replica(&self) -> usize {
        self.most
    }

    /// Where a key falls in the mapping.
    #[must_use]
    pub(crate) fn locate(&self, key: &[u8]) -> Location {
        self.mapping.locate(key)
    }

    /// The slot that owns a key, whatever its state.
    #[must_use]
    pub(crate) fn owner(&self, key: &[u8]) -> Option<&Slot> {
        self.mapping.owner(key).and_then(|ordinal| self.slots.get(ordinal))
    }
}
