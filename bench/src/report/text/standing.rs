//! How `lb` compares with its peers over all modes, and what the figures do not show.

use crate::data::{Comparison, Contender, Mode};
use crate::report::derived::{self, Metric, Pair};
use crate::report::words::{self, code, plain, ratio, table};
use crate::stats::Spread;

/// How one of ours compares with a peer: every round agrees, or they do not.
fn standing(metric: Metric, ratio: Spread) -> &'static str {
    match ratio {
        _ if ratio.spans(1.0) => "level",
        _ if (ratio.median < 1.0) != (metric == Metric::Rate) => "ahead",
        _ => "behind",
    }
}

/// A table for `lb` and one for hand-off: a row for each peer, a column for each mode.
pub(super) fn overview(comparison: &Comparison) -> String {
    let pairs = derived::pairs(comparison);
    let tables: Vec<String> = pairs
        .chunk_by(|a, b| a.0 == b.0)
        .filter_map(|pairs| side_by_side(&comparison.modes, &comparison.contenders, pairs))
        .collect();
    if tables.is_empty() {
        return "No peer took part.".to_owned();
    }
    format!(
        "Ratios of CPU time per operation or, for idle connections, of memory: less is better. The peer `direct` has no \
         proxy, so its ratio is that of the rates: more is better. *Ahead* and *behind* mean that all rounds agree, \
         *level* that they do not.\n\n{}",
        tables.join("\n")
    )
}

/// The table of one of ours; `None` if there is no ratio.
fn side_by_side(modes: &[Mode], contenders: &[Contender], pairs: &[Pair]) -> Option<String> {
    let ours = plain(&contenders[pairs.first()?.0].name);
    let line = |&pair: &Pair| {
        let cells = modes.iter().map(|mode| cell(mode, pair).unwrap_or_else(|| "-".to_owned()));
        [plain(&contenders[pair.1].name)].into_iter().chain(cells).collect::<Vec<_>>()
    };
    let mut rows: Vec<_> = pairs.iter().map(line).collect();
    rows.retain(|row| row[1..].iter().any(|cell| cell != "-"));
    let names = modes.iter().map(|mode| format!(">{}", code(&mode.name)));
    let titles: Vec<String> = [format!("{ours}, beside")].into_iter().chain(names).collect();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    (!rows.is_empty()).then(|| table(&titles, &rows))
}

fn cell(mode: &Mode, pair: Pair) -> Option<String> {
    let (metric, spread) = derived::contrast(mode, pair)?;
    let standing = if mode.rounds.len() == 1 { "one round" } else { standing(metric, spread) };
    Some(format!("{} {standing}", ratio(spread.median)))
}

/// What these figures do not show.
pub(super) fn not_measured(comparison: &Comparison) -> String {
    let mut notes = vec![
        "Generator, proxy and replicas share one machine and its loopback: a rate is that of all three together, and there is \
         no network card, no distance and no loss. CPU time is that of the proxy, or of proxy and replicas together, as \
         far as the kernel charges it to them."
            .to_owned(),
    ];
    let lacks = |of: fn(&crate::data::Reading) -> bool| -> Vec<String> {
        let none = |mode: &&Mode| !mode.rounds.iter().flatten().any(of);
        comparison.modes.iter().filter(none).map(|mode| code(&mode.name)).collect()
    };
    let latencies = lacks(|reading| reading.p50.is_some());
    if !latencies.is_empty() {
        notes.push(format!("Latencies were not measured in {}.", words::list(&latencies)));
    }
    notes.extend(comparison.contenders.iter().enumerate().filter_map(|(who, contender)| {
        let silent = |mode: &Mode| {
            let metric = derived::subject(mode);
            derived::spread(mode, who, metric).is_none().then(|| code(&mode.name))
        };
        let modes: Vec<_> = comparison.modes.iter().filter_map(silent).collect();
        let whole = modes.len() == comparison.modes.len();
        let places = if whole { "any mode".to_owned() } else { words::list(&modes) };
        (!modes.is_empty()).then(|| {
            format!("{} has neither CPU time nor memory of its own in {places}.", plain(&contender.name))
        })
    }));
    if comparison.contenders.len() < 2 {
        notes.push("No peer took part.".to_owned());
    }
    words::items(&notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Reading;
    use crate::report::samples::{contender, mode};

    fn lb_and(peer: &str, modes: Vec<Mode>) -> Comparison {
        let contenders = vec![contender("lb"), contender(peer)];
        Comparison { contenders, modes, ..Comparison::default() }
    }

    #[test]
    fn less_is_ahead_more_is_behind_and_a_range_that_spans_one_is_level() {
        let modes = vec![
            mode("a", &[[80, 100], [90, 100], [85, 100]]),
            mode("b", &[[120, 100], [130, 100]]),
            mode("c", &[[90, 100], [104, 100]]),
            mode("d", &[[90, 100]]),
        ];
        let table = overview(&lb_and("haproxy", modes));
        assert!(table.contains("| lb, beside | `a` | `b` | `c` | `d` |"), "{table}");
        let row = "| haproxy | 0.85 ahead | 1.25 behind | 0.97 level | 0.90 one round |";
        assert!(table.contains(row), "{table}");
    }

    #[test]
    fn against_no_proxy_the_rate_counts_and_more_is_ahead() {
        let reading = |operations, cpu_ns| Reading { operations, seconds: 1.0, cpu_ns, ..Reading::default() };
        let rounds = |ours| [1.0, 1.1].map(|theirs| vec![reading(ours, Some(1)), reading(theirs, None)]);
        let cell =
            |ours| cell(&Mode { rounds: rounds(ours).to_vec(), ..mode("short", &[]) }, (0, 1)).unwrap();
        assert!(cell(0.99).ends_with(" behind"), "{}", cell(0.99));
        assert!(cell(2.0).ends_with(" ahead"), "{}", cell(2.0));
        assert!(cell(1.05).ends_with(" level"), "{}", cell(1.05));
    }

    #[test]
    fn without_a_peer_there_is_no_table() {
        let alone = Comparison { contenders: vec![contender("lb")], ..Comparison::default() };
        assert_eq!(overview(&alone), "No peer took part.");
        assert_eq!(overview(&Comparison::default()), "No peer took part.");
        assert!(not_measured(&alone).contains("- No peer took part."));
    }
}
