//! Rates, shares and percentiles, from counts that only grow. Pure: it gets the time with each count.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How far back shares and percentiles look.
const WINDOW: Duration = Duration::from_secs(60);
/// How far back a rate looks, if there are counts that are so old.
const RECENT: Duration = Duration::from_secs(2);
/// Counts that are kept are at least so far apart, which bounds them.
const APART: Duration = Duration::from_secs(1);

/// Values at earlier moments, of one window.
#[derive(Debug)]
struct History<T>(VecDeque<(Duration, T)>);

impl<T> Default for History<T> {
    fn default() -> Self {
        History(VecDeque::new())
    }
}

impl<T> History<T> {
    /// Keeps a value, unless the last one is almost as new.
    fn keep(&mut self, now: Duration, value: T) {
        // One that is older than the window stays, so that there is always a value to compare with.
        while self.0.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.0.pop_front();
        }
        if self.0.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= APART) {
            self.0.push_back((now, value));
        }
    }

    fn oldest(&self) -> Option<&T> {
        self.0.front().map(|(_, value)| value)
    }

    /// The newest value that is at least [`RECENT`] old, or else the oldest one.
    fn recent(&self, now: Duration) -> Option<&(Duration, T)> {
        let old_enough = |(at, _): &&(Duration, T)| now.saturating_sub(*at) >= RECENT;
        self.0.iter().rev().find(old_enough).or_else(|| self.0.front())
    }
}

/// The connections of one slot.
#[derive(Debug, Default)]
struct Slot {
    /// The replica that counts, and its count.
    hostname: String,
    total: u64,
    /// All connections since the first count.
    sum: u64,
    history: History<u64>,
    /// How many of them came within the window.
    lately: u64,
    rate: f64,
}

/// The connections of each slot, from successive totals.
#[derive(Debug, Default)]
pub(super) struct Rates {
    slots: BTreeMap<String, Slot>,
    /// The connections of all slots within the window.
    lately: u64,
}

impl Rates {
    /// Sees the totals of all slots: name, hostname, connections since that replica started. Slots that are not among them are forgotten.
    pub(super) fn see<'a>(
        &mut self,
        now: Duration,
        totals: impl IntoIterator<Item = (&'a str, &'a str, u64)>,
    ) {
        let mut before = std::mem::take(&mut self.slots);
        for (name, hostname, total) in totals {
            let mut slot = before.remove(name).unwrap_or_else(|| Slot {
                hostname: hostname.to_owned(),
                total,
                ..Slot::default()
            });
            // A new replica counts from 0.
            let is_same = slot.hostname == hostname && total >= slot.total;
            slot.sum += if is_same { total - slot.total } else { total };
            (slot.hostname, slot.total) = (hostname.to_owned(), total);
            slot.rate = slot.history.recent(now).map_or(0.0, |(at, sum)| {
                let seconds = now.saturating_sub(*at).as_secs_f64();
                if seconds > 0.0 { (slot.sum - sum) as f64 / seconds } else { 0.0 }
            });
            slot.history.keep(now, slot.sum);
            slot.lately = slot.sum - slot.history.oldest().copied().unwrap_or(slot.sum);
            self.slots.insert(name.to_owned(), slot);
        }
        self.lately = self.slots.values().map(|slot| slot.lately).sum();
    }

    /// New connections of a slot per second.
    pub(super) fn of(&self, name: &str) -> f64 {
        self.slots.get(name).map_or(0.0, |slot| slot.rate)
    }

    /// New connections of all slots per second.
    pub(super) fn all(&self) -> f64 {
        self.slots.values().map(|slot| slot.rate).sum()
    }

    /// The part of all new connections of the last minute that a slot got, from 0 to 1; `None` if there were none.
    pub(super) fn share(&self, name: &str) -> Option<f64> {
        let own = self.slots.get(name)?.lately;
        (self.lately > 0).then(|| own as f64 / self.lately as f64)
    }
}

/// How many durations were at most as long as each bound. Bounds are in seconds and rise; the last one is infinite.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram(Vec<(f64, u64)>);

