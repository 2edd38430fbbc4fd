//! What a fleet does, one sentence per test.

use std::time::Duration;

use mapping::{Algorithm, MappingPolicy, SlotsShape};
use proto::control::{Addition, Change, Hostname, Remapping, Removal, State, Weight};

use crate::{
    Authority, CommandId, Effect, Event, Fleet, Lineup, Names, Policy, ReplicaId, Stopping, Time, View,
};

/// Room for twelve slots.
fn small() -> Algorithm {
    Algorithm::Slots(SlotsShape { entries: 48, virtuals: 4, ..SlotsShape::default() })
}

pub(super) fn host(name: &str) -> Hostname {
    Hostname::try_from(name.to_owned()).unwrap()
}

pub(super) fn policy(same_name: bool) -> Policy {
    Policy {
        mapping: MappingPolicy { scheme: small().into(), balance: None },
        start_timeout: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(30),
        authority: Authority::Alone { same_name, restartable: true, keep: false },
        born: Duration::from_secs(1_700_000_000),
    }
}

fn add(command: u64, n: u32, hostnames: &[&str]) -> Event {
    let hostnames = hostnames.iter().map(|name| name.parse().unwrap()).collect();
    Event::Add(CommandId(command), Addition { n, hostnames, weights: Vec::new() })
}

/// Applies a command, and has the room for it checked in between.
pub(super) fn decide(fleet: &mut Fleet, command: Event) -> Vec<Effect> {
    let effects = fleet.apply(Time::ZERO, command);
    let [Effect::Check(command, demand)] = &effects[..] else { return effects };
    fleet.apply(Time::ZERO, Event::Checked(*command, demand.clone().check()))
}

fn remove(command: u64, n: u32, hostnames: &[&str]) -> Event {
    let hostnames = hostnames.iter().map(|name| host(name)).collect();
    Event::Remove(CommandId(command), Removal { n, hostnames, drain: None })
}

/// Slots of weight 1.
pub(super) fn lineup(names: impl IntoIterator<Item = Hostname>, spares: usize) -> Lineup {
    Lineup::new(names.into_iter().map(|name| (name, Weight::default())).collect(), spares)
}

/// A fleet of `n` slots, all up, with the replicas 1..=n.
pub(super) fn fleet_up(n: u64, spares: usize, policy: Policy) -> Fleet {
    let slots = (1..=n).map(|index| host(&format!("server{index}")));
    let (mut fleet, _) = Fleet::new(policy, Names::Random, lineup(slots, spares), 1);
    for id in 1..=n + spares as u64 {
        fleet.apply(Time::ZERO, Event::Started(ReplicaId(id)));
        fleet.apply(Time::ZERO, Event::Passed(ReplicaId(id)));
    }
    fleet
}

fn slot(fleet: &Fleet, index: u32) -> View {
    fleet.slots().find(|view| view.slot.as_ref().is_some_and(|slot| slot.index == index)).unwrap()
}

#[test]
fn a_replacement_inherits_the_slot_and_has_a_name_of_its_own() {
    let mut fleet = fleet_up(3, 0, policy(false));
    let effects = fleet.apply(Time::ZERO, Event::Lost(ReplicaId(2), "killed".into()));
    assert!(effects.iter().any(
        |effect| matches!(effect, Effect::Start(ReplicaId(4), new) if new.hostname.as_str() != "server2")
    ));
    let view = slot(&fleet, 2);
    assert_eq!((view.slot.unwrap().name, view.state, view.restarts), (host("server2"), State::Starting, 1));
    assert_eq!(view.reason.as_deref(), Some("killed"));
}

#[test]
fn a_replacement_keeps_the_hostname_with_same_name() {
    let mut fleet = fleet_up(3, 0, policy(true));
    fleet.apply(Time::ZERO, Event::Lost(ReplicaId(2), "killed".into()));
    assert_eq!(slot(&fleet, 2).hostname, host("server2"));
}

