//! What a fleet does that shares its roster with other `lb`s, one sentence per test.

mod doubt;
mod rest;
mod rule;
mod swarm;
mod sweep;
mod text;

use std::time::Duration;

use proto::control::{Addition, FailureKind, Removal, State};

use super::tests::{host, lineup, policy};
use crate::{
    Authority, CommandId, Effect, Epoch, Event, Fleet, Leaving, Lineup, Names, Policy, Rejection, ReplicaId,
    Roster, Stopping, Time,
};

pub(super) fn shared() -> Policy {
    Policy { authority: Authority::Shared, ..policy(true) }
}

/// The roster of `n` slots with the usual weight, and of these spares.
pub(super) fn roster(n: u32, spares: &[&str]) -> Roster {
    let slots = (1..=n).map(|index| host(&format!("server{index}")));
    Roster {
        mapping: shared().mapping,
        seats: lineup(slots, 0).seats,
        spares: spares.iter().map(|name| host(name)).collect(),
        coming: Vec::new(),
        leaving: Vec::new(),
    }
}

/// A fleet that follows `roster` as epoch 10, everything ready. Its replicas have the numbers 1, 2, 3, ..., spares last.
pub(super) fn following(roster: Roster, policy: Policy) -> Fleet {
    let replicas = roster.hostnames().count() as u64;
    let (mut fleet, effects) = Fleet::new(policy, Names::Random, Lineup::default(), 1);
    assert_eq!(effects, [Effect::Publish]);
    fleet.apply(Time::ZERO, Event::Adopted(Epoch(10), roster));
    (1..=replicas).for_each(|id| drop(get_ready(&mut fleet, id)));
    fleet
}

fn get_ready(fleet: &mut Fleet, id: u64) -> Vec<Effect> {
    fleet.apply(Time::ZERO, Event::Started(ReplicaId(id)));
    fleet.apply(Time::ZERO, Event::Passed(ReplicaId(id)))
}

fn add(command: u64, names: &[&str]) -> Event {
    let hostnames = names.iter().map(|name| host(name).into()).collect();
    let n = u32::try_from(names.len()).unwrap();
    Event::Add(CommandId(command), Addition { n, hostnames, weights: Vec::new() })
}

fn remove(command: u64, name: &str) -> Event {
    Event::Remove(CommandId(command), Removal { n: 1, hostnames: vec![host(name)], drain: None })
}

/// Applies an event, and has the room checked if that is asked for.
fn apply(fleet: &mut Fleet, event: Event) -> Vec<Effect> {
    let effects = fleet.apply(Time::ZERO, event);
    let [Effect::Check(command, demand)] = &effects[..] else { return effects };
    fleet.apply(Time::ZERO, Event::Checked(*command, demand.clone().check()))
}

/// The proposal among the effects.
#[track_caller]
pub(super) fn proposal(effects: &[Effect]) -> (Epoch, Roster) {
    let proposed = effects.iter().find_map(|effect| match effect {
        Effect::Propose(epoch, roster) => Some((*epoch, roster.clone())),
        _ => None,
    });
    proposed.unwrap_or_else(|| panic!("nothing is proposed: {effects:?}"))
}

fn answer(effects: &[Effect], command: u64) -> Option<Result<(), FailureKind>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Answer(answered, result) if *answered == CommandId(command) => {
            Some(result.clone().map_err(|failure| failure.kind))
        }
        _ => None,
    })
}

fn starts(effects: &[Effect]) -> Vec<(u64, &str)> {
    let start = |effect| match effect {
        &Effect::Start(ReplicaId(id), ref assignment) => Some((id, assignment.hostname.as_str())),
        _ => None,
    };
    effects.iter().filter_map(start).collect()
}

fn hostnames(fleet: &Fleet) -> Vec<String> {
    fleet.slots().map(|view| view.hostname.to_string()).collect()
}

fn agreed(epoch: u64) -> Event {
    Event::Proposed(Ok(Epoch(epoch)))
}

