//! What is measured of connections, recoveries and commands, beside what each replica counts for itself.
//!
//! What happens is observed here, without a lock on a data-plane thread: each worker has histograms of its own. Nothing here
//! reads a clock or shows anything.

mod histogram;
mod reads;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use histogram::Bounds;
pub(crate) use histogram::{Distribution, Histogram};
use reads::Reads;

/// Buckets for what takes a moment: from 100 microseconds to 10 seconds.
static MOMENTS: Bounds<16> = Bounds::of_micros([
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
]);
/// Buckets for how long connections last: from a millisecond to a day.
static SESSIONS: Bounds<16> = Bounds::of_micros([
    1000,
    5000,
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    3_600_000_000,
    21_600_000_000,
    86_400_000_000,
]);
/// Buckets for recoveries: from a millisecond to ten minutes.
static RECOVERIES: Bounds<16> = Bounds::of_micros([
    1000,
    5000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
]);
/// Buckets for probes: from a millisecond to five seconds.
static PROBES: Bounds<7> = Bounds::of_micros([1000, 5000, 25_000, 100_000, 500_000, 1_000_000, 5_000_000]);

/// How long probes took.
pub(crate) type Probes = Histogram<7>;

/// A histogram of probes.
pub(crate) fn probes() -> Probes {
    Histogram::new(&PROBES)
}

/// The durations of the connections of one worker. No two workers write to one cache line.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Lane {
    /// From accept until the first line is known.
    pub(crate) first_line: Histogram<16>,
    /// From there until a replica is reached.
    pub(crate) connect: Histogram<16>,
    /// From accept to the end.
    pub(crate) session: Histogram<16>,
}

impl Lane {
    fn new() -> Self {
        let [first_line, connect] = [(); 2].map(|()| Histogram::new(&MOMENTS));
        Lane { first_line, connect, session: Histogram::new(&SESSIONS) }
    }
}

/// A part of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// From the first sign until the slot is out of rotation.
    Notice,
    /// From there until another replica runs.
    Start,
    /// From there until it is in rotation.
    Ready,
    /// From the first sign until the slot is in rotation again.
    Total,
}

impl Phase {
    /// All of them.
    pub(crate) const ALL: [Phase; 4] = [Phase::Notice, Phase::Start, Phase::Ready, Phase::Total];

    /// Its name, as programs read it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Notice => "notice",
            Phase::Start => "start",
            Phase::Ready => "ready",
            Phase::Total => "total",
        }
    }
}

/// What the workers can do for new clients, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Workers {
    /// Those that accept connections.
    pub(crate) accepting: usize,
    /// Those that work, but have no room for another connection.
    pub(crate) full: usize,
    /// Those that are blocked, have failed, or have no listener that works.
    pub(crate) dead: usize,
    /// The sessions that are open, and the most that there may be.
    pub(crate) sessions: usize,
    pub(crate) most_sessions: usize,
}

/// What is measured.
#[derive(Debug)]
pub(crate) struct Metrics {
    lanes: Box<[Lane]>,
    recoveries: [Histogram<16>; 4],
    /// How many commands had which result.
    commands: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// How reads of the file of backends have ended.
    pub(crate) backends_file: Reads,
}

impl Metrics {
    /// For so many workers.
    #[must_use]
    pub(crate) fn new(workers: usize) -> Self {
        let lanes = (0..workers.max(1)).map(|_| Lane::new()).collect();
        let recoveries = [(); 4].map(|()| Histogram::new(&RECOVERIES));
        Metrics { lanes, recoveries, commands: Mutex::default(), backends_file: Reads::default() }
    }

    /// Where the worker of this number, from 0 on, observes.
    pub(crate) fn lane(&self, worker: u16) -> &Lane {
        &self.lanes[usize::from(worker) % self.lanes.len()]
    }

    /// The histograms of all workers together, one of each lane that `of` chooses.
    pub(crate) fn all(&self, of: impl Fn(&Lane) -> &Histogram<16>) -> Distribution<16> {
        let mut lanes = self.lanes.iter().map(|lane| of(lane).read());
        let first = lanes.next().unwrap_or_else(|| Distribution::empty(&MOMENTS));
        lanes.fold(first, |mut all, lane| {
            all.add(&lane);
            all
        })
    }

    /// The histogram of a phase of recoveries.
    pub(crate) fn recovery(&self, phase: Phase) -> &Histogram<16> {
        &self.recoveries[phase as usize]
    }

    /// Counts a command by its name and its result. Both come from short lists.
    pub(crate) fn command(&self, name: &'static str, result: &'static str) {
        *self.table().entry((name, result)).or_default() += 1;
    }

    /// How many commands had which result.
    pub(crate) fn commands(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.table().clone()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<(&'static str, &'static str), u64>> {
        // No code panics while it holds the lock.
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_lanes_of_all_workers_are_one_histogram() {
        let metrics = Metrics::new(2);
        for (worker, milliseconds) in [(0, 1), (1, 3), (1, 20_000)] {
            metrics.lane(worker).connect.observe(Duration::from_millis(milliseconds));
        }
        let all = metrics.all(|lane| &lane.connect);
        assert_eq!((all.count(), all.seconds()), (3, 20.004));
        assert_eq!(metrics.all(|lane| &lane.session).count(), 0);
    }
}