#[test]
fn a_ready_spare_moves_in_at_once_and_another_is_started() {
    let mut fleet = fleet_up(2, 1, policy(false));
    let effects = fleet.apply(Time::ZERO, Event::Lost(ReplicaId(1), "killed".into()));
    assert_eq!((slot(&fleet, 1).state, slot(&fleet, 1).replica), (State::Up, Some(ReplicaId(3))));
    assert_eq!(effects.first(), Some(&Effect::Publish));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Start(ReplicaId(4), _))));
}

#[test]
fn a_replica_that_fails_its_probes_comes_back_when_they_pass() {
    let mut fleet = fleet_up(1, 0, policy(false));
    fleet.apply(Time::ZERO, Event::Failed(ReplicaId(1), "timed out".into()));
    assert_eq!(slot(&fleet, 1).state, State::Down);
    fleet.apply(Time::ZERO, Event::Passed(ReplicaId(1)));
    assert_eq!((slot(&fleet, 1).state, slot(&fleet, 1).replica), (State::Up, Some(ReplicaId(1))));
}

#[test]
fn a_reason_is_fit_to_be_shown_whatever_a_replica_has_sent() {
    let mut fleet = fleet_up(1, 0, policy(false));
    let id = slot(&fleet, 1).replica.unwrap();
    fleet.apply(Time::ZERO, Event::Failed(id, format!("\u{1b}[2J{}", "x".repeat(390_000))));
    let reason = slot(&fleet, 1).reason.unwrap();
    assert!(reason.starts_with(r"\u{1b}[2Jxxx") && reason.ends_with(" bytes more)"), "{reason}");
    assert!(reason.len() < 600, "{} bytes", reason.len());
}

#[test]
fn an_unresponsive_replica_is_stopped_at_once_and_replaced() {
    let mut fleet = fleet_up(1, 0, policy(false));
    assert_eq!(fleet.apply(Time::ZERO, Event::Unresponsive(ReplicaId(1))), [], "it is not even down");
    fleet.apply(Time::ZERO, Event::Failed(ReplicaId(1), "timed out".into()));
    let effects = fleet.apply(Time::ZERO, Event::Unresponsive(ReplicaId(1)));
    assert!(effects.contains(&Effect::Stop(ReplicaId(1), Stopping::AtOnce)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Start(ReplicaId(2), _))));
}

#[test]
fn a_replica_whose_address_another_process_has_is_stopped_and_an_add_with_one_fails() {
    let (mut fleet, _) = Fleet::new(policy(false), Names::Random, lineup([host("server1")], 0), 1);
    fleet.apply(Time::ZERO, Event::Started(ReplicaId(1)));
    let effects = fleet.apply(Time::ZERO, Event::Usurped(ReplicaId(1), "taken".into()));
    assert!(effects.contains(&Effect::Stop(ReplicaId(1), Stopping::AtOnce)));
    assert_eq!((slot(&fleet, 1).replica, slot(&fleet, 1).reason), (None, Some("taken".into())));
    assert!(fleet.next_deadline().is_some(), "the next try");

    let mut fleet = fleet_up(1, 0, policy(false));
    decide(&mut fleet, add(7, 2, &["a", "b"]));
    let effects = fleet.apply(Time::ZERO, Event::Usurped(ReplicaId(3), "taken".into()));
    let stopped = [2, 3].map(|id| Effect::Stop(ReplicaId(id), Stopping::Gently));
    assert!(stopped.iter().all(|stop| effects.contains(stop)), "{effects:?}");
    assert!(matches!(effects.last(), Some(Effect::Answer(CommandId(7), Err(_)))), "{effects:?}");
}

#[test]
fn a_fixed_address_is_never_stopped_and_waits_for_its_probes_as_a_last_candidate() {
    let rules = Policy {
        authority: Authority::Alone { same_name: true, restartable: false, keep: false },
        ..policy(true)
    };
    let (mut fleet, _) =
        Fleet::new(rules, Names::Fixed(vec!["a=h:1".parse().unwrap()]), lineup([host("a")], 0), 1);
    fleet.apply(Time::ZERO, Event::Started(ReplicaId(1)));
    assert_eq!(fleet.next_deadline(), None);
    fleet.apply(Time::ZERO, Event::Failed(ReplicaId(1), "refused".into()));
    assert_eq!(slot(&fleet, 1).state, State::Down);
    assert_eq!(fleet.apply(Time::ZERO, Event::Unresponsive(ReplicaId(1))), []);
}