impl Histogram {
    /// What came after an earlier moment. Counts that have fallen begin again, with another `lb`.
    fn since(&self, earlier: &Histogram) -> Histogram {
        let pairs = || self.0.iter().zip(&earlier.0);
        let goes_on = self.0.len() == earlier.0.len()
            && pairs().all(|((bound, now), (other, before))| bound == other && now >= before);
        if !goes_on {
            return self.clone();
        }
        Histogram(pairs().map(|((bound, now), (_, before))| (*bound, now - before)).collect())
    }

    /// The duration in seconds below which this part (from 0 to 1) of all is, if there is any. Within a bucket they count as evenly spread
    /// (Prometheus, `histogram_quantile`). `Err` is the longest bound, if it is longer than that.
    fn quantile(&self, part: f64) -> Option<Result<f64, f64>> {
        let (_, all) = *self.0.last().filter(|(_, count)| *count > 0)?;
        let rank = part * all as f64;
        let at = self.0.iter().position(|(_, count)| *count as f64 >= rank)?;
        let (bound, count) = self.0[at];
        let (lower, below) = at.checked_sub(1).map_or((0.0, 0), |before| self.0[before]);
        if bound.is_infinite() {
            return Some(Err(lower));
        }
        let within = (rank - below as f64) / count.saturating_sub(below).max(1) as f64;
        Some(Ok(lower + (bound - lower) * within))
    }
}

/// How long connects to replicas took, lately.
#[derive(Debug, Default)]
pub(super) struct Connects {
    history: History<Histogram>,
    lately: Histogram,
}

impl Connects {
    /// Sees the histogram of all connects so far.
    pub(super) fn see(&mut self, now: Duration, connects: Histogram) {
        self.lately = self.history.oldest().map(|earlier| connects.since(earlier)).unwrap_or_default();
        self.history.keep(now, connects);
    }

    /// A percentile (0.5: the median) of the last minute, in words.
    pub(super) fn percentile(&self, part: f64) -> String {
        match self.lately.quantile(part) {
            None => "-".to_owned(),
            Some(Ok(seconds)) => duration(seconds),
            Some(Err(longest)) => format!(">{}", duration(longest)),
        }
    }
}

/// What is read from the metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Metrics {
    pub(super) connects: Histogram,
    /// The part of the key space that each slot owns, from 0 to 1.
    pub(super) shares: BTreeMap<String, f64>,
}

impl Metrics {
    /// Reads the text format of Prometheus. What it does not know, it leaves out.
    pub(super) fn read(text: &str) -> Self {
        let mut metrics = Metrics::default();
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            if let Some(bound) = label(series, "lb_connect_seconds_bucket", "le")
                && let (Some(bound), Ok(count)) = (number(bound), value.parse())
            {
                metrics.connects.0.push((bound, count));
            } else if let Some(slot) = label(series, "lb_slot_share", "slot")
                && let Some(share) = number(value)
            {
                metrics.shares.insert(slot.to_owned(), share);
            }
        }
        metrics
    }
}

/// The value of the only label of a series with this name.
fn label<'a>(series: &'a str, name: &str, label: &str) -> Option<&'a str> {
    let rest = series.strip_prefix(name)?.strip_prefix('{')?.strip_prefix(label)?;
    rest.strip_prefix("=\"")?.strip_suffix("\"}")
}

fn number(text: &str) -> Option<f64> {
    if text == "+Inf" { Some(f64::INFINITY) } else { text.parse().ok() }
}

