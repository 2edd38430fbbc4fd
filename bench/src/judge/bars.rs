//! Bars for speed: ratios of hand-off to HAProxy and to no proxy at all, and of the generator to `wrk`.
//!
//! They were set on one machine. Others have fewer or slower cores, so a bar is never a matter of right or wrong.

use crate::data::{Bar, Comparison, HANDOFF, Mode, Reading};
use crate::stats::{Spread, paired_ratios};

/// With fewer rounds the noise of a ratio is not known, and there are no bars.
pub(crate) const ROUNDS: usize = 3;
/// CPU time of `lb` with hand-off for a short connection, as a ratio to HAProxy's: at most.
const CPU: f64 = 0.25;
/// Rates of hand-off in a closed loop, as ratios to those without a proxy: at least. After the hand-off `lb` is not involved.
const RATE: f64 = 0.95;
/// CPU time of the generator for a short connection, as a ratio to wrk's: at most. A slower one would measure itself.
const GENERATOR: f64 = 1.0;

/// All bars that this comparison has the rounds for.
pub(super) fn of(comparison: &Comparison) -> Vec<Bar> {
    let modes = comparison.modes.iter().filter(|mode| mode.rounds.len() >= ROUNDS);
    let of_modes = modes.flat_map(|mode| [cpu(comparison, mode), rate(comparison, mode)]);
    of_modes.chain([generator(comparison)]).flatten().collect()
}

fn cpu(comparison: &Comparison, mode: &Mode) -> Option<Bar> {
    let pair = against(comparison, "haproxy").filter(|_| mode.name == "short")?;
    let ratio = ratio(mode, pair, Reading::cpu_per_operation)?;
    Some(at_most(CPU, ratio, format!("{HANDOFF}: CPU time per short connection, as a ratio to haproxy's")))
}

fn rate(comparison: &Comparison, mode: &Mode) -> Option<Bar> {
    let pair = against(comparison, "direct").filter(|_| !mode.is_paced)?;
    let ratio = ratio(mode, pair, |reading| reading.memory.is_none().then(|| reading.rate()))?;
    Some(at_least(RATE, ratio, format!("{HANDOFF}: rate in `{}`, as a ratio to direct's", mode.name)))
}

fn generator(comparison: &Comparison) -> Option<Bar> {
    let mode = comparison.generator.as_ref().filter(|mode| mode.rounds.len() >= ROUNDS)?;
    let ratio = ratio(mode, (0, 1), Reading::cpu_per_operation)?;
    let what = "generator: CPU time per short connection, as a ratio to wrk's";
    Some(at_most(GENERATOR, ratio, what.to_owned()))
}

/// The places of hand-off and of a peer; `None` where one of them did not take part.
fn against(comparison: &Comparison, peer: &str) -> Option<(usize, usize)> {
    let peer = comparison.contenders.iter().position(|contender| contender.name == peer)?;
    Some((comparison.handoff()?, peer))
}

/// The ratio of one contender's value to another's, round by round.
fn ratio(
    mode: &Mode,
    (ours, peer): (usize, usize),
    value: impl Fn(&Reading) -> Option<f64>,
) -> Option<Spread> {
    let of = |round: &[Reading], who: usize| round.get(who).and_then(&value);
    Spread::of(paired_ratios(mode.rounds.iter().map(|round| (of(round, ours), of(round, peer)))))
}

fn at_most(limit: f64, ratio: Spread, what: String) -> Bar {
    Bar { what, bar: format!("at most {limit:.2}"), found: shown(ratio), reached: ratio.median <= limit }
}

fn at_least(limit: f64, ratio: Spread, what: String) -> Bar {
    Bar { what, bar: format!("at least {limit:.2}"), found: shown(ratio), reached: ratio.median >= limit }
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

    fn reached(comparison: &Comparison) -> Vec<bool> {
        of(comparison).into_iter().map(|bar| bar.reached).collect()
    }

    #[test]
    fn hand_off_has_bars_against_haproxy_and_against_no_proxy() {
        let short = |cpu, rate| comparison("short", vec![round(cpu, rate); ROUNDS]);
        assert_eq!(reached(&short(25, 95.0)), [true, true]);
        assert_eq!(reached(&short(26, 94.0)), [false, false]);
        let found = &of(&short(26, 94.0))[1];
        assert_eq!(found.what, "lb handoff: rate in `short`, as a ratio to direct's");
        assert_eq!(found.found, "0.94 (0.94 to 0.94)");
    }

    #[test]
    fn the_median_decides() {
        assert_eq!(reached(&comparison("up", vec![round(1, 10.0), round(1, 96.0), round(1, 97.0)])), [true]);
    }

    #[test]
    fn few_rounds_a_set_pace_memory_and_missing_peers_have_no_bars() {
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

    #[test]
    fn the_generator_has_a_bar_against_wrk() {
        let with = |cpu_ns: u64, rounds: usize| {
            let reading = |cpu_ns| Reading { operations: 1000.0, cpu_ns: Some(cpu_ns), ..Reading::default() };
            let rounds = vec![vec![reading(cpu_ns), reading(22_000_000)]; rounds];
            let (name, what, unit) = ("generator".to_owned(), String::new(), "connection".to_owned());
            let generator = Some(Mode { name, what, unit, is_paced: false, rounds });
            Comparison { generator, ..Comparison::default() }
        };
        assert_eq!(reached(&with(21_000_000, ROUNDS)), [true]);
        assert_eq!(reached(&with(23_000_000, ROUNDS)), [false]);
        assert_eq!(of(&with(23_000_000, ROUNDS - 1)), []);
    }
}
