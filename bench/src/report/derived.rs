//! Computes phases and ratios from recorded numbers, for the text and for the charts. Pure functions.

use crate::data::{Comparison, Drill, Kill, Mode, Reading};
use crate::stats::{self, Spread};

/// The name of a phase, and the milliseconds after which a kill reached it.
pub(super) type Phase = (&'static str, fn(&Kill) -> Option<f64>);

/// The phases of a recovery, in the order in which they are expected.
pub(super) const PHASES: [Phase; 6] = [
    ("detected", |kill| kill.detected),
    ("out of rotation", |kill| kill.out),
    ("started", |kill| kill.started),
    ("ready", |kill| kill.ready),
    ("back in rotation", |kill| kill.back),
    ("first answer", |kill| kill.answered),
];

/// The milliseconds after which the kills of a drill reached a phase.
pub(super) fn reached(drill: &Drill, phase: Phase) -> Vec<f64> {
    drill.kills.iter().filter_map(phase.1).collect()
}

/// The milliseconds from the end of all earlier phases to each phase, over the kills that reached it. Never negative: a phase
/// that was seen before an earlier one took no time.
pub(super) fn steps(drill: &Drill) -> Vec<(&'static str, Spread)> {
    let step = |index: usize, kill: &Kill| {
        let end = PHASES[index].1(kill)?;
        let before = PHASES[..index].iter().filter_map(|phase| phase.1(kill)).fold(0.0, f64::max);
        Some((end - before).max(0.0))
    };
    let spread = |index: usize| {
        Spread::of(drill.kills.iter().filter_map(|kill| step(index, kill)))
            .map(|spread| (PHASES[index].0, spread))
    };
    (0..PHASES.len()).filter_map(spread).collect()
}

/// A value in which contenders are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    /// CPU time of the proxy in nanoseconds for an operation.
    Cpu,
    /// CPU time of proxy and replicas together; without a proxy that of the replicas.
    Whole,
    /// Memory of the proxy in bytes for an open connection.
    Memory,
    /// Operations in a second.
    Rate,
    /// The 99th percentile of the latency in microseconds.
    Tail,
}

impl Metric {
    /// Its value in one reading; `None` if it was not measured.
    pub(super) fn of(self, reading: &Reading) -> Option<f64> {
        let value = match self {
            Self::Cpu => reading.cpu_per_operation()?,
            Self::Whole => {
                (reading.cpu_ns.unwrap_or(0) + reading.replicas_cpu_ns?) as f64 / reading.operations
            }
            Self::Memory => reading.memory? as f64 / reading.operations,
            Self::Rate => reading.rate(),
            Self::Tail => reading.p99? as f64,
        };
        value.is_finite().then_some(value)
    }
}

/// The main metric of a mode: memory if it was measured, else CPU time.
pub(super) fn subject(mode: &Mode) -> Metric {
    let memory = mode.rounds.iter().flatten().any(|reading| reading.memory.is_some());
    if memory { Metric::Memory } else { Metric::Cpu }
}

/// A metric of one contender over the rounds of a mode.
pub(super) fn spread(mode: &Mode, contender: usize, metric: Metric) -> Option<Spread> {
    Spread::of(mode.rounds.iter().filter_map(|round| metric.of(round.get(contender)?)))
}

/// The latency of one contender at one of the [`QUANTILES`](crate::data::QUANTILES), by its place: microseconds, the median
/// of the rounds of a mode.
pub(super) fn latency(mode: &Mode, contender: usize, quantile: usize) -> Option<f64> {
    let of = |round: &Vec<Reading>| round.get(contender)?.distribution.get(quantile).map(|&time| time as f64);
    Spread::of(mode.rounds.iter().filter_map(of)).map(|spread| spread.median)
}

/// The indices of two contenders: one of ours and its peer.
pub(super) type Pair = (usize, usize);

/// The comparisons: `lb` with all other load balancers and with no proxy, hand-off with these and with `lb`, and so each `lb` that is
/// watched.
pub(super) fn pairs(comparison: &Comparison) -> Vec<Pair> {
    let all = 0..comparison.contenders.len();
    let handoff = comparison.handoff();
    let is_peer = |&at: &usize| Some(at) != handoff && !comparison.is_watched(at);
    let of_lb = all.clone().skip(1).filter(is_peer).map(|peer| (0, peer));
    let watched = all.clone().filter(|&at| comparison.is_watched(at));
    let of_others = handoff
        .into_iter()
        .chain(watched)
        .flat_map(|ours| all.clone().filter(is_peer).map(move |peer| (ours, peer)));
    of_lb.chain(of_others).collect()
}

