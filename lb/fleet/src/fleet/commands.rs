//! Commands: what they would make of the roster, or why they are refused. Nothing here changes the fleet but the start and the end of an
//! `add`.
//!
//! Whether the mapping has room for the slots of a command is checked elsewhere ([`Demand`]). Then the command is planned again, because
//! the fleet may have changed meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use mapping::{MOST_SLOTS, MappingPolicy, Member, NotAccepted};
use proto::control::{Addition, Failure, FailureKind, Hostname, Remapping, Removal, Weight};

use super::Fleet;
use super::arrival::{ADD_LIMIT, Arrival};
use super::decide::{NoPlan, Plan, Then};
use crate::event::{CommandId, Effect};
use crate::nouns::{ReplicaId, Seat, SlotId, Stopping};
use crate::place::Place;
use crate::policy::Authority;
use crate::room::{Demand, Room};
use crate::roster::{Coming, Leaving, UnixTime};

/// How long its slots are known to come: other clocks may differ.
const ADD_NOTICE: Duration = Duration::from_secs(90);

/// The result of a planned `add`.
pub(super) struct Added {
    pub(super) seats: Vec<Seat>,
    pub(super) demand: Demand,
}

/// The result of a planned change of the mapping.
pub(super) struct Remapped {
    pub(super) policy: MappingPolicy,
    /// The new weights, by slot name.
    pub(super) weights: BTreeMap<Hostname, Weight>,
    pub(super) demand: Demand,
}

/// The rosters that commands lead to.
impl Fleet {
    pub(super) fn plan_to_add(
        &self,
        command: CommandId,
        change: &Addition,
        room: Option<&Room>,
        rng: &mut fastrand::Rng,
    ) -> Result<Plan, NoPlan> {
        let Added { seats, demand } = self.plan_add(change, rng)?;
        ensure(room, demand)?;
        let mut roster = self.roster();
        let until = self.wall() + ADD_NOTICE;
        let coming: Vec<Coming> = seats.into_iter().map(|seat| Coming { seat, until }).collect();
        roster.coming.extend_from_slice(&coming);
        Ok(Plan { roster, then: Then::Start(command, coming) })
    }

    pub(super) fn plan_to_enter(&self, command: CommandId) -> Result<Plan, NoPlan> {
        let arrival = self.arriving.iter().find(|arrival| arrival.command == command);
        let arrival = arrival.ok_or_else(too_late)?;
        if let Some(reason) = &arrival.broken {
            return Err(FailureKind::StartFailed.because(reason).into());
        }
        let mut roster = self.roster();
        let ready: Vec<Coming> = roster.coming.extract_if(.., |coming| arrival.announced(coming)).collect();
        // Others may have given it up, and even have announced the same names since.
        if ready.is_empty() || ready.len() < arrival.places.len() {
            return Err(too_late().into());
        }
        roster.seats.extend(ready.into_iter().map(|coming| coming.seat));
        roster.seats.sort_by_key(|seat| seat.slot.index);
        Ok(Plan { roster, then: Then::Answer(command) })
    }

    pub(super) fn plan_to_remove(
        &self,
        command: CommandId,
        change: &Removal,
        rng: &mut fastrand::Rng,
    ) -> Result<Plan, NoPlan> {
        let names = self.plan_remove(change, rng)?;
        let until = self.wall() + change.drain.map_or(self.policy.drain_timeout, Duration::from);
        let mut roster = self.roster();
        let gone = roster.seats.extract_if(.., |seat| names.contains(&seat.slot.name));
        roster.leaving.extend(gone.map(|seat| Leaving { hostname: seat.hostname, until }));
        Ok(Plan { roster, then: Then::Answer(command) })
    }

    pub(super) fn plan_to_remap(
        &self,
        command: CommandId,
        change: &Remapping,
        room: Option<&Room>,
    ) -> Result<Plan, NoPlan> {
        let Remapped { policy, weights, demand } = self.plan_remap(change)?;
        ensure(room, demand)?;
        let mut roster = self.roster();
        roster.mapping = policy;
        for seat in &mut roster.seats {
            seat.weight = weights.get(&seat.slot.name).copied().unwrap_or(seat.weight);
        }
        Ok(Plan { roster, then: Then::Answer(command) })
    }
}

