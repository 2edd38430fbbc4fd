//! What a revision does, one sentence per test.

use std::time::Duration;

use mapping::MappingName;
use proto::control::{Addition, FailureKind, Hostname, Remapping, Removal, State, Weight};

use super::super::shared::{following, proposal, roster, shared};
use super::super::tests::{decide, fleet_up, host, policy};
use crate::{
    Authority, CommandId, Effect, Epoch, Event, Fleet, Lineup, Names, Policy, ReplicaId, Revision, Time,
};

fn adding(names: &[&str]) -> Option<Addition> {
    let hostnames = names.iter().map(|name| name.parse().unwrap()).collect();
    Some(Addition { n: names.len() as u32, hostnames, weights: Vec::new() })
}

fn removing(names: &[&str]) -> Option<Removal> {
    let hostnames: Vec<Hostname> = names.iter().map(|name| host(name)).collect();
    Some(Removal { n: names.len() as u32, hostnames, drain: None })
}

fn weight(weight: u64) -> Weight {
    Weight::try_from(weight).unwrap()
}

fn remap(mapping: &str, weights: &[(&str, u64)]) -> Remapping {
    let mut remapping = Remapping::default();
    remapping.set("mapping", mapping.to_owned()).unwrap();
    remapping.weights = weights.iter().map(|&(name, of)| (host(name), weight(of))).collect();
    remapping
}

fn revise(fleet: &mut Fleet, command: u64, change: Revision) -> Vec<Effect> {
    decide(fleet, Event::Revise(CommandId(command), change))
}

fn passed(fleet: &mut Fleet, id: u64) -> Vec<Effect> {
    fleet.apply(Time::ZERO, Event::Started(ReplicaId(id)));
    fleet.apply(Time::ZERO, Event::Passed(ReplicaId(id)))
}

/// The refusal of a command among the effects.
#[track_caller]
fn refusal(effects: &[Effect]) -> (FailureKind, String) {
    match effects.last() {
        Some(Effect::Answer(_, Err(failure))) => (failure.kind, failure.to_string()),
        _ => panic!("it is not refused: {effects:?}"),
    }
}

fn names(fleet: &Fleet) -> Vec<String> {
    fleet.slots().map(|view| view.slot.unwrap().name.to_string()).collect()
}

fn everything() -> Revision {
    Revision {
        add: adding(&["a", "b"]),
        remove: removing(&["server2"]),
        remap: remap("ring", &[("server1", 3)]),
        ..Revision::default()
    }
}

/// The fixed addresses a, b and c, in rotation.
fn fixed() -> Fleet {
    let authority = Authority::Alone { same_name: true, restartable: false, keep: false };
    let all = ["a=h:1", "b=h:2", "c=h:3"].map(|server| server.parse().unwrap()).to_vec();
    let lineup = Lineup::fixed(&all);
    let (mut fleet, _) = Fleet::new(Policy { authority, ..policy(true) }, Names::Fixed(all), lineup, 1);
    (1..=3).for_each(|id| drop(passed(&mut fleet, id)));
    fleet
}

#[test]
fn slots_weights_and_mapping_change_in_one_step_when_all_new_replicas_are_ready() {
    let mut fleet = fleet_up(3, 0, policy(false));
    let (before, preview) = (fleet.roster(), fleet.preview_revision(&everything()).unwrap());
    let effects = revise(&mut fleet, 1, everything());
    let starts = effects.iter().filter(|effect| matches!(effect, Effect::Start(..))).count();
    assert_eq!(starts, 2, "{effects:?}");
    assert_eq!(passed(&mut fleet, 4), []);
    assert_eq!((&fleet.roster().seats, fleet.mapping()), (&before.seats, &before.mapping));

    let effects = passed(&mut fleet, 5);
    assert_eq!(effects.first(), Some(&Effect::Publish));
    assert!(effects.contains(&Effect::Drain(ReplicaId(2), Duration::from_secs(30))), "{effects:?}");
    assert_eq!(effects.last(), Some(&Effect::Answer(CommandId(1), Ok(()))));
    assert_eq!(effects.iter().filter(|effect| **effect == Effect::Publish).count(), 1);
    let members: Vec<_> = fleet.slots().filter_map(|view| view.member()).collect();
    assert_eq!((names(&fleet).join(" "), members[0].weight), ("server1 server3 a b".into(), 3));
    assert_eq!((members, fleet.mapping()), (preview.members, &preview.policy));
}

#[test]
fn nothing_of_it_is_done_if_one_new_replica_cannot_start() {
    let mut fleet = fleet_up(3, 0, policy(false));
    let before = fleet.roster();
    revise(&mut fleet, 1, everything());
    passed(&mut fleet, 4);
    let effects = fleet.apply(Time::ZERO, Event::Lost(ReplicaId(5), "port taken".into()));
    assert_eq!(refusal(&effects), (FailureKind::StartFailed, "<Error> port taken".into()));
    assert_eq!((fleet.roster(), fleet.in_passing().count()), (before, 0));
}

