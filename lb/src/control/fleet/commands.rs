//! Commands: slots that come and go because somebody wants it so.
//!
//! A command is planned before anything happens, so that one that is refused changes nothing.

use std::time::Duration;

use proto::control::{Change, Failure, FailureKind, Hostname};

use super::place::Place;
use super::{Arrival, CommandId, Effect, Fleet, MOST_SLOTS, ReplicaId, SlotId, Stopping};
use crate::ring::{Mapping, Member};

/// The longest that an `add` waits for its replicas: it has to be answered within a minute.
pub(super) const ADD_LIMIT: Duration = Duration::from_secs(50);

impl Fleet {
    pub(super) fn add(&mut self, command: CommandId, change: &Change) {
        match self.plan_add(change) {
            Ok(slots) => self.begin_add(command, slots),
            Err(refusal) => self.answer(command, Err(refusal)),
        }
    }

    /// The new slots, or why there can be none.
    fn plan_add(&mut self, change: &Change) -> Result<Vec<SlotId>, Failure> {
        self.refuse_if_over()?;
        let n = change.n as usize;
        if change.hostnames.len() > n {
            return Err(bad("Length of hostname list is more than newly added instances"));
        }
        let indices = self.free_indices(n)?;
        let mut taken = self.taken_names();
        for name in &change.hostnames {
            self.names.permit(name)?;
            if !taken.insert(name.clone()) {
                return Err(bad(format!("hostname {name} is in use or repeated; each must be new")));
            }
        }
        let mut names = change.hostnames.clone();
        while names.len() < n {
            let name = self.names.next(&taken, &mut self.rng).ok_or_else(|| self.names.exhausted())?;
            taken.insert(name.clone());
            names.push(name);
        }
        Ok(indices.into_iter().zip(names).map(|(index, name)| SlotId { index, name }).collect())
    }

    /// The lowest `n` indices that are free, if there is room for them in the fleet and in the mapping.
    fn free_indices(&self, n: usize) -> Result<Vec<u32>, Failure> {
        let algorithm = &self.policy.algorithm;
        let mut members: Vec<Member> = self.members().map(SlotId::member).collect();
        let (now, most) = (members.len(), algorithm.capacity().unwrap_or(MOST_SLOTS).min(MOST_SLOTS));
        if n > most.saturating_sub(now) {
            return Err(bad(format!("`n` is {n}, but the fleet has {now} slots and can have {most}")));
        }
        let is_free = |index: &u32| members.iter().all(|member| member.index != *index);
        let indices: Vec<u32> = (1..).filter(is_free).take(n).collect();
        if algorithm.capacity().is_some() {
            // Quadratic probing may find no place where there is room.
            members.extend(indices.iter().map(|&index| Member { index, name: String::new() }));
            Mapping::build(algorithm, &members).map_err(|full| bad(full.to_string()))?;
        }
        Ok(indices)
    }

    fn begin_add(&mut self, command: CommandId, slots: Vec<SlotId>) {
        let mut places = Vec::with_capacity(slots.len());
        for slot in slots {
            let replica = self.start(Some(slot.clone()), slot.name.clone(), true);
            places.push(Place::new(Some(slot), replica, self.now));
        }
        self.effects.extend(places.iter().map(|place| Effect::Changed(place.view())));
        self.arriving.push(Arrival { command, places, deadline: self.now + ADD_LIMIT });
    }

    /// Takes all newcomers of a command into the ring, in one step.
    pub(super) fn complete_add(&mut self, arrival: Arrival) {
        self.effects.extend(arrival.places.iter().map(|place| Effect::Changed(place.view())));
        self.places.extend(arrival.places);
        self.places.sort_by_key(|place| place.slot.as_ref().map_or(u32::MAX, |slot| slot.index));
        self.publish = true;
        self.answer(arrival.command, Ok(()));
    }

