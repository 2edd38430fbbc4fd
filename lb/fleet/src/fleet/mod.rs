//! The state machine itself. See the crate's documentation.
//!
//! - [`commands`]: what a command would make of the roster;
//! - [`decide`]: one decision after the other, each agreed on first where there are other `lb`s;
//! - [`doubt`]: when an `lb` suspects itself;
//! - [`follow`]: what a roster makes of the places;
//! - [`replicas`]: what happens to replicas, and what is done about it;
//! - [`arrival`]: the slots of an `add` under way;
//! - [`revise`]: several changes in one roster, and [`rest`], what is left of them while replicas start;
//! - [`preview`]: what a command would do.

mod arrival;
mod commands;
mod decide;
mod doubt;
mod follow;
mod preview;
mod replicas;
mod rest;
mod revise;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use mapping::{MappingPolicy, Member};
use proto::control::{Failure, FixedBackend, Hostname, Location, State, Weight};
use proto::printable::clipped;
use serde::{Deserialize, Serialize};

use crate::dice;
use crate::event::{CommandId, Effect, Event, View};
use crate::ledger::Fault;
use crate::names::Names;
use crate::nouns::{Assignment, Epoch, ReplicaId, Seat, SlotId, Time};
use crate::place::{Occupant, Place};
use crate::policy::{Authority, Lineup, Policy};
use crate::roster::{Coming, Leaving, Roster, UnixTime};
use arrival::Arrival;
use decide::{Docket, Intent};
use doubt::Doubt;
pub use preview::Preview;

/// The longest reason that is kept, in characters.
const LONGEST_REASON: usize = 500;

/// All slots and spares with their states. See the crate's documentation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fleet {
    policy: Policy,
    /// They are written down in a form of their own ([`Checkpoint`](crate::Checkpoint)).
    #[serde(skip)]
    names: Names,
    #[serde(with = "dice")]
    rng: fastrand::Rng,
    now: Time,
    last_replica: u64,
    /// Slots by index, then spares.
    places: Vec<Place>,
    /// The slots of this `lb`'s commands that are not in the mapping yet.
    arriving: Vec<Arrival>,
    /// Places that have left the fleet; their replicas drain.
    draining: Vec<Place>,
    /// The roster's slots that come, and its replicas that leave.
    coming: Vec<Coming>,
    leaving: Vec<Leaving>,
    docket: Docket,
    doubt: Doubt,
    /// Between two events there are none.
    #[serde(skip)]
    effects: Vec<Effect>,
    publish: bool,
    /// The seats of the last [`Effect::Remember`], or those that the fleet began with.
    remembered: Vec<Seat>,
    over: bool,
}

impl Fleet {
    /// A new fleet, and the effects that start its replicas. One that follows a roster begins with [`Event::Adopted`].
    #[must_use]
    pub fn new(policy: Policy, names: Names, lineup: Lineup, seed: u64) -> (Self, Vec<Effect>) {
        let rng = fastrand::Rng::with_seed(seed);
        let mut fleet = Fleet {
            policy,
            names,
            rng,
            now: Time::ZERO,
            last_replica: 0,
            places: Vec::new(),
            arriving: Vec::new(),
            draining: Vec::new(),
            coming: Vec::new(),
            leaving: Vec::new(),
            docket: Docket::default(),
            doubt: Doubt::default(),
            effects: Vec::new(),
            publish: true,
            remembered: lineup.seats.clone(),
            over: false,
        };
        for seat in lineup.seats {
            fleet.open_slot(seat);
        }
        for hostname in lineup.known_spares {
            fleet.open_spare(hostname);
        }
        for _ in 0..lineup.more_spares {
            if let Some(name) = fleet.fresh_name() {
                fleet.open_spare(name);
            }
        }
        let effects = fleet.take_effects();
        (fleet, effects)
    }

