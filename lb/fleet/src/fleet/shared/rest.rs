//! How a history comes to rest, and what has to be true then.

use std::time::Duration;

use proto::control::{Hostname, State};

use super::swarm::Balancer;
use super::sweep::{BALANCERS, World};
use crate::{Event, Fleet, ReplicaId};

impl World {
    /// Nothing fails any more, and everything is heard of.
    pub(super) fn come_to_rest(&mut self) {
        for _ in 0..200 {
            let before = (self.swarm.epoch(), self.unanswered.len(), self.is_at_rest());
            for hostname in self.swarm.services.keys().cloned().collect::<Vec<_>>() {
                if self.swarm.task(&hostname).is_none() {
                    self.swarm.new_task(&hostname);
                }
            }
            for at in 0..BALANCERS {
                self.settle(at);
            }
            if before.2 && before.0 == self.swarm.epoch() {
                return;
            }
            self.now += Duration::from_secs(2);
        }
        let fleets: Vec<&Fleet> = self.balancers.iter().map(|balancer| &balancer.fleet).collect();
        panic!("it does not come to rest: {:#?}, {:#?}, {fleets:#?}", self.swarm.roster(), self.unanswered);
    }

    fn settle(&mut self, at: usize) {
        self.apply(at, Event::Adopted(self.swarm.epoch(), self.swarm.roster().clone()));
        self.apply(at, Event::Tick);
        while !self.balancers[at].checks.is_empty() {
            self.finish_a_check(at);
        }
        while !self.balancers[at].draining.is_empty() {
            self.drain(at);
        }
        while !self.balancers[at].removals.is_empty() {
            self.remove(at);
        }
        for id in self.balancers[at].followed.keys().copied().collect::<Vec<_>>() {
            self.get_ready(at, id);
        }
        for _ in 0..2 {
            self.decide(at, false);
            self.tell(at);
        }
    }

    fn get_ready(&mut self, at: usize, id: ReplicaId) {
        self.balancers[at].create(id, &mut self.swarm);
        let Some(followed) = self.balancers[at].followed.get(&id) else { return };
        let running = self.swarm.task(&followed.hostname);
        match followed.task {
            None => {
                let task = self.balancers[at].next_task(followed, &self.swarm);
                self.balancers[at].followed.get_mut(&id).unwrap().task = task;
                if task.is_some() {
                    self.apply(at, Event::Started(id));
                }
            }
            Some(task) if running == Some(task) => {
                self.balancers[at].followed.get_mut(&id).unwrap().has_passed = true;
                self.apply(at, Event::Passed(id));
            }
            Some(_) => {
                self.balancers[at].followed.remove(&id);
                self.balancers[at].draining.remove(&id);
                self.apply(at, Event::Lost(id, "has ended".into()));
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        let is_up = |balancer: &Balancer| {
            let fleet = &balancer.fleet;
            fleet.slots().chain(fleet.spares()).all(|view| view.state == State::Up)
                && fleet.in_passing().count() == 0
        };
        let roster = self.swarm.roster();
        self.unanswered.is_empty()
            && roster.coming.is_empty()
            && roster.leaving.is_empty()
            && self.balancers.iter().all(|balancer| balancer.proposal.is_none() && is_up(balancer))
    }

    pub(super) fn check_agreement(&self, seed: u64) {
        let roster = self.swarm.roster();
        for Balancer { fleet, .. } in &self.balancers {
            assert_eq!((fleet.epoch(), &fleet.roster()), (Some(self.swarm.epoch()), roster), "seed {seed}");
        }
        let mut named: Vec<&Hostname> = roster.hostnames().collect();
        named.sort_unstable();
        let exist: Vec<&Hostname> = self.swarm.services.keys().collect();
        assert_eq!(named, exist, "seed {seed}: seats and spares are the services that exist");
        assert!(self.unanswered.is_empty(), "seed {seed}: every command is answered");
    }
}