/// What commands ask for, and whether they may.
impl Fleet {
    /// The new slots of an `add`, or why it is refused.
    pub(super) fn plan_add(&self, change: &Addition, rng: &mut fastrand::Rng) -> Result<Added, Failure> {
        self.refuse_if_over()?;
        self.refuse_if_given()?;
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
        let seats = indices.zip(names.by_ref()).zip(weights).map(|((index, name), weight)| Seat {
            weight: weight.unwrap_or_else(|| self.names.weight(&name)),
            slot: SlotId { index, name: name.clone() },
            hostname: name,
        });
        let seats: Vec<Seat> = seats.take(n).collect();
        let mut members = members;
        members.extend(seats.iter().map(Seat::member));
        Ok(Added { seats, demand: Demand::new(self.policy.mapping.scheme.clone(), members) })
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

    /// The names of the slots that a `rm` takes out, or why it is refused.
    pub(super) fn plan_remove(
        &self,
        change: &Removal,
        rng: &mut fastrand::Rng,
    ) -> Result<Vec<Hostname>, Failure> {
        self.refuse_if_over()?;
        self.refuse_if_given()?;
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

    pub(super) fn refuse_if_over(&self) -> Result<(), Failure> {
        if self.over { Err(FailureKind::Unavailable.because("lb is shutting down")) } else { Ok(()) }
    }

    fn refuse_if_given(&self) -> Result<(), Failure> {
        match self.policy.authority {
            Authority::Outside => {
                Err(bad("the replicas come from a name server, which alone adds and removes them"))
            }
            Authority::Alone { .. } | Authority::Shared => Ok(()),
        }
    }
}

/// What follows from a command.
impl Fleet {
    pub(super) fn conclude(&mut self, then: Then) {
        match then {
            Then::Start(command, coming) if coming.iter().all(|coming| self.coming.contains(coming)) => {
                self.begin_add(command, coming);
            }
            // Others have given it up before it began.
            Then::Start(command, _) => self.answer(command, Err(too_late())),
            Then::Answer(command) => {
                self.end_add(command);
                self.answer(command, Ok(()));
            }
            Then::Nothing => {}
        }
    }

    fn begin_add(&mut self, command: CommandId, coming: Vec<Coming>) {
        let (mut places, mut until) = (Vec::with_capacity(coming.len()), UnixTime::ZERO);
        for Coming { seat: Seat { slot, weight, hostname }, until: known } in coming {
            let occupant = self.start(Some(slot.clone()), hostname, true);
            places.push(Place::new(Some(slot), weight, occupant, self.now));
            until = known;
        }
        self.effects.extend(places.iter().map(|place| Effect::Changed(place.view())));
        self.arriving.push(Arrival { command, places, deadline: self.now + ADD_LIMIT, until, broken: None });
    }

    /// The slots of an `add` have entered. One that has left again since, by another command, is not kept.
    fn end_add(&mut self, command: CommandId) {
        let is_it = |arrival: &mut Arrival| arrival.command == command;
        let Some(arrival) = self.arriving.extract_if(.., is_it).next() else { return };
        self.effects.extend(stops(&arrival.places, self.policy.farewell()));
    }

    /// Stops every replica that an `add` has started. The `lost` one has already ended.
    pub(super) fn abandon_add(&mut self, command: CommandId, lost: Option<ReplicaId>, refusal: Failure) {
        let is_it = |arrival: &mut Arrival| arrival.command == command;
        let Some(arrival) = self.arriving.extract_if(.., is_it).next() else { return };
        let started = arrival.places.iter().filter_map(Place::replica_id);
        let how = self.policy.farewell();
        self.effects.extend(started.filter(|&id| Some(id) != lost).map(|id| Effect::Stop(id, how)));
        self.withdraw(&arrival);
        self.answer(command, Err(refusal));
    }

    pub(super) fn shutdown(&mut self) {
        self.over = true;
        let refusal = FailureKind::Unavailable.because("lb is shutting down");
        self.close_docket(&refusal);
        while let Some(command) = self.arriving.first().map(|arrival| arrival.command) {
            self.abandon_add(command, None, refusal.clone());
        }
        let draining = std::mem::take(&mut self.draining);
        self.effects.extend(stops(&draining, self.policy.farewell()));
        let places = std::mem::take(&mut self.places);
        self.effects.extend(stops(&places, self.policy.closing()));
        self.publish = true;
    }
}

/// The room that a plan needs, or nothing is planned.
fn ensure(room: Option<&Room>, demand: Demand) -> Result<(), NoPlan> {
    if room.is_some_and(|room| room.is_for(&demand)) { Ok(()) } else { Err(NoPlan::Unchecked(demand.into())) }
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

fn too_late() -> Failure {
    FailureKind::StartFailed.because("it took too long, and was given up")
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
