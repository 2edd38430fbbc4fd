//! The comparison with peers: the readings of each mode, and their ratios.

use super::standing::not_measured;
use super::{image, joined};
use crate::data::{Comparison, Contender, Mode};
use crate::report::chart::Chart;
use crate::report::derived::{self, Metric, Pair};
use crate::report::words::{self, bytes, count, micros, nanos, plain, ratio, table};
use crate::stats::Spread;

/// The title of a column of [`Metric::Whole`].
const WHOLE: &str = ">with the replicas'";

/// The section.
pub(super) fn section(comparison: &Comparison, charts: &[Chart]) -> String {
    let ratios = ["compare", "compare-idle", "compare-handoff", "compare-handoff-idle"];
    let names = ratios.into_iter().chain(["compare-rates", "compare-latency"]);
    let images: String = names.map(|name| image(charts, name)).collect();
    let mut parts = vec![format!("## Comparison\n\n{}", setups(&comparison.contenders))];
    parts.push(images);
    for mode in &comparison.modes {
        parts.push(mode_section(mode, comparison));
    }
    parts.extend(comparison.generator.as_ref().map(|mode| generator(mode, &comparison.generators)));
    parts.push(format!("### What was not measured\n\n{}", not_measured(comparison)));
    joined(&parts)
}

fn setups(contenders: &[Contender]) -> String {
    let line = |contender: &Contender| {
        let version = if contender.version.is_empty() { "-".to_owned() } else { plain(&contender.version) };
        vec![plain(&contender.name), version, plain(&contender.setup)]
    };
    table(&["contender", "version", "how it was set up"], &contenders.iter().map(line).collect::<Vec<_>>())
}

fn mode_section(mode: &Mode, comparison: &Comparison) -> String {
    let contenders = &comparison.contenders[..];
    let rounds = words::plural(mode.rounds.len() as u64, "round");
    let what = plain(mode.what.trim_end_matches('.'));
    let text =
        format!("### {}\n\n{what}; {rounds}, medians.\n\n{}", plain(&mode.name), readings(mode, contenders));
    let pairs = derived::pairs(comparison);
    let ratios = pairs.chunk_by(|a, b| a.0 == b.0).map(|pairs| ratios(mode, contenders, pairs));
    [text].into_iter().chain(ratios).collect::<Vec<_>>().join("\n")
}

fn readings(mode: &Mode, contenders: &[Contender]) -> String {
    let line = |(who, contender): (usize, &Contender)| {
        let shown = |metric, show: fn(f64) -> String| {
            let spread =
                derived::spread(mode, who, metric).filter(|_| !(metric == Metric::Rate && is_held(mode)));
            spread.map_or_else(|| "-".to_owned(), |spread| show(spread.median))
        };
        let latency = |of: fn(&crate::data::Reading) -> Option<u64>| {
            let taken = mode.rounds.iter().filter_map(|round| of(round.get(who)?));
            Spread::of(taken.map(|time| time as f64))
                .map_or_else(|| "-".to_owned(), |time| micros(time.median as u64))
        };
        let failures: u64 =
            mode.rounds.iter().filter_map(|round| round.get(who)).map(|one| one.failures).sum();
        vec![
            plain(&contender.name),
            shown(Metric::Rate, words::rate),
            latency(|reading| reading.p50),
            latency(|reading| reading.p99),
            shown(Metric::Cpu, nanos),
            shown(Metric::Whole, nanos),
            shown(Metric::Memory, bytes),
            count(failures),
        ]
    };
    let (rate, cpu, memory) = titles(mode);
    let rows: Vec<_> = contenders.iter().enumerate().map(line).collect();
    let titles = ["contender", &rate, ">p50", ">p99", &cpu, WHOLE, &memory, ">failed"];
    let (titles, rows) = without_empty_columns(&titles, &rows);
    table(&titles, &rows)
}

/// Whether an operation is an open connection, so that a rate means nothing.
fn is_held(mode: &Mode) -> bool {
    derived::subject(mode) == Metric::Memory
}

fn titles(mode: &Mode) -> (String, String, String) {
    let (unit, units) = (plain(&mode.unit), plain(&words::units(&mode.unit)));
    (format!(">{units}/s"), format!(">CPU time per {unit}"), format!(">memory per {unit}"))
}

