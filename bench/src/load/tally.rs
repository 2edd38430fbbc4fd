//! Counts each request once: right answers by replica, failures by kind, latencies in a histogram.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::failure::Failure;
use crate::data::{Latency, Load, QUANTILES};

/// The histogram covers latencies up to an hour with three digits (its steps are 0.1 % at most).
const HOUR: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// The maximum number of server names that are counted separately.
const NAMES: usize = 10_000;

/// One request that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Its number, from which its id follows.
    pub(crate) number: u64,
    /// When it was sent.
    pub(crate) begun: Instant,
    /// When its answer was complete, or it failed.
    pub(crate) ended: Instant,
    /// The server that answered, or the failure.
    pub(crate) outcome: Result<Arc<str>, Failure>,
}

/// What was counted.
#[derive(Debug)]
pub(crate) struct Tally {
    from: Instant,
    until: Instant,
    latency: Option<Histogram<u64>>,
    replicas: HashMap<Arc<str>, u64>,
    failures: HashMap<Failure, u64>,
    /// Requests that were under way, or due, when the run was interrupted.
    abandoned: u64,
    /// Failures before counting began.
    warm_up_failures: u64,
    received: u64,
    sent: u64,
    /// One for each request, where that was asked for, in no order.
    pub(crate) records: Vec<Record>,
}

/// A right answer.
pub(super) struct Right<'a> {
    pub(super) server: &'a [u8],
    pub(super) latency: Duration,
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Tally {
    /// An empty tally that counts from this moment.
    pub(crate) fn new(from: Instant) -> Self {
        Tally {
            from,
            until: from,
            latency: Histogram::new_with_bounds(1, HOUR, DIGITS).ok(),
            replicas: HashMap::new(),
            failures: HashMap::new(),
            abandoned: 0,
            warm_up_failures: 0,
            received: 0,
            sent: 0,
            records: Vec::new(),
        }
    }

    /// Counts a right answer; returns the server's name.
    pub(super) fn succeed(&mut self, right: &Right<'_>) -> Arc<str> {
        if let Some(latency) = &mut self.latency {
            latency.saturating_record(right.latency.as_micros() as u64);
        }
        (self.received, self.sent) = (self.received + right.received, self.sent + right.sent);
        let server = str::from_utf8(right.server).unwrap_or("?");
        // A server that sends a new name with each answer must not fill the memory.
        let server = if self.replicas.len() < NAMES { server } else { "(others)" };
        // Looked up by its text, so that a name is allocated once.
        if let Some((name, _)) = self.replicas.get_key_value(server) {
            let name = Arc::clone(name);
            *self.replicas.entry(Arc::clone(&name)).or_default() += 1;
            return name;
        }
        let name: Arc<str> = server.into();
        self.replicas.insert(Arc::clone(&name), 1);
        name
    }

    /// Counts failures.
    pub(crate) fn fail(&mut self, failure: Failure, count: u64) {
        if count > 0 {
            *self.failures.entry(failure).or_default() += count;
        }
    }

    /// Counts requests that were under way, or due, when the run was interrupted.
    pub(super) fn abandon(&mut self, count: u64) {
        self.abandoned += count;
    }

    /// Notes how a request of the warm-up ended: only failures count.
    pub(super) fn warm(&mut self, is_success: bool) {
        self.warm_up_failures += u64::from(!is_success);
    }

    /// Notes when a request ended.
    pub(super) fn ended(&mut self, at: Instant) {
        self.until = self.until.max(at);
    }

    /// Adds the counts of another thread.
    pub(crate) fn add(&mut self, other: Tally) {
        self.from = self.from.min(other.from);
        self.until = self.until.max(other.until);
        if let (Some(latency), Some(others)) = (&mut self.latency, &other.latency) {
            // Of the same bounds, so it cannot fail.
            let _ = latency.add(others);
        }
        for (name, count) in other.replicas {
            *self.replicas.entry(name).or_default() += count;
        }
        for (failure, count) in other.failures {
            self.fail(failure, count);
        }
        self.abandoned += other.abandoned;
        self.warm_up_failures += other.warm_up_failures;
        (self.received, self.sent) = (self.received + other.received, self.sent + other.sent);
        self.records.extend(other.records);
    }

    /// The counts as data.
    pub(crate) fn load(&self) -> Load {
        let succeeded = self.replicas.values().sum();
        let failures: u64 = self.failures.values().sum();
        Load {
            requests: succeeded + failures + self.abandoned,
            succeeded,
            failures: self.failures.iter().map(|(failure, count)| (failure.to_string(), *count)).collect(),
            abandoned: self.abandoned,
            warm_up_failures: self.warm_up_failures,
            seconds: self.until.saturating_duration_since(self.from).as_secs_f64(),
            latency: self.latency.as_ref().map(quantiles).unwrap_or_default(),
            distribution: self.latency.as_ref().map(distribution).unwrap_or_default(),
            received: self.received,
            sent: self.sent,
            replicas: self.replicas.iter().map(|(name, count)| (name.to_string(), *count)).collect(),
        }
    }

    /// When counting began.
    pub(crate) fn begun(&self) -> Instant {
        self.from
    }
}

