//! What has to hold on a Docker Swarm, and how fast it should be.

use crate::data::{Bar, Drill, Expectation, Healing, Kill, Quiet, Swarm};
use crate::stats::Spread;

use super::expect::{expectation, of_drill};

/// The first answer after a kill: so many milliseconds after Swarm's own task runs.
const AFTER_SWARM_MS: f64 = 100.0;
/// The same since the death: the median of all kills.
const RECOVERY_MS: f64 = 1500.0;
/// With a ready spare.
const SPARE_MS: f64 = 50.0;
/// A new epoch at all `lb`s: the 99th percentile.
const FOLLOWED_MS: f64 = 100.0;
/// Reads of everything in a second.
const POLLS: f64 = 0.2;
/// What `lb` asks for once in each read of everything.
const POLL: &str = "GET /services";

/// What has to be right.
pub(super) fn expectations(swarm: &Swarm) -> Vec<Expectation> {
    let mut all = Vec::new();
    all.extend(swarm.spare.iter().flat_map(|drill| of_drill("A-3, drill with a spare", drill)));
    if let Some(agreement) = &swarm.agreement {
        let found = format!("{} of {}", agreement.different, agreement.asked);
        let is_right = agreement.different == 0 && agreement.asked > 0;
        all.push(expectation("A-3, several lbs: ids with different owners", "none", found, is_right));
    }
    if let Some(crash) = &swarm.crash {
        all.push(expectation(
            "A-3, crash of a node: failed requests among those begun more than a connect timeout later",
            "none",
            format!("{} of {}", crash.failed_later, crash.begun_later),
            crash.failed_later == 0 && crash.begun_later > 0,
        ));
        let found = if crash.up_again_ms.is_some() { "all" } else { "not all" };
        let what = "A-3, crash of a node: slots that are up again";
        all.push(expectation(what, "all", found, crash.up_again_ms.is_some()));
    }
    all
}

/// How fast it should be.
pub(super) fn bars(healing: &Healing) -> Vec<Bar> {
    let Some(swarm) = &healing.swarm else { return Vec::new() };
    let mut all = Vec::new();
    if let Some(drill) = &healing.drill {
        let late = |kill: &Kill| Some(kill.answered? - kill.running?);
        all.extend(most(drill, "first answer after Swarm's own task runs", AFTER_SWARM_MS, late));
        all.extend(median(drill, "first answer after a kill", RECOVERY_MS));
    }
    all.extend(
        swarm
            .spare
            .iter()
            .filter_map(|drill| median(drill, "first answer after a kill, with a spare", SPARE_MS)),
    );
    all.extend(swarm.agreement.iter().filter_map(|agreement| {
        let mut times = agreement.followed_ms.clone();
        times.sort_by(f64::total_cmp);
        // The smallest of which 99 % are not larger.
        let p99 = *times.get((times.len() * 99).div_ceil(100).checked_sub(1)?)?;
        let spread = Spread::of(times)?;
        Some(Bar {
            what: "a new epoch at all lbs, from the command on, 99th percentile".to_owned(),
            bar: format!("at most {FOLLOWED_MS} ms"),
            found: format!("{p99:.1} ms ({:.1} to {:.1})", spread.least, spread.most),
            reached: p99 <= FOLLOWED_MS,
        })
    }));
    all.extend(Spread::of(swarm.quiet.iter().map(polls)).map(|polls| Bar {
        what: "reads of everything in a second by one lb while nothing happens".to_owned(),
        bar: format!("at most {POLLS}"),
        found: format!("{:.3} ({:.3} to {:.3})", polls.median, polls.least, polls.most),
        reached: polls.most <= POLLS,
    }));
    all
}

/// Reads of everything in a second. Both ends of the time may have one, so one counts as half before and half after it.
fn polls(quiet: &Quiet) -> f64 {
    let polls = quiet.calls.get(POLL).copied().unwrap_or_default();
    polls.saturating_sub(1) as f64 / quiet.seconds
}

