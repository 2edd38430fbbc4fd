//! The walk over the candidates of a key: the one place that decides which replica gets a connection.
//!
//! A session walks and takes leases; `explain` walks and takes none. Both read the same counter (the sessions that hold a
//! replica), so `explain` names the replica that the next connection gets. The walk never connects and never waits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::iter;
use std::sync::Arc;

use mapping::{BalanceFactor, Candidates};

use super::Snapshot;
use super::slot::{Bound, Skipped, Slot};
use crate::replica::{Lease, Replica};

/// What a connection with a certain key would meet now.
#[derive(Debug)]
pub(crate) struct Outlook<'a> {
    /// Every slot with the reason why it is skipped, if it is: first the candidates, in the order of the mapping, then the
    /// other slots by index.
    pub(crate) slots: Vec<(&'a Slot, Option<Skipped>)>,
    /// The slot whose replica is tried first.
    pub(crate) pick: Option<&'a Slot>,
    /// The slot that owns the key, whatever its state.
    pub(crate) owner: Option<&'a Slot>,
}

impl Snapshot {
    /// Leases on the replicas that may get a connection with this key, each with its slot, in the order in which to try them:
    /// first those in rotation and below the bound; then those that have reached it, because that is better than no replica; then
    /// those that fail their probes but run. Each slot comes at most once. None that has as many connections as any may have comes.
    pub(crate) fn leases<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = (&'a Slot, Lease)> {
        let mut walk = Walk::new(self, key, |replica, most| replica.lease_within(key, most));
        iter::from_fn(move || {
            // Counted anew: the attempt to connect to the last candidate may have taken long.
            walk.load = None;
            walk.find_map(|(slot, verdict)| Some((slot, verdict.ok()?)))
        })
    }

    /// Takes the same walk as [`Snapshot::leases`] to its end, without a lease.
    #[must_use]
    pub(crate) fn outlook<'a>(&'a self, key: &'a [u8]) -> Outlook<'a> {
        let mut walk = Walk::new(self, key, |replica, most| {
            let open = replica.open();
            if open < most { Ok(()) } else { Err(open) }
        });
        let (mut slots, mut seen): (Vec<(&Slot, Option<Skipped>)>, _) = (Vec::new(), HashMap::new());
        let mut pick = None;
        for (slot, verdict) in walk.by_ref() {
            let skipped = verdict.err();
            pick = pick.or(Some(slot).filter(|_| skipped.is_none()));
            // A slot that was skipped in the first round may come again in a later one, and be full then.
            match seen.entry(slot.index) {
                Entry::Vacant(place) => {
                    place.insert(slots.len());
                    slots.push((slot, skipped));
                }
                Entry::Occupied(place) if skipped.is_some() => slots[*place.get()].1 = skipped,
                Entry::Occupied(_) => {}
            }
        }
        let owner = slots.first().map(|(slot, _)| *slot);
        let others = self.slots.iter().filter(|slot| !seen.contains_key(&slot.index));
        slots.extend(others.map(|slot| (slot, walk.judge(slot).err())));
        for (slot, skipped) in &mut slots {
            skipped.take_if(|_| pick.is_some_and(|pick| pick.index == slot.index));
        }
        Outlook { slots, pick, owner }
    }
}

/// The candidates of a key, each with the result of `take` or the reason why it is skipped.
///
/// `take` receives a replica and the most connections it may end up with. If the replica has that many already, `take` fails
/// with their number.
struct Walk<'a, F> {
    snapshot: &'a Snapshot,
    key: &'a [u8],
    take: F,
    round: Round,
    order: Candidates<'a>,
    /// The slots whose replicas have reached the bound; in reverse order after the first round.
    full: Vec<&'a Slot>,
    /// What the bound is computed from. It is counted once for all candidates, because the count visits every replica.
    load: Option<Load>,
}

/// Which candidates the walk tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    WithinBound,
    AboveBound,
    LastResort,
}

/// The connections and the weight of all slots in rotation at one moment, with one more connection.
#[derive(Clone, Copy, Debug)]
struct Load {
    factor: BalanceFactor,
    connections: usize,
    weight: u64,
}

impl<'a, T, F: FnMut(&Arc<Replica>, usize) -> Result<T, usize>> Walk<'a, F> {
    fn new(snapshot: &'a Snapshot, key: &'a [u8], take: F) -> Self {
        let (round, order) = (Round::WithinBound, snapshot.mapping.candidates(key));
        Walk { snapshot, key, take, round, order, full: Vec::new(), load: None }
    }

    fn candidate(&mut self) -> Option<&'a Slot> {
        self.order.next().and_then(|ordinal| self.snapshot.slots.get(ordinal))
    }

    /// The verdict of the first round.
    fn judge(&mut self, slot: &Slot) -> Result<T, Skipped> {
        let replica = slot.in_rotation()?;
        if self.load.is_none() {
            self.load = self.snapshot.load();
        }
        let bound = self.load.map_or(usize::MAX, |load| load.most(slot));
        self.take_below(replica, bound)
    }

    /// Takes the replica if it has fewer connections than the bound, and than any may have.
    fn take_below(&mut self, replica: &Arc<Replica>, bound: usize) -> Result<T, Skipped> {
        let most = self.snapshot.most;
        (self.take)(replica, bound.min(most)).map_err(|open| {
            if open >= most {
                Skipped::Full(Bound { most, open })
            } else {
                Skipped::OverBound(Bound { most: bound, open })
            }
        })
    }

    fn within_bound(&mut self) -> Option<(&'a Slot, Result<T, Skipped>)> {
        let slot = self.candidate()?;
        let verdict = self.judge(slot);
        if matches!(verdict, Err(Skipped::OverBound(_))) {
            self.full.push(slot);
        }
        Some((slot, verdict))
    }

    fn last_resort(&mut self) -> Option<&'a Slot> {
        loop {
            let slot = self.candidate()?;
            if slot.in_rotation().err() == Some(Skipped::FailsProbes) {
                return Some(slot);
            }
        }
    }

    /// Takes the replica whatever the bound is.
    fn take_over_bound(&mut self, slot: &'a Slot) -> Option<(&'a Slot, Result<T, Skipped>)> {
        Some((slot, self.take_below(slot.replica.as_ref()?, usize::MAX)))
    }
}

impl<'a, T, F: FnMut(&Arc<Replica>, usize) -> Result<T, usize>> Iterator for Walk<'a, F> {
    type Item = (&'a Slot, Result<T, Skipped>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.round == Round::WithinBound {
            if let Some(verdict) = self.within_bound() {
                return Some(verdict);
            }
            self.full.reverse();
            self.round = Round::AboveBound;
        }
        if self.round == Round::AboveBound {
            if let Some(slot) = self.full.pop() {
                return self.take_over_bound(slot);
            }
            // Only now, because computing an order costs time and the last resort is rarely needed.
            self.order = self.snapshot.mapping.candidates(self.key);
            self.round = Round::LastResort;
        }
        let slot = self.last_resort()?;
        self.take_over_bound(slot)
    }
}

impl Load {
    /// The most connections for a slot.
    fn most(&self, slot: &Slot) -> usize {
        self.factor.most(self.connections, slot.weight, self.weight)
    }
}

impl Snapshot {
    /// What a bound is computed from, if loads are bounded.
    fn load(&self) -> Option<Load> {
        let factor = self.balance?;
        let open = self.slots.iter().filter_map(|slot| Some(slot.in_rotation().ok()?.open()));
        Some(Load { factor, connections: open.sum::<usize>() + 1, weight: self.weight })
    }
}