#[test]
fn nothing_of_it_is_done_if_it_is_given_up_before_all_new_replicas_are_ready() {
    let mut fleet = fleet_up(3, 0, policy(false));
    let before = fleet.roster();
    let gives_up = |fleet: &mut Fleet| {
        let effects = fleet.apply(Time::ZERO, Event::Cancel(CommandId(1)));
        let (kind, message) = refusal(&effects);
        assert!(kind == FailureKind::Unavailable && message.contains("given way"), "{message}");
        assert_eq!((fleet.roster().seats, fleet.in_passing().count()), (before.seats.clone(), 0));
        assert_eq!(fleet.apply(Time::ZERO, Event::Cancel(CommandId(1))), [], "it is answered once");
        effects
    };
    revise(&mut fleet, 1, everything());
    passed(&mut fleet, 4);
    let stops = gives_up(&mut fleet).into_iter().filter(|effect| matches!(effect, Effect::Stop(..)));
    assert_eq!(stops.count(), 2);
    // Its room is being checked.
    let checks = fleet.apply(Time::ZERO, Event::Revise(CommandId(1), everything()));
    assert!(matches!(checks[..], [Effect::Check(..)]), "{checks:?}");
    gives_up(&mut fleet);
    // One that is done stays done.
    revise(&mut fleet, 1, Revision { add: None, ..everything() });
    assert_eq!(fleet.apply(Time::ZERO, Event::Cancel(CommandId(1))), []);
    assert_eq!(names(&fleet).join(" "), "server1 server3");
}

#[test]
fn it_is_done_at_once_if_it_starts_nothing() {
    let mut fleet = fleet_up(3, 0, policy(false));
    let effects = revise(&mut fleet, 1, Revision { add: None, ..everything() });
    assert_eq!(effects.first(), Some(&Effect::Publish));
    assert_eq!(effects.last(), Some(&Effect::Answer(CommandId(1), Ok(()))));
    assert_eq!(
        (names(&fleet).join(" "), fleet.mapping().scheme.algorithm.name()),
        ("server1 server3".into(), MappingName::Ring)
    );
}

#[test]
fn only_the_slots_in_the_end_need_room() {
    let mut fleet = fleet_up(12, 0, policy(false));
    let swap = Revision { add: adding(&["a"]), remove: removing(&["server2"]), ..Revision::default() };
    revise(&mut fleet, 1, swap);
    assert_eq!(passed(&mut fleet, 13).last(), Some(&Effect::Answer(CommandId(1), Ok(()))));
    assert_eq!(fleet.slots().count(), 12);
    let more = Revision { add: adding(&["b", "c"]), remove: removing(&["a"]), ..Revision::default() };
    let (kind, message) = refusal(&revise(&mut fleet, 2, more));
    assert_eq!(
        (kind, message.as_str()),
        (FailureKind::BadRequest, "<Error> the fleet would have 13 slots, and can have 12")
    );
}

#[test]
fn room_is_looked_for_again_if_another_command_has_come_in_between() {
    let mut fleet = fleet_up(11, 0, policy(false));
    let swap = Revision { add: adding(&["a"]), remove: removing(&["server2"]), ..Revision::default() };
    revise(&mut fleet, 1, swap);
    let add = |names| Event::Add(CommandId(2), adding(names).unwrap());
    assert!(decide(&mut fleet, add(&["b"])).iter().any(|effect| matches!(effect, Effect::Start(..))));
    let checks = passed(&mut fleet, 12);
    let [Effect::Check(command, demand)] = &checks[..] else { panic!("{checks:?}") };
    let effects = fleet.apply(Time::ZERO, Event::Checked(*command, demand.clone().check()));
    assert_eq!(effects.last(), Some(&Effect::Answer(CommandId(1), Ok(()))));
}

#[test]
fn a_slot_that_another_command_has_taken_meanwhile_refuses_all_of_it() {
    for gone in ["server1", "server2"] {
        let mut fleet = fleet_up(3, 0, policy(false));
        revise(&mut fleet, 1, everything());
        fleet.apply(Time::ZERO, Event::Remove(CommandId(2), removing(&[gone]).unwrap()));
        passed(&mut fleet, 4);
        let (kind, message) = refusal(&passed(&mut fleet, 5));
        assert_eq!(kind, FailureKind::Unavailable);
        assert!(message.contains(&format!("slot {gone} has left meanwhile")), "{message}");
        assert_eq!(
            (fleet.slots().count(), fleet.in_passing().filter(|view| view.state == State::Starting).count()),
            (2, 0)
        );
    }
}

