//! A history that is written down, with rosters and with names under a rule.

use std::time::Duration;

use mapping::Seed;

use super::{add, answer, remove, roster, shared};
use crate::{
    Beginning, Checkpoint, CommandId, Effect, Epoch, Event, Fleet, Input, Lineup, Names, Rejection,
    ReplicaId, Rule, Time, Unfit,
};

fn rule(suffix: &str) -> Rule {
    let suffix = suffix.to_owned();
    Rule::new(suffix.clone(), move |name| {
        if name.as_str().ends_with(&suffix) { Err(format!("expected no {suffix}")) } else { Ok(()) }
    })
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

#[test]
fn rosters_and_refused_names_are_the_same_again() {
    let names = Names::Ruled(rule("x"));
    let beginning = Beginning::new(&shared(), &names, &Lineup::default(), 7);
    let (mut fleet, _) = Fleet::new(shared(), names, Lineup::default(), 7);
    let mut replay = serde_json::from_str::<Beginning>(&text(&beginning)).unwrap().replay(rule);
    let mut happens = |at: u64, event: Event| {
        let now = Time::from_millis(at);
        let input = text(&Input::from(&event));
        let checkpoint = text(&Checkpoint::of(&fleet));
        replay = serde_json::from_str::<Checkpoint>(&checkpoint).unwrap().replay(rule);
        let effects = fleet.apply(now, event);
        replay.apply(now, serde_json::from_str(&input).unwrap()).unwrap();
        assert_eq!(format!("{:?}", replay.fleet()), format!("{fleet:?}"), "{input}");
        effects
    };
    happens(0, Event::Adopted(Epoch(10), roster(2, &["spare"])));
    for id in 1..=3 {
        happens(id, Event::Started(ReplicaId(id)));
        happens(id, Event::Passed(ReplicaId(id)));
    }
    assert!(matches!(answer(&happens(10, add(1, &["ax"])), 1), Some(Err(_))), "against the rule");
    let effects = happens(11, add(2, &["a"]));
    let [Effect::Check(command, demand)] = &effects[..] else { panic!("{effects:?}") };
    let effects = happens(12, Event::Checked(*command, demand.clone().check()));
    let [Effect::Propose(epoch, proposed)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(*epoch, Epoch(10));
    happens(13, Event::Proposed(Err(Rejection::Failed("no quorum".to_owned()))));
    happens(14, Event::Adopted(Epoch(11), proposed.clone()));
    happens(15, Event::Lost(ReplicaId(1), "exited".to_owned()));
    happens(16, remove(3, "server2"));
    happens(90_000, Event::Tick);
    happens(90_001, Event::Shutdown);
}

#[test]
fn a_seed_is_not_written_down() {
    let mut policy = shared();
    policy.mapping.scheme.seed = Seed(0x1234_5678);
    let written = text(&Beginning::new(&policy, &Names::Random, &Lineup::default(), 7));
    let read: Beginning = serde_json::from_str(&written).unwrap();
    let fleet = read.replay(|_| unreachable!("its names have no rule")).fleet().clone();
    assert_eq!(fleet.mapping().scheme.algorithm, policy.mapping.scheme.algorithm);
    assert!(!fleet.mapping().scheme.seed.is_set());
    let (begun, _) = Fleet::new(policy, Names::Random, Lineup::default(), 7);
    for written in [written, text(&Checkpoint::of(&begun))] {
        assert!(!written.contains(&0x1234_5678_u64.to_string()), "{written}");
        assert!(!written.contains("12345678"), "{written}");
    }
}

#[test]
fn a_history_with_a_hole_is_noticed() {
    let beginning = Beginning::new(&shared(), &Names::Random, &Lineup::default(), 7);
    let mut replay = beginning.replay(|_| unreachable!("its names have no rule"));
    let before = format!("{:?}", replay.fleet());
    let checked = Input::Checked(CommandId(1), None);
    assert_eq!(replay.apply(Duration::from_secs(1), checked), Err(Unfit));
    assert_eq!(format!("{:?}", replay.fleet()), before);
}
