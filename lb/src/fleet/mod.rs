//! The fleet: every slot with its state, as a pure state machine.
//!
//! [`Fleet::apply`] takes one event and returns the effects that follow from it. The fleet does no I/O and reads no clock: each
//! event brings the time. Its only randomness is a seed. So equal seeds and events make equal fleets, and `sweep.rs` can drive
//! it through thousands of random histories.
//!
//! A slot outlives its replicas: a replacement takes over the slot's index and name, and with them its keys. States:
//!
//! ```text
//! Starting ──► Up ◄──► Down ──► (replaced: Starting again, or a spare moves in: Up)
//!    └─ failed too often ──► Quarantined ──► Starting (one attempt every 30 s)
//! ```
//!
//! The slots of one `add` enter the mapping together when all their replicas are ready, or not at all.

mod commands;
mod ledger;
mod names;
mod nouns;
mod place;
mod preview;
mod replicas;
mod room;
#[cfg(test)]
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

use mapping::{MappingPolicy, Member};
use proto::control::{Addition, Change, DrainTime, Failure, Hostname, Remapping, Removal, State, Weight};

use commands::ADD_LIMIT;
use ledger::Fault;
pub(crate) use names::Names;
pub(crate) use nouns::{Assignment, ReplicaId, Seat, SlotId, Stopping};
use place::{Occupant, Place};
pub(crate) use preview::Preview;
pub(crate) use room::{Demand, Room};

use crate::printable::clipped;

/// The longest reason that is kept, in characters.
const LONGEST_REASON: usize = 500;

/// Time since the start of the program.
pub(crate) type Time = Duration;

/// A command that waits for its answer. The controller chooses the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CommandId(pub(crate) u64);

/// The rules of a fleet.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// How keys are mapped. Commands can change it.
    pub(crate) mapping: MappingPolicy,
    /// How long a started replica may take until its probes pass.
    pub(crate) start_timeout: Duration,
    /// Whether a replacement keeps the hostname of the replica it replaces.
    pub(crate) same_name: bool,
    /// Whether `lb` can start replicas. It cannot start fixed addresses.
    pub(crate) restartable: bool,
    /// Whether replicas keep running when `lb` ends.
    pub(crate) keep: bool,
}

/// The slots and spares that a fleet begins with.
#[derive(Clone, Debug)]
pub(crate) struct Lineup {
    /// The slots, by index, each with the hostname of its first replica.
    pub(crate) seats: Vec<Seat>,
    /// The hostnames of spares that already run.
    known_spares: Vec<Hostname>,
    /// How many more spares to start.
    more_spares: usize,
}

impl Lineup {
    /// A new fleet: slots with the indices 1, 2, 3, ..., and replicas with the names of their slots.
    pub(crate) fn new(slots: Vec<(Hostname, Weight)>, spares: usize) -> Self {
        let seats = (1..).zip(slots).map(|(index, (name, weight))| Seat {
            slot: SlotId { index, name: name.clone() },
            weight,
            hostname: name,
        });
        Lineup::of(seats.collect(), Vec::new(), spares)
    }

    /// A fleet with these `seats`, by index, and this number of `spares`, some of which already run.
    pub(crate) fn of(seats: Vec<Seat>, known_spares: Vec<Hostname>, spares: usize) -> Self {
        let more_spares = spares.saturating_sub(known_spares.len());
        Lineup { seats, known_spares, more_spares }
    }
}

/// What happens to a fleet.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Add slots. Without the room for them [`Effect::Check`] follows.
    Add(CommandId, Addition, Option<Room>),
    /// Remove slots.
    Remove(CommandId, Removal),
    /// Change the mapping. Without the room for its slots [`Effect::Check`] follows.
    Remap(CommandId, Remapping, Option<Room>),
    /// The provider has started the replica, and its address is known.
    Started(ReplicaId),
    /// The provider could not start the replica, or it has exited; with the reason.
    Lost(ReplicaId, String),
    /// The provider could not attempt to start the replica; with the reason, which is not the replica's fault.
    Hindered(ReplicaId, String),
    /// The replica's probes pass.
    Passed(ReplicaId),
    /// The replica's probes fail; with the reason.
    Failed(ReplicaId, String),
    /// The replica's probes have failed, and it has sent no byte, for longer than the health policy allows.
    Unresponsive(ReplicaId),
    /// Another process answers at the replica's address; with the reason. The replica must not be used.
    Usurped(ReplicaId, String),
    /// A draining replica has no session left, or its sessions were evicted.
    Drained(ReplicaId),
    /// A deadline may have passed ([`Fleet::next_deadline`]).
    Tick,
    /// `lb` ends.
    Shutdown,
}

