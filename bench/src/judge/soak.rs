//! The expectations of a soak: what holds after each round, what no fault explains, and what `lb` holds in the long run.

use super::expect::expectation;
use crate::data::{Ending, Expectation, Holding, Invariant, Round, Soak};
use crate::stats::Course;

/// Rounds that are named in one expectation.
const NAMED: usize = 3;

/// All expectations of a soak.
pub(super) fn of(soak: &Soak) -> Vec<Expectation> {
    if soak.rounds.is_empty() {
        return Vec::new();
    }
    let replicas = format!("{} slots in rotation after each round", soak.replicas);
    let ids = format!("each of {} ids in its slot after each round", soak.ids);
    let mut all = vec![
        unexplained(soak),
        kept(soak, Invariant::Rotation, &replicas),
        kept(soak, Invariant::Healing, "no replica replaced without a fault on its slot"),
        kept(soak, Invariant::Keys, &ids),
        kept(soak, Invariant::Commands, "every command carried out"),
    ];
    if soak.is_own {
        all.push(kept(soak, Invariant::Sessions, "no session left open after each round"));
    }
    all.extend(soak.holdings().iter().filter_map(flat));
    all.extend(soak.ending.iter().flat_map(ended));
    all
}

/// Rounds with something wrong, in words, with the arguments that repeat them.
fn named(soak: &Soak, wrong: Vec<(u64, String)>) -> String {
    let more = wrong.len().saturating_sub(NAMED);
    let shown = wrong.into_iter().take(NAMED);
    let mut shown: Vec<String> =
        shown.map(|(number, found)| format!("round {number} (`{}`): {found}", soak.again(number))).collect();
    if more > 0 {
        shown.push(format!("{more} more rounds"));
    }
    shown.join("; ")
}

fn unexplained(soak: &Soak) -> Expectation {
    let wrong = soak.rounds.iter().map(|round| (round.number, round.unexplained()));
    let wrong = wrong.filter(|(_, count)| *count > 0).map(|(number, count)| (number, count.to_string()));
    let wrong: Vec<_> = wrong.collect();
    let sum = |of: fn(&Round) -> u64| soak.rounds.iter().map(of).sum::<u64>();
    let passed = wrong.is_empty();
    let found = if passed {
        let failed = sum(|round| round.lost.len() as u64);
        format!("none of {} ({failed} failed, and a fault explains each)", sum(|round| round.requests))
    } else {
        named(soak, wrong)
    };
    expectation("Soak: failed requests that no fault explains", "none", found, passed)
}

fn kept(soak: &Soak, invariant: Invariant, expected: &str) -> Expectation {
    let broken = soak.rounds.iter().flat_map(|round| {
        let broken = round.broken.iter().filter(|broken| broken.invariant == invariant);
        broken.map(|broken| (round.number, broken.found.clone()))
    });
    let broken: Vec<_> = broken.collect();
    let passed = broken.is_empty();
    let found = match soak.rounds.len() {
        _ if !passed => named(soak, broken),
        1 => "in the one round".to_owned(),
        rounds => format!("in all {rounds} rounds"),
    };
    let what = match invariant {
        Invariant::Commands => "Soak: commands",
        Invariant::Rotation => "Soak: the fleet",
        Invariant::Healing => "Soak: healing",
        Invariant::Keys => "Soak: keys",
        Invariant::Sessions => "Soak: sessions",
    };
    expectation(what, expected, found, passed)
}

/// Whether something stays as it is; only where the error allows to say so.
fn flat(holding: &Holding) -> Option<Expectation> {
    let (slope, course) = holding.course()?;
    let found = format!("{:.2} ± {:.2} {} a round", slope.slope, slope.error, holding.unit);
    let passed = course != Course::Grows;
    let found = match course {
        Course::Unclear => format!("{found}: the error is too large, or it slows down: not judged"),
        Course::Flat | Course::Grows => found,
    };
    let expected = format!("growth of at most {} {} a round", holding.tolerance, holding.unit);
    Some(expectation(format!("Soak: {} of `lb`", holding.what), expected, found, passed))
}

fn ended(ending: &Ending) -> [Expectation; 2] {
    let left = if ending.left.is_empty() { "none".to_owned() } else { ending.left.join("; ") };
    [
        expectation("Soak: the end of `lb` after SIGTERM", "exit status 0", &ending.status, ending.is_clean),
        expectation("Soak: processes of `lb` left after it", "none", left, ending.left.is_empty()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Broken, LostRequest};

    fn soak(rounds: Vec<Round>) -> Soak {
        let kinds = vec!["kill".to_owned(), "rm".to_owned()];
        Soak { seed: 7, kinds, replicas: 3, ids: 1000, rounds, ..Soak::default() }
    }

    fn round(number: u64) -> Round {
        Round { number, requests: 1000, ..Round::default() }
    }

    fn lost(fault: Option<usize>) -> LostRequest {
        LostRequest { fault, ..LostRequest::default() }
    }

    fn failing(soak: &Soak) -> Vec<Expectation> {
        of(soak).into_iter().filter(|one| !one.passed).collect()
    }

    #[test]
    fn rounds_that_keep_everything_are_right() {
        let explained = Round { lost: vec![lost(Some(0))], ..round(2) };
        let soak = soak(vec![round(1), explained]);
        assert_eq!(failing(&soak), []);
        assert_eq!(of(&soak)[0].found, "none of 2000 (1 failed, and a fault explains each)");
        assert_eq!(of(&Soak::default()), []);
    }

    #[test]
    fn an_unexplained_failure_is_wrong_and_says_how_to_repeat_its_round() {
        for bad in [Round { lost: vec![lost(None)], ..round(9) }, Round { uncounted: 1, ..round(9) }] {
            let [one] = &failing(&soak(vec![round(8), bad]))[..] else { panic!("one expectation fails") };
            assert_eq!(one.found, "round 9 (`--seed 7 --round 9 --faults kill,rm`): 1");
        }
    }

    #[test]
    fn each_invariant_is_an_expectation_of_its_own() {
        let all = [
            Invariant::Commands,
            Invariant::Rotation,
            Invariant::Healing,
            Invariant::Keys,
            Invariant::Sessions,
        ];
        for invariant in all {
            let broken = vec![Broken { invariant, found: "x".to_owned() }];
            let soak = Soak { is_own: true, ..soak(vec![Round { broken, ..round(4) }]) };
            let [one] = &failing(&soak)[..] else { panic!("{invariant:?}") };
            assert!(one.found.contains("round 4") && one.found.ends_with(": x"), "{one:?}");
        }
    }

    #[test]
    fn a_leak_is_wrong_and_a_short_soak_is_not_judged() {
        let leaking = |rounds| (0..rounds).map(|at| Round { files: Some(30 + at), ..round(at) }).collect();
        let [one] = &failing(&soak(leaking(30)))[..] else { panic!("the leak is not found") };
        assert_eq!(one.what, "Soak: open files of `lb`");
        assert_eq!(failing(&soak(leaking(5))), []);
    }

    #[test]
    fn what_is_left_after_the_end_is_wrong() {
        let ending =
            Ending { status: "exit status: 1".to_owned(), is_clean: false, left: vec!["9: x".to_owned()] };
        let soak = Soak { ending: Some(ending), ..soak(vec![round(1)]) };
        assert_eq!(failing(&soak).len(), 2);
    }
}