    /// Applies one event that happened at `now`, and returns the effects that follow from it.
    ///
    /// Events about replicas that have left the fleet are ignored.
    pub fn apply(&mut self, now: Time, event: Event) -> Vec<Effect> {
        self.now = now;
        match event {
            Event::Add(command, change) => self.file(Intent::Add(command, change, None)),
            Event::Remove(command, change) => self.file(Intent::Remove(command, change)),
            Event::Remap(command, change) => self.file(Intent::Remap(command, change, None)),
            Event::Revise(command, change) => self.file(Intent::Revise(command, Box::new(change), None)),
            Event::Cancel(command) => self.cancel(command),
            Event::Limit { start_timeout, drain_timeout } => {
                (self.policy.start_timeout, self.policy.drain_timeout) = (start_timeout, drain_timeout);
            }
            Event::Checked(command, room) => self.checked(command, room),
            Event::Adopted(epoch, roster) => self.adopted(epoch, roster),
            Event::Proposed(outcome) => self.proposed(outcome),
            Event::Removed(hostname) => self.removed(hostname),
            Event::Started(id) => self.started(id),
            Event::Lost(id, reason) => self.lost(id, &readable(&reason), Fault::Replica),
            Event::Hindered(id, reason) => self.lost(id, &readable(&reason), Fault::Provider),
            Event::Passed(id) => self.passed(id),
            Event::Failed(id, reason) => self.failed(id, &readable(&reason)),
            Event::Unresponsive(id) => self.unresponsive(id),
            Event::Usurped(id, reason) => self.usurped(id, &reason),
            Event::Drained(id) => self.drained(id),
            Event::Tick => self.tick(),
            Event::Shutdown => self.shutdown(),
        }
        self.reconsider();
        self.decide();
        self.respawn_due();
        self.take_effects()
    }

    /// How keys are mapped.
    #[must_use]
    pub fn mapping(&self) -> &MappingPolicy {
        &self.policy.mapping
    }

    /// The first `n` of the names with which fleets begin (server1, server2, ...) that are not in use.
    #[must_use]
    pub fn vacant_names(&self, n: usize) -> Vec<Hostname> {
        let taken = self.taken_names();
        let names = (1_u32..).filter_map(|index| Hostname::try_from(format!("server{index}")).ok());
        names.filter(|name| !taken.contains(name)).take(n).collect()
    }

    /// The servers that are known by name, where replicas are servers that run already.
    #[must_use]
    pub fn known(&self) -> &[FixedBackend] {
        self.names.all_known()
    }

    /// The epoch of the roster that the fleet follows, if it follows one.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        (!matches!(self.policy.authority, Authority::Alone { .. })).then(|| self.docket.epoch())
    }

    /// The roster as the fleet follows it.
    #[must_use]
    pub fn roster(&self) -> Roster {
        Roster {
            mapping: self.policy.mapping.clone(),
            seats: self.slots().filter_map(|view| view.seat()).collect(),
            spares: self.spares().map(|view| view.hostname).collect(),
            coming: self.coming.clone(),
            leaving: self.leaving.clone(),
        }
    }

    /// When the next `Tick` is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let unready = |arrival: &&Arrival| !arrival.is_complete() && !self.is_entering(arrival.command);
        let arriving = self.arriving.iter().filter(unready).map(Arrival::next_deadline);
        let places = self.places.iter().filter_map(|place| place.life.deadline());
        places.chain(arriving).chain(self.next_decision()).min()
    }

    /// The slots in the mapping, by index.
    pub fn slots(&self) -> impl Iterator<Item = View> {
        self.places.iter().filter(|place| place.slot.is_some()).map(Place::view)
    }

    /// The spares.
    pub fn spares(&self) -> impl Iterator<Item = View> {
        self.places.iter().filter(|place| place.slot.is_none()).map(Place::view)
    }

    /// The names of the slots that are to enter the mapping: by a command that is under way, here or at another `lb`.
    pub fn coming(&self) -> impl Iterator<Item = &Hostname> {
        self.coming.iter().map(|coming| &coming.seat.slot.name)
    }

    /// The slots that are not yet in the mapping, or no longer.
    pub fn in_passing(&self) -> impl Iterator<Item = View> {
        // A replica that is ready before the others of its `add` waits for them.
        let newcomers = self.arriving.iter().flat_map(|arrival| &arrival.places);
        let arriving = newcomers.map(|place| View { state: State::Starting, ..place.view() });
        arriving.chain(self.draining.iter().map(Place::view))
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The same fleet with these names.
    pub(crate) fn with_names(self, names: Names) -> Self {
        Fleet { names, ..self }
    }

    fn take_effects(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if std::mem::take(&mut self.publish) {
            effects.push(Effect::Publish);
            effects.extend(self.remember());
        }
        effects.append(&mut self.effects);
        effects
    }

    /// Persists the seats if they have changed. The shutdown itself is not persisted: the next start finds the seats as they were before it.
    /// A roster is persisted elsewhere.
    fn remember(&mut self) -> Option<Effect> {
        if self.over || self.epoch().is_some() {
            return None;
        }
        let seats: Vec<Seat> = self.slots().filter_map(|view| view.seat()).collect();
        if seats == self.remembered {
            return None;
        }
        self.remembered.clone_from(&seats);
        Some(Effect::Remember(seats))
    }
}

