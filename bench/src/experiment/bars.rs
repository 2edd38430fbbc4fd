//! What hand-off is held to in a comparison: ratios to HAProxy and to no proxy at all. A pure function of the data.

use super::expect::expectation;
use crate::data::{Comparison, Expectation, HANDOFF, Mode, Reading};
use crate::stats::{Spread, paired_ratios};

/// With fewer rounds nobody knows how much of a ratio is noise.
const ROUNDS: usize = 3;
/// CPU time of `lb` for a short connection, at most, as a ratio to HAProxy's.
const CPU: f64 = 0.25;
/// Rates in a closed loop, at least, as ratios to those without a proxy: what is handed over is out of the way.
const RATE: f64 = 0.95;

/// All bars that this comparison has the rounds for.
pub(super) fn of(comparison: &Comparison) -> Vec<Expectation> {
    let modes = comparison.modes.iter().filter(|mode| mode.rounds.len() >= ROUNDS);
    modes.flat_map(|mode| [cpu(comparison, mode), rate(comparison, mode)].into_iter().flatten()).collect()
}

fn cpu(comparison: &Comparison, mode: &Mode) -> Option<Expectation> {
    let each = |reading: &Reading| Some(reading.cpu_ns? as f64 / reading.operations);
    let ratio = ratio(comparison, mode, "haproxy", each).filter(|_| mode.name == "short")?;
    let what = format!("Comparison, {HANDOFF}: CPU time per short connection, as a ratio to haproxy's");
    Some(expectation(what, format!("at most {CPU:.2} (median)"), shown(ratio), ratio.median <= CPU))
}

fn rate(comparison: &Comparison, mode: &Mode) -> Option<Expectation> {
    let rate = |reading: &Reading| reading.memory.is_none().then(|| reading.operations / reading.seconds);
    let ratio = ratio(comparison, mode, "direct", rate).filter(|_| !mode.is_paced)?;
    let what = format!("Comparison, {HANDOFF}: rate in `{}`, as a ratio to direct's", mode.name);
    Some(expectation(what, format!("at least {RATE:.2} (median)"), shown(ratio), ratio.median >= RATE))
}

/// Of something of hand-off to the same of a peer, round by round; `None` where one of them did not take part.
fn ratio(
    comparison: &Comparison,
    mode: &Mode,
    peer: &str,
    of: impl Fn(&Reading) -> Option<f64>,
) -> Option<Spread> {
    let ours = comparison.handoff()?;
    let peer = comparison.contenders.iter().position(|contender| contender.name == peer)?;
    let of = |round: &[Reading], who: usize| round.get(who).and_then(&of);
    Spread::of(paired_ratios(mode.rounds.iter().map(|round| (of(round, ours), of(round, peer)))))
}

fn shown(ratio: Spread) -> String {
    format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.least, ratio.most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Contender;

    fn comparison(name: &str, rounds: Vec<Vec<Reading>>) -> Comparison {
        let contender =
            |name: &str| Contender { name: name.into(), version: String::new(), setup: String::new() };
        let (name, what, unit) = (name.to_owned(), String::new(), "connection".to_owned());
        Comparison {
            contenders: ["lb", HANDOFF, "haproxy", "direct"].map(contender).to_vec(),
            modes: vec![Mode { name, what, unit, is_paced: false, rounds }],
            ..Comparison::default()
        }
    }

    fn round(cpu: u64, rate: f64) -> Vec<Reading> {
        let reading = |operations, cpu_ns| Reading { operations, seconds: 2.0, cpu_ns, ..Reading::default() };
        let ours = reading(rate, Some((cpu as f64 * rate) as u64));
        vec![reading(1.0, Some(50)), ours, reading(1.0, Some(100)), reading(100.0, None)]
    }

    fn passed(comparison: &Comparison) -> Vec<bool> {
        of(comparison).into_iter().map(|bar| bar.passed).collect()
    }

    #[test]
    fn it_is_held_to_a_quarter_of_haproxy_and_to_almost_all_of_direct() {
        let short = |cpu, rate| comparison("short", vec![round(cpu, rate); ROUNDS]);
        assert_eq!(passed(&short(25, 95.0)), [true, true]);
        assert_eq!(passed(&short(26, 94.0)), [false, false]);
        let found = &of(&short(26, 94.0))[1];
        assert_eq!(found.what, "Comparison, lb handoff: rate in `short`, as a ratio to direct's");
        assert_eq!(found.found, "0.94 (0.94 to 0.94)");
    }

    #[test]
    fn the_median_decides() {
        assert_eq!(passed(&comparison("up", vec![round(1, 10.0), round(1, 96.0), round(1, 97.0)])), [true]);
    }

    #[test]
    fn few_rounds_a_set_pace_memory_and_missing_peers_are_held_to_nothing() {
        assert_eq!(of(&comparison("short", vec![round(99, 1.0); ROUNDS - 1])), []);
        let all = comparison("down", vec![round(99, 1.0); ROUNDS]);
        let mut paced = all.clone();
        paced.modes[0].is_paced = true;
        assert_eq!(of(&paced), []);
        let mut idle = all.clone();
        idle.modes[0].rounds.iter_mut().flatten().for_each(|reading| reading.memory = Some(1));
        assert_eq!(of(&idle), []);
        let mut alone = all;
        alone.contenders.truncate(2);
        assert_eq!(of(&alone), []);
    }
}
