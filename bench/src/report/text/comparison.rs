//! The comparison with peers: tables for each mode, and who needs less where.

use super::standing::{Standing, not_measured, standing, what};
use super::{image, joined};
use crate::data::{Comparison, Contender, Mode};
use crate::report::chart::Chart;
use crate::report::derived::{self, Metric, Pair};
use crate::report::words::{self, bytes, count, micros, nanos, number, plain, ratio, table};
use crate::stats::Spread;

/// The title of a column of [`Metric::Whole`].
const WHOLE: &str = ">with the replicas'";

/// The section.
pub(super) fn section(comparison: &Comparison, charts: &[Chart]) -> String {
    let names = ["compare", "compare-idle", "compare-handoff", "compare-handoff-idle", "compare-rates"];
    let images = names.map(|name| image(charts, name)).concat();
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
    let (contenders, pairs) = (&comparison.contenders[..], derived::pairs(comparison));
    let rounds = words::plural(mode.rounds.len() as u64, "round");
    let what = plain(mode.what.trim_end_matches('.'));
    let mut text =
        format!("### {}\n\n{what}; {rounds}, medians.\n\n{}", plain(&mode.name), readings(mode, contenders));
    let ratios = ratios(mode, contenders, &pairs);
    if !ratios.is_empty() {
        text.push_str(&format!("\n{ratios}"));
    }
    text.push_str(&format!("\n{}", verdicts(mode, contenders, &pairs)));
    text
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
            shown(Metric::Rate, number),
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

/// Whether operations are held and not done, so that a rate of them means nothing.
fn is_held(mode: &Mode) -> bool {
    derived::subject(mode) == Metric::Memory
}

fn titles(mode: &Mode) -> (String, String, String) {
    let (unit, units) = (plain(&mode.unit), plain(&words::units(&mode.unit)));
    (format!(">{units}/s"), format!(">CPU time per {unit}"), format!(">memory per {unit}"))
}

/// A table without the columns in which nobody has a value.
fn without_empty_columns<'a>(titles: &[&'a str], rows: &[Vec<String>]) -> (Vec<&'a str>, Vec<Vec<String>>) {
    let used: Vec<bool> = (0..titles.len()).map(|at| rows.iter().any(|row| row[at] != "-")).collect();
    let titles = titles.iter().zip(&used).filter(|(_, used)| **used).map(|(title, _)| *title).collect();
    let keep = |row: &Vec<String>| {
        row.iter().zip(&used).filter(|(_, used)| **used).map(|(cell, _)| cell.clone()).collect()
    };
    (titles, rows.iter().map(keep).collect())
}