/// A table without its empty columns.
fn without_empty_columns<'a>(titles: &[&'a str], rows: &[Vec<String>]) -> (Vec<&'a str>, Vec<Vec<String>>) {
    let used: Vec<bool> = (0..titles.len()).map(|at| rows.iter().any(|row| row[at] != "-")).collect();
    let titles = titles.iter().zip(&used).filter(|(_, used)| **used).map(|(title, _)| *title).collect();
    let keep = |row: &Vec<String>| {
        row.iter().zip(&used).filter(|(_, used)| **used).map(|(cell, _)| cell.clone()).collect()
    };
    (titles, rows.iter().map(keep).collect())
}

/// The metrics of a mode, with the titles of their columns.
fn metrics(mode: &Mode) -> [(Metric, &'static str); 3] {
    let (cpu, whole) = ((Metric::Cpu, ">CPU time"), (Metric::Whole, WHOLE));
    match derived::subject(mode) {
        Metric::Memory => [(Metric::Memory, ">memory"), cpu, whole],
        _ if mode.is_paced => [cpu, whole, (Metric::Tail, ">p99")],
        _ => [cpu, whole, (Metric::Rate, ">rate")],
    }
}

/// The ratios of one contender to its peers; empty if there is none.
fn ratios(mode: &Mode, contenders: &[Contender], pairs: &[Pair]) -> String {
    let metrics = metrics(mode);
    let row = |&pair: &Pair| {
        let cell = |(metric, _)| derived::ratio(mode, pair, metric).map_or_else(|| "-".to_owned(), in_full);
        [vec![plain(&contenders[pair.1].name)], metrics.map(cell).to_vec()].concat()
    };
    let mut rows: Vec<_> = pairs.iter().map(row).collect();
    rows.retain(|row| row[1..].iter().any(|cell| cell != "-"));
    let Some(ours) = pairs.first().map(|pair| plain(&contenders[pair.0].name)).filter(|_| !rows.is_empty())
    else {
        return String::new();
    };
    let first = format!("{ours}, as a ratio to");
    let titles = [&[first.as_str()][..], &metrics.map(|(_, title)| title)].concat();
    let (titles, rows) = without_empty_columns(&titles, &rows);
    table(&titles, &rows)
}

fn in_full(spread: Spread) -> String {
    let [median, least, most] = [spread.median, spread.least, spread.most].map(ratio);
    format!("{median} ({least} to {most})")
}

/// The load generator beside another one.
fn generator(mode: &Mode, generators: &[Contender]) -> String {
    let [ours, other] = generators else { return String::new() };
    let tables =
        [setups(generators), readings(mode, generators), ratios(mode, generators, &[(0, 1)])].join("\n");
    let mut text = format!("### The generator itself\n\n{tables}");
    if let Some(rate) = derived::ratio(mode, (0, 1), Metric::Rate) {
        let (ours, other) = (plain(&ours.name), plain(&other.name));
        let verdict = match rate {
            _ if rate.spans(1.0) => "the rounds show no difference",
            _ if rate.median > 1.0 => "it is faster",
            _ => "it is slower, and may limit the figures above",
        };
        text.push_str(&format!(
            "\n{ours} makes {} times the {} per second of {other} ({} to {}, round by round): {verdict}.",
            ratio(rate.median),
            plain(&words::units(&mode.unit)),
            ratio(rate.least),
            ratio(rate.most)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Reading;
    use crate::report::samples::{contender, mode};

    #[test]
    fn at_the_same_rate_the_tail_differs() {
        let reading = |p99| Reading { operations: 5.0, seconds: 1.0, p99: Some(p99), ..Reading::default() };
        let rounds = vec![vec![reading(300), reading(200)], vec![reading(320), reading(200)]];
        let paced = Mode { is_paced: true, rounds, ..mode("tail", &[]) };
        let contenders = [contender("lb"), contender("haproxy")];
        let said = ratios(&paced, &contenders, &[(0, 1)]);
        assert!(
            said.contains("| lb, as a ratio to | p99 |")
                && said.contains("| haproxy | 1.55 (1.50 to 1.60) |"),
            "{said}"
        );
        assert!(!said.contains("rate"), "{said}");
        assert!(ratios(&Mode { is_paced: false, ..paced }, &contenders, &[(0, 1)]).contains("| rate |"));
    }
}