#[test]
fn a_removal_is_proposed_and_made_when_it_is_agreed_on() {
    let mut fleet = following(roster(2, &[]), shared());
    let effects = fleet.apply(Time::ZERO, remove(1, "server2"));
    let [Effect::Propose(Epoch(10), wanted)] = &effects[..] else { panic!("{effects:?}") };
    let until = shared().born + shared().drain_timeout;
    assert_eq!(wanted.leaving, [Leaving { hostname: host("server2"), until }]);
    assert_eq!((wanted.seats.len(), fleet.slots().count()), (1, 2), "nothing has changed yet");

    let effects = fleet.apply(Time::ZERO, agreed(11));
    assert_eq!(effects.first(), Some(&Effect::Publish));
    assert!(effects.contains(&Effect::Drain(ReplicaId(2), shared().drain_timeout)), "{effects:?}");
    assert_eq!(effects.last(), Some(&Effect::Answer(CommandId(1), Ok(()))));
    assert_eq!((hostnames(&fleet), fleet.epoch()), (vec!["server1".to_owned()], Some(Epoch(11))));
}

#[test]
fn a_replica_that_has_left_is_only_let_go_and_removed_when_its_time_is_over_for_all() {
    let mut fleet = following(roster(2, &[]), shared());
    fleet.apply(Time::ZERO, remove(1, "server2"));
    fleet.apply(Time::ZERO, agreed(11));
    let effects = fleet.apply(Time::ZERO, Event::Drained(ReplicaId(2)));
    assert_eq!(effects, [Effect::Stop(ReplicaId(2), Stopping::Release)]);

    let over = shared().drain_timeout;
    assert_eq!(fleet.next_deadline(), Some(over));
    assert_eq!(fleet.apply(over, Event::Tick), [Effect::Remove(Epoch(11), host("server2"))]);
    assert_eq!(fleet.next_deadline(), None, "it is asked for once");
    let effects = fleet.apply(over, Event::Removed(host("server2")));
    let (epoch, wanted) = proposal(&effects);
    assert_eq!((epoch, wanted), (Epoch(11), roster(1, &[])));
}

#[test]
fn a_name_is_taken_until_nothing_is_left_of_its_replica() {
    let mut fleet = following(roster(2, &[]), shared());
    fleet.apply(Time::ZERO, remove(1, "server2"));
    fleet.apply(Time::ZERO, agreed(11));
    let effects = apply(&mut fleet, add(2, &["server2"]));
    assert_eq!(answer(&effects, 2), Some(Err(FailureKind::BadRequest)));

    fleet.apply(shared().drain_timeout, Event::Tick);
    fleet.apply(shared().drain_timeout, Event::Removed(host("server2")));
    fleet.apply(Time::ZERO, agreed(12));
    proposal(&apply(&mut fleet, add(3, &["server2"])));
}

#[test]
fn an_add_is_announced_before_its_replicas_are_started_and_enters_when_they_are_ready() {
    let mut fleet = following(roster(1, &[]), shared());
    let announced = proposal(&apply(&mut fleet, add(1, &["a", "b"]))).1;
    assert_eq!((announced.seats.len(), announced.coming.len()), (1, 2));
    let effects = fleet.apply(Time::ZERO, agreed(11));
    assert_eq!(starts(&effects), [(2, "a"), (3, "b")]);

    assert_eq!(get_ready(&mut fleet, 2), []);
    let (epoch, entered) = proposal(&get_ready(&mut fleet, 3));
    assert_eq!((epoch, entered.seats.len(), entered.coming.len()), (Epoch(11), 3, 0));
    assert_eq!(fleet.slots().count(), 1, "not before the others agree");
    let effects = fleet.apply(Time::ZERO, agreed(12));
    assert_eq!((effects.first(), answer(&effects, 1)), (Some(&Effect::Publish), Some(Ok(()))));
    assert!(
        fleet.slots().all(|view| view.state == State::Up),
        "the replicas that were probed are those of the slots"
    );
    assert_eq!(
        (hostnames(&fleet), fleet.roster()),
        (["server1", "a", "b"].map(str::to_owned).to_vec(), entered)
    );
}

