//! What each slot has counted so far, whichever replicas have sat in it. The controller says who sits where.
//!
//! A counter belongs to a replica, which counts without asking where it sits. A slot's count is the sum over its replicas, each from when
//! it came. What a replica has counted is kept as a number once the replica is gone. So there are never more replicas here than run or
//! still have sessions, and a slot that has left the fleet is forgotten with its last session.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::replica::{Counters, Replica, Totals};

/// Why the replica of a slot was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It has ended.
    Exit,
    /// It was silent for too long.
    Unresponsive,
    /// It could not be started, or not in time.
    StartFailed,
}

impl Cause {
    /// All of them.
    pub(super) const ALL: [Cause; 3] = [Cause::Exit, Cause::Unresponsive, Cause::StartFailed];

    /// Its name, as programs read it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Cause::Exit => "exit",
            Cause::Unresponsive => "unresponsive",
            Cause::StartFailed => "start_failed",
        }
    }
}

/// What all slots have counted, and their shares of the keys.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    table: Mutex<BTreeMap<String, Slot>>,
    shares: Mutex<Shares>,
}

/// The share of the keys that each slot owns, whatever its state.
#[derive(Debug, Default)]
struct Shares {
    /// How many mappings there have been, and which of them this is.
    newest: u64,
    known: BTreeMap<String, f64>,
}

#[derive(Debug, Default)]
struct Slot {
    /// What replicas that are gone have counted here.
    past: Totals,
    seated: Vec<Seated>,
    restarts: [u64; 3],
    has_left: bool,
}

/// A replica that sits in a slot, or has sat there and still has sessions.
#[derive(Debug)]
struct Seated {
    replica: Weak<Replica>,
    counters: Arc<Counters>,
    /// What it had counted before it came.
    before: Totals,
}

/// What a slot has counted until one moment.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) name: String,
    pub(super) totals: Totals,
    /// The connections that are open.
    pub(super) open: usize,
    pub(super) restarts: [u64; 3],
}

impl Slots {
    /// This replica sits in this slot.
    pub(crate) fn seat(&self, name: &str, replica: &Arc<Replica>) {
        let mut slots = self.lock();
        let is_new = !slots.get(name).is_some_and(|slot| slot.holds(replica));
        if is_new {
            // It may have sat elsewhere before. What it counted there stays there.
            slots.values_mut().for_each(|slot| slot.unseat(replica));
        }
        let slot = slots.entry(name.to_owned()).or_default();
        slot.has_left = false;
        if is_new {
            slot.seated.push(Seated::now(replica));
        }
        slot.tidy();
    }

    /// The replica of a slot was replaced so many times.
    pub(crate) fn restarted(&self, name: &str, cause: Cause, times: u64) {
        self.lock().entry(name.to_owned()).or_default().restarts[cause as usize] += times;
    }

    /// Only these slots are left. The others are forgotten once their last session has ended.
    pub(crate) fn retain(&self, left: &HashSet<&str>) {
        let mut slots = self.lock();
        slots.iter_mut().for_each(|(name, slot)| slot.has_left = !left.contains(name.as_str()));
        // Metrics may never be asked for.
        tidy(&mut slots);
    }

    /// What each slot has counted, by name.
    pub(super) fn read(&self) -> Vec<Reading> {
        let mut slots = self.lock();
        tidy(&mut slots);
        slots.iter().map(|(name, slot)| slot.read(name)).collect()
    }

    /// There is another mapping. Returns its number.
    pub(crate) fn new_mapping(&self) -> u64 {
        let mut shares = self.lock_shares();
        shares.newest += 1;
        shares.newest
    }

    /// The shares of the keys in the mapping of this number. They are dropped if there is a newer one.
    pub(crate) fn share(&self, mapping: u64, known: BTreeMap<String, f64>) {
        let mut shares = self.lock_shares();
        if mapping == shares.newest {
            shares.known = known;
        }
    }

    /// The share of each slot.
    pub(super) fn shares(&self) -> BTreeMap<String, f64> {
        self.lock_shares().known.clone()
    }

    fn lock_shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        // No code panics while it holds the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets replicas and slots that are gone.
fn tidy(slots: &mut BTreeMap<String, Slot>) {
    slots.values_mut().for_each(Slot::tidy);
    slots.retain(|_, slot| !slot.has_left || slot.open() > 0);
}

impl Slot {
    fn holds(&self, replica: &Arc<Replica>) -> bool {
        self.seated.iter().any(|seated| seated.is(replica))
    }

    fn unseat(&mut self, replica: &Arc<Replica>) {
        self.keep_of(|seated| seated.is(replica));
    }

    /// Keeps what those replicas have counted that are gone: they count no more.
    fn tidy(&mut self) {
        self.keep_of(|seated| seated.replica.strong_count() == 0);
    }