/// What contenders may differ in, and the titles of its columns.
fn metrics(mode: &Mode) -> [(Metric, &'static str); 3] {
    let (cpu, whole) = ((Metric::Cpu, ">CPU time"), (Metric::Whole, WHOLE));
    match derived::subject(mode) {
        Metric::Memory => [(Metric::Memory, ">memory"), cpu, whole],
        _ if mode.is_paced => [cpu, whole, (Metric::Tail, ">p99")],
        _ => [cpu, whole, (Metric::Rate, ">rate")],
    }
}

/// The ratios of all pairs; empty where there is none.
fn ratios(mode: &Mode, contenders: &[Contender], pairs: &[Pair]) -> String {
    let metrics = metrics(mode);
    let row = |&pair: &Pair| {
        let (ours, peer) = named(contenders, pair);
        let cell = |(metric, _)| derived::ratio(mode, pair, metric).map_or_else(|| "-".to_owned(), in_full);
        [vec![format!("{ours} / {peer}")], metrics.map(cell).to_vec()].concat()
    };
    let mut rows: Vec<_> = pairs.iter().map(row).collect();
    rows.retain(|row| row[1..].iter().any(|cell| cell != "-"));
    if rows.is_empty() {
        return String::new();
    }
    let titles = [&["ratio, round by round"][..], &metrics.map(|(_, title)| title)].concat();
    let (titles, rows) = without_empty_columns(&titles, &rows);
    table(&titles, &rows)
}

fn in_full(spread: Spread) -> String {
    let [median, least, most] = [spread.median, spread.least, spread.most].map(ratio);
    format!("{median} ({least} to {most})")
}

fn named(contenders: &[Contender], (ours, peer): Pair) -> (String, String) {
    (plain(&contenders[ours].name), plain(&contenders[peer].name))
}

/// A sentence for each pair.
fn verdicts(mode: &Mode, contenders: &[Contender], pairs: &[Pair]) -> String {
    let verdict = |&pair: &Pair| {
        let (metric, spread) = derived::contrast(mode, pair)?;
        Some(verdict(mode, named(contenders, pair), metric, spread))
    };
    let verdicts: Vec<String> = pairs.iter().filter_map(verdict).collect();
    match verdicts.len() {
        0 => format!("There is no peer whose {} could be compared.", what(derived::subject(mode))),
        _ => words::items(&verdicts),
    }
}

fn verdict(mode: &Mode, (ours, peer): (String, String), metric: Metric, spread: Spread) -> String {
    let range = match mode.rounds.len() {
        1 => "one round only, so nobody knows the spread".to_owned(),
        _ => format!("{} to {}", ratio(spread.least), ratio(spread.most)),
    };
    let times = ratio(spread.median);
    let said = if metric == Metric::Rate {
        let units = plain(&words::units(&mode.unit));
        format!("{ours} makes {times} times the {units} per second of {peer} ({range})")
    } else {
        let (what, unit) = (what(metric), plain(&mode.unit));
        format!("{ours} needs {times} times the {what} of {peer} for each {unit} ({range})")
    };
    match standing(metric, spread) {
        Standing::Level => format!("{said}: no difference within the spread."),
        Standing::Ahead => format!("{said}: it is ahead of {peer} here."),
        Standing::Behind => format!("{said}: it is behind {peer} here."),
    }
}

/// The generator against another one.
fn generator(mode: &Mode, generators: &[Contender]) -> String {
    let [ours, other] = generators else { return String::new() };
    let tables =
        [setups(generators), readings(mode, generators), ratios(mode, generators, &[(0, 1)])].join("\n");
    let mut text = format!("### The generator itself\n\n{tables}");
    if let Some(rate) = derived::ratio(mode, (0, 1), Metric::Rate) {
        let (ours, other) = (plain(&ours.name), plain(&other.name));
        let verdict = match rate {
            _ if rate.spans(1.0) => "no difference within the spread",
            _ if rate.median > 1.0 => "it is the faster of the two",
            _ => "it is the slower of the two, and may limit the figures above",
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

    fn said(cpu: &[[u64; 2]]) -> String {
        verdicts(&mode("short", cpu), &[contender("lb"), contender("haproxy")], &[(0, 1)])
    }

    #[test]
    fn less_is_ahead_and_more_is_behind() {
        let ahead = said(&[[80, 100], [90, 100], [85, 100]]);
        assert_eq!(
            ahead,
            "- lb needs 0.85 times the CPU time of haproxy for each connection (0.80 to 0.90): it is ahead of \
             haproxy here."
        );
        assert!(said(&[[120, 100], [130, 100]]).ends_with("it is behind haproxy here."));
    }

    #[test]
    fn a_range_that_spans_one_is_no_difference() {
        assert!(said(&[[90, 100], [104, 100]]).ends_with("(0.90 to 1.04): no difference within the spread."));
        assert!(said(&[[90, 100]]).contains("one round only"));
    }

    #[test]
    fn without_a_peer_nothing_is_claimed() {
        let alone = [contender("lb")];
        assert_eq!(
            verdicts(&mode("short", &[[1, 1]]), &alone, &[]),
            "There is no peer whose CPU time could be compared."
        );
        let comparison = Comparison { contenders: alone.to_vec(), ..Comparison::default() };
        assert_eq!(super::super::standing::in_short(&comparison), "No peer took part.");
        assert!(not_measured(&comparison).contains("- No peer took part."));
    }

    #[test]
    fn at_the_same_rate_it_is_the_tail_that_differs() {
        let reading = |p99| Reading { operations: 5.0, seconds: 1.0, p99: Some(p99), ..Reading::default() };
        let rounds = vec![vec![reading(300), reading(200)], vec![reading(320), reading(200)]];
        let paced = Mode { is_paced: true, rounds, ..mode("tail", &[]) };
        let contenders = [contender("lb"), contender("haproxy")];
        let said = ratios(&paced, &contenders, &[(0, 1)]);
        assert!(
            said.contains("| p99 |") && said.contains("| lb / haproxy | 1.55 (1.50 to 1.60) |"),
            "{said}"
        );
        assert!(!said.contains("rate"), "{said}");
        assert!(ratios(&Mode { is_paced: false, ..paced }, &contenders, &[(0, 1)]).contains("| rate |"));
    }

    #[test]
    fn against_no_proxy_it_is_the_rate_that_counts_and_more_is_ahead() {
        let reading = |operations, cpu_ns| Reading { operations, seconds: 1.0, cpu_ns, ..Reading::default() };
        let rounds = |ours| [1.0, 1.1].map(|theirs| vec![reading(ours, Some(1)), reading(theirs, None)]);
        let said = |ours| {
            let mode = Mode { rounds: rounds(ours).to_vec(), ..mode("short", &[]) };
            verdicts(&mode, &[contender("lb handoff"), contender("direct")], &[(0, 1)])
        };
        assert_eq!(
            said(0.99),
            "- lb handoff makes 0.94 times the connections per second of direct (0.90 to 0.99): it is behind \
             direct here."
        );
        assert!(said(2.0).ends_with("it is ahead of direct here."));
        assert!(said(1.05).ends_with("no difference within the spread."));
    }
}