fn distribution(latency: &Histogram<u64>) -> Vec<u64> {
    QUANTILES.iter().map(|&quantile| latency.value_at_quantile(quantile)).collect()
}

fn quantiles(latency: &Histogram<u64>) -> Latency {
    Latency {
        p50: latency.value_at_quantile(0.5),
        p90: latency.value_at_quantile(0.9),
        p99: latency.value_at_quantile(0.99),
        p999: latency.value_at_quantile(0.999),
        p9999: Some(latency.value_at_quantile(0.9999)),
        max: latency.max(),
        mean: latency.mean(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(server: &[u8], micros: u64) -> Right<'_> {
        Right { server, latency: Duration::from_micros(micros), received: 10, sent: 1 }
    }

    #[test]
    fn quantiles_of_known_values() {
        let mut tally = Tally::new(Instant::now());
        (1..=10_000).for_each(|micros| drop(tally.succeed(&right(b"a", micros))));
        let latency = tally.load().latency;
        for (found, exact) in [
            (latency.p50, 5_000),
            (latency.p90, 9_000),
            (latency.p99, 9_900),
            (latency.p999, 9_990),
            (latency.p9999.unwrap(), 9_999),
            (latency.max, 10_000),
        ] {
            // Three digits.
            assert!(found.abs_diff(exact) * 1_000 <= exact, "{found} for {exact}");
        }
        assert!((latency.mean - 5_000.5).abs() < 5.0, "{}", latency.mean);
    }

    #[test]
    fn one_stall_shows_in_the_tail_and_not_in_the_median() {
        let mut tally = Tally::new(Instant::now());
        (0..999).for_each(|_| drop(tally.succeed(&right(b"a", 100))));
        tally.succeed(&right(b"a", 2_000_000));
        let latency = tally.load().latency;
        assert_eq!((latency.p50, latency.p99), (100, 100));
        assert!(latency.max.abs_diff(2_000_000) <= 2_000, "{}", latency.max);
    }

    #[test]
    fn threads_are_added_up_and_nothing_is_lost() {
        let begun = Instant::now();
        let (mut one, mut two) = (Tally::new(begun), Tally::new(begun));
        one.succeed(&right(b"a", 10));
        two.succeed(&right(b"a", 20));
        two.succeed(&right(b"b", 30));
        one.fail(Failure::Reset, 2);
        two.fail(Failure::Reset, 1);
        two.fail(Failure::Status(503), 4);
        two.fail(Failure::Timeout, 0);
        two.abandon(1);
        two.ended(begun + Duration::from_secs(3));
        one.add(two);
        let load = one.load();
        assert_eq!((load.requests, load.succeeded, load.abandoned), (11, 3, 1));
        assert_eq!(load.replicas, [("a".to_owned(), 2), ("b".to_owned(), 1)].into());
        assert_eq!(load.failures, [("reset".to_owned(), 3), ("status 503".to_owned(), 4)].into());
        assert_eq!((load.received, load.sent, load.seconds, load.latency.max), (30, 3, 3.0, 30));
    }
}
