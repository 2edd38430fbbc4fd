//! The Docker Swarm of the simulation: one service for each replica, the record that balancers share, and the calls that are made.
//!
//! It is reachable or not, for all or for some balancers. What it leaves out: nodes and their room, images, and the time that calls wait
//! for each other.

use std::collections::BTreeMap;
use std::rc::Rc;

use fleet::{Epoch, Roster, Time};
use proto::control::Hostname;

/// The number of a task. Each new one gets a new number, as each gets a new address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Task(u64);

/// A service: the replica of one hostname.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    pub(super) task: Task,
    pub(super) runs: bool,
    /// The epoch that it was made for.
    since: Epoch,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Engine {
    epoch: Epoch,
    roster: Rc<Roster>,
    services: BTreeMap<Hostname, Service>,
    last_task: u64,
    is_away: bool,
    /// By balancer.
    is_cut_off: Vec<bool>,
    /// The calls of each balancer, by second.
    calls: Vec<Vec<u32>>,
}

impl Engine {
    /// A Swarm where every replica of `roster` runs.
    pub(super) fn new(roster: Roster, balancers: usize) -> Self {
        let mut engine = Engine {
            epoch: Epoch(1),
            roster: Rc::new(roster),
            services: BTreeMap::new(),
            last_task: 0,
            is_away: false,
            is_cut_off: vec![false; balancers],
            calls: vec![Vec::new(); balancers],
        };
        let hostnames: Vec<Hostname> = engine.roster.hostnames().cloned().collect();
        for hostname in hostnames {
            engine.create(hostname.clone(), Epoch(1));
            engine.run(&hostname);
        }
        engine
    }

    pub(super) fn record(&self) -> (Epoch, Rc<Roster>) {
        (self.epoch, Rc::clone(&self.roster))
    }

    /// Replaces the record if it still is of that epoch. Returns the new epoch.
    pub(super) fn write(&mut self, expected: Epoch, roster: Roster) -> Option<Epoch> {
        if self.epoch != expected {
            return None;
        }
        self.epoch.0 += 1;
        self.roster = Rc::new(roster);
        Some(self.epoch)
    }

    /// Makes a service whose task does not run yet.
    pub(super) fn create(&mut self, hostname: Hostname, since: Epoch) {
        self.last_task += 1;
        self.services.insert(hostname, Service { task: Task(self.last_task), runs: false, since });
    }

    /// A new task of that service runs, unless the service has been removed.
    pub(super) fn run(&mut self, hostname: &Hostname) {
        self.last_task += 1;
        if let Some(service) = self.services.get_mut(hostname) {
            *service = Service { task: Task(self.last_task), runs: true, ..*service };
        }
    }

    /// The task of that service ends.
    pub(super) fn end(&mut self, hostname: &Hostname) {
        if let Some(service) = self.services.get_mut(hostname) {
            service.runs = false;
        }
    }

    /// Removes the service if it was made for no later epoch than this one, and returns it if it was there.
    pub(super) fn remove(&mut self, epoch: Epoch, hostname: &Hostname) -> Option<Service> {
        self.service(hostname).filter(|service| service.since <= epoch)?;
        self.services.remove(hostname)
    }

    /// The service, if there is one.
    pub(super) fn service(&self, hostname: &Hostname) -> Option<Service> {
        self.services.get(hostname).copied()
    }

    pub(super) fn services(&self) -> impl Iterator<Item = (&Hostname, &Service)> {
        self.services.iter()
    }

    pub(super) fn tasks(&self) -> usize {
        self.services.len()
    }

    pub(super) fn set_away(&mut self, is_away: bool) {
        self.is_away = is_away;
    }

    pub(super) fn is_away(&self) -> bool {
        self.is_away
    }

    /// Cuts these balancers off, and connects the others.
    pub(super) fn cut_off(&mut self, balancers: &[usize]) {
        for (balancer, is_cut_off) in self.is_cut_off.iter_mut().enumerate() {
            *is_cut_off = balancers.contains(&balancer);
        }
    }

    pub(super) fn is_reachable(&self, balancer: usize) -> bool {
        !self.is_away && !self.is_cut_off[balancer]
    }

    /// Counts calls.
    pub(super) fn count(&mut self, balancer: usize, now: Time, calls: u32) {
        let (second, counts) = (now.as_secs() as usize, &mut self.calls[balancer]);
        counts.resize(counts.len().max(second + 1), 0);
        counts[second] += calls;
    }

    /// The calls of a balancer in each second.
    pub(super) fn calls(&self) -> &[Vec<u32>] {
        &self.calls
    }
}