#[test]
fn a_replica_that_is_never_ready_backs_off_into_quarantine_and_says_why() {
    let (mut fleet, mut effects) = Fleet::new(policy(false), Names::Random, lineup([host("server1")], 0), 1);
    let (mut now, mut starts) = (Time::ZERO, 0);
    while slot(&fleet, 1).state != State::Quarantined {
        let started = effects.iter().find_map(|effect| match effect {
            Effect::Start(id, _) => Some(*id),
            _ => None,
        });
        if let Some(id) = started {
            starts += 1;
            fleet.apply(now, Event::Started(id));
            fleet.apply(now, Event::Failed(id, "connection refused".into()));
        }
        now = fleet.next_deadline().expect("something is due");
        effects = fleet.apply(now, Event::Tick);
    }
    assert_eq!(starts, 6, "one start and five more tries");
    let reason = slot(&fleet, 1).reason.unwrap();
    assert!(reason.ends_with(" is not ready within 10s: connection refused"), "{reason}");
    now = fleet.next_deadline().unwrap();
    fleet.apply(now, Event::Tick);
    assert_eq!(slot(&fleet, 1).state, State::Starting, "a quarantined slot is tried again");
}

#[test]
fn an_add_enters_the_mapping_in_one_step_when_all_of_it_is_ready() {
    let mut fleet = fleet_up(1, 0, policy(false));
    decide(&mut fleet, add(1, 2, &["S5", "S4"]));
    assert_eq!(fleet.apply(Time::ZERO, Event::Passed(ReplicaId(2))), []);
    assert_eq!(fleet.slots().count(), 1);
    let effects = fleet.apply(Time::ZERO, Event::Passed(ReplicaId(3)));
    assert_eq!(effects.first(), Some(&Effect::Publish));
    assert_eq!(effects.last(), Some(&Effect::Answer(CommandId(1), Ok(()))));
    assert_eq!(
        fleet.slots().map(|view| view.hostname).collect::<Vec<_>>(),
        ["server1", "S5", "S4"].map(host)
    );
}

#[test]
fn an_add_is_undone_if_one_of_its_replicas_cannot_start() {
    let mut fleet = fleet_up(1, 0, policy(false));
    decide(&mut fleet, add(1, 2, &[]));
    fleet.apply(Time::ZERO, Event::Passed(ReplicaId(2)));
    let effects = fleet.apply(Time::ZERO, Event::Lost(ReplicaId(3), "port taken".into()));
    assert_eq!(effects[0], Effect::Stop(ReplicaId(2), Stopping::Gently));
    let Effect::Answer(_, Err(failure)) = &effects[1] else { panic!("no failure") };
    assert_eq!(failure.to_string(), "<Error> port taken");
    assert_eq!(fleet.slots().count(), 1);
}

#[test]
fn removed_replicas_leave_the_mapping_before_the_answer_and_are_stopped_after_their_sessions() {
    let mut fleet = fleet_up(3, 0, policy(false));
    let effects = fleet.apply(Time::ZERO, remove(1, 1, &["server2"]));
    assert_eq!(effects.first(), Some(&Effect::Publish));
    assert_eq!(effects.last(), Some(&Effect::Answer(CommandId(1), Ok(()))));
    assert!(effects.contains(&Effect::Drain(ReplicaId(2), Duration::from_secs(30))));
    assert_eq!(
        fleet.apply(Time::ZERO, Event::Drained(ReplicaId(2))),
        [Effect::Stop(ReplicaId(2), Stopping::Gently)]
    );
}

