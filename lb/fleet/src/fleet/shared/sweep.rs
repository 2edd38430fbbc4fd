//! Thousands of random histories of three `lb`s that serve one fleet. After every step each of them follows exactly the roster of its
//! epoch; when everything has come to rest, all of them and the Swarm agree.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::control::{Addition, DrainTime, Hostname, Newcomer, Remapping, Removal, State, Weight};

use super::super::tests::host;
use super::swarm::{Balancer, Moved, Proposal, Swarm};
use super::{roster, shared};
use crate::{CommandId, Event, Fleet, Lineup, Names, Policy, Rejection, ReplicaId, Revision, Time};

pub(super) const BALANCERS: usize = 3;

/// What a command wants, for the comparison with what became of it.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    Add(Addition),
    Remove(Removal),
    /// To this mapping.
    Remap(&'static str),
    Revise(Revision),
}

pub(super) struct World {
    rng: fastrand::Rng,
    pub(super) now: Time,
    pub(super) swarm: Swarm,
    pub(super) balancers: Vec<Balancer>,
    commands: u64,
    /// Commands without an answer, by `lb`.
    pub(super) unanswered: BTreeMap<u64, (usize, Wanted)>,
    /// How many commands were done, and how many were refused.
    done: usize,
    refused: usize,
}

