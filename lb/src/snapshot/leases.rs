//! Whom to connect to, in which order.

use std::sync::Arc;

use super::{Eligibility, Lease, Replica, Slot, Snapshot};
use crate::ring::Candidates;

/// Holds on the replicas that a key may go to. See [`Snapshot::leases`].
pub(super) struct Leases<'a> {
    snapshot: &'a Snapshot,
    key: &'a [u8],
    order: Candidates<'a>,
    turn: Turn,
    /// The ordinals of the slots that were passed over because they have no room, the first one on top from the second
    /// turn on.
    full: Vec<usize>,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    WithinBound,
    AboveBound,
    LastResort,
}

impl<'a> Leases<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, key: &'a [u8]) -> Self {
        let order = snapshot.mapping.candidates(key);
        Leases { snapshot, key, order, turn: Turn::WithinBound, full: Vec::new() }
    }

    fn within_bound(&mut self) -> Option<(&'a Slot, Lease)> {
        let load = self.snapshot.load();
        loop {
            let ordinal = self.order.next()?;
            let Some((slot, replica)) = self.snapshot.held(ordinal, Eligibility::Yes) else { continue };
            let Some(load) = &load else { return Some((slot, replica.lease(self.key))) };
            if let Some(lease) = replica.lease_within(self.key, load.most(slot)) {
                return Some((slot, lease));
            }
            self.full.push(ordinal);
        }
    }

    fn above_bound(&mut self) -> Option<(&'a Slot, Lease)> {
        let (slot, replica) = self.snapshot.held(self.full.pop()?, Eligibility::Yes)?;
        Some((slot, replica.lease(self.key)))
    }

    fn last_resort(&mut self) -> Option<(&'a Slot, Lease)> {
        let (snapshot, wanted) = (self.snapshot, Eligibility::LastResort);
        let (slot, replica) = self.order.find_map(|ordinal| snapshot.held(ordinal, wanted))?;
        Some((slot, replica.lease(self.key)))
    }
}

impl<'a> Iterator for Leases<'a> {
    type Item = (&'a Slot, Lease);

    fn next(&mut self) -> Option<Self::Item> {
        if self.turn == Turn::WithinBound {
            if let Some(candidate) = self.within_bound() {
                return Some(candidate);
            }
            self.full.reverse();
            self.turn = Turn::AboveBound;
        }
        if self.turn == Turn::AboveBound {
            if let Some(candidate) = self.above_bound() {
                return Some(candidate);
            }
            // Only now: an order is not for nothing, and the last resort is hardly ever needed.
            self.order = self.snapshot.mapping.candidates(self.key);
            self.turn = Turn::LastResort;
        }
        self.last_resort()
    }
}

impl Snapshot {
    /// A slot and its replica, if it is eligible as `wanted`.
    fn held(&self, ordinal: usize, wanted: Eligibility) -> Option<(&Slot, &Arc<Replica>)> {
        let slot = self.slots.get(ordinal).filter(|slot| slot.eligibility() == wanted)?;
        Some((slot, slot.replica.as_ref()?))
    }
}