/// The ratio of one contender to another, round by round.
pub(super) fn ratio(mode: &Mode, (ours, peer): Pair, metric: Metric) -> Option<Spread> {
    let value = |round: &[Reading], who: usize| round.get(who).and_then(|reading| metric.of(reading));
    let pairs = mode.rounds.iter().map(|round| (value(round, ours), value(round, peer)));
    Spread::of(stats::paired_ratios(pairs))
}

/// The ratio that tells a pair apart: of the main metric or, if the peer has none, of the rates.
pub(super) fn contrast(mode: &Mode, pair: Pair) -> Option<(Metric, Spread)> {
    let of = |metric| Some((metric, ratio(mode, pair, metric)?));
    let rate = || of(Metric::Rate).filter(|_| subject(mode) == Metric::Cpu && !mode.is_paced);
    of(subject(mode)).or_else(rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::HANDOFF;
    use crate::report::samples::{contender, mode};

    #[test]
    fn a_step_is_what_a_phase_took_after_those_before_it() {
        let kill = |ready| Kill {
            detected: Some(2.0),
            out: Some(1.0),
            started: Some(10.0),
            ready: Some(ready),
            ..Kill::default()
        };
        let drill = Drill { kills: vec![kill(100.0), kill(120.0)], ..Drill::default() };
        let medians: Vec<_> = steps(&drill).into_iter().map(|(name, step)| (name, step.median)).collect();
        let expected = [("detected", 2.0), ("out of rotation", 0.0), ("started", 8.0), ("ready", 100.0)];
        assert_eq!(medians, expected);
    }

    #[test]
    fn a_reading_without_operations_or_a_proxy_has_no_cpu_time_for_one() {
        let idle = Reading { cpu_ns: Some(5), ..Reading::default() };
        assert_eq!(Metric::Cpu.of(&idle), None);
        assert_eq!(Metric::Cpu.of(&Reading { operations: 5.0, ..Reading::default() }), None);
        assert_eq!(Metric::Cpu.of(&Reading { operations: 5.0, cpu_ns: Some(10), ..idle }), Some(2.0));
    }

    #[test]
    fn the_whole_is_the_proxy_with_its_replicas_or_they_alone() {
        let reading = Reading { operations: 5.0, cpu_ns: Some(10), ..Reading::default() };
        assert_eq!(Metric::Whole.of(&reading), None);
        let reading = Reading { replicas_cpu_ns: Some(20), ..reading };
        assert_eq!(Metric::Whole.of(&reading), Some(6.0));
        assert_eq!(Metric::Whole.of(&Reading { cpu_ns: None, ..reading }), Some(4.0));
    }

    fn among(names: &[&str]) -> Comparison {
        Comparison { contenders: names.iter().map(|name| contender(name)).collect(), ..Comparison::default() }
    }

    #[test]
    fn both_ways_of_lb_are_compared_to_peers_and_handing_over_to_proxying() {
        let found = pairs(&among(&["lb", HANDOFF, "haproxy", "direct"]));
        assert_eq!(found, [(0, 2), (0, 3), (1, 0), (1, 2), (1, 3)]);
        assert_eq!(pairs(&among(&["lb", "haproxy", "direct"])), [(0, 1), (0, 2)]);
        assert_eq!(pairs(&among(&["lb"])), []);
    }

    #[test]
    fn an_lb_that_is_watched_is_compared_to_lb_and_to_its_peers() {
        let found = pairs(&among(&["lb", "lb json log", "lb everything", HANDOFF, "haproxy"]));
        assert_eq!(found, [(0, 4), (3, 0), (3, 4), (1, 0), (1, 4), (2, 0), (2, 4)]);
    }

    #[test]
    fn a_peer_without_cpu_time_is_compared_by_its_rate() {
        let reading = |operations, cpu_ns| Reading { operations, seconds: 1.0, cpu_ns, ..Reading::default() };
        let rounds = vec![vec![reading(3.0, Some(6)), reading(1.0, Some(1)), reading(4.0, None)]];
        let mode = Mode { rounds, ..mode("short", &[]) };
        let median = |pair| contrast(&mode, pair).map(|(metric, spread)| (metric, spread.median));
        assert_eq!(median((0, 1)), Some((Metric::Cpu, 2.0)));
        assert_eq!(median((0, 2)), Some((Metric::Rate, 0.75)));
        let paced = Mode { is_paced: true, ..mode.clone() };
        assert_eq!(contrast(&paced, (0, 2)), None);
    }
}
