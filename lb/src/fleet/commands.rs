//! Commands: add slots, remove slots, change the mapping.
//!
//! Each command is planned first and carried out second, so a refused command changes nothing. Between the two the room for its slots
//! is checked elsewhere ([`Demand`]); then it is planned again, because the fleet may have changed meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use mapping::{MOST_SLOTS, MappingPolicy, Member, NotAccepted};
use proto::control::{
    Addition, Change, DrainTime, Failure, FailureKind, Hostname, Remapping, Removal, Weight,
};

use super::place::Place;
use super::{Arrival, CommandId, Demand, Effect, Fleet, ReplicaId, Room, SlotId, Stopping};

/// How long an `add` waits for its replicas: short enough to answer it within a minute.
pub(super) const ADD_LIMIT: Duration = Duration::from_secs(50);

/// A slot that an `add` creates.
pub(super) struct NewSlot {
    pub(super) id: SlotId,
    pub(super) weight: Weight,
}

/// The result of a planned `add`.
pub(super) struct Added {
    pub(super) slots: Vec<NewSlot>,
    pub(super) demand: Demand,
}

/// The result of a planned change of the mapping.
pub(super) struct Remapped {
    pub(super) policy: MappingPolicy,
    /// The new weights, by slot name.
    pub(super) weights: BTreeMap<Hostname, Weight>,
    pub(super) demand: Demand,
}

impl Fleet {
    pub(super) fn add(&mut self, command: CommandId, change: Addition, room: Option<&Room>) {
        let mut rng = self.rng.clone();
        match self.plan_add(&change, &mut rng) {
            Ok(Added { slots, demand }) if room.is_some_and(|room| room.is_for(&demand)) => {
                self.rng = rng;
                self.begin_add(command, slots);
            }
            Ok(Added { demand, .. }) => {
                self.effects.push(Effect::Check(command, Change::Add(change), demand));
            }
            Err(refusal) => self.answer(command, Err(refusal)),
        }
    }

    /// The new slots of an `add`, or why it is refused.
    pub(super) fn plan_add(&self, change: &Addition, rng: &mut fastrand::Rng) -> Result<Added, Failure> {
        self.refuse_if_over()?;
        let n = change.n as usize;
        if change.hostnames.len() > n {
            return Err(bad("Length of hostname list is more than newly added instances"));
        }
        if change.weights.len() > n {
            return Err(bad(format!(
                "`weights` has {} weights for `n` = {n} new replicas",
                change.weights.len()
            )));
        }
        self.refuse_if_crowded(n, &change.weights)?;
        let mut names = self.new_names(&change.hostnames, n, rng)?.into_iter();
        let weights = change.weights.iter().copied().map(Some).chain(std::iter::repeat(None));
        let members = self.future_members();
        let is_free = |index: &u32| members.iter().all(|member| member.index != *index);
        let indices = (1..).filter(is_free);
        let slots = indices.zip(names.by_ref()).zip(weights).map(|((index, name), weight)| NewSlot {
            weight: weight.unwrap_or_else(|| self.names.weight(&name)),
            id: SlotId { index, name },
        });
        let slots: Vec<NewSlot> = slots.take(n).collect();
        let mut members = members;
        members.extend(slots.iter().map(|slot| slot.id.member(slot.weight)));
        Ok(Added { slots, demand: Demand::new(self.policy.mapping.scheme.clone(), members) })
    }

    /// The names of `n` new slots: the given ones first, then new ones.
    fn new_names(
        &self,
        given: &[Hostname],
        n: usize,
        rng: &mut fastrand::Rng,
    ) -> Result<Vec<Hostname>, Failure> {
        let mut taken = self.taken_names();
        for name in given {
            self.names.permit(name)?;
            if !taken.insert(name.clone()) {
                return Err(bad(format!("hostname {name} is in use or repeated; each must be new")));
            }
        }
        let mut names = given.to_vec();
        while names.len() < n {
            let name = self.names.next(&taken, rng).ok_or_else(|| self.names.exhausted())?;
            taken.insert(name.clone());
            names.push(name);
        }
        Ok(names)
    }

    /// Refuses `n` more slots if the fleet cannot hold them.
    fn refuse_if_crowded(&self, n: usize, weights: &[Weight]) -> Result<(), Failure> {
        let members = self.future_members();
        let is_plain =
            members.iter().all(|member| member.weight == 1) && weights.iter().all(Weight::is_usual);
        // With weights, a slot takes more or less room: only the mapping itself can tell.
        let capacity = self.policy.mapping.scheme.algorithm.capacity().filter(|_| is_plain);
        let (now, most) = (members.len(), capacity.unwrap_or(MOST_SLOTS).min(MOST_SLOTS));
        if n > most.saturating_sub(now) {
            return Err(bad(format!("`n` is {n}, but the fleet has {now} slots and can have {most}")));
        }
        Ok(())
    }

    pub(super) fn remap(&mut self, command: CommandId, change: Remapping, room: Option<&Room>) {
        match self.plan_remap(&change) {
            Ok(Remapped { policy, weights, demand }) if room.is_some_and(|room| room.is_for(&demand)) => {
                self.policy.mapping = policy;
                for place in &mut self.places {
                    let weight = place.slot.as_ref().and_then(|slot| weights.get(&slot.name));
                    place.weight = weight.copied().unwrap_or(place.weight);
                }
                self.publish = true;
                self.answer(command, Ok(()));
            }
            Ok(Remapped { demand, .. }) => {
                self.effects.push(Effect::Check(command, Change::Mapping(change), demand));
            }
            Err(refusal) => self.answer(command, Err(refusal)),
        }
    }