#[test]
fn a_slot_gets_another_replica_that_takes_over_when_it_is_ready() {
    let mut fleet = fixed();
    let before = fleet.roster();
    let change = Revision { replace: vec![host("b").into()], ..Revision::default() };
    let effects = revise(&mut fleet, 1, change.clone());
    assert!(
        matches!(&effects[..], [Effect::Start(ReplicaId(4), new)] if new.hostname == host("b")),
        "{effects:?}"
    );
    let again = refusal(&revise(&mut fleet, 2, change)).1;
    assert!(again.contains("hostname b is to be removed or replaced already"), "{again}");

    let effects = passed(&mut fleet, 4);
    assert!(effects.contains(&Effect::Drain(ReplicaId(2), Duration::from_secs(30))), "{effects:?}");
    assert_eq!(effects.last(), Some(&Effect::Answer(CommandId(1), Ok(()))));
    let replicas: Vec<u64> = fleet.slots().map(|view| view.replica.unwrap().0).collect();
    assert_eq!((replicas, fleet.roster()), (vec![1, 4, 3], before));
    assert!(fleet.slots().all(|view| view.state == State::Up && view.restarts == 0));
}

#[test]
fn fixed_addresses_come_and_go_with_the_slots() {
    let mut fleet = fixed();
    let known = |names: &[&str]| {
        let server = |name: &&str| format!("{name}=h:1,weight=2").parse().unwrap();
        Some(names.iter().map(server).collect())
    };
    let change = |names| Revision { backends: known(names), ..Revision::default() };
    let change = Revision { add: adding(&["d"]), remove: removing(&["c"]), ..change(&["a", "b", "d"]) };
    revise(&mut fleet, 2, change);
    passed(&mut fleet, 4);
    let weights: Vec<_> = fleet.slots().map(|view| view.weight.get()).collect();
    assert_eq!((names(&fleet).join(" "), weights), ("a b d".into(), vec![1, 1, 2]));
    let effects = fleet.apply(Time::ZERO, Event::Add(CommandId(3), adding(&["c"]).unwrap()));
    assert!(refusal(&effects).1.contains("none of the backends"), "{effects:?}");
}

#[test]
fn where_slots_come_from_outside_only_the_mapping_changes() {
    let rules = Policy { authority: Authority::Outside, ..policy(true) };
    let (mut fleet, _) = Fleet::new(rules, Names::Random, Lineup::default(), 1);
    fleet.apply(Time::ZERO, Event::Adopted(Epoch(1), roster(2, &[])));
    for change in [
        Revision { add: adding(&["a"]), ..Revision::default() },
        Revision { remove: removing(&["server1"]), ..Revision::default() },
        Revision { replace: vec![host("server1").into()], ..Revision::default() },
    ] {
        let refused = refusal(&revise(&mut fleet, 1, change)).1;
        assert!(refused.contains("the replicas come from a name server"), "{refused}");
    }
    let change = Revision { remap: remap("maglev", &[("server1", 5)]), ..Revision::default() };
    let effects = revise(&mut fleet, 2, change);
    assert_eq!(effects, [Effect::Publish, Effect::Answer(CommandId(2), Ok(()))]);
}

#[test]
fn several_lbs_agree_on_all_of_it_at_once() {
    let mut fleet = following(roster(3, &[]), shared());
    let announced = proposal(&revise(&mut fleet, 1, everything())).1;
    assert_eq!((announced.seats.len(), announced.coming.len(), &announced.mapping), (3, 2, fleet.mapping()));
    fleet.apply(Time::ZERO, Event::Proposed(Ok(Epoch(11))));
    passed(&mut fleet, 4);
    let checks = passed(&mut fleet, 5);
    let [Effect::Check(command, demand)] = &checks[..] else { panic!("{checks:?}") };
    let effects = fleet.apply(Time::ZERO, Event::Checked(*command, demand.clone().check()));
    let (epoch, entered) = proposal(&effects);
    assert_eq!((epoch, entered.seats.len(), entered.leaving.len()), (Epoch(11), 4, 1));
    assert_eq!(fleet.slots().count(), 3, "not before the others agree");
    let effects = fleet.apply(Time::ZERO, Event::Proposed(Ok(Epoch(12))));
    assert_eq!(effects.first(), Some(&Effect::Publish));
    assert_eq!(effects.last(), Some(&Effect::Answer(CommandId(1), Ok(()))));
    assert_eq!((fleet.roster(), names(&fleet).join(" ")), (entered, "server1 server3 a b".into()));
    let replace = Revision { replace: vec![host("a").into()], ..Revision::default() };
    assert!(refusal(&revise(&mut fleet, 2, replace)).1.contains("several lb share the fleet"));
}