#[test]
fn an_add_whose_replicas_cannot_start_is_withdrawn_and_its_names_are_given_up() {
    let mut fleet = following(roster(1, &[]), shared());
    apply(&mut fleet, add(1, &["a", "b"]));
    fleet.apply(Time::ZERO, agreed(11));
    get_ready(&mut fleet, 2);
    let effects = fleet.apply(Time::ZERO, Event::Lost(ReplicaId(3), "no such image".into()));
    assert!(effects.contains(&Effect::Stop(ReplicaId(2), Stopping::Release)), "{effects:?}");
    assert_eq!(answer(&effects, 1), Some(Err(FailureKind::StartFailed)));
    let withdrawn = proposal(&effects).1;
    let now = shared().born;
    let gone = |name| Leaving { hostname: host(name), until: now };
    assert_eq!((withdrawn.coming.len(), withdrawn.leaving), (0, vec![gone("a"), gone("b")]));
    let effects = fleet.apply(Time::ZERO, agreed(12));
    assert_eq!(effects, ["a", "b"].map(|name| Effect::Remove(Epoch(12), host(name))));
}

#[test]
fn an_add_that_another_lb_has_left_behind_is_given_up_by_the_lb_that_notices() {
    let mut other = following(roster(1, &[]), shared());
    let announced = proposal(&apply(&mut other, add(1, &["a"]))).1;
    let mut fleet = following(roster(1, &[]), shared());
    fleet.apply(Time::ZERO, Event::Adopted(Epoch(11), announced));
    let due = fleet.next_deadline().expect("it is not waited for without end");
    let withdrawn = proposal(&fleet.apply(due, Event::Tick)).1;
    assert_eq!((withdrawn.coming.len(), withdrawn.leaving[0].hostname.as_str()), (0, "a"));
    assert_eq!(fleet.next_deadline(), None, "the proposal is waited for");
}

#[test]
fn an_add_that_others_have_given_up_does_not_enter_although_its_names_are_announced_again() {
    let mut fleet = following(roster(1, &[]), shared());
    let mut announced = proposal(&apply(&mut fleet, add(1, &["a"]))).1;
    fleet.apply(Time::ZERO, agreed(11));
    announced.coming[0].until += Duration::from_secs(1);
    fleet.apply(Time::ZERO, Event::Adopted(Epoch(20), announced));
    let effects = get_ready(&mut fleet, 2);
    assert_eq!(answer(&effects, 1), Some(Err(FailureKind::StartFailed)));
    assert!(
        effects.iter().all(|effect| !matches!(effect, Effect::Propose(..))),
        "it is the others': {effects:?}"
    );
}

#[test]
fn a_stale_command_is_planned_again_from_the_roster_that_others_have_made() {
    let mut fleet = following(roster(3, &[]), shared());
    fleet.apply(Time::ZERO, remove(1, "server2"));
    let effects = fleet.apply(Time::ZERO, Event::Adopted(Epoch(11), roster(2, &[])));
    assert!(effects.contains(&Effect::Drain(ReplicaId(3), shared().drain_timeout)), "{effects:?}");
    let (epoch, wanted) = proposal(&fleet.apply(Time::ZERO, Event::Proposed(Err(Rejection::Stale))));
    assert_eq!((epoch, wanted.seats.len(), wanted.leaving.len()), (Epoch(11), 1, 1));
    assert_eq!(answer(&fleet.apply(Time::ZERO, agreed(12)), 1), Some(Ok(())));
}

#[test]
fn a_stale_command_is_refused_if_it_is_wrong_by_now() {
    let mut fleet = following(roster(2, &[]), shared());
    fleet.apply(Time::ZERO, remove(1, "server2"));
    fleet.apply(Time::ZERO, Event::Adopted(Epoch(11), roster(1, &[])));
    let effects = fleet.apply(Time::ZERO, Event::Proposed(Err(Rejection::Stale)));
    assert_eq!(answer(&effects, 1), Some(Err(FailureKind::BadRequest)));
}