    /// Takes these replicas away, and keeps what they have counted.
    fn keep_of(&mut self, is_gone: impl Fn(&Seated) -> bool) {
        let past = &mut self.past;
        self.seated.retain(|seated| {
            let stays = !is_gone(seated);
            if !stays {
                past.add(&seated.counted());
            }
            stays
        });
    }

    fn open(&self) -> usize {
        let replicas = self.seated.iter().filter_map(|seated| seated.replica.upgrade());
        replicas.map(|replica| replica.open()).sum()
    }

    fn read(&self, name: &str) -> Reading {
        let mut totals = self.past.clone();
        self.seated.iter().for_each(|seated| totals.add(&seated.counted()));
        Reading { name: name.to_owned(), totals, open: self.open(), restarts: self.restarts }
    }
}

impl Seated {
    fn now(replica: &Arc<Replica>) -> Self {
        let counters = Arc::clone(&replica.counters);
        Seated { replica: Arc::downgrade(replica), before: counters.read(), counters }
    }

    fn is(&self, replica: &Arc<Replica>) -> bool {
        Arc::ptr_eq(&self.counters, &replica.counters)
    }

    /// What it has counted since it came.
    fn counted(&self) -> Totals {
        let mut totals = self.counters.read();
        totals.subtract(&self.before);
        totals
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::replica::Ending;

    fn replica() -> Arc<Replica> {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Arc::new(Replica::new("a".into(), address.into(), CancellationToken::new()))
    }

    /// The slots with the connections that have ended there, and those that are open.
    fn seen(slots: &Slots) -> Vec<(String, u64, usize)> {
        let seen = |slot: Reading| (slot.name, slot.totals.ended(Ending::Complete), slot.open);
        slots.read().into_iter().map(seen).collect()
    }

    fn slot(name: &str, ended: u64, open: usize) -> (String, u64, usize) {
        (name.to_owned(), ended, open)
    }

    #[test]
    fn a_slot_counts_on_when_its_replica_is_replaced() {
        let (slots, first, second) = (Slots::default(), replica(), replica());
        slots.seat("a", &first);
        first.counters.ended(Ending::Complete);
        slots.seat("a", &first);
        slots.seat("a", &second);
        // A session of the first one ends later.
        first.counters.ended(Ending::Complete);
        second.counters.ended(Ending::Complete);
        assert_eq!(seen(&slots), [slot("a", 3, 0)]);
        drop(first);
        assert_eq!(seen(&slots), [slot("a", 3, 0)]);
        assert_eq!(slots.lock()["a"].seated.len(), 1, "one that is gone is a number");
    }

    #[test]
    fn a_replica_that_moves_leaves_its_counts_where_it_was() {
        let (slots, spare) = (Slots::default(), replica());
        spare.counters.ended(Ending::Complete);
        slots.seat("a", &spare);
        spare.counters.ended(Ending::Complete);
        slots.seat("b", &spare);
        (0..3).for_each(|_| spare.counters.ended(Ending::Complete));
        assert_eq!(seen(&slots), [slot("a", 1, 0), slot("b", 3, 0)]);
    }

    #[test]
    fn a_slot_that_has_left_is_forgotten_with_its_last_session() {
        let (slots, first) = (Slots::default(), replica());
        slots.seat("a", &first);
        slots.seat("b", &replica());
        let session = first.lease(b"7");
        slots.retain(&HashSet::from(["b"]));
        assert_eq!(seen(&slots), [slot("a", 0, 1), slot("b", 0, 0)]);
        drop(session);
        assert_eq!(seen(&slots), [slot("b", 0, 0)]);
    }

    #[test]
    fn slots_that_have_left_are_forgotten_although_their_counts_are_never_asked_for() {
        let slots = Slots::default();
        for turn in 0..100 {
            let name = format!("slot{turn}");
            slots.seat(&name, &replica());
            slots.retain(&HashSet::from([name.as_str()]));
        }
        assert_eq!(slots.lock().len(), 1);
    }

    #[test]
    fn a_slot_that_comes_back_in_time_counts_on() {
        let (slots, first) = (Slots::default(), replica());
        slots.seat("a", &first);
        first.counters.ended(Ending::Complete);
        let _session = first.lease(b"7");
        slots.retain(&HashSet::new());
        let second = replica();
        slots.seat("a", &second);
        assert_eq!(seen(&slots), [slot("a", 1, 1)]);
        slots.restarted("a", Cause::Unresponsive, 2);
        assert_eq!(slots.read()[0].restarts, [0, 2, 0]);
    }

    #[test]
    fn shares_of_a_mapping_that_was_overtaken_are_dropped() {
        let slots = Slots::default();
        let share = |share| BTreeMap::from([("a".to_owned(), share)]);
        let (first, second) = (slots.new_mapping(), slots.new_mapping());
        slots.share(second, share(0.5));
        slots.share(first, share(1.0));
        assert_eq!(slots.shares(), share(0.5));
    }
}
