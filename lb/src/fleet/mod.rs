//! The fleet: every slot with its state, as a pure state machine.
//!
//! [`Fleet::apply`] takes one event and answers with the effects that follow from it. There is no I/O here, no clock
//! (time comes in with each event) and no randomness but that of the seed given at the start: the same seed and the
//! same events make the same fleet, which is what lets `sweep.rs` drive it through thousands of random histories.
//!
//! A slot outlives its replicas: a replacement takes over index and name, and so the place on the ring. States:
//!
//! ```text
//! Starting ──► Up ◄──► Down ──► (replaced: Starting again, or a spare moves in: Up)
//!    └─ failed too often ──► Quarantined ──► Starting (one try now and then)
//! ```
//!
//! The replicas of one `add` enter the ring together, when all of them are ready, or not at all.

mod commands;
mod ledger;
mod names;
mod nouns;
mod place;
mod preview;
mod replicas;
#[cfg(test)]
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

use mapping::{MappingPolicy, Member};
use proto::control::{Addition, Failure, Hostname, Remapping, Removal, State, Weight};

use commands::ADD_LIMIT;
use ledger::Fault;
pub(crate) use names::Names;
pub(crate) use nouns::{Assignment, ReplicaId, Seat, SlotId, Stopping};
use place::{Occupant, Place};
pub(crate) use preview::Preview;

/// Time since the start of the program.
pub(crate) type Time = Duration;

/// A command that waits for its answer; chosen by whoever sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CommandId(pub(crate) u64);

/// The rules of a fleet.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// How keys are mapped; commands can change it.
    pub(crate) mapping: MappingPolicy,
    /// How long a started replica may take to pass its first checks.
    pub(crate) start_timeout: Duration,
    /// Whether a replacement keeps the hostname of the replica it replaces.
    pub(crate) same_name: bool,
    /// Whether replicas can be started again at all; fixed addresses cannot.
    pub(crate) restartable: bool,
    /// Whether replicas go on when the program ends.
    pub(crate) keep: bool,
}

/// Who a fleet begins with.
#[derive(Clone, Debug)]
pub(crate) struct Lineup {
    /// The slots, by index, each with the hostname of its first replica.
    pub(crate) seats: Vec<Seat>,
    /// The hostnames of the spares that have one already.
    known_spares: Vec<Hostname>,
    /// How many more spares there are to be.
    more_spares: usize,
}

impl Lineup {
    /// A new fleet: indices 1, 2, 3, ..., and replicas called like their slots.
    pub(crate) fn new(slots: Vec<(Hostname, Weight)>, spares: usize) -> Self {
        let seats = (1..).zip(slots).map(|(index, (name, weight))| Seat {
            slot: SlotId { index, name: name.clone() },
            weight,
            hostname: name,
        });
        Lineup::of(seats.collect(), Vec::new(), spares)
    }

    /// A fleet with these `seats`, by index, and so many `spares`, of which some are known.
    pub(crate) fn of(seats: Vec<Seat>, known_spares: Vec<Hostname>, spares: usize) -> Self {
        let more_spares = spares.saturating_sub(known_spares.len());
        Lineup { seats, known_spares, more_spares }
    }
}

/// What can happen to a fleet.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Somebody wants more replicas.
    Add(CommandId, Addition),
    /// Somebody wants fewer.
    Remove(CommandId, Removal),
    /// Somebody wants keys to be mapped otherwise.
    Remap(CommandId, Remapping),
    /// The provider has started it; it has an address now.
    Started(ReplicaId),
    /// The provider could not start it, or it has exited.
    Lost(ReplicaId, String),
    /// The provider could not even try to start it, which is not the fault of the replica.
    Hindered(ReplicaId, String),
    /// Its probes pass.
    Passed(ReplicaId),
    /// Its probes fail.
    Failed(ReplicaId, String),
    /// Its probes have failed for long, and not a byte came from it in that time.
    Unresponsive(ReplicaId),
    /// A leaving replica has no session left, or they have been evicted.
    Drained(ReplicaId),
    /// A deadline may have passed.
    Tick,
    /// The program ends.
    Shutdown,
}

/// What has to be done next, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Show the data plane the fleet as it is now.
    Publish,
    /// Write down who sits where, for the next start: the seats have changed.
    Remember(Vec<Seat>),
    /// A slot (or spare) has changed its state.
    Changed(View),
    /// Start a replica; answered by `Started`, `Lost` or `Hindered`.
    Start(ReplicaId, Assignment),
    /// Wait for its sessions to end, and evict them in the end; answered by `Drained`.
    Drain(ReplicaId),
    /// Stop it.
    Stop(ReplicaId, Stopping),
    /// Answer a command.
    Answer(CommandId, Result<(), Failure>),
}

