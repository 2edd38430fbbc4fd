//! Commands: what they would make of the roster, or why they are refused. Nothing here changes the fleet but the start and the end of an
//! `add`.
//!
//! Whether the mapping has room for the slots of a command is checked elsewhere ([`Demand`]). Then the command is planned again, because
//! the fleet may have changed meanwhile.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use mapping::{MOST_SLOTS, MappingPolicy, Member, NotAccepted};
use proto::control::{Addition, Failure, FailureKind, Hostname, Newcomer, Remapping, Removal, Weight};

use super::Fleet;
use super::arrival::{ADD_LIMIT, Arrival};
use super::decide::{NoPlan, Plan, Then};
use super::rest::Rest;
use crate::event::{CommandId, Effect};
use crate::names::{Entrant, Names};
use crate::nouns::{ReplicaId, Seat, SlotId, Stopping};
use crate::place::Place;
use crate::policy::Authority;
use crate::room::{Demand, Room};
use crate::roster::{Coming, Leaving, UnixTime};

/// How long its slots are known to come: other clocks may differ.
pub(super) const ADD_NOTICE: Duration = Duration::from_secs(90);

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
        Ok(Plan { roster, then: Then::Start(command, coming, None) })
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
        for Coming { seat, .. } in ready {
            match roster.seats.iter_mut().find(|present| present.slot == seat.slot) {
                // The slot gets another replica.
                Some(present) => present.hostname = seat.hostname,
                None => roster.seats.push(seat),
            }
        }
        roster.seats.sort_by_key(|seat| seat.slot.index);
        let Some(rest) = &arrival.rest else {
            return Ok(Plan { roster, then: Then::Answer(command, None) });
        };
        match self.plan_to_finish(roster, rest) {
            Ok(roster) => Ok(Plan { roster, then: Then::Answer(command, rest.backends.clone()) }),
            // Other commands come first again and again.
            Err(NoPlan::Unchecked(_)) if arrival.deadline <= self.now => Err(too_late().into()),
            Err(no_plan) => Err(no_plan),
        }
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
        Ok(Plan { roster, then: Then::Answer(command, None) })
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
        Ok(Plan { roster, then: Then::Answer(command, None) })
    }
}

/// What commands ask for, and whether they may.
impl Fleet {
    /// The new slots of an `add`, or why it is refused.
    pub(super) fn plan_add(&self, change: &Addition, rng: &mut fastrand::Rng) -> Result<Added, Failure> {
        self.refuse_if_over()?;
        self.refuse_if_given()?;
        let n = change.n as usize;
        let weights = given_weights(change)?;
        self.refuse_if_crowded(n, &weights)?;
        let seats = self.new_seats(&self.names, change, &mut self.taken_names(), rng)?;
        let mut members = self.future_members();
        members.extend(seats.iter().map(Seat::member));
        Ok(Added { seats, demand: Demand::new(self.policy.mapping.scheme.clone(), members) })
    }

    /// The seats of new slots, with the lowest free indices. Their names are taken afterwards.
    pub(super) fn new_seats(
        &self,
        names: &Names,
        change: &Addition,
        taken: &mut HashSet<Hostname>,
        rng: &mut fastrand::Rng,
    ) -> Result<Vec<Seat>, Failure> {
        let n = change.n as usize;
        if change.hostnames.len() > n {
            return Err(bad("Length of hostname list is more than newly added instances"));
        }
        if change.weights.len() > n {
            let given = change.weights.len();
            return Err(bad(format!("`weights` has {given} weights for `n` = {n} new replicas")));
        }
        let weights = given_weights(change)?.into_iter().chain(std::iter::repeat(None));
        let indices = self.taken_indices();
        let indices = (1..).filter(|index| !indices.contains(index));
        let new = entrants(names, &change.hostnames, n, taken, rng)?;
        let seats = indices.zip(new).zip(weights).map(|((index, entrant), weight)| {
            let Entrant { name, location, weight: usual } = entrant;
            let slot = SlotId { index, name: name.clone() };
            Seat { slot, weight: weight.unwrap_or(usual), hostname: name, location }
        });
        Ok(seats.collect())
    }

    /// Refuses `n` more slots if the fleet cannot hold them.
    fn refuse_if_crowded(&self, n: usize, weights: &[Option<Weight>]) -> Result<(), Failure> {
        let members = self.future_members();
        let is_plain =
            members.iter().all(|member| member.weight == 1) && weights.iter().flatten().all(Weight::is_usual);
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
        let policy = self.amended(change)?;
        let weights = self.plan_weights(&change.weights)?;
        let mut members = self.future_members();
        weigh(&mut members, &weights);
        let demand = Demand::new(policy.scheme.clone(), members);
        Ok(Remapped { policy, weights, demand })
    }

