//! Thousands of random histories, each from its own seed. The fleet's invariants are checked after every step.
//!
//! [`World`] plays everything outside the fleet: it starts and loses replicas, passes and fails their probes, lets time pass
//! and sends commands, at random and in any order that can happen.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use mapping::Mapping;
use proto::control::{Addition, Hostname, Remapping, Removal, State, Weight};
use serde::Serialize;

use super::tests::{host, lineup, policy};
use crate::{
    Beginning, Checkpoint, CommandId, Demand, Effect, Event, Fleet, Input, Names, ReplicaId, Revision, Seat,
    SlotId, Time, View,
};

/// What a command asks for.
struct Wanted {
    /// How many slots more there are when it is done.
    more: isize,
    /// The names of slots that are there then, and of those that are not.
    there: Vec<Hostname>,
    gone: Vec<Hostname>,
    mapping: Option<String>,
}

/// Everything outside the fleet.
struct World {
    fleet: Fleet,
    /// What the fleet began with, and what has happened since, as text.
    history: (String, Vec<(Time, String)>),
    rng: fastrand::Rng,
    now: Time,
    /// Replicas that were started and neither stopped nor lost.
    running: BTreeSet<ReplicaId>,
    /// Those of them whose probes have passed.
    passed: HashSet<ReplicaId>,
    draining: BTreeSet<ReplicaId>,
    /// Commands without an answer.
    unanswered: BTreeMap<u64, Wanted>,
    commands: u64,
    /// The number of slots that there should be.
    target: usize,
    /// The slots of the last published snapshot.
    published: Vec<View>,
    /// The seats that the next start would find.
    remembered: Vec<Seat>,
    /// Commands whose room is being looked for.
    checks: Vec<(CommandId, Demand)>,
    /// The number of started replicas.
    starts: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let slots: Vec<Hostname> =
            (1..=rng.usize(0..5)).map(|index| host(&format!("server{index}"))).collect();
        let (target, spares) = (slots.len(), rng.usize(0..3));
        let lineup = lineup(slots, spares);
        let begun = lineup.seats.clone();
        let policy = policy(rng.bool());
        let beginning = json(&Beginning::new(&policy, &Names::Random, &lineup, seed));
        let (fleet, effects) = Fleet::new(policy, Names::Random, lineup, seed);
        let mut world = World {
            fleet,
            history: (beginning, Vec::new()),
            rng,
            now: Time::ZERO,
            running: BTreeSet::new(),
            passed: HashSet::new(),
            draining: BTreeSet::new(),
            unanswered: BTreeMap::new(),
            commands: 0,
            target,
            published: Vec::new(),
            remembered: begun,
            checks: Vec::new(),
            starts: 0,
        };
        world.perform(effects);
        world.check();
        world
    }

    fn any_replica(&mut self) -> Option<ReplicaId> {
        let all: Vec<ReplicaId> = self.running.iter().copied().collect();
        self.rng.choice(all)
    }

    fn random_change(&mut self) -> (u32, Vec<Hostname>) {
        let mut names: Vec<Hostname> = self.fleet.slots().map(|view| view.hostname).collect();
        names.extend(["S1", "S2", "S3"].map(host));
        self.rng.shuffle(&mut names);
        names.truncate(self.rng.usize(0..4));
        (self.rng.u32(1..6), names)
    }

    fn random_weight(&mut self) -> Weight {
        Weight::try_from(self.rng.u64(0..4)).unwrap()
    }

    fn random_addition(&mut self) -> Addition {
        let (n, hostnames) = self.random_change();
        let hostnames = hostnames.into_iter().map(Into::into).collect();
        let weights = (0..self.rng.u32(0..3)).map(|_| self.random_weight()).collect();
        Addition { n, hostnames, weights }
    }

    /// Slots that come, go and get another replica, and another mapping: some of that, and sometimes too much.
    fn random_revision(&mut self) -> Revision {
        let mut slots: Vec<Hostname> = self.fleet.slots().map(|view| view.slot.unwrap().name).collect();
        self.rng.shuffle(&mut slots);
        let mut some = |most| slots.split_off(slots.len() - self.rng.usize(0..=most).min(slots.len()));
        let (gone, replace) = (some(2), some(2));
        let (n, more) = (self.rng.u32(1..4), self.rng.u32(0..2));
        let hostnames = if self.rng.bool() { vec![host("S1").into()] } else { Vec::new() };
        let add = Addition { n, hostnames, weights: vec![self.random_weight()] };
        let remove = Removal { n: gone.len() as u32 + more, hostnames: gone, drain: None };
        Revision {
            add: self.rng.bool().then_some(add),
            remove: (remove.n > 0).then_some(remove),
            replace: replace.into_iter().map(Into::into).collect(),
            remap: if self.rng.bool() { self.random_remapping() } else { Remapping::default() },
            backends: None,
        }
    }

    /// Another algorithm, another table or other weights. The table is small enough for weights to fill it.
    fn random_remapping(&mut self) -> Remapping {
        let mut remapping = Remapping::default();
        if self.rng.bool() {
            remapping.set("slots", "48".to_owned()).unwrap();
        }
        let names = self.random_change().1;
        remapping.weights = names.into_iter().map(|name| (name, self.random_weight())).collect();
        if let Some(mapping) = self.rng.choice(["maglev", "ring", "slots"]) {
            remapping.set("mapping", mapping.to_owned()).unwrap();
        }
        remapping
    }

    fn random_event(&mut self) -> Option<Event> {
        self.commands += 1;
        let command = CommandId(self.commands);
        Some(match self.rng.u32(0..100) {
            0..=5 => Event::Add(command, self.random_addition()),
            6..=8 => self.finish_a_check()?,
            9..=13 => {
                let (n, hostnames) = self.random_change();
                Event::Remove(command, Removal { n, hostnames, drain: None })
            }
            14..=15 => Event::Remap(command, self.random_remapping()),
            16..=18 => Event::Revise(command, self.random_revision()),
            19..=35 => Event::Started(self.any_replica()?),
            36..=60 => Event::Passed(self.any_replica()?),
            61..=68 => Event::Failed(self.any_replica()?, "refused".into()),
            69..=71 => Event::Unresponsive(self.any_replica()?),
            72..=73 => Event::Usurped(self.any_replica()?, "another user".into()),
            74..=81 => Event::Lost(self.any_replica()?, "exited".into()),
            82..=83 => Event::Hindered(self.any_replica()?, "no engine".into()),
            84..=88 => {
                let all: Vec<ReplicaId> = self.draining.iter().copied().collect();
                Event::Drained(self.rng.choice(all)?)
            }
            89 => Event::Limit {
                start_timeout: Duration::from_secs(self.rng.u64(1..20)),
                drain_timeout: Duration::from_secs(self.rng.u64(0..60)),
            },
            92 => Event::Cancel(CommandId(self.commands - self.rng.u64(0..20).min(self.commands))),
            // Late events about replicas that are gone, or never existed, change nothing.
            90 => Event::Passed(ReplicaId(self.rng.u64(0..50))).filter_unknown(&self.running)?,
            91 => Event::Lost(ReplicaId(self.rng.u64(0..50)), "late".into()).filter_unknown(&self.running)?,
            _ => {
                self.now += Duration::from_millis(self.rng.u64(0..4000));
                Event::Tick
            }
        })
    }

    /// The result of a check. The fleet may have changed since it began.
    fn finish_a_check(&mut self) -> Option<Event> {
        let at = self.rng.usize(0..self.checks.len().max(1));
        if at >= self.checks.len() {
            return None;
        }
        let (command, demand) = self.checks.swap_remove(at);
        Some(Event::Checked(command, demand.check()))
    }

    fn step(&mut self) {
        let Some(event) = self.random_event() else { return };
        let before: Vec<View> = self.fleet.slots().collect();
        self.unanswered.extend(wanted(&event));
        match &event {
            Event::Passed(id) if self.running.contains(id) => drop(self.passed.insert(*id)),
            Event::Lost(id, _) | Event::Hindered(id, _) => self.forget(*id),
            Event::Drained(id) => drop(self.draining.remove(id)),
            Event::Cancel(command) => self.checks.retain(|(known, _)| known != command),
            _ => {}
        }
        let mapping = self.fleet.mapping().clone();
        let effects = self.apply(event.clone());
        self.hear_answers(&event, &effects, &before);
        if !effects.iter().any(|effect| matches!(effect, Effect::Answer(_, Ok(())))) {
            let after = self.fleet.slots();
            assert!(before.iter().map(seated).eq(after.map(|view| seated(&view))), "no command is done");
            assert_eq!(mapping, *self.fleet.mapping(), "no command is done");
        }
        self.perform(effects);
        self.check();
    }

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        self.history.1.push((self.now, json(&Input::from(&event))));
        self.fleet.apply(self.now, event)
    }

    fn forget(&mut self, id: ReplicaId) {
        self.running.remove(&id);
        self.passed.remove(&id);
        self.draining.remove(&id);
    }

    /// Keeps `target` up to date, and checks that a command has done all that was asked for, or nothing.
    fn hear_answers(&mut self, event: &Event, effects: &[Effect], before: &[View]) {
        for effect in effects {
            let Effect::Answer(command, result) = effect else { continue };
            let wanted = self.unanswered.get(&command.0).expect("a command is answered once");
            let slots: Vec<View> = self.fleet.slots().collect();
            if result.is_err() {
                if is_command(event) {
                    assert!(effects.len() == 1, "{effects:?}");
                    assert_eq!(before, slots, "a refused command changes nothing");
                }
                continue;
            }
            self.target = self.target.checked_add_signed(wanted.more).unwrap();
            let is_there = |name: &Hostname| {
                slots.iter().any(|view| view.hostname == *name || view.slot.as_ref().unwrap().name == *name)
            };
            assert!(wanted.there.iter().all(is_there) && !wanted.gone.iter().any(is_there));
            let mapping = self.fleet.mapping().scheme.algorithm.name().to_string();
            assert!(wanted.mapping.as_ref().is_none_or(|wanted| *wanted == mapping));
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Publish => self.published = self.fleet.slots().collect(),
                Effect::Remember(seats) => {
                    assert_ne!(seats, self.remembered, "only a change of seats is written down");
                    self.remembered = seats;
                }
                Effect::Start(id, _) => {
                    self.starts += 1;
                    assert!(self.running.insert(id), "{id:?} is started twice");
                }
                Effect::Drain(id, _) => assert!(self.running.contains(&id) && self.draining.insert(id)),
                Effect::Stop(id, _) => {
                    assert!(self.running.contains(&id), "{id:?} is stopped, but does not run");
                    self.forget(id);
                }
                Effect::Answer(command, _) => {
                    assert!(self.unanswered.remove(&command.0).is_some(), "{command:?} is answered twice");
                }
                Effect::Check(command, demand) => self.checks.push((command, demand)),
                Effect::Changed(_) => {}
                Effect::Propose(..) | Effect::Remove(..) | Effect::Doubt(_) => {
                    panic!("{effect:?}: it is alone")
                }
            }
        }
    }

    fn check(&self) {
        let slots: Vec<View> = self.fleet.slots().collect();
        assert_eq!(slots.len(), self.target, "N holds");
        self.check_names(&slots);
        self.check_mapping();
        self.check_replicas(&slots);
        let route = |views: &[View]| -> Vec<_> {
            views.iter().map(|view| (view.slot.clone(), view.weight, view.replica, view.state)).collect()
        };
        assert_eq!(route(&slots), route(&self.published), "every change that matters is published");
        let seats: Vec<Seat> = slots.iter().filter_map(View::seat).collect();
        assert_eq!(seats, self.remembered, "every change of seats is written down");
        let vacant = self.fleet.slots().chain(self.fleet.spares()).any(|view| view.replica.is_none());
        assert!(!vacant || self.fleet.next_deadline().is_some(), "an empty place has a next try");
    }

    /// The slots in the mapping and those of every `add` under way fit into the mapping together.
    fn check_mapping(&self) {
        let members = self.fleet.future_members();
        assert_eq!(Mapping::check(&self.fleet.mapping().scheme, &members), Ok(()));
    }

    fn check_names(&self, slots: &[View]) {
        let ids: Vec<_> = slots.iter().filter_map(|view| view.slot.clone()).collect();
        assert!(ids.is_sorted_by(|a, b| a.index < b.index), "indices are unique and in order: {ids:?}");
        let mut seen = HashSet::new();
        for view in self.fleet.slots().chain(self.fleet.spares()) {
            let name = view.slot.map(|slot| slot.name);
            assert!(seen.insert(view.hostname.clone()), "{} is taken twice", view.hostname);
            if let Some(name) = name.filter(|name| *name != view.hostname) {
                assert!(seen.insert(name.clone()), "{name} is taken twice");
            }
        }
    }

    fn check_replicas(&self, slots: &[View]) {
        let all = self.fleet.slots().chain(self.fleet.spares()).chain(self.fleet.in_passing());
        let known: BTreeSet<ReplicaId> = all.filter_map(|view| view.replica).collect();
        assert_eq!(known, self.running, "the fleet knows exactly what runs");
        for view in slots.iter().filter(|view| view.state == State::Up) {
            let replica = view.replica.expect("an up slot has a replica");
            assert!(self.passed.contains(&replica), "{replica:?} is in rotation before its checks passed");
        }
        let draining: BTreeSet<ReplicaId> = self
            .fleet
            .in_passing()
            .filter(|view| view.state == State::Draining)
            .filter_map(|view| view.replica)
            .collect();
        assert!(draining.is_superset(&self.draining));
    }
}

