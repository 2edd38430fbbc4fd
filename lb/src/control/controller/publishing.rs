//! Publishes what the fleet is, for the data plane.
//!
//! A snapshot holds all slots, so to make one takes time for each of them. When many replicas change at once, such as 1,000 that start or do not
//! answer, one snapshot shows what several events have brought.

use std::sync::Arc;

use fleet::{Event, SlotId, View};
use mapping::{Full, Mapping};
use proto::control::State;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};
use tracing::error;

use super::Controller;
use super::publication::{Blueprint, left};
use crate::snapshot::{Slot, Snapshot};

/// The most events whose changes are published together.
const AT_ONCE: usize = 64;

impl Controller {
    /// Applies an event, and those that have come meanwhile, and publishes once for all of them.
    pub(super) fn apply_with_more(&mut self, event: Event, events: &mut mpsc::Receiver<Event>) {
        let mut next = Some(event);
        for left in (0..AT_ONCE).rev() {
            let Some(event) = next.take() else { break };
            next = if left > 0 { events.try_recv().ok() } else { None };
            self.more_follows = next.is_some();
            self.apply(event);
        }
    }

    /// Publishes what is due. The data plane has to hear of a replica that leaves before its sessions and its link are ended.
    pub(super) fn catch_up(&mut self) {
        if std::mem::take(&mut self.is_due) {
            self.publish();
        }
    }

    /// Publishes, answers and tells what the last events have brought.
    pub(super) fn settle(&mut self) {
        self.catch_up();
        self.publication.stamp(self.fleet.epoch());
        self.answer_all();
        self.announce();
        if std::mem::take(&mut self.has_changed) {
            self.tell_rotation();
        }
    }

    /// Reports once that all replicas are in rotation.
    pub(super) fn announce(&mut self) {
        if self.ready.is_none() {
            return;
        }
        // An empty fleet whose slots come from outside has not heard of them yet.
        let is_awaited = self.setup.provider.brings_slots() && self.fleet.slots().next().is_none();
        if !is_awaited
            && self.publication.is_settled(self.publication.wanted())
            && self.fleet.slots().all(|view| view.state == State::Up)
            && let Some(ready) = self.ready.take()
        {
            // It fails only while `lb` ends.
            let _ = ready.send(self.fleet.slots().count());
        }
    }

    fn publish(&mut self) {
        self.forget_incidents();
        let scheme = self.fleet.mapping().scheme.clone();
        let members = self.fleet.slots().filter_map(|view| view.member()).collect();
        self.publication.want(Blueprint { scheme, members });
        self.store();
        self.build();
    }

    /// Publishes the slots of the mapping that there is, as they are now.
    pub(super) fn store(&self) {
        let views = self.fleet.slots().collect();
        let slots = self.publication.arrange(views);
        let slots =
            slots.map(|(member, view)| view.and_then(|view| self.slot(view)).unwrap_or_else(|| left(member)));
        let (mapping, balance) = (Arc::clone(self.publication.mapping()), self.fleet.mapping().balance);
        let snapshot = Snapshot::new(mapping, slots.collect(), balance, self.setup.most_per_replica);
        self.setup.cell.store(Arc::new(snapshot));
    }

    /// Has the next mapping built, if there is one to build.
    fn build(&mut self) {
        if let Some(blueprint) = self.publication.next() {
            self.building = Some(spawn_blocking(move || blueprint.build()));
        }
    }

    pub(super) fn built(&mut self, built: Result<Result<Mapping, Full>, JoinError>) {
        self.building = None;
        let built = built.map_err(anyhow::Error::from).and_then(|built| Ok(built?));
        // The fleet refuses slots that do not fit, so this is a bug.
        let built = built.inspect_err(|error| error!(%error, "the mapping cannot be built"));
        let is_new = built.is_ok();
        self.publication.complete(built.ok());
        if is_new {
            self.tell_mapping();
            self.measure_shares();
        }
        self.store();
        self.build();
        self.answer_all();
        self.announce();
    }

    fn slot(&self, view: View) -> Option<Slot> {
        let SlotId { index, name } = view.slot?;
        let replica = view.replica.and_then(|id| self.running.get(&id)?.replica.clone());
        let hostname = view.hostname.to_string();
        Some(Slot {
            index,
            name: name.to_string(),
            weight: view.weight.get(),
            hostname,
            state: view.state,
            reason: view.reason,
            replica,
        })
    }
}
