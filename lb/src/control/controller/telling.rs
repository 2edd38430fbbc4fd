//! What the controller tells: each change of the fleet, in the log and in the journal.
//!
//! Nothing here decides.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::{Assignment, ReplicaId, SlotId, View};
use proto::control::{Hostname, State};
use proto::incident::{Incident, Phases};
use proto::journal::{Event, Replica};
use proto::printable::clipped;
use tokio::task::spawn_blocking;
use tracing::field::display;
use tracing::{error, info, warn};

use super::Controller;
use super::incidents::Sight;
use crate::control::health::OnDown;
use crate::control::plan::shares;
use crate::log::TOLD;
use crate::metrics::{Metrics, Phase};

/// The longest reason, in characters.
const LONGEST: usize = 500;

/// Whether any replica is in rotation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rotation {
    /// None has been yet.
    Begins,
    Serves,
    /// None is, since then.
    OutSince(Instant),
}

impl Controller {
    /// A replica is to be started.
    pub(super) fn tell_start(&self, assignment: &Assignment) {
        let slot = assignment.slot.as_ref().map(|slot| slot.name.to_string());
        let replica = Replica { slot, hostname: assignment.hostname.to_string(), reason: None };
        self.setup.journal.record(Event::ReplicaStarting(replica));
    }

    /// A replica runs.
    pub(super) fn tell_started(&mut self, id: ReplicaId, address: String) {
        self.incidents.started(id, self.setup.clock.time(Instant::now()));
        if let Some(replica) = self.replica(id, None) {
            self.setup.journal.record(Event::ReplicaStarted { replica, address });
        }
    }

    /// A slot or spare has another state. (The provider warns when a replica ends that was not told to.)
    pub(super) fn tell_change(&self, view: &View) {
        log(view);
        let replica = Replica {
            slot: view.slot.as_ref().map(|slot| slot.name.to_string()),
            hostname: view.hostname.to_string(),
            reason: view.reason.clone(),
        };
        self.setup.journal.record(match view.state {
            // Told when the replica was to be started.
            State::Starting => return,
            State::Up => Event::ReplicaUp(replica),
            State::Down => Event::ReplicaDown(replica),
            State::Draining => Event::ReplicaDraining(replica),
            State::Quarantined => Event::ReplicaQuarantined(replica),
        });
    }

    /// A replica has ended, or could not be started.
    pub(super) fn tell_end(&self, id: ReplicaId, reason: &str) {
        if let Some(replica) = self.replica(id, Some(reason)) {
            self.setup.journal.record(Event::ReplicaEnded(replica));
        }
    }

    /// A replica is stopped, by the wish of `lb`.
    pub(super) fn tell_stop(&self, hostname: &Hostname) {
        let replica = Replica { slot: None, hostname: hostname.to_string(), reason: None };
        self.setup.journal.record(Event::ReplicaStopped(replica));
    }

    /// Keeps the incidents of a slot that has changed.
    pub(super) fn look_at(&mut self, view: &View) {
        let sight = Sight {
            now: self.setup.clock.time(Instant::now()),
            view,
            replica: view.replica.and_then(|id| self.running.get(&id)?.replica.as_ref()),
            resets: self.setup.health.borrow().on_down == OnDown::Reset,
            refused: self.setup.refusals.totals().no_replica,
        };
        if let Some(ended) = self.incidents.see(&sight) {
            measure(&self.setup.metrics, ended);
            self.setup.journal.record(Event::Incident(ended.clone()));
        }
    }

    /// The incidents of slots that have left the fleet have ended.
    pub(super) fn forget_incidents(&mut self) {
        let left: HashSet<u32> = self.fleet.slots().filter_map(|view| Some(view.slot?.index)).collect();
        let refused = self.setup.refusals.totals().no_replica;
        for ended in self.incidents.retain(|index| left.contains(&index), refused) {
            self.setup.journal.record(Event::Incident(ended));
        }
        self.restarts.retain(|index| left.contains(&index));
        let names: Vec<SlotId> = self.fleet.slots().filter_map(|view| view.slot).collect();
        self.setup.slots.retain(&names.iter().map(|slot| slot.name.as_str()).collect());
    }

