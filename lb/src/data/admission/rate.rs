//! How many new connections each source may make over time: the generic cell rate algorithm (ITU-T I.371, annex A), which needs one
//! number for each source.
//!
//! The memory is fixed, however many sources there are. A source has its place in one of a few rows, by a hash that is keyed at random.
//! If all places of the row are taken, the source that is the nearest to a full burst is forgotten, and begins with a full burst
//! when it comes back. So a flood from very many sources is not held back by this limit (each of them would be within it), and makes
//! the limit forget those first that need it the least.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Source;

/// How many new connections of one source are let in over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: NonZeroU32,
    /// At once, by a source that has made none for long.
    pub burst: NonZeroU32,
}

/// The rows of the table, each with a lock of its own.
const ROWS: usize = 8192;
/// The places of a row.
const PLACES: usize = 8;

/// When each source may connect. All workers share it. A lock is held for a few instructions, and never across a system call.
#[derive(Debug)]
pub(super) struct RateLimit {
    /// The time that each connection of a source takes from it.
    interval: Duration,
    /// How far ahead of its time a source may be.
    tolerance: Duration,
    begun: Instant,
    hasher: RandomState,
    rows: Box<[Mutex<Row>]>,
}

type Row = [Entry; PLACES];

/// A source, and how far it has used up its time: at the rate, its connections so far take until `due`.
#[derive(Clone, Copy, Debug)]
struct Entry {
    source: Source,
    /// Counted from the beginning. What is past is a full burst, as for a source that never came.
    due: Duration,
}

const FREE: Entry = Entry { source: Source::V4(0), due: Duration::ZERO };

impl RateLimit {
    pub(super) fn new(Rate { per_second, burst }: Rate) -> Self {
        let interval = Duration::from_secs(1) / per_second.get();
        let rows = std::iter::repeat_with(|| Mutex::new([FREE; PLACES])).take(ROWS).collect();
        let (tolerance, hasher) = (interval * (burst.get() - 1), RandomState::new());
        RateLimit { interval, tolerance, begun: Instant::now(), hasher, rows }
    }

    /// Whether one more connection of this source is let in now.
    pub(super) fn let_in(&self, source: Source) -> bool {
        self.let_in_at(source, self.begun.elapsed())
    }

    fn let_in_at(&self, source: Source, now: Duration) -> bool {
        let row = &self.rows[self.hasher.hash_one(source) as usize % ROWS];
        // No code panics while it holds the lock, and a panic would leave the row intact.
        let mut row = row.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = place(&mut row, source);
        let due = entry.due.max(now);
        if due - now > self.tolerance {
            return false;
        }
        entry.due = due + self.interval;
        true
    }
}

/// The place of a source in its row: its own, or that of the source that is forgotten for it.
fn place(row: &mut Row, source: Source) -> &mut Entry {
    let own = row.iter().position(|entry| entry.source == source);
    let at = own.unwrap_or_else(|| (0..PLACES).min_by_key(|&at| row[at].due).unwrap_or(0));
    let entry = &mut row[at];
    if entry.source != source {
        *entry = Entry { source, due: Duration::ZERO };
    }
    entry
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(per_second: u32, burst: u32) -> RateLimit {
        RateLimit::new(Rate { per_second: per_second.try_into().unwrap(), burst: burst.try_into().unwrap() })
    }

    fn let_in(limit: &RateLimit, source: u32, milliseconds: u64, tries: usize) -> usize {
        let try_once = |_: &usize| limit.let_in_at(Source::V4(source), Duration::from_millis(milliseconds));
        (0..tries).filter(try_once).count()
    }

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let limit = limit(10, 5);
        assert_eq!(let_in(&limit, 1, 0, 100), 5, "the burst");
        assert_eq!(let_in(&limit, 2, 0, 100), 5, "each source has its own");
        assert_eq!(let_in(&limit, 1, 99, 100), 0);
        assert_eq!(let_in(&limit, 1, 100, 100), 1, "one every 100 ms");
        assert_eq!(let_in(&limit, 1, 399, 100), 2);
        assert_eq!(let_in(&limit, 1, 10_000, 100), 5, "a full burst, and no more, after a long time");
    }

    #[test]
    fn tries_that_are_refused_cost_nothing() {
        let limit = limit(1, 1);
        assert_eq!(let_in(&limit, 1, 0, 1), 1);
        for at in 1..1000 {
            assert_eq!(let_in(&limit, 1, at, 1), 0);
        }
        assert_eq!(let_in(&limit, 1, 1000, 1), 1);
    }

    proptest! {
        #[test]
        fn in_any_span_no_source_gets_more_than_its_burst_and_its_rate(
            per_second in 1..50_u32, burst in 1..20_u32, pauses in prop::collection::vec(0..200_u64, 1..200),
        ) {
            let limit = limit(per_second, burst);
            let (mut now, mut times) = (0, Vec::new());
            for pause in pauses {
                now += pause;
                if limit.let_in_at(Source::V6(0, 7), Duration::from_millis(now)) {
                    times.push(now);
                }
            }
            for (from, &begin) in times.iter().enumerate() {
                for (to, &end) in times.iter().enumerate().skip(from) {
                    let most = f64::from(burst) + (end - begin) as f64 / 1000.0 * f64::from(per_second);
                    prop_assert!((to - from + 1) as f64 <= most + 1e-6, "{:?}", times);
                }
            }
        }
    }

    #[test]
    fn a_flood_from_many_sources_takes_no_memory_and_does_not_free_a_source_that_is_over_its_rate() {
        let limit = limit(1, 100);
        let noisy = 0xffff_ffff;
        assert_eq!(let_in(&limit, noisy, 0, 1000), 100);
        for source in 1..300_000 {
            assert!(limit.let_in_at(Source::V4(source), Duration::from_millis(1)), "within its rate");
        }
        assert_eq!(
            let_in(&limit, noisy, 2, 1000),
            0,
            "those that have made one connection are forgotten first"
        );
    }
}
