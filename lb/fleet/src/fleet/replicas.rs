//! Events of replicas, and what they do to the places.

use proto::control::FailureKind;

use super::{Arrival, Fleet};
use crate::event::Effect;
use crate::ledger::Fault;
use crate::nouns::{ReplicaId, Stopping};
use crate::place::{Life, Place};

impl Fleet {
    pub(super) fn started(&mut self, id: ReplicaId) {
        let deadline = self.now + self.policy.start_timeout;
        if let Some(newcomer) = self.newcomer(id) {
            newcomer.life.allow_until(Some(deadline));
        } else if let Some(at) = self.position_of(id) {
            // There is no deadline for a fixed address: the fleet cannot start another one.
            self.places[at].life.allow_until(self.policy.is_restartable().then_some(deadline));
        }
    }

    pub(super) fn passed(&mut self, id: ReplicaId) {
        let now = self.now;
        if let Some(newcomer) = self.newcomer(id) {
            newcomer.rise(now);
        } else if let Some(at) = self.position_of(id)
            && self.places[at].rise(now)
        {
            self.note(at);
        }
    }

    pub(super) fn failed(&mut self, id: ReplicaId, reason: &str) {
        let (now, restartable) = (self.now, self.policy.is_restartable());
        let is_sure = self.is_sure();
        if let Some(newcomer) = self.newcomer(id) {
            // In an `add`, a fixed address has a deadline as well, so it stays in the state `Starting`.
            newcomer.fall(now, reason, true);
        } else if let Some(at) = self.position_of(id)
            && self.places[at].fall(now, reason, restartable)
        {
            let place = &mut self.places[at];
            // A Swarm shows only later that a replica has ended. A ready spare is there at once, and the replica is a spare if it comes back.
            place.wants_spare |= self.policy.is_shared() && is_sure && place.slot.is_some();
            self.note(at);
        }
    }

    pub(super) fn unresponsive(&mut self, id: ReplicaId) {
        let Some(at) = self.position_of(id) else { return };
        if self.policy.is_restartable() && self.places[at].life.fails() && self.may_replace() {
            self.effects.push(Effect::Stop(id, Stopping::AtOnce));
            let probe = self.places[at].reason.take().unwrap_or_default();
            self.replace(at, &format!("unresponsive: {probe}"), Fault::Replica);
        }
    }

    pub(super) fn usurped(&mut self, id: ReplicaId, reason: &str) {
        if let Some(at) = self.arriving.iter().position(|arrival| arrival.holds(id)) {
            self.give_up(at, None, reason);
        } else if let Some(at) = self.position_of(id)
            && self.policy.is_restartable()
        {
            self.effects.push(Effect::Stop(id, Stopping::AtOnce));
            self.replace(at, reason, Fault::Replica);
        }
    }

    pub(super) fn lost(&mut self, id: ReplicaId, reason: &str, fault: Fault) {
        if let Some(at) = self.arriving.iter().position(|arrival| arrival.holds(id)) {
            self.give_up(at, Some(id), reason);
        } else if let Some(at) = self.position_of(id) {
            self.replace(at, reason, fault);
        } else {
            self.draining.retain(|place| !place.holds(id));
        }
    }

    pub(super) fn drained(&mut self, id: ReplicaId) {
        if self.draining.extract_if(.., |place| place.holds(id)).next().is_some() {
            self.effects.push(Effect::Stop(id, self.policy.farewell()));
        }
    }

    pub(super) fn tick(&mut self) {
        let (now, limit) = (self.now, self.policy.start_timeout);
        for at in (0..self.arriving.len()).rev() {
            let is_entering = self.is_entering(self.arriving[at].command);
            if let Some(reason) = self.arriving[at].overdue(now, limit).filter(|_| !is_entering) {
                self.give_up(at, None, &reason);
            }
        }
        for at in 0..self.places.len() {
            let Some(id) = self.places[at].life.late(now) else { continue };
            if self.may_replace() {
                self.effects.push(Effect::Stop(id, Stopping::AtOnce));
                let reason = self.places[at].overdue(limit);
                self.replace(at, &reason, Fault::Replica);
            } else {
                self.places[at].miss(limit, now);
                self.note(at);
            }
        }
    }

    /// A slot or spare has lost its replica. The next one is started now or later, unless a spare moves in ([`super::decide`]).
    fn replace(&mut self, at: usize, reason: &str, fault: Fault) {
        let (returns, now) = (self.policy.is_shared(), self.now);
        self.places[at].lose(reason, fault, returns, now, &mut self.rng);
        if !self.places[at].life.is_due(now) {
            self.note(at);
        }
    }

    /// Starts the next replica wherever the time has come.
    pub(super) fn respawn_due(&mut self) {
        for at in 0..self.places.len() {
            if self.places[at].life.is_due(self.now) {
                self.respawn(at);
            }
        }
    }

    fn respawn(&mut self, at: usize) {
        let is_kept = self.policy.keeps_hostname(self.places[at].slot.is_some());
        let kept = is_kept.then(|| self.places[at].life.hostname().clone());
        let Some(name) = kept.or_else(|| self.fresh_name()) else { return };
        let Place { slot, location, .. } = &self.places[at];
        let (slot, location) = (slot.clone(), location.clone());
        let occupant = self.start(slot, (name, location), false);
        let place = &mut self.places[at];
        place.restarts += 1;
        // Where `lb` starts the next replica, a spare would come too late.
        place.wants_spare &= self.policy.is_shared();
        place.enter(Life::Starting { occupant, deadline: None }, self.now);
        self.note(at);
    }

    /// The slots of an `add` cannot enter. While their entry is proposed, it is open whether they will.
    fn give_up(&mut self, at: usize, lost: Option<ReplicaId>, reason: &str) {
        let command = self.arriving[at].command;
        if !self.is_entering(command) {
            return self.abandon_add(command, lost, FailureKind::StartFailed.because(reason));
        }
        let Arrival { places, broken, .. } = &mut self.arriving[at];
        broken.get_or_insert_with(|| reason.to_owned());
        let Some(at_place) = places.iter().position(|place| lost.is_some_and(|id| place.holds(id))) else {
            return;
        };
        let Place { slot, location, life, .. } = &places[at_place];
        let (slot, name) = (slot.clone(), (life.hostname().clone(), location.clone()));
        let occupant = self.start(slot, name, false);
        let life = Life::Starting { occupant, deadline: None };
        self.arriving[at].places[at_place].enter(life, self.now);
    }

    fn newcomer(&mut self, id: ReplicaId) -> Option<&mut Place> {
        self.arriving.iter_mut().flat_map(|arrival| &mut arrival.places).find(|place| place.holds(id))
    }
}