    /// Has the share of the keys of each slot computed, elsewhere: it may take some tenths of a second.
    pub(super) fn measure_shares(&self) {
        let (slots, number) = (Arc::clone(&self.setup.slots), self.setup.slots.new_mapping());
        let (mapping, members) =
            (Arc::clone(self.publication.mapping()), self.publication.members().to_vec());
        drop(spawn_blocking(move || slots.share(number, shares(&mapping, &members))));
    }

    /// Says when the last replica has left rotation, and when there is one again.
    pub(super) fn tell_rotation(&mut self) {
        // The first one that is up answers this, and most are.
        let is_one_up = self.fleet.slots().any(|view| view.state == State::Up);
        let slots = || self.fleet.slots().count();
        match self.rotation {
            Rotation::Serves if !is_one_up && slots() > 0 && !self.setup.ending.stop.is_cancelled() => {
                error!(slots = slots(), "no replica is in rotation");
                self.rotation = Rotation::OutSince(Instant::now());
            }
            Rotation::OutSince(since) if is_one_up => {
                let up = self.fleet.slots().filter(|view| view.state == State::Up).count();
                let seconds = since.elapsed().as_secs_f64();
                info!(slots = slots(), up, seconds, "replicas are in rotation again");
                self.rotation = Rotation::Serves;
            }
            Rotation::Begins if is_one_up => self.rotation = Rotation::Serves,
            Rotation::Begins | Rotation::Serves | Rotation::OutSince(_) => {}
        }
    }

    pub(super) fn tell_doubt(&self, suspects: bool) {
        if suspects {
            warn!(target: TOLD, "more than half of the fleet is silent: this lb may be cut off, and replaces nothing");
        } else {
            info!(target: TOLD, "most of the fleet answers: this lb replaces what is silent again");
        }
        self.setup.journal.record(Event::Doubt { suspects });
    }

    /// A mapping is published.
    pub(super) fn tell_mapping(&self) {
        self.setup.journal.record(Event::Mapping {
            mapping: self.fleet.mapping().scheme.algorithm.name().to_string(),
            slots: self.publication.members().len(),
            epoch: self.publication.epoch().map(|epoch| epoch.0),
        });
    }

    /// The replica that has been told to start.
    fn replica(&self, id: ReplicaId, reason: Option<&str>) -> Option<Replica> {
        let hostname = self.running.get(&id)?.keeper.hostname().to_string();
        let mut views = self.fleet.slots().chain(self.fleet.in_passing());
        let view = views.find(|view| view.replica == Some(id));
        let slot = view.and_then(|view| view.slot).map(|slot| slot.name.to_string());
        Some(Replica { slot, hostname, reason: reason.map(|reason| clipped(reason, LONGEST)) })
    }
}

/// Measures an incident that has ended with its slot in rotation.
fn measure(metrics: &Metrics, ended: &Incident) {
    let Phases { notice, start, ready, total } = ended.phases;
    if total.is_none() {
        return;
    }
    for (phase, seconds) in Phase::ALL.into_iter().zip([notice, start, ready, total]) {
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        time.into_iter().for_each(|time| metrics.recovery(phase).observe(time));
    }
}

/// Logs a change of state in one line. A replica that is quarantined needs a person; one that is down is capacity that is lost.
fn log(view: &View) {
    let (hostname, state, reason) = (&view.hostname, view.state, view.reason.as_deref());
    let (slot, index) =
        (view.slot.as_ref().map(|slot| &slot.name), view.slot.as_ref().map(|slot| slot.index));
    let (slot, what) = (slot.map(display), if view.slot.is_some() { "replica" } else { "spare" });
    match state {
        State::Quarantined => error!(target: TOLD, slot, index, %hostname, %state, reason, "{what} {state}"),
        State::Down => warn!(target: TOLD, slot, index, %hostname, %state, reason, "{what} {state}"),
        State::Starting | State::Up | State::Draining => {
            info!(target: TOLD, slot, index, %hostname, %state, reason, "{what} {state}");
        }
    }
}