/// A duration in seconds, in words of at most seven characters for what is below a day.
pub(super) fn duration(seconds: f64) -> String {
    match 1000.0 * seconds {
        millis if millis < 9.995 => format!("{millis:.2} ms"),
        millis if millis < 99.95 => format!("{millis:.1} ms"),
        millis if millis < 999.5 => format!("{millis:.0} ms"),
        _ if seconds < 9.995 => format!("{seconds:.2} s"),
        _ => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rate_is_that_of_the_last_seconds_and_a_new_replica_counts_from_0() {
        let mut rates = Rates::default();
        rates.see(Duration::ZERO, [("a", "a", 1000), ("b", "b", 50)]);
        assert_eq!((rates.of("a"), rates.all(), rates.share("a")), (0.0, 0.0, None));
        rates.see(SECOND, [("a", "a", 1010), ("b", "b", 50)]);
        assert_eq!((rates.of("a"), rates.of("b"), rates.share("a")), (10.0, 0.0, Some(1.0)));
        rates.see(2 * SECOND, [("a", "a", 1010), ("b", "c", 30)]);
        assert_eq!((rates.of("a"), rates.of("b"), rates.all()), (5.0, 15.0, 20.0));
        assert_eq!((rates.share("a"), rates.share("b")), (Some(0.25), Some(0.75)));
        // What has stopped is 0 after the time of a rate, and in the shares for a minute.
        for second in 3..=5 {
            rates.see(second * SECOND, [("a", "a", 1010), ("b", "c", 30)]);
        }
        assert_eq!((rates.all(), rates.share("b")), (0.0, Some(0.75)));
        for second in 6..=70 {
            rates.see(second * SECOND, [("a", "a", 1010), ("b", "c", 30)]);
        }
        assert_eq!(rates.share("b"), None);
        // The same replica in an lb that has started again.
        rates.see(71 * SECOND, [("a", "a", 4)]);
        assert_eq!((rates.of("a"), rates.of("b"), rates.share("b")), (2.0, 0.0, None));
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut history = History::default();
        for step in 0..10_000_u32 {
            history.keep(step * SECOND / 5, step);
        }
        assert!(history.0.len() <= 62, "{}", history.0.len());
    }

    fn histogram(counts: [u64; 3]) -> Histogram {
        Histogram([0.001, 0.01, f64::INFINITY].into_iter().zip(counts).collect())
    }

    #[test]
    fn percentiles_are_those_of_prometheus() {
        let quantile = |part| histogram([50, 99, 100]).quantile(part);
        assert_eq!(quantile(0.5), Some(Ok(0.001)));
        assert_eq!(quantile(0.25), Some(Ok(0.0005)));
        assert!(quantile(0.75).is_some_and(|found| (found.unwrap() - 0.005_591_8).abs() < 1e-6));
        assert_eq!(quantile(0.999), Some(Err(0.01)));
        assert_eq!(histogram([0, 0, 0]).quantile(0.5), None);
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn percentiles_are_of_the_last_minute_and_survive_another_lb() {
        let mut connects = Connects::default();
        assert_eq!(connects.percentile(0.5), "-");
        connects.see(Duration::ZERO, histogram([0, 10, 10]));
        assert_eq!(connects.percentile(0.99), "-", "what was before is not of this minute");
        connects.see(SECOND, histogram([10, 20, 20]));
        assert_eq!(connects.percentile(0.5), "0.50 ms");
        connects.see(2 * SECOND, histogram([0, 0, 1]));
        assert_eq!(connects.percentile(0.5), ">10.0 ms");
        for second in 3..=90 {
            connects.see(second * SECOND, histogram([0, 0, 1]));
        }
        assert_eq!(connects.percentile(0.5), "-");
    }

    #[test]
    fn metrics_are_read_and_nonsense_is_left_out() {
        let text = "# HELP lb_slot_share x\nlb_slot_share{slot=\"a\"} 0.25\nlb_slot_share{slot=\"b\"} NaN?\n\
            lb_slot_shares{slot=\"c\"} 1\nlb_connect_seconds_bucket{le=\"0.001\"} 3\nlb_connect_seconds_bucket{le=\"+Inf\"} 4\n\
            lb_connect_seconds_sum 0.1\nlb_connect_seconds_bucket{le=\"x\"} 9\n\n \n";
        let metrics = Metrics::read(text);
        assert_eq!(metrics.shares, BTreeMap::from([("a".to_owned(), 0.25)]));
        assert_eq!(metrics.connects, Histogram(vec![(0.001, 3), (f64::INFINITY, 4)]));
        assert_eq!(Metrics::read("\u{1b}[31m"), Metrics::default());
    }

    #[test]
    fn durations_are_short() {
        let cases = [
            (0.0, "0.00 ms"),
            (0.000_25, "0.25 ms"),
            (0.099_97, "100 ms"),
            (0.012_3, "12.3 ms"),
            (0.9996, "1.00 s"),
            (75.2, "75 s"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(duration(seconds), expected);
        }
    }
}