    /// Stops whatever of a command did start; what is `lost` has ended by itself.
    pub(super) fn abandon_add(&mut self, arrival: &Arrival, lost: Option<ReplicaId>, reason: &str) {
        let started = arrival.places.iter().filter_map(Place::replica_id);
        let running = started.filter(|&id| Some(id) != lost);
        self.effects.extend(running.map(|id| Effect::Stop(id, Stopping::Gently)));
        self.answer(arrival.command, Err(FailureKind::StartFailed.because(reason)));
    }

    pub(super) fn remove(&mut self, command: CommandId, change: &Change) {
        match self.plan_remove(change) {
            Ok(names) => {
                names.iter().for_each(|name| self.take_out(name));
                self.publish = true;
                self.answer(command, Ok(()));
            }
            Err(refusal) => self.answer(command, Err(refusal)),
        }
    }

    /// The names of the slots that go, or why none can.
    fn plan_remove(&mut self, change: &Change) -> Result<Vec<Hostname>, Failure> {
        self.refuse_if_over()?;
        let n = change.n as usize;
        if change.hostnames.len() > n {
            return Err(bad("Length of hostname list is more than removable instances"));
        }
        let mut others: Vec<Hostname> = self.slot_ids().map(|slot| slot.name.clone()).collect();
        if n > others.len() {
            return Err(bad(format!("`n` is {n}, but the fleet has {} replicas", others.len())));
        }
        let mut going = Vec::with_capacity(n);
        for name in &change.hostnames {
            let slot = self.slot_called(name).ok_or_else(|| {
                bad(format!("hostname {name} is unknown; `rep` lists the hostnames that can be removed"))
            })?;
            let position = others.iter().position(|other| *other == slot);
            let position =
                position.ok_or_else(|| bad(format!("hostname {name} is repeated; name each once")))?;
            going.push(others.swap_remove(position));
        }
        self.rng.shuffle(&mut others);
        going.extend(others.into_iter().take(n - going.len()));
        Ok(going)
    }

    /// The name of the slot that is called `name`, or whose replica is.
    fn slot_called(&self, name: &Hostname) -> Option<Hostname> {
        let named = |place: &Place| {
            let slot = place.slot.as_ref()?;
            (slot.name == *name || place.life.hostname() == name).then(|| slot.name.clone())
        };
        self.places.iter().find_map(named)
    }

    /// Takes a slot off the ring; its replica is stopped when its sessions have ended.
    fn take_out(&mut self, name: &Hostname) {
        let is_it = |place: &mut Place| place.slot.as_ref().is_some_and(|slot| slot.name == *name);
        let Some(mut place) = self.places.extract_if(.., is_it).next() else { return };
        let has_served = place.life.has_served();
        let Some(id) = place.begin_drain(self.now) else { return };
        self.effects.push(Effect::Changed(place.view()));
        if has_served {
            self.leaving.push(place);
            self.effects.push(Effect::Drain(id));
        } else {
            self.effects.push(Effect::Stop(id, Stopping::Gently));
        }
    }

    fn refuse_if_over(&self) -> Result<(), Failure> {
        if self.over { Err(FailureKind::Unavailable.because("lb is shutting down")) } else { Ok(()) }
    }

    pub(super) fn shutdown(&mut self) {
        self.over = true;
        for arrival in std::mem::take(&mut self.arriving) {
            self.abandon_add(&arrival, None, "lb is shutting down");
        }
        let leaving = std::mem::take(&mut self.leaving);
        self.effects.extend(stops(&leaving, Stopping::Gently));
        let how = if self.policy.keep { Stopping::Release } else { Stopping::Gently };
        let places = std::mem::take(&mut self.places);
        self.effects.extend(stops(&places, how));
        self.publish = true;
    }
}

fn stops(places: &[Place], how: Stopping) -> impl Iterator<Item = Effect> {
    places.iter().filter_map(Place::replica_id).map(move |id| Effect::Stop(id, how))
}

fn bad(message: impl Into<String>) -> Failure {
    FailureKind::BadRequest.because(message)
}
