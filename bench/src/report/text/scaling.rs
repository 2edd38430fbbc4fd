//! the same load at several N.

use super::loads::{failed, failures_in_words};
use super::{flags, image};
use crate::data::{Balance, Scaling};
use crate::report::chart::Chart;
use crate::report::words::{self, count, micros, number, plain, table};
use crate::stats::{max_over_mean, mean, standard_deviation};

/// The section; `None` where nothing was measured.
pub(super) fn section(all: &[Scaling], charts: &[Chart]) -> Option<String> {
    let points: Vec<&Balance> = all.iter().flat_map(|scaling| &scaling.points).collect();
    let first = points.first()?;
    let requests = words::plural(first.load.requests, "request");
    let mut text = format!("## A-2: {requests} on {} replicas\n\n{}", range(&points), image(charts, "a2"));
    text.push_str(&arithmetic(&points));
    text.push('\n');
    for scaling in all {
        let (name, flags) = (plain(&scaling.variant.name), flags(&scaling.variant));
        text.push_str(&format!(
            "\n### {name} ({flags})\n\n{}\n{}\n",
            points_table(scaling),
            in_words(scaling)
        ));
    }
    Some(format!("{text}\n{}", failures_in_words(points.iter().map(|point| &point.load))))
}

/// The N that were measured: 2 to 6.
fn range(points: &[&Balance]) -> String {
    let least = points.iter().map(|point| point.replicas.len()).min().unwrap_or(0);
    let most = points.iter().map(|point| point.replicas.len()).max().unwrap_or(0);
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}

/// Explains that the mean says nothing about balance, or reports answers that are not accounted for.
fn arithmetic(points: &[&Balance]) -> String {
    let off = points.iter().find(|point| point.counts().iter().sum::<u64>() != point.load.succeeded);
    match off {
        None => "The mean load is the number of right answers divided by N for every mapping, so it says nothing about balance. \
                 The next two columns do."
            .to_owned(),
        Some(point) => format!(
            "The mean load should be the number of right answers divided by N, but at N = {} the replicas \
             answered {} \
             of {}: some answers are not accounted for.",
            point.replicas.len(),
            count(point.counts().iter().sum()),
            count(point.load.succeeded),
        ),
    }
}

fn points_table(scaling: &Scaling) -> String {
    let line = |point: &Balance| {
        let counts = point.counts();
        let rate = point.load.rate();
        vec![
            counts.len().to_string(),
            number(mean(&counts)),
            number(max_over_mean(&counts)),
            number(standard_deviation(&counts)),
            if rate.is_finite() { words::rate(rate) } else { "-".to_owned() },
            micros(point.load.latency.p99),
            count(failed(&point.load)),
        ]
    };
    let rows: Vec<_> = scaling.points.iter().map(line).collect();
    table(&[">N", ">mean", ">busiest / mean", ">standard deviation", ">requests/s", ">p99", ">failed"], &rows)
}

/// Sums up one mapping in words.
pub(super) fn in_words(scaling: &Scaling) -> String {
    let ratio = |point: &Balance| (point.replicas.len(), max_over_mean(&point.counts()));
    let ratios: Vec<(usize, f64)> = scaling.points.iter().map(ratio).collect();
    let (Some(first), Some(last)) = (ratios.first(), ratios.last()) else {
        return "Nothing was measured.".to_owned();
    };
    format!("{} {} {}", trend(*first, *last, &ratios), capacity(*last), outside(scaling))
}

/// How the ratio of the busiest replica to the mean changes with N.
fn trend(first: (usize, f64), last: (usize, f64), ratios: &[(usize, f64)]) -> String {
    let most = ratios.iter().map(|ratio| ratio.1).fold(0.0, f64::max);
    let least = ratios.iter().map(|ratio| ratio.1).fold(f64::INFINITY, f64::min);
    let from_to =
        format!("from {} at N = {} to {} at N = {}", number(first.1), first.0, number(last.1), last.0);
    if first.0 == last.0 {
        return format!("At N = {} the busiest replica got {} times the mean.", first.0, number(first.1));
    }
    if most <= 1.1 {
        let (least, most) = (number(least), number(most));
        return format!(
            "The busiest replica stays near the mean at every N: {least} to {most} times the mean."
        );
    }
    match last.1 / first.1 {
        growth if growth > 1.1 => {
            format!("The load gets less even as N grows: busiest / mean goes up {from_to}.")
        }
        growth if growth < 0.9 => {
            format!("The load gets more even as N grows: busiest / mean goes down {from_to}.")
        }
        _ => format!("Busiest / mean hardly changes with N: {from_to}."),
    }
}

/// The capacity of the fleet, which ends when the busiest replica is full.
fn capacity((n, ratio): (usize, f64)) -> String {
    format!(
        "The busiest replica is full first, so {n} replicas carry {} times the load of one.",
        number(n as f64 / ratio)
    )
}

fn outside(scaling: &Scaling) -> String {
    let known = scaling.points.iter().flat_map(|point| {
        point.replicas.iter().filter_map(move |share| Some((point.replicas.len(), point.within(share)?)))
    });
    let known: Vec<(usize, bool)> = known.collect();
    let mut bad: Vec<String> =
        known.iter().filter(|one| !one.1).map(|one| format!("N = {}", one.0)).collect();
    let count = bad.len() as u64;
    bad.dedup();
    match (known.is_empty(), count) {
        (true, _) => String::new(),
        (false, 0) => {
            format!("All {} lie within their sampling bands.", words::plural(known.len() as u64, "count"))
        }
        (false, _) => {
            format!(
                "{} of {} counts lie outside their sampling bands, at {}.",
                count,
                known.len(),
                words::list(&bad)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::{balance, scaling};

    #[test]
    fn a_mapping_that_stays_even_is_told_from_one_that_gets_worse() {
        let even = in_words(&scaling("ring", &[&[5010, 4990], &[3400, 3300, 3300]]));
        assert!(
            even.starts_with(
                "The busiest replica stays near the mean at every N: 1.00 to 1.02 times the mean."
            ),
            "{even}"
        );
        assert!(even.contains("3 replicas carry 2.94 times"), "{even}");
        let worse = in_words(&scaling("slots", &[&[9000, 1000], &[8440, 470, 1090]]));
        assert!(
            worse.contains("less even as N grows: busiest / mean goes up from 1.80 at N = 2 to 2.53"),
            "{worse}"
        );
        let better = in_words(&scaling("odd", &[&[9000, 1000], &[4000, 3000, 3000]]));
        assert!(better.contains("more even as N grows"), "{better}");
        let steady = in_words(&scaling("odd", &[&[6000, 4000], &[4000, 3000, 3000]]));
        assert!(steady.contains("hardly changes"), "{steady}");
    }

    #[test]
    fn counts_outside_of_their_bands_are_placed() {
        let mut bad = scaling("x", &[&[5000, 5000]]);
        bad.points.push(balance(&[6000, 2000, 2000], Some(&[0.3333, 0.3333, 0.3334])));
        let words = in_words(&bad);
        assert!(words.ends_with("3 of 3 counts lie outside their sampling bands, at N = 3."), "{words}");
    }

    #[test]
    fn the_mean_is_called_arithmetic_only_if_it_is() {
        let good = balance(&[6, 4], None);
        assert!(arithmetic(&[&good]).contains("says nothing about balance"));
        let mut bad = good;
        bad.load.succeeded = 12;
        assert!(arithmetic(&[&bad]).contains("at N = 2 the replicas answered 10 of 12"));
    }
}