    /// The mapping after a change.
    pub(super) fn amended(&self, change: &Remapping) -> Result<MappingPolicy, Failure> {
        self.policy.mapping.amended(change.values()).map_err(|problems| bad(joined(&problems)))
    }

    /// New weights by slot name.
    pub(super) fn plan_weights(
        &self,
        given: &BTreeMap<Hostname, Weight>,
    ) -> Result<BTreeMap<Hostname, Weight>, Failure> {
        let mut weights = BTreeMap::new();
        for (name, weight) in given {
            let slot = self.slot_called(name).ok_or_else(|| unknown(name))?;
            if weights.insert(slot, *weight).is_some() {
                return Err(bad(format!("`weights` has the slot of {name} twice, by name and by hostname")));
            }
        }
        Ok(weights)
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
        Some(self.place_called(name)?.slot.as_ref()?.name.clone())
    }

    /// The place of the slot that has this name, or whose replica has it.
    pub(super) fn place_called(&self, name: &Hostname) -> Option<&Place> {
        let is_it = |place: &&Place| {
            place.slot.as_ref().is_some_and(|slot| slot.name == *name || place.life.hostname() == name)
        };
        self.places.iter().find(is_it)
    }

    pub(super) fn refuse_if_over(&self) -> Result<(), Failure> {
        if self.over { Err(FailureKind::Unavailable.because("lb is shutting down")) } else { Ok(()) }
    }

    pub(super) fn refuse_if_given(&self) -> Result<(), Failure> {
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
            Then::Start(command, coming, rest)
                if coming.iter().all(|coming| self.coming.contains(coming)) =>
            {
                self.begin_add(command, coming, rest);
            }
            // Others have given it up before it began.
            Then::Start(command, ..) => self.answer(command, Err(too_late())),
            Then::Answer(command, backends) => {
                self.end_add(command);
                if let Some(backends) = backends {
                    self.names = Names::Fixed(backends);
                }
                self.answer(command, Ok(()));
            }
            Then::Nothing => {}
        }
    }

    fn begin_add(&mut self, command: CommandId, coming: Vec<Coming>, rest: Option<Rest>) {
        let (mut places, mut until) = (Vec::with_capacity(coming.len()), UnixTime::ZERO);
        for Coming { seat, until: known } in coming {
            places.push(self.place_for(seat, true));
            until = known;
        }
        // Of a slot that gets another replica, nothing has changed yet.
        let is_new = |place: &&Place| self.places.iter().all(|present| present.slot != place.slot);
        self.effects.extend(places.iter().filter(is_new).map(|place| Effect::Changed(place.view())));
        let deadline = self.now + ADD_LIMIT;
        self.arriving.push(Arrival { command, places, deadline, until, broken: None, rest });
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

/// The weights that an `add` gives, in the order of its slots.
fn given_weights(Addition { hostnames, weights, .. }: &Addition) -> Result<Vec<Option<Weight>>, Failure> {
    if weights.is_empty() {
        return Ok(hostnames.iter().map(Newcomer::weight).collect());
    }
    match hostnames.iter().find(|newcomer| newcomer.weight().is_some()) {
        Some(twice) => {
            Err(bad(format!("`weights` are given beside `{twice}`, which has a weight: give it once")))
        }
        None => Ok(weights.iter().copied().map(Some).collect()),
    }
}

/// The room that a plan needs, or nothing is planned.
pub(super) fn ensure(room: Option<&Room>, demand: Demand) -> Result<(), NoPlan> {
    if room.is_some_and(|room| room.is_for(&demand)) { Ok(()) } else { Err(NoPlan::Unchecked(demand.into())) }
}

/// Who sits in `n` new slots: the given ones first, then new ones.
fn entrants(
    names: &Names,
    given: &[Newcomer],
    n: usize,
    taken: &mut HashSet<Hostname>,
    rng: &mut fastrand::Rng,
) -> Result<Vec<Entrant>, Failure> {
    let mut entrants = Vec::with_capacity(given.len());
    for newcomer in given {
        entrants.push(names.admit(newcomer)?);
        let name = newcomer.name();
        if !taken.insert(name.clone()) {
            return Err(bad(format!("hostname {name} is in use or repeated; each must be new")));
        }
    }
    while entrants.len() < n {
        let name = names.next(taken, rng).ok_or_else(|| names.exhausted())?;
        taken.insert(name.clone());
        entrants.push(names.entrant(name));
    }
    Ok(entrants)
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

pub(super) fn unknown(name: &Hostname) -> Failure {
    bad(format!("hostname {name} is unknown; `rep` lists the hostnames that there are"))
}

pub(super) fn bad(message: impl Into<String>) -> Failure {
    FailureKind::BadRequest.because(message)
}

fn joined(problems: &[NotAccepted]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
