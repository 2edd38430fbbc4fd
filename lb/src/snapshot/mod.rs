//! What the data plane knows of the fleet: the one thing that both planes see.
//!
//! The controller publishes a [`Snapshot`] into the [`Cell`]; a session loads exactly one and drops it before it copies
//! bytes. A published snapshot never changes. What does change, and is shared, are the counters of a [`Replica`].

mod balance;
mod leases;
mod link;
mod replica;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use proto::control::State;

pub use balance::BalanceFactor;
use leases::Leases;
pub use link::{About, Held, Link};
pub use replica::{Lease, Replica};

use crate::mapping::MappingPolicy;
use crate::ring::{Full, Location, Mapping};

/// How long sessions may take to end after they were evicted.
pub const EVICTION: Duration = Duration::from_secs(1);

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

/// Whether a slot can get a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// In rotation.
    Yes,
    /// Only when every slot in rotation has been tried: its replica fails its probes, but runs.
    LastResort,
    /// There is no replica to connect to, or it is not to get any.
    No,
}

/// How many connections a replica may have while loads are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// As a multiple of the mean.
    pub factor: BalanceFactor,
    /// As a number, with one more connection than there are now.
    pub most: usize,
    /// How many it has now.
    pub open: usize,
}

impl Bound {
    /// Whether the replica has no room for one more.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.open >= self.most
    }
}

/// The connections of all replicas in rotation at one moment, with one more. To count them takes a look at each, so that is
/// done once for all candidates of a key.
struct Load {
    factor: BalanceFactor,
    connections: usize,
    weight: u64,
}

impl Load {
    /// The most connections for a slot.
    fn most(&self, slot: &Slot) -> usize {
        self.factor.most(self.connections, slot.weight, self.weight)
    }
}

impl Slot {
    /// Whether it can get a connection.
    #[must_use]
    pub fn eligibility(&self) -> Eligibility {
        match (&self.replica, self.state) {
            _ if self.weight == 0 => Eligibility::No,
            (Some(_), State::Up) => Eligibility::Yes,
            (Some(_), State::Down) => Eligibility::LastResort,
            _ => Eligibility::No,
        }
    }
}

impl Snapshot {
    /// A snapshot of `slots`, in the order of the members that `mapping` was built from.
    #[must_use]
    pub fn new(mapping: Arc<Mapping>, slots: Vec<Slot>, balance: Option<BalanceFactor>) -> Self {
        let in_rotation = slots.iter().filter(|slot| slot.eligibility() == Eligibility::Yes);
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

    /// All slots that have a weight, in the order in which the mapping gives them to `key`, whatever their state.
    pub fn order<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Slot> {
        self.mapping.candidates(key).filter_map(|ordinal| self.slots.get(ordinal))
    }

    /// Holds on replicas that may get a connection with this key, in the order in which to try them, each once: those in
    /// rotation that are not above the bound, if there is one; then those above it, which is better than nobody when the
    /// others cannot be reached; and after them the ones that fail their probes but run. Each comes with its slot.
    pub fn leases<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = (&'a Slot, Lease)> {
        Leases::new(self, key)
    }

    /// The bound of a slot in rotation, if loads are bounded.
    #[must_use]
    pub fn bound(&self, slot: &Slot) -> Option<Bound> {
        let replica = slot.replica.as_ref().filter(|_| slot.eligibility() == Eligibility::Yes)?;
        let load = self.load()?;
        Some(Bound { factor: load.factor, most: load.most(slot), open: replica.open() })
    }

    /// What a bound is a part of, if loads are bounded.
    fn load(&self) -> Option<Load> {
        Some(Load { factor: self.balance?, connections: self.open() + 1, weight: self.weight })
    }

    /// The slot whose replica would be the first to be tried for `key` now.
    #[must_use]
    pub fn pick<'a>(&'a self, key: &'a [u8]) -> Option<&'a Slot> {
        let load = self.load();
        let has_room = |load: &Load, slot: &Slot| {
            slot.replica.as_ref().is_some_and(|replica| replica.open() < load.most(slot))
        };
        let is_full = |slot: &Slot| load.as_ref().is_some_and(|load| !has_room(load, slot));
        let first = |wanted| self.order(key).filter(move |slot| slot.eligibility() == wanted);
        first(Eligibility::Yes)
            .find(|slot| !is_full(slot))
            .or_else(|| first(Eligibility::Yes).next())
            .or_else(|| first(Eligibility::LastResort).next())
    }

    /// The connections of all replicas in rotation. To count them takes one look at each.
    fn open(&self) -> usize {
        let in_rotation = self.slots.iter().filter(|slot| slot.eligibility() == Eligibility::Yes);
        in_rotation.filter_map(|slot| slot.replica.as_ref()).map(|replica| replica.open()).sum()
    }
}