/// What the controller has to do, in the order in which the effects are returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Publish a snapshot of the fleet.
    Publish,
    /// Persist these seats for the next start: they have changed.
    Remember(Vec<Seat>),
    /// Log that a slot or spare has changed its state.
    Changed(View),
    /// Start a replica. `Started`, `Lost` or `Hindered` follows.
    Start(ReplicaId, Assignment),
    /// Wait until the replica's sessions end, and evict them at the end of this time, if one was given, or of the usual one.
    /// `Drained` follows.
    Drain(ReplicaId, Option<DrainTime>),
    /// Stop a replica.
    Stop(ReplicaId, Stopping),
    /// Check whether the mapping has room for what this command demands. If it has, the command comes again with the [`Room`]; if
    /// not, the refusal is its answer. Nothing has changed yet.
    Check(CommandId, Change, Demand),
    /// Answer a command.
    Answer(CommandId, Result<(), Failure>),
}

/// A slot or spare as the controller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Index and name of the slot; `None` for a spare.
    pub(crate) slot: Option<SlotId>,
    /// The slot's share of the keys.
    pub(crate) weight: Weight,
    pub(crate) hostname: Hostname,
    /// The replica that runs there, if one does.
    pub(crate) replica: Option<ReplicaId>,
    pub(crate) state: State,
    pub(crate) reason: Option<String>,
    pub(crate) since: Time,
    pub(crate) restarts: u64,
}

impl View {
    /// The seat, if this is a slot.
    pub(crate) fn seat(&self) -> Option<Seat> {
        Some(Seat { slot: self.slot.clone()?, weight: self.weight, hostname: self.hostname.clone() })
    }

    /// The slot as a mapping sees it.
    pub(crate) fn member(&self) -> Option<Member> {
        Some(self.slot.as_ref()?.member(self.weight))
    }
}

/// The slots of one `add` that are not in the mapping yet.
#[derive(Debug)]
struct Arrival {
    command: CommandId,
    places: Vec<Place>,
    /// When all of them have to be ready. Each replica also has its own deadline from its start on.
    deadline: Time,
}

impl Arrival {
    /// The earliest of its deadlines.
    fn next_deadline(&self) -> Time {
        self.places
            .iter()
            .filter_map(|place| place.life.deadline())
            .min()
            .unwrap_or(self.deadline)
            .min(self.deadline)
    }

    /// The reason for abandoning the `add`, if one of its deadlines has passed by `now`.
    fn overdue(&self, now: Time, start_timeout: Duration) -> Option<String> {
        let late = self.places.iter().find(|place| place.life.late(now).is_some());
        let unready = || self.places.iter().find(|place| place.life.state() != State::Up);
        match late {
            Some(late) => Some(late.overdue(start_timeout)),
            None if self.deadline <= now => unready().map(|place| place.overdue(ADD_LIMIT)),
            None => None,
        }
    }
}

/// All slots and spares with their states. See the module's documentation.
#[derive(Debug)]
pub(crate) struct Fleet {
    policy: Policy,
    names: Names,
    rng: fastrand::Rng,
    now: Time,
    last_replica: u64,
    /// Slots by index, then spares.
    places: Vec<Place>,
    arriving: Vec<Arrival>,
    /// Slots that have left the mapping; their replicas drain.
    leaving: Vec<Place>,
    effects: Vec<Effect>,
    publish: bool,
    /// The seats of the last [`Effect::Remember`], or those that the fleet began with.
    remembered: Vec<Seat>,
    over: bool,
}

