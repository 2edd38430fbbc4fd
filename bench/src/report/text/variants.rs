//! A-4: A-1 and A-2 for several mappings side by side.

use super::loads::failures_in_words;
use super::{flags, image, joined};
use crate::data::{Balance, Scaling, Variant, Variants};
use crate::report::chart::Chart;
use crate::report::words::{self, code, count, number, plain, row, table};
use crate::stats::{DEVIATIONS, max_over_mean, standard_deviation};

/// The section.
pub(super) fn section(a4: &Variants, charts: &[Chart]) -> String {
    let mut parts = vec!["## A-4: other mappings and hash functions".to_owned()];
    if !a4.a1.is_empty() {
        let image = image(charts, "a4-a1");
        parts.push(format!("### A-1 with each\n\n{image}{}\n{}", a1_table(&a4.a1), most_even(&a4.a1)));
    }
    if a4.a2.iter().any(|scaling| !scaling.points.is_empty()) {
        let image = image(charts, "a4-a2");
        parts.push(format!("### A-2 with each\n\n{image}{}\n{}", a2_table(&a4.a2), over_n(&a4.a2)));
    }
    if !a4.refused.is_empty() {
        parts.push(refused(&a4.refused));
    }
    let points = a4.a2.iter().flat_map(|scaling| &scaling.points);
    parts.push(failures_in_words(a4.a1.iter().chain(points).map(|balance| &balance.load)));
    joined(&parts)
}

fn a1_table(a1: &[Balance]) -> String {
    let line = |balance: &Balance| {
        let counts = balance.counts();
        let all: Vec<_> = counts.iter().copied().map(count).collect();
        vec![
            plain(&balance.variant.name),
            flags(&balance.variant),
            all.join(" / "),
            number(max_over_mean(&counts)),
            number(standard_deviation(&counts)),
            bands(balance),
        ]
    };
    let rows: Vec<_> = a1.iter().map(line).collect();
    table(
        &["mapping", "flags", ">requests", ">busiest / mean", ">standard deviation", "within sampling bands"],
        &rows,
    )
}

fn bands(balance: &Balance) -> String {
    let verdicts: Option<Vec<bool>> = balance.replicas.iter().map(|share| balance.within(share)).collect();
    match verdicts.map(|verdicts| (verdicts.iter().filter(|within| **within).count(), verdicts.len())) {
        None => "unknown".to_owned(),
        Some((within, all)) if within == all => "all".to_owned(),
        Some((within, all)) => format!("**{within} of {all}**"),
    }
}

/// The most even mapping, and those that chance does not tell from it.
fn most_even(a1: &[Balance]) -> String {
    let ratio = |balance: &Balance| (code(&balance.variant.name), max_over_mean(&balance.counts()));
    let mut ranked: Vec<(String, f64)> = a1.iter().map(ratio).collect();
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (Some(best), Some(worst)) = (ranked.first(), ranked.last()) else { return String::new() };
    if ranked.len() == 1 {
        return format!(
            "Only {} was measured: its busiest replica got {} times the mean.",
            best.0,
            number(best.1)
        );
    }
    let limit = best.1 + noise(a1);
    let alike: Vec<String> = ranked.iter().filter(|one| one.1 <= limit).map(|one| one.0.clone()).collect();
    let requests =
        words::plural(a1.iter().map(|balance| balance.load.succeeded).min().unwrap_or(0), "request");
    let first = match alike.len() {
        1 => {
            format!("{} is the most even: its busiest replica got {} times the mean.", best.0, number(best.1))
        }
        _ => format!(
            "{} are the most even, and {requests} do not tell them apart (busiest / mean {} to {}).",
            words::list(&alike),
            number(best.1),
            number(ranked[alike.len() - 1].1)
        ),
    };
    let last = if worst.1 > limit {
        format!(" {} is the least even, with {} times the mean on one replica.", worst.0, number(worst.1))
    } else {
        String::new()
    };
    first + &last
}

/// How much busiest / mean differs by chance between two loads on the same shares: each count has about the
/// deviation sqrt(mean), and the difference of two ratios twice the variance.
fn noise(a1: &[Balance]) -> f64 {
    let requests = a1.iter().map(|balance| balance.load.succeeded).min().unwrap_or(0).max(1) as f64;
    let replicas = a1.iter().map(|balance| balance.replicas.len()).max().unwrap_or(0) as f64;
    DEVIATIONS * (2.0 * (replicas - 1.0).max(0.0) / requests).sqrt()
}

