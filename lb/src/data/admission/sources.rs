//! How many connections each source has.
//!
//! A source is in the table only while it has a connection, so the table is never larger than the number of connections.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Source;

/// The parts of the table, each with a lock of its own.
const PARTS: usize = 64;

/// The number of connections of each source that has some. All workers share it. A lock is held for a few instructions, and never
/// across a system call.
#[derive(Debug)]
pub(super) struct Sources {
    most: AtomicUsize,
    /// Keyed at random, so that no client can aim addresses at one part.
    hasher: RandomState,
    parts: [Mutex<HashMap<Source, usize>>; PARTS],
}

/// The place of a connection among those of its source. Dropping it gives the place back.
#[derive(Debug)]
pub(in crate::data) struct Seat {
    sources: Arc<Sources>,
    source: Source,
}

impl Sources {
    /// A table of at most `most` connections for each source.
    pub(super) fn new(most: usize) -> Self {
        Sources {
            most: AtomicUsize::new(most),
            hasher: RandomState::new(),
            parts: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Another limit holds from now on. A source that has more connections keeps them.
    pub(super) fn allow(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// A place for one more connection of this source, unless it has as many as it may. If two workers want the last place, exactly
    /// one gets it.
    pub(super) fn enter(self: &Arc<Self>, source: Source) -> Option<Seat> {
        let most = self.most.load(Ordering::Relaxed);
        let mut part = self.part(source);
        match part.get_mut(&source) {
            Some(open) if *open >= most => return None,
            Some(open) => *open += 1,
            None if most == 0 => return None,
            None => drop(part.insert(source, 1)),
        }
        Some(Seat { sources: Arc::clone(self), source })
    }

    /// A place for a connection that is open already, however many there are.
    pub(super) fn enter_anyway(self: &Arc<Self>, source: Source) -> Seat {
        *self.part(source).entry(source).or_default() += 1;
        Seat { sources: Arc::clone(self), source }
    }

    fn leave(&self, source: Source) {
        let mut part = self.part(source);
        if let Some(open) = part.get_mut(&source) {
            *open -= 1;
            if *open == 0 {
                part.remove(&source);
            }
        }
    }

    fn part(&self, source: Source) -> MutexGuard<'_, HashMap<Source, usize>> {
        let at = self.hasher.hash_one(source) as usize % PARTS;
        // No code panics while it holds the lock, and a panic would leave the numbers intact.
        self.parts[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Whether it is a place in this table.
    pub(super) fn is_in(&self, sources: &Arc<Sources>) -> bool {
        Arc::ptr_eq(&self.sources, sources)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.sources.leave(self.source);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn known(sources: &Sources) -> usize {
        sources.parts.iter().map(|part| part.lock().unwrap().len()).sum()
    }

    #[test]
    fn each_source_has_as_many_places_as_it_may_and_gets_them_back() {
        let sources = Arc::new(Sources::new(2));
        let mut held: Vec<Seat> = (0..1000)
            .flat_map(|source| [source; 2])
            .map(|source| sources.enter(Source::V4(source)).unwrap())
            .collect();
        assert!((0..1000).all(|source| sources.enter(Source::V4(source)).is_none()));
        assert_eq!(known(&sources), 1000);
        held.retain(|seat| seat.source != Source::V4(7));
        assert_eq!(known(&sources), 999);
        assert!(sources.enter(Source::V4(7)).is_some() && sources.enter(Source::V4(8)).is_none());
        drop(held);
        assert_eq!(known(&sources), 0, "who has no connection is not remembered");
    }

    #[test]
    fn workers_that_want_the_last_places_at_the_same_time_get_no_more_than_there_are() {
        const WORKERS: usize = 4;
        let (sources, most) = (Arc::new(Sources::new(3)), AtomicUsize::new(0));
        let open = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if let Some(seat) = sources.enter(Source::V6(0, 1)) {
                            most.fetch_max(1 + open.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                            std::thread::yield_now();
                            open.fetch_sub(1, Ordering::SeqCst);
                            drop(seat);
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(known(&sources), 0);
    }
}