impl Fleet {
    /// A new fleet, and the effects that start its replicas.
    pub(crate) fn new(policy: Policy, names: Names, lineup: Lineup, seed: u64) -> (Self, Vec<Effect>) {
        let rng = fastrand::Rng::with_seed(seed);
        let mut fleet = Fleet {
            policy,
            names,
            rng,
            now: Time::ZERO,
            last_replica: 0,
            places: Vec::new(),
            arriving: Vec::new(),
            leaving: Vec::new(),
            effects: Vec::new(),
            publish: true,
            remembered: lineup.seats.clone(),
            over: false,
        };
        for Seat { slot, weight, hostname } in lineup.seats {
            fleet.open_place(Some(slot), weight, hostname);
        }
        for hostname in lineup.known_spares {
            fleet.open_place(None, Weight::default(), hostname);
        }
        for _ in 0..lineup.more_spares {
            if let Some(name) = fleet.fresh_name() {
                fleet.open_place(None, Weight::default(), name);
            }
        }
        let effects = fleet.take_effects();
        (fleet, effects)
    }

    /// Applies one event that happened at `now`, and returns the effects that follow from it.
    ///
    /// Events about replicas that have left the fleet are ignored.
    pub(crate) fn apply(&mut self, now: Time, event: Event) -> Vec<Effect> {
        self.now = now;
        match event {
            Event::Add(command, change, room) => self.add(command, change, room.as_ref()),
            Event::Remove(command, change) => self.remove(command, &change),
            Event::Remap(command, change, room) => self.remap(command, change, room.as_ref()),
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
        self.take_effects()
    }

    /// How keys are mapped.
    pub(crate) fn mapping(&self) -> &MappingPolicy {
        &self.policy.mapping
    }

    /// When the next `Tick` is due.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let arriving = self.arriving.iter().map(Arrival::next_deadline);
        self.places.iter().filter_map(|place| place.life.deadline()).chain(arriving).min()
    }

    /// The slots in the mapping, by index.
    pub(crate) fn slots(&self) -> impl Iterator<Item = View> {
        self.places.iter().filter(|place| place.slot.is_some()).map(Place::view)
    }

    /// The spares.
    pub(crate) fn spares(&self) -> impl Iterator<Item = View> {
        self.places.iter().filter(|place| place.slot.is_none()).map(Place::view)
    }

    /// The slots that are not yet in the mapping, or no longer.
    pub(crate) fn in_passing(&self) -> impl Iterator<Item = View> {
        // A replica that is ready before the others of its `add` waits for them.
        let arriving = self.newcomers().map(|place| View { state: State::Starting, ..place.view() });
        arriving.chain(self.leaving.iter().map(Place::view))
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
    fn remember(&mut self) -> Option<Effect> {
        let seats: Vec<Seat> = self.slots().filter_map(|view| view.seat()).collect();
        if self.over || seats == self.remembered {
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
    fn slot_ids(&self) -> impl Iterator<Item = &SlotId> {
        self.places.iter().filter_map(|place| place.slot.as_ref())
    }

    /// The slots in the mapping, as the mapping sees them.
    fn members(&self) -> Vec<Member> {
        self.places.iter().filter_map(Place::member).collect()
    }

    /// The slots in the mapping and those of every `add` under way.
    fn future_members(&self) -> Vec<Member> {
        self.places.iter().chain(self.newcomers()).filter_map(Place::member).collect()
    }

    fn newcomers(&self) -> impl Iterator<Item = &Place> {
        self.arriving.iter().flat_map(|arrival| &arrival.places)
    }

    /// Every slot name and hostname in use. A draining replica has given its name up.
    fn taken_names(&self) -> HashSet<Hostname> {
        let places = || self.places.iter().chain(self.newcomers());
        let slots = places().filter_map(|place| Some(&place.slot.as_ref()?.name));
        slots.chain(places().map(|place| place.life.hostname())).cloned().collect()
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
    fn start(&mut self, slot: Option<SlotId>, hostname: Hostname, is_urgent: bool) -> Occupant {
        self.last_replica += 1;
        let id = ReplicaId(self.last_replica);
        self.effects.push(Effect::Start(id, Assignment { slot, hostname: hostname.clone(), is_urgent }));
        Occupant { id, hostname }
    }

    fn open_place(&mut self, slot: Option<SlotId>, weight: Weight, hostname: Hostname) {
        let occupant = self.start(slot.clone(), hostname, false);
        self.places.push(Place::new(slot, weight, occupant, self.now));
    }

    fn answer(&mut self, command: CommandId, result: Result<(), Failure>) {
        self.effects.push(Effect::Answer(command, result));
    }
}