fn a2_table(a2: &[Scaling]) -> String {
    let mut all: Vec<usize> =
        a2.iter().flat_map(|scaling| &scaling.points).map(|point| point.replicas.len()).collect();
    all.sort_unstable();
    all.dedup();
    let mut titles = vec!["busiest / mean (standard deviation)".to_owned()];
    titles.extend(all.iter().map(|n| format!(">N = {n}")));
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let cell = |scaling: &Scaling, n: usize| {
        let point = scaling.points.iter().find(|point| point.replicas.len() == n)?;
        let counts = point.counts();
        Some(format!("{} ({})", number(max_over_mean(&counts)), number(standard_deviation(&counts))))
    };
    let line = |scaling: &Scaling| {
        let cells = all.iter().map(|&n| cell(scaling, n).unwrap_or_else(|| "-".to_owned()));
        [plain(&scaling.variant.name)].into_iter().chain(cells).collect()
    };
    table(&titles, &a2.iter().map(line).collect::<Vec<_>>())
}

/// The worst point of a mapping.
struct Worst {
    name: String,
    n: usize,
    ratio: f64,
}

fn worst(scaling: &Scaling) -> Option<Worst> {
    let ratio = |point: &Balance| (point.replicas.len(), max_over_mean(&point.counts()));
    let (n, ratio) = scaling.points.iter().map(ratio).max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(Worst { name: code(&scaling.variant.name), n, ratio })
}

/// The mapping that stays closest to even over all N.
fn over_n(a2: &[Scaling]) -> String {
    let mut ranked: Vec<Worst> = a2.iter().filter_map(worst).collect();
    ranked.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    let at = |worst: &Worst| format!("{} times the mean at N = {}", number(worst.ratio), worst.n);
    match &ranked[..] {
        [] => String::new(),
        [only] => format!("At its worst, {} gives one replica {}.", only.name, at(only)),
        [best, .., last] => format!(
            "Over all N, {} stays closest to even: at its worst one replica gets {}. {} strays furthest, \
             with {}.",
            best.name,
            at(best),
            last.name,
            at(last)
        ),
    }
}

fn refused(refused: &[(Variant, String)]) -> String {
    let line =
        |(variant, why): &(Variant, String)| row([&plain(&variant.name), &flags(variant), &plain(why)]);
    let rows: Vec<_> = refused.iter().map(line).collect();
    let count = words::plural(refused.len() as u64, "mapping");
    let table = table(&["mapping", "flags", "its reason"], &rows);
    format!("### Not measured\n\nThis `lb` refused {count}:\n\n{table}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::{named, scaling};

    #[test]
    fn a_clear_winner_is_named_and_so_is_the_last() {
        let words = most_even(&[named("slots", &[8440, 470, 1090]), named("ring", &[3400, 3300, 3300])]);
        assert_eq!(
            words,
            "`ring` is the most even: its busiest replica got 1.02 times the mean. `slots` is the least \
             even, with 2.53 times the mean on one replica."
        );
    }

    #[test]
    fn mappings_that_chance_does_not_tell_apart_share_the_first_place() {
        let words = most_even(&[named("a", &[3340, 3330, 3330]), named("b", &[3400, 3300, 3300])]);
        assert_eq!(
            words,
            "`a` and `b` are the most even, and 10,000 requests do not tell them apart (busiest / mean 1.00 \
             to 1.02)."
        );
        assert!(most_even(&[named("a", &[1, 1])]).starts_with("Only `a` was measured"));
    }

    #[test]
    fn over_n_the_worst_point_counts() {
        let words = over_n(&[
            scaling("good", &[&[5100, 4900], &[3400, 3300, 3300]]),
            scaling("bad", &[&[5000, 5000], &[8000, 1000, 1000]]),
        ]);
        assert!(
            words.starts_with("Over all N, `good` stays closest to even: at its worst one replica gets 1.02"),
            "{words}"
        );
        assert!(words.ends_with("`bad` strays furthest, with 2.40 times the mean at N = 3."), "{words}");
    }
}
