//! A histogram with fixed buckets. To observe takes no lock and no memory, and some ten instructions: the number of a duration's bits says
//! where its bucket can begin.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The longest duration of each bucket, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bounds<const N: usize> {
    nanoseconds: [u64; N],
    /// For each number of bits: how many bounds have fewer. A duration is longer than all of these.
    shorter: [u8; 65],
}

impl<const N: usize> Bounds<N> {
    /// These bounds in microseconds, which rise.
    pub(crate) const fn of_micros(micros: [u64; N]) -> Self {
        assert!(N < u8::MAX as usize, "a histogram has few buckets");
        let (mut nanoseconds, mut shorter, mut at) = ([0; N], [0; 65], 0);
        while at < N {
            nanoseconds[at] = micros[at] * 1000;
            assert!(at == 0 || nanoseconds[at - 1] < nanoseconds[at], "bounds rise");
            let mut bits = bits(nanoseconds[at]) + 1;
            while bits < shorter.len() {
                shorter[bits] += 1;
                bits += 1;
            }
            at += 1;
        }
        Bounds { nanoseconds, shorter }
    }

    /// The place of the first bound that a duration does not exceed; `N` if it is longer than all.
    fn place(&self, nanoseconds: u64) -> usize {
        let from = usize::from(self.shorter[bits(nanoseconds)]);
        let rest = self.nanoseconds[from..].iter();
        from + rest.take_while(|bound| **bound < nanoseconds).count()
    }
}

/// How many bits a number has.
const fn bits(number: u64) -> usize {
    (u64::BITS - number.leading_zeros()) as usize
}

/// How many durations fell into each bucket.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    bounds: &'static Bounds<N>,
    counts: [AtomicU64; N],
    /// Those that are longer than all bounds.
    longer: AtomicU64,
    nanoseconds: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Distribution<const N: usize> {
    bounds: &'static Bounds<N>,
    counts: [u64; N],
    longer: u64,
    nanoseconds: u64,
}

impl<const N: usize> Histogram<N> {
    /// An empty one with these bounds.
    pub(crate) fn new(bounds: &'static Bounds<N>) -> Self {
        let counts = [const { AtomicU64::new(0) }; N];
        Histogram { bounds, counts, longer: AtomicU64::new(0), nanoseconds: AtomicU64::new(0) }
    }

    /// Counts a duration.
    pub(crate) fn observe(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts.get(self.bounds.place(nanoseconds)).unwrap_or(&self.longer).fetch_add(1, Relaxed);
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
    pub(crate) fn empty(bounds: &'static Bounds<N>) -> Self {
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
        let bounds = self.bounds.nanoseconds.iter().map(|bound| Duration::from_nanos(*bound).as_secs_f64());
        let mut buckets: Vec<_> = bounds.zip(self.counts).collect();
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
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    static BOUNDS: Bounds<2> = Bounds::of_micros([1000, 1_000_000]);

    /// A plain search.
    fn searched<const N: usize>(bounds: &Bounds<N>, nanoseconds: u64) -> usize {
        bounds.nanoseconds.partition_point(|bound| *bound < nanoseconds)
    }

    proptest! {
        #[test]
        fn a_place_is_what_a_search_finds(
            micros in btree_set(0_u64..1 << 50, 5),
            powers in btree_set(0_u32..50, 5),
            anywhere: u64,
            shift in 0_u32..64,
        ) {
            // Bounds anywhere, those that are powers of two, and durations of each size and at each edge.
            let powers: Vec<u64> = powers.into_iter().map(|power| 1 << power).collect();
            for micros in [micros.into_iter().collect(), powers] {
                let bounds = Bounds::<5>::of_micros(micros.try_into().unwrap());
                let edges = bounds.nanoseconds.iter().flat_map(|bound| [bound.saturating_sub(1), *bound, bound + 1]);
                for nanoseconds in edges.chain([anywhere >> shift, 0, u64::MAX]) {
                    prop_assert_eq!(bounds.place(nanoseconds), searched(&bounds, nanoseconds), "{}", nanoseconds);
                }
            }
        }
    }

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
