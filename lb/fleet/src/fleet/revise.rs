//! Revisions: several changes in one roster.
//!
//! With new replicas it goes the way of an `add`: their slots are announced and they are started; when all of them are ready, one roster
//! lets them enter and makes the rest of the change. The rest is planned again then, because other commands may have come in between.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use mapping::{MOST_SLOTS, Member, Scheme};
use proto::control::{Failure, FailureKind, Hostname, Newcomer};

use super::Fleet;
use super::commands::{ADD_NOTICE, bad, ensure, unknown};
use super::decide::{NoPlan, Plan, Then};
use super::rest::Rest;
use crate::event::CommandId;
use crate::names::Names;
use crate::nouns::Seat;
use crate::place::Place;
use crate::revision::Revision;
use crate::room::{Demand, Room};
use crate::roster::{Coming, Leaving, Roster};

/// The result of a planned revision.
pub(super) struct Revised {
    /// The seats whose replicas have to be started: new slots, and slots that get another replica.
    fresh: Vec<Seat>,
    /// The roster after it.
    pub(super) roster: Roster,
    pub(super) demand: Demand,
    rest: Rest,
}

impl Fleet {
    pub(super) fn plan_to_revise(
        &self,
        command: CommandId,
        change: &Revision,
        room: Option<&Room>,
        rng: &mut fastrand::Rng,
    ) -> Result<Plan, NoPlan> {
        let Revised { fresh, roster, demand, rest } = self.plan_revision(change, rng)?;
        ensure(room, demand)?;
        if fresh.is_empty() {
            return Ok(Plan { roster, then: Then::Answer(command, rest.backends) });
        }
        let mut roster = self.roster();
        let until = self.wall() + ADD_NOTICE;
        let coming: Vec<Coming> = fresh.into_iter().map(|seat| Coming { seat, until }).collect();
        roster.coming.extend_from_slice(&coming);
        let rest = Rest { room: room.cloned(), ..rest };
        Ok(Plan { roster, then: Then::Start(command, coming, Some(rest)) })
    }

    /// What a revision leads to, or why it is refused.
    pub(super) fn plan_revision(
        &self,
        change: &Revision,
        rng: &mut fastrand::Rng,
    ) -> Result<Revised, Failure> {
        self.refuse_if_over()?;
        let Revision { add, remove, replace, remap, backends } = change;
        if add.is_some() || remove.is_some() || !replace.is_empty() {
            self.refuse_if_given()?;
        }
        let gone = remove.as_ref().map(|removal| self.plan_remove(removal, rng)).transpose()?;
        let drain = remove.as_ref().and_then(|removal| removal.drain);
        let mut rest = Rest {
            replaced: BTreeSet::new(),
            room: None,
            gone: gone.into_iter().flatten().collect(),
            drain: drain.map_or(self.policy.drain_timeout, Duration::from),
            remap: remap.clone(),
            weights: self.plan_weights(&remap.weights)?,
            backends: backends.clone(),
        };
        let names = self.names_after(&rest)?;
        let (mut roster, mut taken) = (self.roster(), self.taken_names());
        if let Some(addition) = add {
            roster.seats.extend(self.new_seats(&names, addition, &mut taken, rng)?);
        }
        let mut fresh = roster.seats.split_off(self.slot_ids().count());
        roster.seats.extend_from_slice(&fresh);
        let replacements = self.replacements(replace, &rest, (&names, &mut taken), rng)?;
        rest.replaced = replacements.iter().map(|seat| seat.slot.name.clone()).collect();
        fresh.extend(replacements);
        let roster = self.finished(roster, &rest)?;
        let demand = self.demand_of(&roster, &fresh)?;
        Ok(Revised { fresh, roster, demand, rest })
    }

    /// What has to have room: the roster in the end; and where others know the `fresh` slots before they know the rest of it, these as well
    /// as long as they only come.
    fn demand_of(&self, after: &Roster, fresh: &[Seat]) -> Result<Demand, Failure> {
        let (scheme, members) = (&after.mapping.scheme, self.to_be_held(after));
        refuse_if_crowded(scheme, &members)?;
        let mut demand = Demand::new(scheme.clone(), members);
        if self.policy.is_shared() && !fresh.is_empty() {
            let mut announced = self.future_members();
            announced.extend(fresh.iter().map(Seat::member));
            refuse_if_crowded(&self.policy.mapping.scheme, &announced)?;
            demand.add(self.policy.mapping.scheme.clone(), announced);
        }
        Ok(demand)
    }

