//! A histogram with fixed buckets. To observe takes no lock and no memory.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How many durations fell into each bucket.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    /// The longest duration of each bucket, in order.
    bounds: &'static [Duration; N],
    counts: [AtomicU64; N],
    /// Those that are longer than all bounds.
    longer: AtomicU64,
    nanoseconds: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Distribution<const N: usize> {
    bounds: &'static [Duration; N],
    counts: [u64; N],
    longer: u64,
    nanoseconds: u64,
}

impl<const N: usize> Histogram<N> {
    /// An empty one with these bounds, which rise.
    pub(crate) fn new(bounds: &'static [Duration; N]) -> Self {
        let counts = [const { AtomicU64::new(0) }; N];
        Histogram { bounds, counts, longer: AtomicU64::new(0), nanoseconds: AtomicU64::new(0) }
    }

    /// Counts a duration.
    pub(crate) fn observe(&self, time: Duration) {
        let at = self.bounds.partition_point(|bound| *bound < time);
        self.counts.get(at).unwrap_or(&self.longer).fetch_add(1, Relaxed);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    /// What it holds. (What is observed meanwhile may be in a part of it.)
    pub(crate) fn read(&self) -> Distribution<N> {
        Distribution {
            bounds: self.bounds,
            counts: self.counts.each_ref().map(|count| count.load(Relaxed)),
            longer: self.longer.load(Relaxed),
            nanoseconds: self.nanoseconds.load(Relaxed),
        }
    }
}

impl<const N: usize> Distribution<N> {
    /// One without a duration.
    pub(crate) fn empty(bounds: &'static [Duration; N]) -> Self {
        Distribution { bounds, counts: [0; N], longer: 0, nanoseconds: 0 }
    }

    /// How many durations were counted.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.longer
    }

    /// Their sum in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        Duration::from_nanos(self.nanoseconds).as_secs_f64()
    }

    /// The longest duration of each bucket in seconds, and how many fell into that bucket alone.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        let mut buckets: Vec<_> = self.bounds.iter().map(Duration::as_secs_f64).zip(self.counts).collect();
        buckets.push((f64::INFINITY, self.longer));
        buckets
    }

    /// Adds what another one holds.
    pub(crate) fn add(&mut self, other: &Self) {
        self.combine(other, u64::wrapping_add);
    }

    /// Takes away what it held earlier.
    pub(crate) fn subtract(&mut self, earlier: &Self) {
        self.combine(earlier, u64::saturating_sub);
    }

    fn combine(&mut self, other: &Self, how: fn(u64, u64) -> u64) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = how(*count, more);
        }
        self.longer = how(self.longer, other.longer);
        self.nanoseconds = how(self.nanoseconds, other.nanoseconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static BOUNDS: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(1)];

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&BOUNDS);
        for micros in [0, 999, 1000, 1001, 1_000_000, 1_000_001, 5_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let read = histogram.read();
        assert_eq!(read.buckets(), [(0.001, 3), (1.0, 2), (f64::INFINITY, 2)]);
        assert_eq!((read.count(), read.seconds()), (7, 7.003_001));
    }

    #[test]
    fn what_was_there_before_can_be_taken_away() {
        let histogram = Histogram::new(&BOUNDS);
        histogram.observe(Duration::from_millis(2));
        let before = histogram.read();
        histogram.observe(Duration::from_secs(2));
        let mut since = histogram.read();
        since.subtract(&before);
        assert_eq!((since.buckets()[2].1, since.count(), since.seconds()), (1, 1, 2.0));
        since.add(&before);
        assert_eq!(since, histogram.read());
    }
}