#[test]
fn a_command_that_always_comes_too_late_is_refused_in_the_end() {
    let mut fleet = following(roster(2, &[]), shared());
    fleet.apply(Time::ZERO, remove(1, "server2"));
    let mut now = Time::ZERO;
    let refused = (11..100).find_map(|epoch| {
        now += Duration::from_millis(100);
        let mapping = mapping::MappingPolicy {
            balance: mapping::BalanceFactor::parse_or_off("1.5").unwrap(),
            ..shared().mapping
        };
        let other = if epoch % 2 == 0 { roster(2, &[]) } else { Roster { mapping, ..roster(2, &[]) } };
        fleet.apply(now, Event::Adopted(Epoch(epoch), other));
        answer(&fleet.apply(now, Event::Proposed(Err(Rejection::Stale))), 1)
    });
    assert_eq!((refused, now), (Some(Err(FailureKind::Unavailable)), Duration::from_secs(5)));
}

#[test]
fn a_roster_that_cannot_be_written_fails_the_commands_that_wait_for_it_and_changes_nothing() {
    let mut fleet = following(roster(3, &[]), shared());
    let before = fleet.roster();
    fleet.apply(Time::ZERO, remove(1, "server2"));
    assert_eq!(fleet.apply(Time::ZERO, remove(2, "server3")), [], "one proposal at a time");
    let effects = fleet.apply(Time::ZERO, Event::Proposed(Err(Rejection::Failed("no quorum".into()))));
    let failed = Some(Err(FailureKind::StartFailed));
    assert_eq!((answer(&effects, 1), answer(&effects, 2), effects.len()), (failed, failed, 2));
    assert_eq!(fleet.roster(), before);
}

#[test]
fn a_proposal_that_was_written_although_it_failed_counts_as_agreed() {
    let mut fleet = following(roster(2, &[]), shared());
    let wanted = proposal(&fleet.apply(Time::ZERO, remove(1, "server2"))).1;
    fleet.apply(Time::ZERO, Event::Adopted(Epoch(11), wanted));
    let effects = fleet.apply(Time::ZERO, Event::Proposed(Err(Rejection::Failed("timed out".into()))));
    assert_eq!(answer(&effects, 1), Some(Ok(())));
}

#[test]
fn only_a_bounded_number_of_commands_waits() {
    let mut fleet = following(roster(2, &[]), shared());
    let refused = (1..1000).find_map(|command| {
        let effects = fleet.apply(Time::ZERO, remove(command, "server2"));
        answer(&effects, command)
    });
    assert_eq!(refused, Some(Err(FailureKind::Unavailable)));
}

#[test]
fn what_others_have_agreed_on_is_followed_in_one_snapshot() {
    let mut fleet = following(roster(3, &[]), shared());
    let mut other = roster(4, &[]);
    other.seats.remove(0);
    other.seats[0].weight = 5.try_into().unwrap();
    let until = shared().born + Duration::from_secs(7);
    other.leaving = vec![Leaving { hostname: host("server1"), until }];
    let effects = fleet.apply(Duration::from_secs(5), Event::Adopted(Epoch(11), other.clone()));
    assert_eq!(effects.iter().filter(|effect| **effect == Effect::Publish).count(), 1);
    assert!(effects.contains(&Effect::Drain(ReplicaId(1), Duration::from_secs(2))), "{effects:?}");
    assert_eq!(starts(&effects), [(4, "server4")]);
    let states: Vec<State> = fleet.slots().map(|view| view.state).collect();
    assert_eq!((states, fleet.roster()), (vec![State::Up, State::Up, State::Starting], other));
}

#[test]
fn an_older_roster_is_not_followed() {
    let mut fleet = following(roster(3, &[]), shared());
    assert_eq!(fleet.apply(Time::ZERO, Event::Adopted(Epoch(9), roster(1, &[]))), []);
    assert_eq!(fleet.apply(Time::ZERO, Event::Adopted(Epoch(10), roster(1, &[]))), []);
    // The answer to a proposal may come after the roster that replaced it.
    fleet.apply(Time::ZERO, remove(1, "server3"));
    fleet.apply(Time::ZERO, Event::Adopted(Epoch(12), roster(1, &[])));
    let effects = fleet.apply(Time::ZERO, agreed(11));
    assert_eq!((effects, fleet.slots().count()), (vec![Effect::Answer(CommandId(1), Ok(()))], 1));
}