    /// The slots of a revision are ready, and in the seats of `roster`: the roster after the rest of it.
    pub(super) fn plan_to_finish(&self, roster: Roster, rest: &Rest) -> Result<Roster, NoPlan> {
        let there: BTreeSet<&Hostname> = self.slot_ids().map(|slot| &slot.name).collect();
        let mut needed = rest.gone.iter().chain(&rest.replaced).chain(rest.weights.keys());
        if let Some(name) = needed.find(|name| !there.contains(name)) {
            let why = format!("slot {name} has left meanwhile, by another command; try again");
            return Err(FailureKind::Unavailable.because(why).into());
        }
        let roster = self.finished(roster, rest)?;
        let demand = self.demand_of(&roster, &[])?;
        ensure(rest.room.as_ref(), demand)?;
        Ok(roster)
    }

    /// A roster after the rest of a revision.
    fn finished(&self, mut roster: Roster, rest: &Rest) -> Result<Roster, Failure> {
        roster.mapping = self.amended(&rest.remap)?;
        let until = self.wall() + rest.drain;
        let gone = roster.seats.extract_if(.., |seat| rest.gone.contains(&seat.slot.name));
        roster.leaving.extend(gone.map(|seat| Leaving { hostname: seat.hostname, until }));
        for seat in &mut roster.seats {
            seat.weight = rest.weights.get(&seat.slot.name).copied().unwrap_or(seat.weight);
        }
        roster.seats.sort_by_key(|seat| seat.slot.index);
        Ok(roster)
    }

    /// The slots for which the mapping of a roster has to have room: its seats, and the slots of each `add` under way.
    fn to_be_held(&self, roster: &Roster) -> Vec<Member> {
        let coming = roster.coming.iter().filter(|coming| self.needs_room(coming));
        roster.seats.iter().chain(coming.map(|coming| &coming.seat)).map(Seat::member).collect()
    }

    /// The source of names from then on.
    fn names_after(&self, rest: &Rest) -> Result<Names, Failure> {
        let Some(backends) = &rest.backends else { return Ok(self.names.clone()) };
        if !matches!(self.names, Names::Fixed(_)) {
            return Err(bad("`backends` goes with fixed addresses only"));
        }
        Ok(Names::Fixed(backends.clone()))
    }

    /// The seats of slots that get another replica, each with its hostname.
    fn replacements(
        &self,
        replace: &[Newcomer],
        rest: &Rest,
        (names, taken): (&Names, &mut HashSet<Hostname>),
        rng: &mut fastrand::Rng,
    ) -> Result<Vec<Seat>, Failure> {
        if self.policy.is_shared() && !replace.is_empty() {
            return Err(bad("several lb share the fleet: no replica can be replaced by another one"));
        }
        let mut seats: Vec<Seat> = Vec::with_capacity(replace.len());
        for newcomer in replace {
            let name = newcomer.name();
            let place = self.place_called(name).ok_or_else(|| unknown(name))?;
            let Place { slot: Some(slot), weight, location, .. } = place else { return Err(unknown(name)) };
            let comes = || self.coming.iter().any(|coming| coming.seat.slot == *slot);
            if rest.gone.contains(&slot.name) || seats.iter().any(|seat| seat.slot == *slot) || comes() {
                return Err(bad(format!(
                    "hostname {name} is to be removed or replaced already; name it once"
                )));
            }
            let hostname = if self.policy.keeps_hostname(true) {
                place.life.hostname().clone()
            } else {
                names.next(taken, rng).ok_or_else(|| names.exhausted())?
            };
            taken.insert(hostname.clone());
            let location = match newcomer {
                Newcomer::Named(_) => location.clone(),
                Newcomer::Server(_) => names.admit(newcomer)?.location,
            };
            seats.push(Seat { slot: slot.clone(), weight: *weight, hostname, location });
        }
        Ok(seats)
    }
}

/// Refuses more slots than a mapping can have.
fn refuse_if_crowded(scheme: &Scheme, members: &[Member]) -> Result<(), Failure> {
    let is_plain = members.iter().all(|member| member.weight == 1);
    // With weights, a slot takes more or less room: only the mapping itself can tell.
    let capacity = scheme.algorithm.capacity().filter(|_| is_plain);
    let (n, most) = (members.len(), capacity.unwrap_or(MOST_SLOTS).min(MOST_SLOTS));
    if n > most {
        let what = format!("the fleet would have {n} slots, and can have {most}");
        return Err(FailureKind::BadRequest.because(what));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