fn names_of(newcomers: &[Newcomer]) -> Vec<Hostname> {
    newcomers.iter().map(|newcomer| newcomer.name().clone()).collect()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let spares = ["spare1", "spare2"];
        let swarm = Swarm::new(roster(rng.u32(0..5), &spares[..rng.usize(0..3)]));
        let mut world = World {
            rng,
            now: Time::ZERO,
            swarm,
            balancers: Vec::new(),
            commands: 0,
            unanswered: BTreeMap::new(),
            done: 0,
            refused: 0,
        };
        for _ in 0..BALANCERS {
            let balancer = world.new_balancer();
            world.balancers.push(balancer);
        }
        world
    }

    /// An `lb` that begins now. Its fleet counts the time from the beginning of the world, and its clock is not quite right.
    fn new_balancer(&mut self) -> Balancer {
        let ahead = Duration::from_millis(self.rng.u64(0..2000));
        let policy = Policy { born: shared().born + ahead, ..shared() };
        let fleet = Fleet::new(policy, Names::Random, Lineup::default(), self.rng.u64(..));
        Balancer::new(fleet, self.now, ahead, &mut self.swarm)
    }

    fn any(&mut self) -> usize {
        self.rng.usize(0..BALANCERS)
    }

    fn any_replica(&mut self, at: usize) -> Option<ReplicaId> {
        let all: Vec<ReplicaId> = self.balancers[at].followed.keys().copied().collect();
        self.rng.choice(all)
    }

    fn any_service(&mut self) -> Option<Hostname> {
        let all: Vec<Hostname> = self.swarm.services.keys().cloned().collect();
        self.rng.choice(all)
    }

    pub(super) fn apply(&mut self, at: usize, event: Event) {
        self.balancers[at].apply(self.now, event, &mut self.swarm);
        self.hear_answers(at, &Moved::default());
        self.check(at);
    }

    fn step(&mut self) {
        let at = self.any();
        match self.rng.u32(0..100) {
            0..=7 => self.command(at),
            8..=19 => self.adopt(at),
            20..=29 => self.decide(at, true),
            30..=39 => self.tell(at),
            40..=63 => self.meet_replica(at),
            64..=69 => self.drain(at),
            70..=75 => self.remove(at),
            76..=80 => self.finish_a_check(at),
            81..=86 => self.restart_a_task(),
            87..=89 => self.kill_a_task(),
            90 if self.rng.u32(0..8) == 0 => self.crash(at),
            _ => {
                let long = if self.rng.u32(0..20) == 0 { 100_000 } else { 4000 };
                self.now += Duration::from_millis(self.rng.u64(0..long));
                self.apply(at, Event::Tick);
            }
        }
    }

    /// A command at one of the `lb`s.
    fn command(&mut self, at: usize) {
        let mut names: Vec<Hostname> = self.balancers[at].fleet.slots().map(|view| view.hostname).collect();
        names.extend(["S1", "S2", "S3"].map(host));
        self.rng.shuffle(&mut names);
        names.truncate(self.rng.usize(0..3));
        let (n, command) = (self.rng.u32(1..4), CommandId(self.commands));
        let (wanted, event) = match self.rng.u32(0..6) {
            0..=1 => {
                let addition = Addition {
                    n,
                    hostnames: names.into_iter().map(Into::into).collect(),
                    weights: Vec::new(),
                };
                (Wanted::Add(addition.clone()), Event::Add(command, addition))
            }
            2..=3 => {
                let drain = self.rng.bool().then_some(DrainTime::NONE);
                let removal = Removal { n, hostnames: names, drain };
                (Wanted::Remove(removal.clone()), Event::Remove(command, removal))
            }
            4 => {
                let revision = self.random_revision(n, names);
                (Wanted::Revise(revision.clone()), Event::Revise(command, revision))
            }
            _ => {
                let mut remapping = Remapping::default();
                let mapping = self.rng.choice(["maglev", "ring", "slots"]).unwrap();
                remapping.set("mapping", mapping.to_owned()).unwrap();
                let weight = Weight::try_from(self.rng.u64(0..4)).unwrap();
                remapping.weights = names.into_iter().map(|name| (name, weight)).collect();
                (Wanted::Remap(mapping), Event::Remap(command, remapping))
            }
        };
        self.unanswered.insert(self.commands, (at, wanted));
        self.commands += 1;
        self.apply(at, event);
    }

    /// Slots that come and slots that go, in one step, with another mapping.
    fn random_revision(&mut self, n: u32, names: Vec<Hostname>) -> Revision {
        let (new, old): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name: &Hostname| name.as_str().starts_with('S'));
        let new = new.into_iter().map(Into::into).collect();
        let mut remap = Remapping::default();
        if let Some(mapping) = self.rng.choice([None, Some("maglev"), Some("slots")]).flatten() {
            remap.set("mapping", mapping.to_owned()).unwrap();
        }
        Revision {
            add: self.rng.bool().then_some(Addition { n, hostnames: new, weights: Vec::new() }),
            remove: self.rng.bool().then_some(Removal { n, hostnames: old, drain: None }),
            remap,
            ..Revision::default()
        }
    }

    /// News of the record, or news of old.
    fn adopt(&mut self, at: usize) {
        let newest = self.swarm.epoch();
        let epoch = if self.rng.u32(0..10) == 0 { crate::Epoch(self.rng.u64(1..=newest.0)) } else { newest };
        self.apply(at, Event::Adopted(epoch, self.swarm.at(epoch).clone()));
    }

    pub(super) fn decide(&mut self, at: usize, may_fail: bool) {
        let mut is = |percent| may_fail && self.rng.u32(0..100) < percent;
        let (fails, answer_is_lost) = (is(8), is(4));
        self.balancers[at].decide(fails, answer_is_lost, &mut self.swarm);
    }

    /// The `lb` hears what has become of its proposal.
    pub(super) fn tell(&mut self, at: usize) {
        match self.balancers[at].proposal.take() {
            Some(Proposal::Decided(outcome, moved)) => {
                if outcome == Err(Rejection::Stale) {
                    self.balancers[at].apply(
                        self.now,
                        Event::Adopted(self.swarm.epoch(), self.swarm.roster().clone()),
                        &mut self.swarm,
                    );
                }
                self.balancers[at].apply(self.now, Event::Proposed(outcome), &mut self.swarm);
                self.hear_answers(at, &moved);
                self.check(at);
            }
            sent => self.balancers[at].proposal = sent,
        }
    }

    /// Compares what was answered with what has been done to the seats.
    fn hear_answers(&mut self, at: usize, moved: &Moved) {
        let (mut added, mut removed) = (0, 0);
        for (CommandId(command), result) in std::mem::take(&mut self.balancers[at].answers) {
            let (asked, wanted) = self.unanswered.remove(&command).expect("a command is answered once");
            assert_eq!(asked, at, "by the one that was asked");
            match result {
                Ok(()) => {
                    self.done += 1;
                    let named = |names: &[Hostname], seats: &[crate::Seat]| {
                        let is_there = |name: &Hostname| {
                            seats.iter().any(|seat| seat.slot.name == *name || seat.hostname == *name)
                        };
                        assert!(
                            names.iter().all(is_there),
                            "{names:?} are not all among {seats:?}: {wanted:?} {moved:?}"
                        );
                    };
                    match wanted {
                        Wanted::Add(Addition { n, ref hostnames, .. }) => {
                            added += n as usize;
                            named(&names_of(hostnames), &moved.entered);
                        }
                        Wanted::Remove(Removal { n, ref hostnames, .. }) => {
                            removed += n as usize;
                            named(hostnames, &moved.left);
                        }
                        Wanted::Revise(Revision { ref add, ref remove, ref remap, .. }) => {
                            for Addition { n, hostnames, .. } in add.iter() {
                                added += *n as usize;
                                named(&names_of(hostnames), &moved.entered);
                            }
                            for Removal { n, hostnames, .. } in remove.iter() {
                                removed += *n as usize;
                                named(hostnames, &moved.left);
                            }
                            let is_made = |mapping| moved.is_written || self.maps_by(at, mapping);
                            assert!(remap.get("mapping").is_none_or(is_made));
                        }
                        // Another may have written the very same.
                        Wanted::Remap(mapping) => assert!(moved.is_written || self.maps_by(at, mapping)),
                    }
                }
                Err(_) => self.refused += 1,
            }
        }
        let has_moved = (moved.entered.len(), moved.left.len());
        // An `lb` cannot know what became of a proposal whose answer was lost.
        if has_moved != (added, removed) {
            assert!(moved.is_unknown && (added, removed) == (0, 0), "{moved:?}: {added} {removed}");
        }
    }

    fn maps_by(&self, at: usize, mapping: &str) -> bool {
        self.balancers[at].fleet.mapping().scheme.algorithm.name().to_string() == mapping
    }

    /// Something happens to a replica, as one `lb` sees it.
    fn meet_replica(&mut self, at: usize) {
        let Some(id) = self.any_replica(at) else { return };
        self.balancers[at].create(id, &mut self.swarm);
        let balancer = &self.balancers[at];
        let followed = &balancer.followed[&id];
        let event = match followed.task {
            None if self.rng.u32(0..12) == 0 => Event::Hindered(id, "no API".into()),
            None => {
                let Some(task) = balancer.next_task(followed, &self.swarm) else { return };
                self.balancers[at].followed.get_mut(&id).unwrap().task = Some(task);
                Event::Started(id)
            }
            Some(task) if self.swarm.task(&followed.hostname) != Some(task) => {
                Event::Lost(id, "has ended".into())
            }
            Some(_) => match self.rng.u32(0..10) {
                0..=6 => Event::Passed(id),
                7..=8 => Event::Failed(id, "timed out".into()),
                _ => Event::Unresponsive(id),
            },
        };
        match event {
            Event::Lost(..) | Event::Hindered(..) => {
                self.balancers[at].followed.remove(&id);
                self.balancers[at].draining.remove(&id);
            }
            Event::Passed(_) => self.balancers[at].followed.get_mut(&id).unwrap().has_passed = true,
            _ => {}
        }
        self.apply(at, event);
    }

    pub(super) fn drain(&mut self, at: usize) {
        if let Some(id) = self.balancers[at].draining.first().copied() {
            self.apply(at, Event::Drained(id));
        }
    }

    pub(super) fn remove(&mut self, at: usize) {
        let balancer = &mut self.balancers[at];
        let which = self.rng.usize(0..balancer.removals.len().max(1));
        if which < balancer.removals.len() {
            let removal = balancer.removals.swap_remove(which);
            let wall = shared().born + self.now;
            balancer.remove(&removal, wall, &mut self.swarm);
            self.apply(at, Event::Removed(removal.1));
        }
    }

    pub(super) fn finish_a_check(&mut self, at: usize) {
        if let Some((command, demand)) = self.balancers[at].checks.pop() {
            self.apply(at, Event::Checked(command, demand.check()));
        }
    }

    fn restart_a_task(&mut self) {
        if let Some(hostname) = self.any_service()
            && self.swarm.task(&hostname).is_none()
        {
            self.swarm.new_task(&hostname);
        }
    }

    fn kill_a_task(&mut self) {
        if let Some(hostname) = self.any_service() {
            self.swarm.services.get_mut(&hostname).unwrap().task = None;
        }
    }

    /// An `lb` dies, and another begins in its place. Its commands are never answered; what it has sent may still arrive.
    fn crash(&mut self, at: usize) {
        self.decide(at, true);
        self.unanswered.retain(|_, (asked, _)| *asked != at);
        self.balancers[at] = self.new_balancer();
    }

    fn check(&self, at: usize) {
        let Balancer { fleet, followed, published, .. } = &self.balancers[at];
        let epoch = fleet.epoch().unwrap();
        assert_eq!(fleet.roster(), *self.swarm.at(epoch), "{at} follows {epoch:?}");
        assert_eq!(
            (&published.seats, &published.mapping),
            (&fleet.roster().seats, fleet.mapping()),
            "it is published"
        );
        let known =
            fleet.slots().chain(fleet.spares()).chain(fleet.in_passing()).filter_map(|view| view.replica);
        let mut known: Vec<ReplicaId> = known.collect();
        known.sort_unstable();
        assert_eq!(
            known,
            followed.keys().copied().collect::<Vec<_>>(),
            "it knows exactly what it looks after"
        );
        for view in fleet.slots().filter(|view| view.state == State::Up) {
            assert!(
                followed[&view.replica.unwrap()].has_passed,
                "{view:?} is in rotation before its checks passed"
            );
        }
        for service in self.swarm.services.keys() {
            assert!(
                self.swarm.roster().hostnames().any(|hostname| hostname == service),
                "nothing names {service}"
            );
        }
    }
}

#[test]
fn three_lbs_agree_in_thousands_of_random_histories() {
    let (mut done, mut refused, mut epochs) = (0, 0, 0);
    for seed in 0..2000 {
        let mut world = World::new(seed);
        for _ in 0..250 {
            world.step();
        }
        world.come_to_rest();
        world.check_agreement(seed);
        (done, refused, epochs) =
            (done + world.done, refused + world.refused, epochs + world.swarm.epoch().0);
    }
    println!("{done} commands done, {refused} refused, {epochs} epochs");
    assert!(done > 3000 && refused > 3000, "the histories try both");
}
