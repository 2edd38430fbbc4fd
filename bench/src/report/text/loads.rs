//! Loads as a table: rate, latencies, and failures by kind.

use crate::data::Load;
use crate::report::words::{self, micros, plain, table};

/// A table with a row for each load.
pub(super) fn loads<'a>(first: &str, loads: impl IntoIterator<Item = (String, &'a Load)>) -> String {
    let titles = [
        first,
        ">requests",
        ">failed",
        ">requests/s",
        ">p50",
        ">p90",
        ">p99",
        ">p99.9",
        ">longest",
        "failures",
    ];
    let rows: Vec<_> = loads.into_iter().map(|(name, load)| line(name, load)).collect();
    table(&titles, &rows)
}

fn line(name: String, load: &Load) -> Vec<String> {
    let latency = &load.latency;
    let times = [latency.p50, latency.p90, latency.p99, latency.p999, latency.max].map(micros);
    let mut cells = vec![name, words::count(load.requests), words::count(failed(load)), rate(load)];
    cells.extend(times);
    cells.push(by_kind(load));
    cells
}

/// Failed requests of every kind.
pub(super) fn failed(load: &Load) -> u64 {
    load.failures.values().sum()
}

fn rate(load: &Load) -> String {
    let rate = load.rate();
    if rate.is_finite() { words::rate(rate) } else { "-".to_owned() }
}

/// The failures by kind, and the requests that were under way when the run ended.
fn by_kind(load: &Load) -> String {
    let failures = load.failures.iter().filter(|(_, count)| **count > 0);
    let mut kinds: Vec<String> =
        failures.map(|(kind, count)| format!("{}: {}", plain(kind), words::count(*count))).collect();
    if load.abandoned > 0 {
        kinds.push(format!("abandoned at the end: {}", words::count(load.abandoned)));
    }
    words::list(&kinds)
}

/// Sums up the failures of several loads.
pub(super) fn failures_in_words<'a>(loads: impl IntoIterator<Item = &'a Load>) -> String {
    let (mut requests, mut failures) = (0, 0);
    for load in loads {
        requests += load.requests;
        failures += failed(load);
    }
    match failures {
        0 => format!("None of {} failed.", words::plural(requests, "request")),
        _ => format!(
            "{} of {} failed ({}); the shares above are those of the right answers.",
            words::count(failures),
            words::plural(requests, "request"),
            words::percent(failures as f64 / requests.max(1) as f64),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_named_and_counted() {
        let clean = Load { requests: 10, succeeded: 10, ..Load::default() };
        assert_eq!(failures_in_words([&clean]), "None of 10 requests failed.");
        let failures = [("reset".to_owned(), 2), ("timed | out".to_owned(), 1)].into();
        let bad = Load { requests: 30, failures, abandoned: 4, ..Load::default() };
        assert!(failures_in_words([&clean, &bad]).starts_with("3 of 40 requests failed (7.50 %)"));
        assert_eq!(by_kind(&bad), r"reset: 2, timed \| out: 1 and abandoned at the end: 4");
        assert_eq!(by_kind(&clean), "none");
    }
}
