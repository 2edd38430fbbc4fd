//! What a load looks like while it runs, as text: its rate, its failures and how long answers take.
//!
//! It is for the eye. The figures of a load come from its tally.

use std::fmt::Write as _;
use std::time::Duration;

/// Answers by latency: the first count is of those below 2 microseconds, and each next one of those below twice as much; the last one
/// has all that took longer.
pub(crate) const BUCKETS: usize = 26;

/// The widest bar, in characters.
const WIDEST: u64 = 40;

/// The bucket of a latency.
pub(crate) fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
    (micros.ilog2() as usize).min(BUCKETS - 1)
}

/// The view below a progress bar: right answers and failures in the last second or so, and all latencies, longest bar for the most
/// frequent one.
pub(crate) fn view(rate: f64, failed: u64, counts: &[u64; BUCKETS]) -> String {
    let mut text = format!("  {rate:.0} right answers per second, {failed} failed");
    let most = counts.iter().copied().max().unwrap_or_default();
    let first = counts.iter().position(|&count| count > 0);
    let last = counts.iter().rposition(|&count| count > 0);
    let Some((first, last)) = first.zip(last) else { return text };
    for (place, &count) in counts.iter().enumerate().take(last + 1).skip(first) {
        let bar = (count * WIDEST).div_ceil(most.max(1));
        let bar = "█".repeat(usize::try_from(bar).unwrap_or_default());
        // To write to a string cannot fail.
        let _ = write!(text, "\n  {:>10}  {count:>9}  {bar}", limit(place));
    }
    text
}

/// The limit of a bucket in words.
fn limit(place: usize) -> String {
    if place == BUCKETS - 1 {
        return "longer".to_owned();
    }
    let micros = 2_u64 << place;
    match micros {
        0..1_000 => format!("< {micros} us"),
        1_000..1_000_000 => format!("< {:.1} ms", micros as f64 / 1e3),
        _ => format!("< {:.1} s", micros as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_below_the_limit_of_its_bucket() {
        for micros in [0, 1, 2, 3, 4, 1_000, 1_000_000, 30_000_000] {
            let place = bucket(Duration::from_micros(micros));
            assert!(micros < 2 << place && (place == 0 || micros >= 1 << place), "{micros}: {place}");
        }
        assert_eq!(bucket(Duration::from_secs(60)), BUCKETS - 1);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_view_shows_what_there_is_and_nothing_around_it() {
        let mut counts = [0; BUCKETS];
        assert_eq!(view(0.0, 0, &counts), "  0 right answers per second, 0 failed");
        (counts[6], counts[8], counts[12]) = (1, 80, 3);
        let expected = "  1234 right answers per second, 2 failed\n\
                        \x20   < 128 us          1  █\n\
                        \x20   < 256 us          0  \n\
                        \x20   < 512 us         80  ████████████████████████████████████████\n\
                        \x20   < 1.0 ms          0  \n\
                        \x20   < 2.0 ms          0  \n\
                        \x20   < 4.1 ms          0  \n\
                        \x20   < 8.2 ms          3  ██";
        assert_eq!(view(1233.6, 2, &counts), expected);
        assert_eq!((limit(19), limit(BUCKETS - 1)), ("< 1.0 s".to_owned(), "longer".to_owned()));
    }
}