/// A slot or spare as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Index and name of the slot; a spare has neither.
    pub(crate) slot: Option<SlotId>,
    /// The share of the keys that the slot gets.
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
    /// Who sits here, if it is a slot.
    pub(crate) fn seat(&self) -> Option<Seat> {
        Some(Seat { slot: self.slot.clone()?, weight: self.weight, hostname: self.hostname.clone() })
    }

    /// The slot as a mapping sees it.
    pub(crate) fn member(&self) -> Option<Member> {
        Some(self.slot.as_ref()?.member(self.weight))
    }
}

/// The replicas of one `add` on their way in: slots that are not on the ring yet.
#[derive(Debug)]
struct Arrival {
    command: CommandId,
    places: Vec<Place>,
    /// By when all of them have to be ready. Each has a deadline of its own as soon as it has been started.
    deadline: Time,
}

impl Arrival {
    /// When the first of its deadlines passes.
    fn next_deadline(&self) -> Time {
        self.places
            .iter()
            .filter_map(|place| place.life.deadline())
            .min()
            .unwrap_or(self.deadline)
            .min(self.deadline)
    }

    /// What to say if one of its deadlines has passed by `now`.
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

/// All slots with their states. See the module's documentation.
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
    /// Slots that are not on the ring any more; their replicas drain.
    leaving: Vec<Place>,
    effects: Vec<Effect>,
    publish: bool,
    /// The seats that the provider knows: those that the fleet began with, or the last ones that it was told to write down.
    remembered: Vec<Seat>,
    over: bool,
}

impl Fleet {
    /// A fleet of these, and the effects that start it.
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

    /// Takes in one event that happened at `now`, and says what follows from it.
    ///
    /// Events about replicas that are no longer part of the fleet are ignored.
    pub(crate) fn apply(&mut self, now: Time, event: Event) -> Vec<Effect> {
        self.now = now;
        match event {
            Event::Add(command, change) => self.add(command, &change),
            Event::Remove(command, change) => self.remove(command, &change),
            Event::Remap(command, change) => self.remap(command, &change),
            Event::Started(id) => self.started(id),
            Event::Lost(id, reason) => self.lost(id, &reason, Fault::Replica),
            Event::Hindered(id, reason) => self.lost(id, &reason, Fault::Provider),
            Event::Passed(id) => self.passed(id),
            Event::Failed(id, reason) => self.failed(id, &reason),
            Event::Unresponsive(id) => self.unresponsive(id),
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

    /// The slots on the ring, by index.
    pub(crate) fn slots(&self) -> impl Iterator<Item = View> {
        self.places.iter().filter(|place| place.slot.is_some()).map(Place::view)
    }

    /// The spares.
    pub(crate) fn spares(&self) -> impl Iterator<Item = View> {
        self.places.iter().filter(|place| place.slot.is_none()).map(Place::view)
    }

    /// The slots that are not on the ring yet, or no longer.
    pub(crate) fn in_passing(&self) -> impl Iterator<Item = View> {
        // Those that are ready before the others wait for them.
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

    /// What has to be written down. The shutdown is not: the next start finds the seats as they were before it.
    fn remember(&mut self) -> Option<Effect> {
        let seats: Vec<Seat> = self.slots().filter_map(|view| view.seat()).collect();
        if self.over || seats == self.remembered {
            return None;
        }
        self.remembered.clone_from(&seats);
        Some(Effect::Remember(seats))
    }
}

/// Looking things up.
impl Fleet {
    fn slot_ids(&self) -> impl Iterator<Item = &SlotId> {
        self.places.iter().filter_map(|place| place.slot.as_ref())
    }

    /// The slots on the ring as a mapping sees them.
    fn members(&self) -> Vec<Member> {
        self.places.iter().filter_map(Place::member).collect()
    }

    /// Those, and the ones that will be.
    fn future_members(&self) -> Vec<Member> {
        self.places.iter().chain(self.newcomers()).filter_map(Place::member).collect()
    }

    fn newcomers(&self) -> impl Iterator<Item = &Place> {
        self.arriving.iter().flat_map(|arrival| &arrival.places)
    }

    /// Every slot name and hostname of the fleet. A leaving replica is not part of it any more.
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