#[test]
fn the_lowest_free_index_and_a_removed_name_can_be_used_again() {
    let mut fleet = fleet_up(3, 0, policy(false));
    fleet.apply(Time::ZERO, remove(1, 1, &["server2"]));
    decide(&mut fleet, add(2, 1, &["server2"]));
    fleet.apply(Time::ZERO, Event::Passed(ReplicaId(4)));
    assert_eq!(slot(&fleet, 2).hostname, host("server2"));
}

#[test]
fn wrong_commands_are_refused_with_the_reason() {
    let mut fleet = fleet_up(3, 0, policy(false));
    let cases = [
        (add(1, 1, &["a", "b"]), "Length of hostname list is more than newly added instances"),
        (add(1, 10, &[]), "the fleet has 3 slots and can have 12"),
        (add(1, 1, &["server1"]), "server1 is in use"),
        (add(1, 2, &["a", "a"]), "a is in use or repeated"),
        (remove(1, 1, &["a", "b"]), "Length of hostname list is more than removable instances"),
        (remove(1, 4, &[]), "the fleet has 3 replicas"),
        (remove(1, 1, &["absent"]), "absent is unknown"),
        (remove(1, 2, &["server1", "server1"]), "server1 is repeated"),
    ];
    for (event, expected) in cases {
        let effects = fleet.apply(Time::ZERO, event);
        let [Effect::Answer(_, Err(failure))] = &effects[..] else { panic!("{effects:?}") };
        assert!(failure.to_string().contains(expected), "{failure}");
    }
}

#[test]
fn an_add_is_undone_after_its_limit_even_if_the_start_timeout_is_longer() {
    let rules = Policy { start_timeout: Duration::from_secs(600), ..policy(false) };
    let mut fleet = fleet_up(1, 0, rules);
    decide(&mut fleet, add(1, 2, &[]));
    fleet.apply(Time::ZERO, Event::Passed(ReplicaId(2)));
    let due = fleet.next_deadline().expect("an add has a deadline");
    assert!(due < Duration::from_secs(58), "{due:?}");
    let effects = fleet.apply(due, Event::Tick);
    assert!(effects.contains(&Effect::Stop(ReplicaId(2), Stopping::Gently)));
    assert!(effects.contains(&Effect::Stop(ReplicaId(3), Stopping::Gently)));
    let Some(Effect::Answer(_, Err(failure))) = effects.last() else { panic!("{effects:?}") };
    assert!(failure.to_string().contains("is not ready within"), "{failure}");
    assert_eq!((fleet.slots().count(), fleet.in_passing().count()), (1, 0));
}

#[test]
fn spares_do_not_keep_a_storm_going() {
    let mut fleet = fleet_up(1, 1, policy(false));
    let mut losses = 0;
    while let Some(replica) = slot(&fleet, 1).replica {
        losses += 1;
        assert!(losses < 100, "the slot is quarantined in time");
        fleet.apply(Time::ZERO, Event::Lost(replica, "crashed".into()));
        let spares: Vec<View> = fleet.spares().collect();
        for id in spares.iter().chain(&fleet.slots().collect::<Vec<_>>()).filter_map(|view| view.replica) {
            fleet.apply(Time::ZERO, Event::Passed(id));
        }
    }
    assert_eq!(slot(&fleet, 1).state, State::Quarantined);
}

#[test]
fn a_spare_that_moves_in_clears_the_reason() {
    let (mut fleet, _) = Fleet::new(policy(false), Names::Random, lineup([host("server1")], 1), 1);
    fleet.apply(Time::ZERO, Event::Lost(ReplicaId(1), "cannot start".into()));
    assert_eq!(slot(&fleet, 1).reason.as_deref(), Some("cannot start"));
    fleet.apply(Time::ZERO, Event::Passed(ReplicaId(2)));
    let view = slot(&fleet, 1);
    assert_eq!((view.state, view.replica, view.reason), (State::Up, Some(ReplicaId(2)), None));
}

fn remap(command: u64, fields: &[(&str, &str)]) -> Event {
    let fields: serde_json::Map<_, _> =
        fields.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect();
    Event::Remap(CommandId(command), serde_json::from_value(fields.into()).unwrap())
}

