//! how one load spread over the replicas.

use super::loads::{failures_in_words, loads};
use super::{flags, image};
use crate::data::{Balance, Share};
use crate::report::chart::{Chart, a1_name};
use crate::report::words::{self, code, count, number, percent, plain, table};
use crate::stats::{DEVIATIONS, max_over_mean, mean, standard_deviation};

/// The section; `None` where nothing was measured.
pub(super) fn section(all: &[Balance], charts: &[Chart]) -> Option<String> {
    let first = all.first()?;
    let requests = words::plural(first.load.requests, "request");
    let replicas = words::plural(first.replicas.len() as u64, "replica");
    let mut text = format!("## A-1: {requests} on {replicas}\n");
    for (at, balance) in all.iter().enumerate() {
        let image = image(charts, &a1_name(all, at));
        let (name, flags) = (plain(&balance.variant.name), flags(&balance.variant));
        text.push_str(&format!(
            "\n### {name} ({flags})\n\n{image}{}\n{}\n",
            shares(balance),
            in_words(balance)
        ));
    }
    let rows = all.iter().map(|balance| (plain(&balance.variant.name), &balance.load));
    let failures = failures_in_words(all.iter().map(|balance| &balance.load));
    Some(format!("{text}\n### The loads\n\n{}\n{failures}", loads("mapping", rows)))
}

fn shares(balance: &Balance) -> String {
    let total: u64 = balance.counts().iter().sum();
    let line = |share: &Share| {
        let band = balance.band(share);
        vec![
            code(&share.hostname),
            count(share.requests),
            percent(share.requests as f64 / total.max(1) as f64),
            share.expected.map_or_else(|| "unknown".to_owned(), percent),
            band.map_or_else(
                || "unknown".to_owned(),
                |band| format!("{} to {}", whole(band.0), whole(band.1)),
            ),
            match balance.within(share) {
                None => "unknown".to_owned(),
                Some(true) => "yes".to_owned(),
                Some(false) => "**no**".to_owned(),
            },
        ]
    };
    let rows: Vec<_> = balance.replicas.iter().map(line).collect();
    table(&["replica", ">requests", ">share", ">expected share", ">sampling band", "within"], &rows)
}

fn whole(number: f64) -> String {
    count(number.round() as u64)
}

/// Sums up a load in words.
pub(super) fn in_words(balance: &Balance) -> String {
    let counts = balance.counts();
    let busiest = balance.replicas.iter().rev().max_by_key(|share| share.requests);
    let Some(busiest) = busiest.filter(|share| share.requests > 0) else {
        return "No replica answered a request.".to_owned();
    };
    format!(
        "{}: {} was the busiest with {} of {} requests, {} (standard deviation {}). {}",
        evenness(max_over_mean(&counts)),
        code(&busiest.hostname),
        count(busiest.requests),
        count(counts.iter().sum()),
        over_the_mean(&counts),
        number(standard_deviation(&counts)),
        chance(balance),
    )
}

/// Words for the ratio of the busiest replica to the mean.
fn evenness(ratio: f64) -> &'static str {
    match ratio {
        _ if ratio <= 1.05 => "The load was even",
        _ if ratio <= 1.25 => "The load was nearly even",
        _ if ratio <= 1.6 => "The load was uneven",
        _ => "The load was very uneven",
    }
}

/// How far the busiest replica is above the mean: in percent if that is small, else as a factor.
fn over_the_mean(counts: &[u64]) -> String {
    let (ratio, mean) = (max_over_mean(counts), number(mean(counts)));
    match ratio {
        1.0 => format!("exactly the mean of {mean}"),
        _ if ratio < 1.5 => format!("{} more than the mean of {mean}", percent(ratio - 1.0)),
        _ => format!("{} times the mean of {mean}", number(ratio)),
    }
}

/// Whether the mapping or chance explains the counts.
fn chance(balance: &Balance) -> String {
    let shares: Vec<f64> = balance.replicas.iter().filter_map(|share| share.expected).collect();
    if shares.len() < balance.replicas.len() {
        return "The expected shares are not known, so there is no band to compare the counts with."
            .to_owned();
    }
    let outside: Vec<String> =
        balance.replicas.iter().filter_map(|share| how_far_outside(share, balance)).collect();
    if !outside.is_empty() {
        return format!(
            "Chance does not explain the counts outside their sampling band: {}.",
            words::list(&outside)
        );
    }
    let most = shares.iter().copied().fold(0.0, f64::max) * shares.len() as f64;
    let whose = if most <= 1.05 {
        "the shares of the mapping are nearly even too"
    } else {
        "the mapping itself gives the replicas these shares, so more requests would not even them out"
    };
    format!("Every count lies within its sampling band (± {DEVIATIONS} standard deviations): {whose}.")
}

fn how_far_outside(share: &Share, balance: &Balance) -> Option<String> {
    let (low, high) = balance.band(share)?;
    let far = match share.requests as f64 {
        requests if requests < low => format!("{} too few", whole(low - requests)),
        requests if requests > high => format!("{} too many", whole(requests - high)),
        _ => return None,
    };
    Some(format!("{} ({far})", code(&share.hostname)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::balance;

    #[test]
    fn an_even_load_is_called_even() {
        let words = in_words(&balance(&[3391, 3300, 3309], Some(&[0.3366, 0.3321, 0.3313])));
        assert!(
            words.starts_with(
                "The load was even: `s1` was the busiest with 3,391 of 10,000 requests, \
         1.73 % more than the mean of 3,333"
            ),
            "{words}"
        );
        assert!(words.contains("Every count lies within") && words.contains("nearly even too"), "{words}");
    }

    #[test]
    fn a_skewed_mapping_is_told_from_chance() {
        let words = in_words(&balance(&[470, 8440, 1090], Some(&[0.047, 0.844, 0.109])));
        assert!(words.starts_with("The load was very uneven: `s2`"), "{words}");
        assert!(words.contains("2.53 times the mean") && words.contains("the mapping itself"), "{words}");
    }

    #[test]
    fn a_count_outside_its_band_is_named() {
        let words = in_words(&balance(&[5000, 2500, 2500], Some(&[0.3334, 0.3333, 0.3333])));
        assert!(words.contains("outside their sampling band"), "{words}");
        assert!(words.contains("`s1` (1,4") && words.contains("too many)"), "{words}");
        assert!(words.contains("`s2` (6") && words.contains("too few)"), "{words}");
    }

    #[test]
    fn without_shares_there_is_no_word_about_chance() {
        let words = in_words(&balance(&[10, 10], None));
        assert!(words.contains("exactly the mean of 10.0") && words.contains("no band"), "{words}");
        assert_eq!(in_words(&balance(&[0, 0], None)), "No replica answered a request.");
    }
}
