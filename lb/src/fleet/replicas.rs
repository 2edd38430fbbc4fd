//! Events of replicas, and what they do to the places.

use proto::control::State;

use super::ledger::Fault;
use super::place::{Life, Place};
use super::{Arrival, Effect, Fleet, ReplicaId, Stopping, View};

impl Fleet {
    pub(super) fn started(&mut self, id: ReplicaId) {
        let deadline = self.now + self.policy.start_timeout;
        if let Some(newcomer) = self.newcomer(id) {
            newcomer.life.allow_until(Some(deadline));
        } else if let Some(at) = self.position_of(id) {
            // There is no deadline for a fixed address: the fleet cannot start another one.
            self.places[at].life.allow_until(self.policy.restartable.then_some(deadline));
        }
    }

    pub(super) fn passed(&mut self, id: ReplicaId) {
        let now = self.now;
        if let Some(newcomer) = self.newcomer(id) {
            newcomer.rise(now);
            let done =
                |arrival: &mut Arrival| arrival.places.iter().all(|place| place.life.state() == State::Up);
            let complete: Vec<Arrival> = self.arriving.extract_if(.., done).collect();
            complete.into_iter().for_each(|arrival| self.complete_add(arrival));
        } else if let Some(at) = self.position_of(id)
            && self.places[at].rise(now)
        {
            self.note(at);
            self.use_spare(at);
        }
    }

    pub(super) fn failed(&mut self, id: ReplicaId, reason: &str) {
        let (now, restartable) = (self.now, self.policy.restartable);
        if let Some(newcomer) = self.newcomer(id) {
            // In an `add`, a fixed address has a deadline as well, so it stays in the state `Starting`.
            newcomer.fall(now, reason, true);
        } else if let Some(at) = self.position_of(id)
            && self.places[at].fall(now, reason, restartable)
        {
            self.note(at);
        }
    }

    pub(super) fn unresponsive(&mut self, id: ReplicaId) {
        let Some(at) = self.position_of(id) else { return };
        if self.policy.restartable && self.places[at].life.state() == State::Down {
            self.effects.push(Effect::Stop(id, Stopping::AtOnce));
            let probe = self.places[at].reason.take().unwrap_or_default();
            self.replace(at, &format!("unresponsive: {probe}"), Fault::Replica);
        }
    }

    pub(super) fn usurped(&mut self, id: ReplicaId, reason: &str) {
        let holds = |arrival: &mut Arrival| arrival.places.iter().any(|place| place.holds(id));
        let arrival = self.arriving.extract_if(.., holds).next();
        if let Some(arrival) = arrival {
            self.abandon_add(&arrival, None, reason);
        } else if let Some(at) = self.position_of(id)
            && self.policy.restartable
        {
            self.effects.push(Effect::Stop(id, Stopping::AtOnce));
            self.replace(at, reason, Fault::Replica);
        }
    }

    pub(super) fn lost(&mut self, id: ReplicaId, reason: &str, fault: Fault) {
        let holds = |arrival: &mut Arrival| arrival.places.iter().any(|place| place.holds(id));
        let arrival = self.arriving.extract_if(.., holds).next();
        if let Some(arrival) = arrival {
            self.abandon_add(&arrival, Some(id), reason);
        } else if let Some(at) = self.position_of(id) {
            self.replace(at, reason, fault);
        } else {
            self.leaving.retain(|place| !place.holds(id));
        }
    }

    pub(super) fn drained(&mut self, id: ReplicaId) {
        if self.leaving.extract_if(.., |place| place.holds(id)).next().is_some() {
            self.effects.push(Effect::Stop(id, Stopping::Gently));
        }
    }

    pub(super) fn tick(&mut self) {
        let (now, limit) = (self.now, self.policy.start_timeout);
        let is_late = |arrival: &mut Arrival| arrival.overdue(now, limit).is_some();
        let late: Vec<Arrival> = self.arriving.extract_if(.., is_late).collect();
        for arrival in late {
            let reason = arrival.overdue(now, limit).unwrap_or_default();
            self.abandon_add(&arrival, None, &reason);
        }
        for at in 0..self.places.len() {
            if let Some(id) = self.places[at].life.late(now) {
                self.effects.push(Effect::Stop(id, Stopping::AtOnce));
                let reason = self.places[at].overdue(limit);
                self.replace(at, &reason, Fault::Replica);
            } else if self.places[at].life.is_due(now) {
                self.respawn(at);
            }
        }
    }

    /// A slot or spare has lost its replica: a ready spare moves in, or a new replica is started, now or later.
    fn replace(&mut self, at: usize, reason: &str, fault: Fault) {
        self.places[at].reason = Some(reason.to_owned());
        let next = self.places[at].next_try(fault, self.now, &mut self.rng);
        // In quarantine no spare moves in: it would most likely be lost as well.
        let is_storm = matches!(next, Some(Life::Quarantined { .. }));
        let spare = self.ready_spare().filter(|_| self.places[at].slot.is_some() && !is_storm);
        match (spare, next) {
            (Some(spare), _) => self.move_in(at, spare),
            (None, None) => self.respawn(at),
            (None, Some(later)) => {
                self.places[at].enter(later, self.now);
                self.note(at);
            }
        }
    }

    fn ready_spare(&self) -> Option<usize> {
        self.places.iter().position(|place| place.slot.is_none() && place.life.state() == State::Up)
    }

    /// The replica of a place is ready. If it is a spare and a slot waits for a replica, it moves in.
    fn use_spare(&mut self, at: usize) {
        let waits = |place: &Place| place.slot.is_some() && matches!(place.life, Life::Waiting { .. });
        let slot = self.places.iter().position(waits);
        if let (None, Some(slot)) = (&self.places[at].slot, slot) {
            self.move_in(slot, at);
        }
    }

    fn move_in(&mut self, slot: usize, spare: usize) {
        let life = self.places[spare].vacate();
        self.places[slot].take_over(life, self.now);
        self.note(slot);
        self.respawn(spare);
    }

    fn respawn(&mut self, at: usize) {
        let is_kept = self.policy.same_name && self.places[at].slot.is_some();
        let kept = is_kept.then(|| self.places[at].life.hostname().clone());
        let Some(name) = kept.or_else(|| self.fresh_name()) else { return };
        let occupant = self.start(self.places[at].slot.clone(), name, false);
        self.places[at].restarts += 1;
        self.places[at].enter(Life::Starting { occupant, deadline: None }, self.now);
        self.note(at);
    }

    /// Reports a change of a place that others see.
    fn note(&mut self, at: usize) {
        let view: View = self.places[at].view();
        self.publish |= view.slot.is_some();
        self.effects.push(Effect::Changed(view));
    }

    fn newcomer(&mut self, id: ReplicaId) -> Option<&mut Place> {
        self.arriving.iter_mut().flat_map(|arrival| &mut arrival.places).find(|place| place.holds(id))
    }
}
