//! How `lb` stands to its peers over all modes, and what nobody can tell from the figures.

use crate::data::{Comparison, Mode};
use crate::report::derived::{self, Metric};
use crate::report::words::{self, code, plain};
use crate::stats::Spread;

/// How one of ours stands to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Ahead,
    Behind,
    Level,
}

/// Less CPU time or memory is ahead, and a higher rate; a range that spans 1 is neither.
pub(super) fn standing(metric: Metric, ratio: Spread) -> Standing {
    match ratio {
        _ if ratio.spans(1.0) => Standing::Level,
        _ if (ratio.median < 1.0) != (metric == Metric::Rate) => Standing::Ahead,
        _ => Standing::Behind,
    }
}

/// What a metric is, in words.
pub(super) fn what(metric: Metric) -> &'static str {
    match metric {
        Metric::Memory => "memory",
        Metric::Rate => "rate",
        Metric::Tail => "p99",
        Metric::Cpu | Metric::Whole => "CPU time",
    }
}

/// Where ours are ahead, behind and level, over all modes.
pub(super) fn in_short(comparison: &Comparison) -> String {
    if comparison.contenders.is_empty() {
        return "Nobody took part.".to_owned();
    }
    let mut sentences = Vec::new();
    for pair in derived::pairs(comparison) {
        let (ours, contender) = (&comparison.contenders[pair.0], &comparison.contenders[pair.1]);
        let standing = |mode: &Mode| {
            let (metric, spread) = derived::contrast(mode, pair)?;
            Some((standing(metric, spread), format!("{} ({})", code(&mode.name), what(metric))))
        };
        let standings: Vec<_> = comparison.modes.iter().filter_map(standing).collect();
        let modes = |wanted| -> Vec<String> {
            standings.iter().filter(|one| one.0 == wanted).map(|one| one.1.clone()).collect()
        };
        let said = [
            (Standing::Ahead, format!("ahead of {}", plain(&contender.name))),
            (Standing::Behind, format!("behind {}", plain(&contender.name))),
            (Standing::Level, format!("not to be told from {}", plain(&contender.name))),
        ];
        let said = said.map(|(standing, words)| (modes(standing), words));
        let said: Vec<_> = said.into_iter().filter(|(modes, _)| !modes.is_empty()).collect();
        let said: Vec<_> =
            said.iter().map(|(modes, words)| format!("{words} in {}", words::list(modes))).collect();
        if !said.is_empty() {
            sentences.push(format!("{} is {}.", plain(&ours.name), said.join("; ")));
        }
    }
    if sentences.is_empty() { "No peer took part.".to_owned() } else { words::items(&sentences) }
}

/// What nobody may conclude from these figures.
pub(super) fn not_measured(comparison: &Comparison) -> String {
    let mut notes = vec![
        "Generator, proxy and replicas share one machine and its loopback: rates are those of all three \
         together, there \
         is no network card, no distance and no loss. CPU time is the proxy's own, or where it says so that of \
         proxy and replicas, as far as the kernel charges it to them."
            .to_owned(),
    ];
    let lacks = |of: fn(&crate::data::Reading) -> bool| -> Vec<String> {
        let none = |mode: &&Mode| !mode.rounds.iter().flatten().any(of);
        comparison.modes.iter().filter(none).map(|mode| code(&mode.name)).collect()
    };
    let latencies = lacks(|reading| reading.p50.is_some());
    if !latencies.is_empty() {
        notes.push(format!("Latencies were not taken in {}.", words::list(&latencies)));
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
            format!(
                "{}: neither CPU time nor memory of its own was measured in {places}.",
                plain(&contender.name)
            )
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
    use crate::report::samples::{contender, mode};

    #[test]
    fn modes_are_summed_up_by_peer() {
        let comparison = Comparison {
            contenders: vec![contender("lb"), contender("haproxy")],
            modes: vec![
                mode("a", &[[80, 100], [90, 100]]),
                mode("b", &[[120, 100], [130, 100]]),
                mode("c", &[[90, 100], [130, 100]]),
            ],
            ..Comparison::default()
        };
        assert_eq!(
            in_short(&comparison),
            "- lb is ahead of haproxy in `a` (CPU time); behind haproxy in `b` (CPU time); not to be told from \
             haproxy in `c` (CPU time)."
        );
    }
}
