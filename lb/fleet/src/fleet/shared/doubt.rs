//! When an `lb` suspects itself, one sentence per test.

use std::time::Duration;

use proto::control::State;

use super::super::tests::{fleet_up, policy};
use super::{following, proposal, roster, shared, starts};
use crate::{Effect, Epoch, Event, Fleet, Lineup, Names, ReplicaId, Stopping, Time};

fn fail(fleet: &mut Fleet, now: Time, id: u64) -> Vec<Effect> {
    fleet.apply(now, Event::Failed(ReplicaId(id), "timed out".into()));
    fleet.apply(now, Event::Unresponsive(ReplicaId(id)))
}

fn is_replaced(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Stop(_, Stopping::AtOnce)))
}

#[test]
fn an_lb_for_which_more_than_half_of_the_fleet_is_silent_replaces_nothing() {
    let (mut fleet, now) = (following(roster(4, &["spare"]), shared()), Duration::from_secs(60));
    for id in 1..=2 {
        fleet.apply(now, Event::Failed(ReplicaId(id), "timed out".into()));
    }
    assert_eq!(fail(&mut fleet, now, 3), [Effect::Doubt(true)], "three of five are silent");
    assert_eq!(fleet.apply(now, Event::Unresponsive(ReplicaId(1))), [], "it is told once");

    let heard = now + Duration::from_secs(10);
    fleet.apply(heard, Event::Passed(ReplicaId(3)));
    assert!(
        !is_replaced(&fleet.apply(heard, Event::Unresponsive(ReplicaId(1)))),
        "the others may be heard in a moment"
    );
    let later = heard + Duration::from_secs(5);
    let effects = fleet.apply(later, Event::Unresponsive(ReplicaId(1)));
    assert!(is_replaced(&effects) && effects.contains(&Effect::Doubt(false)), "{effects:?}");
}

#[test]
fn half_of_a_fleet_or_a_lone_replica_can_be_silent_without_a_doubt() {
    let (mut fleet, now) = (following(roster(2, &[]), shared()), Duration::from_secs(60));
    assert!(is_replaced(&fail(&mut fleet, now, 1)));
    let mut fleet = following(roster(1, &[]), shared());
    assert!(is_replaced(&fail(&mut fleet, now, 1)));
    let mut alone = fleet_up(3, 0, policy(false));
    assert!((1..=3).all(|id| is_replaced(&fail(&mut alone, now, id))), "there is no other view");
}

#[test]
fn an_lb_that_was_cut_off_before_it_began_replaces_nothing_when_the_time_to_start_is_over() {
    let (mut fleet, _) = Fleet::new(shared(), Names::Random, Lineup::default(), 1);
    fleet.apply(Time::ZERO, Event::Adopted(Epoch(10), roster(3, &[])));
    for id in 1..=3 {
        fleet.apply(Duration::from_millis(id), Event::Started(ReplicaId(id)));
    }
    let mut ticks = Vec::new();
    while let Some(due) = fleet.next_deadline() {
        ticks.extend(fleet.apply(due, Event::Tick));
    }
    assert!(!is_replaced(&ticks) && ticks.contains(&Effect::Doubt(true)), "{ticks:?}");
    assert!(fleet.slots().all(|view| view.state == State::Down), "it says so");
}

#[test]
fn a_spare_waits_while_most_of_the_fleet_is_silent() {
    let mut fleet = following(roster(4, &["spare"]), shared());
    for id in [5, 1, 2, 3] {
        let effects = fleet.apply(Time::ZERO, Event::Failed(ReplicaId(id), "timed out".into()));
        assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Propose(..))).count(), 0);
    }
    let effects = fleet.apply(Time::ZERO, Event::Passed(ReplicaId(5)));
    assert!(
        effects.iter().all(|effect| !matches!(effect, Effect::Propose(..))),
        "three of five: {effects:?}"
    );
    let effects = fleet.apply(Time::ZERO, Event::Lost(ReplicaId(4), "killed".into()));
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::Propose(..))), "{effects:?}");
    assert_eq!(starts(&effects), [(6, "server4")], "the engine has told that it has ended");
    proposal(&fleet.apply(Time::ZERO, Event::Passed(ReplicaId(1))));
}