    /// The new mapping and weights, or why they are refused.
    pub(super) fn plan_remap(&self, change: &Remapping) -> Result<Remapped, Failure> {
        self.refuse_if_over()?;
        if *change == Remapping::default() {
            return Err(bad(format!(
                "there is nothing to change: expected one or more of {}",
                Remapping::fields()
            )));
        }
        let policy =
            self.policy.mapping.amended(change.values()).map_err(|problems| bad(joined(&problems)))?;
        let mut weights = BTreeMap::new();
        for (name, weight) in &change.weights {
            let slot = self.slot_called(name).ok_or_else(|| unknown(name))?;
            if weights.insert(slot, *weight).is_some() {
                return Err(bad(format!("`weights` has the slot of {name} twice, by name and by hostname")));
            }
        }
        let mut members = self.future_members();
        weigh(&mut members, &weights);
        let demand = Demand::new(policy.scheme.clone(), members);
        Ok(Remapped { policy, weights, demand })
    }

    fn begin_add(&mut self, command: CommandId, slots: Vec<NewSlot>) {
        let mut places = Vec::with_capacity(slots.len());
        for NewSlot { id, weight } in slots {
            let occupant = self.start(Some(id.clone()), id.name.clone(), true);
            places.push(Place::new(Some(id), weight, occupant, self.now));
        }
        self.effects.extend(places.iter().map(|place| Effect::Changed(place.view())));
        self.arriving.push(Arrival { command, places, deadline: self.now + ADD_LIMIT });
    }

    /// Puts all new slots of an `add` into the mapping, in one step.
    pub(super) fn complete_add(&mut self, arrival: Arrival) {
        self.effects.extend(arrival.places.iter().map(|place| Effect::Changed(place.view())));
        self.places.extend(arrival.places);
        self.places.sort_by_key(|place| place.slot.as_ref().map_or(u32::MAX, |slot| slot.index));
        self.publish = true;
        self.answer(arrival.command, Ok(()));
    }

    /// Stops every replica that an `add` has started. The `lost` one has already ended.
    pub(super) fn abandon_add(&mut self, arrival: &Arrival, lost: Option<ReplicaId>, reason: &str) {
        let started = arrival.places.iter().filter_map(Place::replica_id);
        let running = started.filter(|&id| Some(id) != lost);
        self.effects.extend(running.map(|id| Effect::Stop(id, Stopping::Gently)));
        self.answer(arrival.command, Err(FailureKind::StartFailed.because(reason)));
    }

    pub(super) fn remove(&mut self, command: CommandId, change: &Removal) {
        let mut rng = self.rng.clone();
        match self.plan_remove(change, &mut rng) {
            Ok(names) => {
                self.rng = rng;
                names.iter().for_each(|name| self.take_out(name, change.drain));
                self.publish = true;
                self.answer(command, Ok(()));
            }
            Err(refusal) => self.answer(command, Err(refusal)),
        }
    }

    /// The names of the slots that a `rm` takes out, or why it is refused.
    pub(super) fn plan_remove(
        &self,
        change: &Removal,
        rng: &mut fastrand::Rng,
    ) -> Result<Vec<Hostname>, Failure> {
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
            let slot = self.slot_called(name).ok_or_else(|| unknown(name))?;
            let position = others.iter().position(|other| *other == slot);
            let position =
                position.ok_or_else(|| bad(format!("hostname {name} is repeated; name each once")))?;
            going.push(others.swap_remove(position));
        }
        rng.shuffle(&mut others);
        going.extend(others.into_iter().take(n - going.len()));
        Ok(going)
    }

    /// The name of the slot that has this name, or whose replica has it.
    fn slot_called(&self, name: &Hostname) -> Option<Hostname> {
        let named = |place: &Place| {
            let slot = place.slot.as_ref()?;
            (slot.name == *name || place.life.hostname() == name).then(|| slot.name.clone())
        };
        self.places.iter().find_map(named)
    }

    /// Takes a slot out of the mapping. Its replica is stopped when its sessions have ended, or at the end of the drain time.
    fn take_out(&mut self, name: &Hostname, drain: Option<DrainTime>) {
        let is_it = |place: &mut Place| place.slot.as_ref().is_some_and(|slot| slot.name == *name);
        let Some(mut place) = self.places.extract_if(.., is_it).next() else { return };
        let has_served = place.life.has_served();
        let Some(id) = place.begin_drain(self.now) else { return };
        self.effects.push(Effect::Changed(place.view()));
        if has_served {
            self.leaving.push(place);
            self.effects.push(Effect::Drain(id, drain));
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

/// Gives these members their new weights.
pub(super) fn weigh(members: &mut [Member], weights: &BTreeMap<Hostname, Weight>) {
    for member in members {
        let weight = weights.iter().find(|(name, _)| name.as_str() == member.name);
        member.weight = weight.map_or(member.weight, |(_, weight)| weight.get());
    }
}

fn unknown(name: &Hostname) -> Failure {
    bad(format!("hostname {name} is unknown; `rep` lists the hostnames that there are"))
}

fn bad(message: impl Into<String>) -> Failure {
    FailureKind::BadRequest.because(message)
}

fn joined(problems: &[NotAccepted]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
