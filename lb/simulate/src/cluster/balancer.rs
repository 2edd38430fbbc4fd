//! One balancer of the simulation: a real fleet, and what it knows of the replicas.

use std::collections::BTreeMap;

use fleet::pace::Pace;
use fleet::{Authority, Epoch, Event, Fleet, Lineup, Names, Policy, ReplicaId, Roster, Time};
use mapping::MappingPolicy;
use proto::control::Hostname;

use super::choices::{Library, Routing};
use super::engine::{Engine, Task};

/// The defaults of `lb serve`.
const START_LIMIT: Time = Time::from_secs(10);
const DRAIN_LIMIT: Time = Time::from_secs(30);
/// The wall clock at the start of a simulation: any moment will do.
const BORN: Time = Time::from_secs(1_700_000_000);

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Balancer {
    pub(super) fleet: Fleet,
    /// The epoch that its routing is of.
    pub(super) epoch: Option<Epoch>,
    pub(super) routing: Routing,
    /// The replicas whose probes pass, as far as it knows.
    pub(super) known: BTreeMap<Hostname, Known>,
    /// The replicas that it waits for, by the hostnames of their services.
    pub(super) waiting: BTreeMap<ReplicaId, Hostname>,
    /// When to read what: the real one.
    pub(super) pace: Pace,
    /// Whether it reads something now.
    pub(super) is_reading: bool,
    /// When it looks next whether there is something to read.
    pub(super) look: Option<Time>,
    /// When a replica died that is not back yet.
    pub(super) died: BTreeMap<Hostname, Time>,
    /// When the next tick is planned.
    pub(super) tick: Option<Time>,
}

/// A replica that passes its probes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) id: ReplicaId,
    pub(super) task: Task,
}

impl Balancer {
    /// A balancer that follows the record for the first time, when all replicas are ready.
    pub(super) fn new(
        mapping: MappingPolicy,
        engine: &Engine,
        library: &mut Library,
    ) -> anyhow::Result<Self> {
        let policy = Policy {
            mapping,
            start_timeout: START_LIMIT,
            drain_timeout: DRAIN_LIMIT,
            authority: Authority::Shared,
            born: BORN,
        };
        let (mut fleet, _) = Fleet::new(policy, Names::Random, Lineup::default(), 0);
        let (epoch, roster) = engine.record();
        fleet.apply(Time::ZERO, Event::Adopted(epoch, Roster::clone(&roster)));
        let replicas: Vec<(Hostname, ReplicaId)> =
            fleet.slots().filter_map(|view| Some((view.hostname, view.replica?))).collect();
        for (_, id) in &replicas {
            fleet.apply(Time::ZERO, Event::Started(*id));
            fleet.apply(Time::ZERO, Event::Passed(*id));
        }
        let known = |(hostname, id): (Hostname, ReplicaId)| {
            let task = engine.service(&hostname)?.task;
            Some((hostname, Known { id, task }))
        };
        Ok(Balancer {
            epoch: fleet.epoch(),
            routing: Routing::of(&fleet, library)?,
            fleet,
            known: replicas.into_iter().filter_map(known).collect(),
            waiting: BTreeMap::new(),
            pace: Pace::default(),
            is_reading: false,
            look: None,
            died: BTreeMap::new(),
            tick: None,
        })
    }

    /// A replica is waited for no longer; its hostname, if it was.
    pub(super) fn no_longer_waits_for(&mut self, id: ReplicaId) -> Option<Hostname> {
        let hostname = self.waiting.remove(&id)?;
        self.pace.waited_for(hostname.as_str());
        Some(hostname)
    }

    /// A replica is no longer looked after.
    pub(super) fn forget(&mut self, id: ReplicaId) {
        self.no_longer_waits_for(id);
        self.known.retain(|_, known| known.id != id);
    }
}