/// A reason that a stranger may have written, such as a replica in the answer to a probe, fit to be shown.
fn readable(reason: &str) -> String {
    clipped(reason, LONGEST_REASON)
}

/// Looking things up.
impl Fleet {
    /// The time on the wall clock.
    fn wall(&self) -> UnixTime {
        self.policy.born + self.now
    }

    /// A moment on the wall clock as the time of the fleet.
    fn time(&self, moment: UnixTime) -> Time {
        moment.saturating_sub(self.policy.born)
    }

    fn slot_ids(&self) -> impl Iterator<Item = &SlotId> {
        self.places.iter().filter_map(|place| place.slot.as_ref())
    }

    /// The slots in the mapping, as the mapping sees them.
    fn members(&self) -> Vec<Member> {
        self.places.iter().filter_map(Place::member).collect()
    }

    /// The slots in the mapping and those of every `add` under way.
    fn future_members(&self) -> Vec<Member> {
        let mut members = self.members();
        let coming = self.coming.iter().filter(|coming| self.needs_room(coming));
        members.extend(coming.map(|coming| coming.seat.member()));
        members
    }

    /// Whether the mapping as it is has to have room for a slot that comes. One of a revision enters with the rest of it, and only then it
    /// is known where; but others cannot tell it from one of an `add`.
    fn needs_room(&self, coming: &Coming) -> bool {
        let mut revisions = self.arriving.iter().filter(|arrival| arrival.rest.is_some());
        self.policy.is_shared() || !revisions.any(|arrival| arrival.announced(coming))
    }

    /// The indices of all slots in the mapping and of those that come.
    fn taken_indices(&self) -> HashSet<u32> {
        let coming = self.coming.iter().map(|coming| coming.seat.slot.index);
        self.slot_ids().map(|slot| slot.index).chain(coming).collect()
    }

    /// Every slot name and hostname in use. Where replicas leave by themselves, a draining one has given its name up.
    fn taken_names(&self) -> HashSet<Hostname> {
        let slots = self.slot_ids().map(|slot| &slot.name);
        let hostnames = self.places.iter().map(|place| place.life.hostname());
        let coming = self.coming.iter().map(|coming| &coming.seat.hostname);
        let leaving = self.leaving.iter().map(|leaving| &leaving.hostname);
        slots.chain(hostnames).chain(coming).chain(leaving).cloned().collect()
    }

    fn fresh_name(&mut self) -> Option<Hostname> {
        let taken = self.taken_names();
        self.names.next(&taken, &mut self.rng)
    }

    fn position_of(&self, id: ReplicaId) -> Option<usize> {
        self.places.iter().position(|place| place.holds(id))
    }
}

/// What both commands and events do.
impl Fleet {
    fn start(
        &mut self,
        slot: Option<SlotId>,
        (hostname, location): (Hostname, Option<Location>),
        is_urgent: bool,
    ) -> Occupant {
        self.last_replica += 1;
        let id = ReplicaId(self.last_replica);
        let (name, since) = (hostname.clone(), self.docket.epoch());
        let assignment = Assignment { slot, hostname: name, location, is_urgent, since };
        self.effects.push(Effect::Start(id, assignment));
        Occupant { id, hostname }
    }

    fn open_slot(&mut self, seat: Seat) {
        let place = self.place_for(seat, false);
        self.places.push(place);
    }

    fn open_spare(&mut self, hostname: Hostname) {
        let occupant = self.start(None, (hostname, None), false);
        self.places.push(Place::new(None, Weight::default(), occupant, self.now));
    }

    /// A place for this seat, whose replica is started.
    fn place_for(&mut self, seat: Seat, is_urgent: bool) -> Place {
        let Seat { slot, weight, hostname, location } = seat;
        let occupant = self.start(Some(slot.clone()), (hostname, location.clone()), is_urgent);
        Place::new(Some(slot), weight, occupant, self.now).located(location)
    }

    /// Reports a change of a place that others see.
    fn note(&mut self, at: usize) {
        let view = self.places[at].view();
        self.publish |= view.slot.is_some();
        self.effects.push(Effect::Changed(view));
    }

    fn answer(&mut self, command: CommandId, result: Result<(), Failure>) {
        self.effects.push(Effect::Answer(command, result));
    }
}