fn most(drill: &Drill, what: &str, limit: f64, of: impl Fn(&Kill) -> Option<f64>) -> Option<Bar> {
    let spread = Spread::of(drill.kills.iter().filter_map(of))?;
    Some(bar(what, "of every kill", limit, spread, spread.most))
}

fn median(drill: &Drill, what: &str, limit: f64) -> Option<Bar> {
    let spread = Spread::of(drill.kills.iter().filter_map(|kill| kill.answered))?;
    Some(bar(what, "median", limit, spread, spread.median))
}

fn bar(what: &str, which: &str, limit: f64, spread: Spread, judged: f64) -> Bar {
    Bar {
        what: format!("{what}, {which}"),
        bar: format!("at most {limit} ms"),
        found: format!("{:.0} ms ({:.0} to {:.0})", spread.median, spread.least, spread.most),
        reached: judged <= limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Agreement, Crash};

    fn drill(kills: &[(f64, f64)]) -> Drill {
        let kill = |&(running, answered)| Kill {
            running: Some(running),
            answered: Some(answered),
            ..Kill::default()
        };
        Drill { kills: kills.iter().map(kill).collect(), ..Drill::default() }
    }

    fn reached(drill: Option<Drill>, swarm: Swarm) -> Vec<bool> {
        let healing = Healing { checks: Vec::new(), drill, swarm: Some(swarm) };
        bars(&healing).into_iter().map(|bar| bar.reached).collect()
    }

    #[test]
    fn every_kill_is_held_to_swarms_own_task_and_their_median_to_a_second_and_a_half() {
        let of = |kills: &[(f64, f64)]| reached(Some(drill(kills)), Swarm::default());
        assert_eq!(of(&[(1400.0, 1500.0), (1300.0, 1350.0), (2900.0, 3000.0)]), [true, true]);
        assert_eq!(of(&[(1400.0, 1450.0), (1300.0, 1401.0)]), [false, true]);
        assert_eq!(of(&[(1500.0, 1501.0), (1600.0, 1601.0)]), [true, false]);
    }

    #[test]
    fn with_a_spare_the_median_is_50_ms() {
        let of = |kills| reached(None, Swarm { spare: Some(drill(kills)), ..Swarm::default() });
        assert_eq!(of(&[(0.0, 50.0), (0.0, 20.0), (0.0, 900.0)]), [true]);
        assert_eq!(of(&[(0.0, 51.0)]), [false]);
    }

    #[test]
    fn one_change_in_a_hundred_may_take_longer() {
        let of = |slow: usize| {
            let mut followed_ms = vec![10.0; 100 - slow];
            followed_ms.resize(100, 101.0);
            let agreement = Some(Agreement { followed_ms, ..Agreement::default() });
            reached(None, Swarm { agreement, ..Swarm::default() })
        };
        assert_eq!((of(0), of(1), of(2)), (vec![true], vec![true], vec![false]));
    }

    #[test]
    fn the_lb_that_asks_most_decides() {
        let quiet = |polls| Quiet { seconds: 60.0, calls: [(POLL.to_owned(), polls)].into() };
        let of = |quiet: [Quiet; 2]| reached(None, Swarm { quiet: quiet.into(), ..Swarm::default() });
        assert_eq!(of([quiet(12), quiet(13)]), [true]);
        assert_eq!(of([quiet(12), quiet(14)]), [false]);
    }

    #[test]
    fn different_choices_and_late_failures_are_wrong() {
        let passed = |different, failed_later| {
            let agreement = Agreement { asked: 10, different, ..Agreement::default() };
            let crash = Crash { failed_later, begun_later: 9, up_again_ms: Some(1.0), ..Crash::default() };
            let swarm = Swarm { agreement: Some(agreement), crash: Some(crash), ..Swarm::default() };
            expectations(&swarm).iter().all(|one| one.passed)
        };
        assert!(passed(0, 0) && !passed(1, 0) && !passed(0, 1));
    }
}
