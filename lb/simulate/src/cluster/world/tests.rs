//! Clusters that are wrong on purpose: the figures and the check at the end find that.

use std::time::Duration;

use mapping::{Algorithm, MappingName};

use super::*;
use crate::cluster::roster;

const SETTLE: Time = Duration::from_secs(180);

fn seconds(seconds: u64) -> Time {
    Duration::from_secs(seconds)
}

fn without_the_first_seat(roster: &Roster) -> Roster {
    let mut roster = roster.clone();
    roster.seats.remove(0);
    roster
}

fn play(world: World, course: Course) -> Figures {
    world.play(course, SETTLE).unwrap()
}

#[track_caller]
fn assert_told(figures: &Figures, problem: &str) {
    assert!(figures.problems.iter().any(|told| told == problem), "{problem}: {:?}", figures.problems);
}

/// An engine that tells two balancers different rosters of one epoch.
#[test]
fn an_engine_that_says_two_things_of_one_epoch_is_found_out() {
    let roster = roster(10, 100).unwrap();
    let mut world = World::new(roster.clone(), 2, 1).unwrap();
    world.tell(0, Event::Adopted(Epoch(2), without_the_first_seat(&roster))).unwrap();
    world.tell(1, Event::Adopted(Epoch(2), roster)).unwrap();
    let figures = play(world, Vec::new());
    assert!(figures.agreement.keys_at_one_epoch > 0);
    assert_told(&figures, "balancers of one epoch disagree");
}

/// An engine that lets a write pass that names an old epoch: what was agreed on in between is lost.
#[test]
fn an_engine_that_loses_an_epoch_is_found_out() {
    let roster = roster(10, 100).unwrap();
    let mut world = World::new(roster.clone(), 2, 1).unwrap();
    world.tell(0, Event::Adopted(Epoch(3), without_the_first_seat(&roster))).unwrap();
    let figures = play(world, Vec::new());
    assert!(!figures.agreement.differing.is_empty());
    for problem in ["the balancers do not all follow the last epoch", "a fleet is not as the record"] {
        assert_told(&figures, problem);
    }
}

/// A fleet that builds its mapping with other parameters after a death, though no command said so.
#[test]
fn a_fleet_that_moves_keys_of_replicas_that_serve_is_found_out() {
    let ten = roster(10, 100).unwrap();
    let mut world = World::new(ten.clone(), 1, 1).unwrap();
    let other = Roster { mapping: roster(10, 99).unwrap().mapping, ..ten };
    world.tell(0, Event::Adopted(Epoch(2), other)).unwrap();
    let figures = play(world, Vec::new());
    assert!(figures.needless > 0, "{} moved", figures.moved);
    assert_told(&figures, "keys have moved needlessly");
}

/// Slots are known to move more than they have to when one leaves: the commands of a scenario show that.
#[test]
fn a_mapping_that_moves_more_than_it_has_to_is_found_out_in_a_scenario() {
    let played = |algorithm: Algorithm| {
        let mut roster = roster(10, 100).unwrap();
        roster.mapping.scheme = algorithm.into();
        let course = vec![(seconds(1), Happening::Command(0, Kind::Remove))];
        play(World::new(roster, 2, 1).unwrap(), course)
    };
    let ring = played(Algorithm::Ring { points: 100 });
    assert!(ring.moved > 0 && ring.needless == 0 && ring.problems.is_empty(), "{:?}", ring.problems);
    let slots = played(Algorithm::named(MappingName::Slots));
    assert!(slots.needless > 0, "{} moved", slots.moved);
    assert_told(&slots, "keys have moved needlessly");
}

/// A balancer that never reaches the engine again.
#[test]
fn a_balancer_that_stays_behind_is_found_out() {
    let course =
        vec![(seconds(1), Happening::CutOff(vec![1])), (seconds(2), Happening::Command(0, Kind::Remove))];
    let figures = play(World::new(roster(10, 100).unwrap(), 2, 1).unwrap(), course);
    assert!(figures.agreement.differing.last().is_some_and(|(_, keys)| *keys > 0));
    assert_told(&figures, "the balancers do not all follow the last epoch");
}

/// An engine that does not restart what dies.
#[test]
fn a_replica_that_does_not_come_back_is_found_out() {
    let mut world = World::new(roster(5, 100).unwrap(), 2, 1).unwrap();
    let victim = world.engine.services().next().map(|(hostname, _)| hostname.clone()).unwrap();
    world.die(&victim, Death::Killed);
    let figures = play(world, Vec::new());
    assert!(figures.deaths == 1 && figures.back.is_empty() && !figures.seen.is_empty());
    assert_told(&figures, "a task does not run");
    assert_told(&figures, "a slot is not up everywhere");
}