#[test]
fn a_mapping_without_room_for_the_slots_that_are_coming_is_refused() {
    let mut fleet = fleet_up(2, 0, policy(false));
    decide(&mut fleet, add(1, 2, &[]));
    let effects = decide(&mut fleet, remap(2, &[("slots", "15")]));
    let [Effect::Answer(CommandId(2), Err(refusal))] = &effects[..] else { panic!("{effects:?}") };
    assert!(refusal.to_string().contains("4 servers of 4 virtual servers each do not fit"), "{refusal}");
    let effects = decide(&mut fleet, remap(3, &[("slots", "16")]));
    assert_eq!(effects, [Effect::Publish, Effect::Answer(CommandId(3), Ok(()))]);
}

#[test]
fn a_room_that_was_found_for_another_fleet_is_looked_for_again() {
    let mut fleet = fleet_up(10, 0, policy(false));
    let checks = [1, 2].map(|command| {
        let effects = fleet.apply(Time::ZERO, add(command, 2, &[]));
        let [Effect::Check(command, demand)] = &effects[..] else { panic!("{effects:?}") };
        Event::Checked(*command, demand.clone().check())
    });
    let [first, second] = checks;
    assert!(matches!(&fleet.apply(Time::ZERO, first)[..], [Effect::Start(..), Effect::Start(..), ..]));
    // Both were checked against ten slots, and there is room for twelve.
    let refused = decide(&mut fleet, second);
    assert!(matches!(&refused[..], [Effect::Answer(CommandId(2), Err(_))]), "{refused:?}");
}

#[test]
fn slots_that_hold_nothing_need_no_room() {
    let mut fleet = fleet_up(12, 0, policy(false));
    let addition =
        |weight| Addition { n: 1, hostnames: Vec::new(), weights: vec![Weight::try_from(weight).unwrap()] };
    let refused = decide(&mut fleet, Event::Add(CommandId(1), addition(1)));
    assert!(matches!(&refused[..], [Effect::Answer(_, Err(_))]), "{refused:?}");
    let effects = decide(&mut fleet, Event::Add(CommandId(2), addition(0)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Start(..))), "{effects:?}");
}

/// Applies a change, and lets its replicas get ready.
fn carry_out(fleet: &mut Fleet, change: Change) {
    let started = fleet.slots().count() as u64;
    let event = match change {
        Change::Add(addition) => Event::Add(CommandId(1), addition),
        Change::Remove(removal) => Event::Remove(CommandId(1), removal),
        Change::Mapping(remapping) => Event::Remap(CommandId(1), remapping),
    };
    decide(fleet, event);
    for id in started + 1..=started + 2 {
        fleet.apply(Time::ZERO, Event::Passed(ReplicaId(id)));
    }
}

#[test]
fn a_command_does_what_its_preview_says() {
    let mut fleet = fleet_up(3, 0, policy(false));
    let two = Weight::try_from(2).unwrap();
    let mut maglev = Remapping::default();
    maglev.set("mapping", "maglev".to_owned()).unwrap();
    for change in [
        Change::Add(Addition { n: 2, hostnames: vec![host("a").into()], weights: vec![two] }),
        Change::Remove(Removal { n: 2, hostnames: Vec::new(), drain: None }),
        Change::Mapping(maglev),
    ] {
        let preview = fleet.preview(&change).unwrap();
        carry_out(&mut fleet, change);
        let members: Vec<_> = fleet.slots().filter_map(|view| view.member()).collect();
        assert_eq!((members, fleet.mapping()), (preview.members, &preview.policy), "{}", preview.command);
    }
    let weights = fleet.slots().map(|view| (view.hostname, two)).collect();
    let mut remapping = Remapping::default();
    remapping.weights = weights;
    let change = Change::Mapping(remapping);
    let preview = fleet.preview(&change).unwrap();
    carry_out(&mut fleet, change);
    let members: Vec<_> = fleet.slots().filter_map(|view| view.member()).collect();
    assert!(members == preview.members && members.iter().all(|member| member.weight == 2), "{members:?}");
}
