//! Replicas from their start until they are given up: their probes, their sessions, their drain.
//!
//! Nothing here decides: it performs effects of the fleet and tells it what has happened.

use std::sync::Arc;
use std::time::Duration;

use fleet::{Event, ReplicaId, View};
use proto::control::State;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::Controller;
use crate::control::health::{self, OnDown};
use crate::provider::{Carrier, Keeper, Reach};
use crate::replica::{EVICTION, Replica};

/// How long a lost replica must have sent nothing before its sessions are ended.
const SILENCE: Duration = Duration::from_secs(5);

/// A replica from its start until it is given up.
pub(super) struct Running {
    pub(super) keeper: Keeper,
    /// Known once the provider has started it.
    pub(super) replica: Option<Arc<Replica>>,
    pub(super) carrier: Option<Carrier>,
    probes: Option<AbortOnDropHandle<()>>,
}

impl Running {
    /// A replica that its provider has been told to start.
    pub(super) fn new(keeper: Keeper) -> Self {
        Running { keeper, replica: None, carrier: None, probes: None }
    }
}

impl Controller {
    pub(super) fn started(&mut self, id: ReplicaId, Reach { addresses, door, carrier, inspector }: Reach) {
        let Some(running) = self.running.get_mut(&id) else { return };
        let hostname = running.keeper.hostname().to_string();
        let address = addresses.first().to_string();
        let replica = Replica::new(hostname, addresses, self.setup.evict.child_token());
        let replica = Arc::new(replica.with_handoff_at(door));
        let identity = self.setup.provider.names_replicas();
        let watch = health::watch(
            id,
            Arc::clone(&replica),
            inspector,
            identity,
            (self.setup.health.subscribe(), self.setup.runner.clone()),
            self.events.clone(),
        );
        running.replica = Some(replica);
        running.carrier = carrier;
        running.probes = Some(AbortOnDropHandle::new(tokio::spawn(watch)));
        if let Some(view) = self.fleet.slots().find(|view| view.replica == Some(id)) {
            self.seat(&view);
        }
        self.tell_started(id, address);
        self.apply(Event::Started(id));
    }

    /// Ends the sessions of a replica that has just begun to fail its probes, if they are not to be kept.
    pub(super) fn settle_sessions(&mut self, view: &View) {
        let failing = view.replica.filter(|_| view.state == State::Down);
        if self.setup.health.borrow().on_down == OnDown::Reset
            && let Some(replica) = failing.and_then(|id| self.running.get(&id)?.replica.clone())
        {
            self.catch_up();
            replica.reset_sessions();
        }
    }

    /// Ends probes, link and sessions of a replica that is lost, or is being stopped.
    pub(super) fn give_up(&mut self, id: ReplicaId) -> Option<Keeper> {
        let Running { keeper, replica, .. } = self.running.remove(&id)?;
        if let Some(link) = replica.as_ref().and_then(|replica| replica.link()) {
            link.end();
        }
        if let Some(replica) = replica.filter(|_| self.setup.provider.takes_the_network_along()) {
            tokio::spawn(async move { replica.evict_when_silent(SILENCE).await });
        }
        Some(keeper)
    }

    pub(super) fn drain(&mut self, id: ReplicaId, limit: Duration) {
        let Some(running) = self.running.get_mut(&id) else { return };
        running.probes = None;
        let (replica, events) = (running.replica.clone(), self.events.clone());
        tokio::spawn(async move {
            if let Some(replica) = replica
                && timeout(limit, replica.drained()).await.is_err()
            {
                replica.evict();
                let _ = timeout(EVICTION, replica.drained()).await;
            }
            // It fails only while `lb` ends.
            let _ = events.send(Event::Drained(id)).await;
        });
    }
}
