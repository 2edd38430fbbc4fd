//! The simulated clock: what happens next, and when.
//!
//! What is due at the same time happens in the order in which it was planned, so a run is the same each time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use fleet::Time;

/// Everything that is to happen.
#[derive(Debug)]
pub(super) struct Clock<T> {
    now: Time,
    planned: u64,
    heap: BinaryHeap<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    due: Time,
    number: u64,
    what: T,
}

impl<T> Clock<T> {
    pub(super) fn new() -> Self {
        Clock { now: Time::ZERO, planned: 0, heap: BinaryHeap::new() }
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Plans something after a pause.
    pub(super) fn after(&mut self, pause: Time, what: T) {
        self.at(self.now + pause, what);
    }

    /// Plans something at a time, or for now if that has passed.
    pub(super) fn at(&mut self, due: Time, what: T) {
        self.planned += 1;
        self.heap.push(Entry { due: due.max(self.now), number: self.planned, what });
    }

    /// What happens next, if that is no later than `end`. The time is that of it then, or `end`.
    pub(super) fn next(&mut self, end: Time) -> Option<T> {
        let is_due = self.heap.peek().is_some_and(|entry| entry.due <= end);
        let next = if is_due { self.heap.pop() } else { None };
        self.now = next.as_ref().map_or(end, |entry| entry.due);
        next.map(|entry| entry.what)
    }
}

/// The earliest one is the greatest: a heap gives that first.
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_by_time_and_then_in_the_order_of_their_planning() {
        let mut clock = Clock::new();
        let seconds = Time::from_secs;
        for (due, what) in [(2, "c"), (1, "a"), (2, "d"), (1, "b"), (9, "late")] {
            clock.at(seconds(due), what);
        }
        let happened: Vec<_> =
            std::iter::from_fn(|| clock.next(seconds(5)).map(|what| (clock.now(), what))).collect();
        let expected = [(1, "a"), (1, "b"), (2, "c"), (2, "d")].map(|(due, what)| (seconds(due), what));
        assert_eq!(happened, expected);
        assert_eq!(clock.now(), seconds(5));
    }
}