/// What a command asks for, by its number.
fn wanted(event: &Event) -> Option<(u64, Wanted)> {
    let (command, add, remove, remap) = match event {
        Event::Add(command, add) => (command, Some(add), None, None),
        Event::Remove(command, remove) => (command, None, Some(remove), None),
        Event::Remap(command, remap) => (command, None, None, Some(remap)),
        Event::Revise(command, Revision { add, remove, remap, .. }) => {
            (command, add.as_ref(), remove.as_ref(), Some(remap))
        }
        _ => return None,
    };
    let (more, less) = (add.map_or(0, |add| add.n), remove.map_or(0, |remove| remove.n));
    let wanted = Wanted {
        more: more as isize - less as isize,
        there: add.iter().flat_map(|add| &add.hostnames).map(|new| new.name().clone()).collect(),
        gone: remove.map(|remove| remove.hostnames.clone()).unwrap_or_default(),
        mapping: remap.and_then(|remap| remap.get("mapping")).map(str::to_owned),
    };
    Some((command.0, wanted))
}

fn is_command(event: &Event) -> bool {
    wanted(event).is_some()
}

/// What only commands change.
fn seated(view: &View) -> (Option<SlotId>, Weight) {
    (view.slot.clone(), view.weight)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

impl Event {
    /// The event, if its replica does not run.
    fn filter_unknown(self, running: &BTreeSet<ReplicaId>) -> Option<Event> {
        match &self {
            Event::Passed(id) | Event::Lost(id, _) => (!running.contains(id)).then_some(self),
            _ => None,
        }
    }
}

#[test]
fn the_invariants_hold_in_thousands_of_random_histories() {
    for seed in 0..3000 {
        let mut world = World::new(seed);
        for _ in 0..150 {
            world.step();
        }
        let effects = world.fleet.apply(world.now, Event::Shutdown);
        let is_kept = !effects.iter().any(|effect| matches!(effect, Effect::Remember(_)));
        assert!(is_kept, "seed {seed}: the shutdown is not written down");
        world.perform(effects);
        while !world.checks.is_empty() {
            let event = world.finish_a_check();
            let effects = event.map_or_else(Vec::new, |event| world.fleet.apply(world.now, event));
            world.perform(effects);
        }
        assert!(world.running.is_empty(), "seed {seed}: shutdown stops everything");
        assert!(world.unanswered.is_empty(), "seed {seed}: every command is answered in the end");
    }
}

#[test]
fn the_same_seed_and_events_make_the_same_fleet() {
    let end = |seed| {
        let mut world = World::new(seed);
        (0..300).for_each(|_| world.step());
        world.fleet.slots().collect::<Vec<_>>()
    };
    assert_eq!(end(42), end(42));
}

#[test]
fn a_history_that_is_read_as_text_makes_the_same_fleet() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        (0..150).for_each(|_| world.step());
        let (beginning, history) = &world.history;
        let beginning: Beginning = serde_json::from_str(beginning).unwrap();
        let no_rule = |_: &str| unreachable!("its names have no rule");
        let mut replay = beginning.replay(no_rule);
        for (at, (now, input)) in history.iter().enumerate() {
            if at % 7 == 0 {
                let written = json(&Checkpoint::of(replay.fleet()));
                let before = format!("{:?}", replay.fleet());
                replay = serde_json::from_str::<Checkpoint>(&written).unwrap().replay(no_rule);
                assert_eq!(format!("{:?}", replay.fleet()), before, "seed {seed}, {written}");
            }
            replay.apply(*now, serde_json::from_str(input).unwrap()).unwrap();
        }
        assert_eq!(format!("{:?}", replay.fleet()), format!("{:?}", world.fleet), "seed {seed}");
    }
}