#[test]
fn a_lost_replica_is_waited_for_at_once_and_a_ready_spare_is_proposed_for_its_slot() {
    let mut fleet = following(roster(2, &["spare"]), shared());
    let effects = fleet.apply(Time::ZERO, Event::Lost(ReplicaId(1), "killed".into()));
    assert_eq!(starts(&effects), [(4, "server1")], "it comes back under its name");
    let wanted = proposal(&effects).1;
    assert_eq!((wanted.seats[0].hostname.as_str(), wanted.spares), ("spare", [host("server1")].into()));

    let effects = fleet.apply(Time::ZERO, agreed(11));
    let slot = fleet.slots().next().unwrap();
    assert_eq!((slot.state, slot.replica, slot.restarts), (State::Up, Some(ReplicaId(3)), 2));
    let spare = fleet.spares().next().unwrap();
    assert_eq!(
        (spare.state, spare.replica, spare.hostname.as_str()),
        (State::Starting, Some(ReplicaId(4)), "server1")
    );
    assert_eq!(starts(&effects), [], "nothing is created");
}

#[test]
fn a_slot_whose_replica_fails_gets_a_ready_spare_before_the_engine_tells_its_end() {
    let mut fleet = following(roster(2, &["spare"]), shared());
    let effects = fleet.apply(Time::ZERO, Event::Failed(ReplicaId(1), "refused".into()));
    assert_eq!(starts(&effects), [], "it may come back");
    let wanted = proposal(&effects).1;
    assert_eq!((wanted.seats[0].hostname.as_str(), wanted.spares), ("spare", [host("server1")].into()));

    fleet.apply(Time::ZERO, agreed(11));
    let slot = fleet.slots().next().unwrap();
    assert_eq!((slot.state, slot.replica, slot.reason), (State::Up, Some(ReplicaId(3)), None));
    let spare = fleet.spares().next().unwrap();
    assert_eq!((spare.state, spare.replica), (State::Down, Some(ReplicaId(1))));
    let effects = fleet.apply(Time::ZERO, Event::Failed(ReplicaId(3), "refused".into()));
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::Propose(..))), "no spare is ready");
    let effects = fleet.apply(Time::ZERO, Event::Lost(ReplicaId(1), "killed".into()));
    assert_eq!(starts(&effects), [(4, "server1")]);
    assert_eq!(
        proposal(&get_ready(&mut fleet, 4)).1,
        roster(2, &["spare"]),
        "it moves into the slot that fails"
    );
}

#[test]
fn a_spare_that_another_lb_has_moved_in_brings_its_replica_along() {
    let mut fleet = following(roster(2, &["spare"]), shared());
    let mut other = roster(2, &["server1"]);
    other.seats[0].hostname = host("spare");
    let effects = fleet.apply(Time::ZERO, Event::Adopted(Epoch(11), other));
    assert_eq!(starts(&effects), [], "both are known");
    assert_eq!(fleet.slots().next().unwrap().replica, Some(ReplicaId(3)));
    assert_eq!(fleet.spares().next().unwrap().replica, Some(ReplicaId(1)));
}

#[test]
fn a_spare_is_proposed_again_only_after_a_pause_if_the_roster_cannot_be_written() {
    let mut fleet = following(roster(2, &["spare"]), shared());
    fleet.apply(Time::ZERO, Event::Lost(ReplicaId(1), "killed".into()));
    assert_eq!(fleet.apply(Time::ZERO, Event::Proposed(Err(Rejection::Failed("no quorum".into())))), []);
    let due = fleet.next_deadline().expect("it is tried again");
    assert!(due > Time::ZERO, "not at once");
    proposal(&fleet.apply(due, Event::Tick));
}

#[test]
fn a_replica_that_comes_back_by_itself_is_waited_for_without_a_pause_however_often_it_is_lost() {
    let mut fleet = following(roster(1, &[]), shared());
    for id in 1..100 {
        let effects = fleet.apply(Time::ZERO, Event::Lost(ReplicaId(id), "crashed".into()));
        assert_eq!(starts(&effects), [(id + 1, "server1")]);
    }
    let effects = fleet.apply(Time::ZERO, Event::Hindered(ReplicaId(100), "no API".into()));
    assert_eq!(starts(&effects), [], "what the provider cannot attempt is tried after a pause");
    assert!(fleet.next_deadline().is_some());
}

#[test]
fn a_newcomer_lost_while_it_is_being_agreed_on_breaks_the_add_only_if_it_is_not() {
    let entering = || {
        let mut fleet = following(roster(1, &[]), shared());
        apply(&mut fleet, add(1, &["a"]));
        fleet.apply(Time::ZERO, agreed(11));
        let entered = proposal(&get_ready(&mut fleet, 2)).1;
        let effects = fleet.apply(Time::ZERO, Event::Lost(ReplicaId(2), "killed".into()));
        assert_eq!((starts(&effects), answer(&effects, 1)), (vec![(3, "a")], None));
        (fleet, entered)
    };
    let (mut fleet, entered) = entering();
    assert_eq!(answer(&fleet.apply(Time::ZERO, agreed(12)), 1), Some(Ok(())));
    assert_eq!(fleet.roster(), entered);

    let (mut fleet, _) = entering();
    let effects = fleet.apply(Time::ZERO, Event::Proposed(Err(Rejection::Stale)));
    assert_eq!(answer(&effects, 1), Some(Err(FailureKind::StartFailed)));
    assert!(effects.contains(&Effect::Stop(ReplicaId(3), Stopping::Release)), "{effects:?}");
}

#[test]
fn the_end_of_one_lb_stops_nothing_that_others_use() {
    let mut fleet = following(roster(2, &["spare"]), shared());
    fleet.apply(Time::ZERO, remove(1, "server2"));
    fleet.apply(Time::ZERO, remove(2, "server1"));
    let effects = fleet.apply(Time::ZERO, Event::Shutdown);
    assert_eq!([answer(&effects, 1), answer(&effects, 2)], [Some(Err(FailureKind::Unavailable)); 2]);
    let stops: Vec<_> = effects.iter().filter(|effect| matches!(effect, Effect::Stop(..))).collect();
    assert_eq!(stops.len(), 3);
    assert!(stops.iter().all(|stop| matches!(stop, Effect::Stop(_, Stopping::Release))), "{stops:?}");
}

#[test]
fn a_roster_from_outside_is_followed_and_only_the_mapping_can_be_commanded() {
    let outside = Policy { authority: Authority::Outside, ..policy(true) };
    let mut fleet = following(roster(2, &[]), outside);
    for event in [add(1, &["a"]), remove(2, "server1")] {
        let effects = fleet.apply(Time::ZERO, event);
        let [Effect::Answer(_, Err(failure))] = &effects[..] else { panic!("{effects:?}") };
        assert!(failure.to_string().contains("name server"), "{failure}");
    }
    let mut heavier = proto::control::Remapping::default();
    heavier.weights = [(host("server2"), 3.try_into().unwrap())].into();
    let effects = apply(&mut fleet, Event::Remap(CommandId(3), heavier));
    assert_eq!(effects, [Effect::Publish, Effect::Answer(CommandId(3), Ok(()))]);
    fleet.apply(Time::ZERO, Event::Adopted(Epoch(11), roster(3, &[])));
    let weights: Vec<u32> = fleet.slots().map(|view| view.weight.get()).collect();
    assert_eq!(weights, [1, 3, 1], "what was commanded here stays");
    let effects = fleet.apply(Time::ZERO, Event::Adopted(Epoch(12), roster(1, &[])));
    assert!(effects.contains(&Effect::Drain(ReplicaId(2), policy(true).drain_timeout)), "{effects:?}");
}
