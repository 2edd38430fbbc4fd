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

mod ledger;
mod names;
mod place;
#[cfg(test)]
mod sweep;

use std::collections::HashSet;
use std::time::Duration;

use proto::control::{Change, Failure, FailureKind, Hostname, State};

pub(crate) use names::Names;
use place::{Life, Place, Replica};

use crate::ring::{Algorithm, Mapping, Member};

/// The most slots that a fleet can have, whatever its mapping.
pub(crate) const MOST_SLOTS: usize = 1000;

/// Time since the start of the program.
pub(crate) type Time = Duration;

/// One running server; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ReplicaId(pub(crate) u64);

/// A command that waits for its answer; chosen by whoever sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CommandId(pub(crate) u64);

/// The fixed rules of a fleet.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// The mapping that every set of slots has to fit into.
    pub(crate) algorithm: Algorithm,
    /// How long a started replica may take to pass its first checks.
    pub(crate) start_timeout: Duration,
    /// Whether a replacement keeps the hostname of the replica it replaces.
    pub(crate) same_name: bool,
    /// Whether replicas can be started again at all; fixed addresses cannot.
    pub(crate) restartable: bool,
}

/// What can happen to a fleet.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Somebody wants more replicas.
    Add(CommandId, Change),
    /// Somebody wants fewer.
    Remove(CommandId, Change),
    /// The provider has started it; it has an address now.
    Started(ReplicaId),
    /// The provider could not start it, or it has exited.
    Lost(ReplicaId, String),
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
    /// A slot (or spare) has changed its state.
    Changed(View),
    /// Start a replica; answered by `Started` or `Lost`.
    Start(ReplicaId, Hostname),
    /// Wait for its sessions to end, and evict them in the end; answered by `Drained`.
    Drain(ReplicaId),
    /// Stop it.
    Stop(ReplicaId, Stopping),
    /// Answer a command.
    Answer(CommandId, Result<(), Failure>),
}

/// How a replica is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopping {
    /// It is asked to end, and made to after a while.
    Gently,
    /// It does not listen any more.
    AtOnce,
}

/// A slot or spare as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Index and name of the slot; a spare has neither.
    pub(crate) slot: Option<SlotId>,
    pub(crate) hostname: Hostname,
    /// The replica that runs there, if one does.
    pub(crate) replica: Option<ReplicaId>,
    pub(crate) state: State,
    pub(crate) reason: Option<String>,
    pub(crate) since: Time,
    pub(crate) restarts: u64,
}

/// A slot's stable identity: what the ring hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotId {
    pub(crate) index: u32,
    pub(crate) name: Hostname,
}

impl SlotId {
    /// The slot as a mapping sees it.
    pub(crate) fn member(&self) -> Member {
        Member { index: self.index, name: self.name.to_string() }
    }
}

/// Replicas of one `add` on their way in.
#[derive(Debug)]
struct Arrival {
    command: CommandId,
    newcomers: Vec<Newcomer>,
}

#[derive(Debug)]
struct Newcomer {
    slot: SlotId,
    replica: Replica,
    since: Time,
    deadline: Option<Time>,
    ready: bool,
    reason: Option<String>,
}

/// A replica on its way out.
#[derive(Debug)]
struct Leaver {
    slot: SlotId,
    replica: Replica,
    since: Time,
    restarts: u64,
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
    leaving: Vec<Leaver>,
    effects: Vec<Effect>,
    publish: bool,
    over: bool,
}

impl Fleet {
    /// A fleet with the given slots (indices 1, 2, 3, ...) and number of spares, and the effects that start it.
    pub(crate) fn new(
        policy: Policy,
        names: Names,
        slots: Vec<Hostname>,
        spares: usize,
        seed: u64,
    ) -> (Self, Vec<Effect>) {
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
            over: false,
        };
        for (index, name) in (1..).zip(slots) {
            let replica = fleet.start(name.clone());
            fleet.places.push(Place::new(Some(SlotId { index, name }), replica, Time::ZERO));
        }
        for _ in 0..spares {
            if let Some(name) = fleet.fresh_name() {
                let replica = fleet.start(name);
                fleet.places.push(Place::new(None, replica, Time::ZERO));
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
            Event::Started(id) => self.started(id),
            Event::Lost(id, reason) => self.lost(id, &reason),
            Event::Passed(id) => self.passed(id),
            Event::Failed(id, reason) => self.failed(id, &reason),
            Event::Unresponsive(id) => self.unresponsive(id),
            Event::Drained(id) => self.drained(id),
            Event::Tick => self.tick(),
            Event::Shutdown => self.shutdown(),
        }
        self.take_effects()
    }

    /// When the next `Tick` is due.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let newcomers = self.arriving.iter().flat_map(|arrival| &arrival.newcomers);
        let arriving = newcomers.filter_map(|newcomer| newcomer.deadline);
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
        let arriving = self.arriving.iter().flat_map(|arrival| &arrival.newcomers).map(Newcomer::view);
        arriving.chain(self.leaving.iter().map(Leaver::view))
    }

    fn take_effects(&mut self) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.effects);
        if std::mem::take(&mut self.publish) {
            effects.insert(0, Effect::Publish);
        }
        effects
    }
}

/// Commands.
impl Fleet {
    fn add(&mut self, command: CommandId, change: &Change) {
        match self.plan_add(change) {
            Ok(names) => self.begin_add(command, names),
            Err(refusal) => self.answer(command, Err(refusal)),
        }
    }

    /// The names of the new slots, or why there can be none.
    fn plan_add(&mut self, change: &Change) -> Result<Vec<Hostname>, Failure> {
        self.refuse_if_over()?;
        let n = change.n as usize;
        if change.hostnames.len() > n {
            return Err(bad("Length of hostname list is more than newly added instances"));
        }
        self.refuse_if_full(n)?;
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
        Ok(names)
    }

    fn begin_add(&mut self, command: CommandId, names: Vec<Hostname>) {
        let mut newcomers = Vec::with_capacity(names.len());
        for (index, name) in self.free_indices(names.len()).into_iter().zip(names) {
            let replica = self.start(name.clone());
            let slot = SlotId { index, name };
            newcomers.push(Newcomer {
                slot,
                replica,
                since: self.now,
                deadline: None,
                ready: false,
                reason: None,
            });
        }
        self.effects.extend(newcomers.iter().map(|newcomer| Effect::Changed(newcomer.view())));
        self.arriving.push(Arrival { command, newcomers });
    }

    /// Takes all newcomers of a command into the ring, in one step.
    fn complete_add(&mut self, arrival: Arrival) {
        for newcomer in arrival.newcomers {
            let mut place = Place::new(Some(newcomer.slot), newcomer.replica, newcomer.since);
            place.rise(self.now);
            self.effects.push(Effect::Changed(place.view()));
            self.places.push(place);
        }
        self.places.sort_by_key(|place| place.slot.as_ref().map_or(u32::MAX, |slot| slot.index));
        self.publish = true;
        self.answer(arrival.command, Ok(()));
    }

    /// Stops whatever of a command did start.
    fn abandon_add(&mut self, arrival: &Arrival, lost: ReplicaId, reason: &str) {
        for newcomer in &arrival.newcomers {
            if newcomer.replica.id != lost {
                self.effects.push(Effect::Stop(newcomer.replica.id, Stopping::Gently));
            }
        }
        self.answer(arrival.command, Err(FailureKind::StartFailed.because(reason)));
    }

    fn remove(&mut self, command: CommandId, change: &Change) {
        match self.plan_remove(change) {
            Ok(names) => {
                for name in names {
                    self.take_out(&name);
                }
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

    /// Takes a slot off the ring; its replica is stopped when its sessions have ended.
    fn take_out(&mut self, name: &Hostname) {
        let found =
            self.places.iter().position(|place| place.slot.as_ref().is_some_and(|slot| slot.name == *name));
        let Some(place) = found.map(|at| self.places.remove(at)) else { return };
        let (slot, served, restarts) = (place.slot, place.life.has_served(), place.restarts);
        let (Some(slot), Some(replica)) = (slot, place.life.into_replica()) else { return };
        let id = replica.id;
        let leaver = Leaver { slot, replica, since: self.now, restarts };
        self.effects.push(Effect::Changed(leaver.view()));
        if served {
            self.leaving.push(leaver);
            self.effects.push(Effect::Drain(id));
        } else {
            self.effects.push(Effect::Stop(id, Stopping::Gently));
        }
    }

    fn answer(&mut self, command: CommandId, result: Result<(), Failure>) {
        self.effects.push(Effect::Answer(command, result));
    }

    fn refuse_if_over(&self) -> Result<(), Failure> {
        if self.over { Err(FailureKind::Unavailable.because("lb is shutting down")) } else { Ok(()) }
    }

    fn shutdown(&mut self) {
        self.over = true;
        for arrival in std::mem::take(&mut self.arriving) {
            self.abandon_add(&arrival, ReplicaId(0), "lb is shutting down");
        }
        let leaving = std::mem::take(&mut self.leaving).into_iter().map(|leaver| leaver.replica);
        let running =
            std::mem::take(&mut self.places).into_iter().filter_map(|place| place.life.into_replica());
        self.effects.extend(leaving.chain(running).map(|replica| Effect::Stop(replica.id, Stopping::Gently)));
        self.publish = true;
    }
}

/// What happens to replicas.
impl Fleet {
    fn started(&mut self, id: ReplicaId) {
        let (deadline, restartable) = (self.now + self.policy.start_timeout, self.policy.restartable);
        if let Some(newcomer) = self.newcomer(id) {
            newcomer.deadline = Some(deadline);
        } else if let Some(place) = self.place_of(id) {
            // To stop waiting for a fixed address would help nobody: it cannot be started anew.
            place.life.allow_until(restartable.then_some(deadline));
        }
    }

    fn passed(&mut self, id: ReplicaId) {
        if let Some(newcomer) = self.newcomer(id) {
            newcomer.ready = true;
            let done = |arrival: &mut Arrival| arrival.newcomers.iter().all(|newcomer| newcomer.ready);
            let complete: Vec<Arrival> = self.arriving.extract_if(.., done).collect();
            complete.into_iter().for_each(|arrival| self.complete_add(arrival));
        } else if let Some(at) = self.position_of(id) {
            self.rise(at);
        }
    }

    fn failed(&mut self, id: ReplicaId, reason: &str) {
        let (now, restartable) = (self.now, self.policy.restartable);
        if let Some(newcomer) = self.newcomer(id) {
            newcomer.ready = false;
            newcomer.reason = Some(reason.to_owned());
        } else if let Some(place) = self.place_of(id) {
            let changed = place.fall(now, reason, restartable).then(|| place.view());
            self.note(changed);
        }
    }

    fn unresponsive(&mut self, id: ReplicaId) {
        let Some(at) = self.position_of(id) else { return };
        if self.policy.restartable && self.places[at].life.state() == State::Down {
            self.effects.push(Effect::Stop(id, Stopping::AtOnce));
            let probe = self.places[at].reason.take().unwrap_or_default();
            self.replace(at, &format!("unresponsive: {probe}"));
        }
    }

    fn lost(&mut self, id: ReplicaId, reason: &str) {
        let holds =
            |arrival: &mut Arrival| arrival.newcomers.iter().any(|newcomer| newcomer.replica.id == id);
        let arrival = self.arriving.extract_if(.., holds).next();
        if let Some(arrival) = arrival {
            self.abandon_add(&arrival, id, reason);
        } else if let Some(at) = self.position_of(id) {
            self.replace(at, reason);
        } else {
            self.leaving.retain(|leaver| leaver.replica.id != id);
        }
    }

    fn drained(&mut self, id: ReplicaId) {
        if self.leaving.extract_if(.., |leaver| leaver.replica.id == id).next().is_some() {
            self.effects.push(Effect::Stop(id, Stopping::Gently));
        }
    }

    fn tick(&mut self) {
        while let Some(id) = self.overdue() {
            self.effects.push(Effect::Stop(id, Stopping::AtOnce));
            let probe = self.last_failure(id).map_or_else(String::new, |reason| format!(": {reason}"));
            let limit = self.policy.start_timeout;
            self.lost(id, &format!("not ready within {limit:?}{probe}"));
        }
        while let Some(at) = self.places.iter().position(|place| place.life.is_due(self.now)) {
            self.respawn(at);
        }
    }

    /// A replica that should have been ready by now.
    fn overdue(&self) -> Option<ReplicaId> {
        let newcomers = self.arriving.iter().flat_map(|arrival| &arrival.newcomers);
        let mut late = newcomers
            .filter(|newcomer| !newcomer.ready && newcomer.deadline.is_some_and(|at| at <= self.now));
        let place = || self.places.iter().find_map(|place| place.life.late(self.now));
        late.next().map(|newcomer| newcomer.replica.id).or_else(place)
    }

    fn rise(&mut self, at: usize) {
        if !self.places[at].rise(self.now) {
            return;
        }
        let view = self.places[at].view();
        let is_spare = view.slot.is_none();
        self.note(Some(view));
        if is_spare
            && let Some(vacant) =
                self.places.iter().position(|place| place.slot.is_some() && place.life.is_vacant())
        {
            self.move_in(vacant, at);
        }
    }

    /// A slot (or spare) has lost its replica: a ready spare moves in, or a new one is started, now or later.
    fn replace(&mut self, at: usize, reason: &str) {
        self.places[at].reason = Some(reason.to_owned());
        let ready_spare =
            self.places.iter().position(|place| place.slot.is_none() && place.life.state() == State::Up);
        if let (Some(_), Some(spare)) = (&self.places[at].slot, ready_spare) {
            return self.move_in(at, spare);
        }
        match self.places[at].next_try(self.now, &mut self.rng) {
            None => self.respawn(at),
            Some(later) => {
                self.places[at].become_(later, self.now);
                self.note(Some(self.places[at].view()));
            }
        }
    }

    fn move_in(&mut self, slot: usize, spare: usize) {
        let (now, life) = (self.now, self.places[spare].vacate());
        self.places[slot].restarts += 1;
        self.places[slot].become_(life, now);
        self.note(Some(self.places[slot].view()));
        self.respawn(spare);
    }

    fn respawn(&mut self, at: usize) {
        let kept = (self.policy.same_name && self.places[at].slot.is_some())
            .then(|| self.places[at].life.hostname().clone());
        let Some(name) = kept.or_else(|| self.fresh_name()) else { return };
        let replica = self.start(name);
        self.places[at].restarts += 1;
        self.places[at].become_(Life::Starting { replica, deadline: None }, self.now);
        self.note(Some(self.places[at].view()));
    }

    fn start(&mut self, hostname: Hostname) -> Replica {
        self.last_replica += 1;
        let id = ReplicaId(self.last_replica);
        self.effects.push(Effect::Start(id, hostname.clone()));
        Replica { id, hostname }
    }

    /// A visible change.
    fn note(&mut self, changed: Option<View>) {
        if let Some(view) = changed {
            self.publish |= view.slot.is_some();
            self.effects.push(Effect::Changed(view));
        }
    }
}

/// Looking things up.
impl Fleet {
    fn slot_ids(&self) -> impl Iterator<Item = &SlotId> {
        self.places.iter().filter_map(|place| place.slot.as_ref())
    }

    fn arriving_ids(&self) -> impl Iterator<Item = &SlotId> {
        self.arriving.iter().flat_map(|arrival| &arrival.newcomers).map(|newcomer| &newcomer.slot)
    }

    /// Refuses `n` more slots if there is no room for them, in the fleet or in the mapping.
    fn refuse_if_full(&self, n: usize) -> Result<(), Failure> {
        let mut members: Vec<Member> =
            self.slot_ids().chain(self.arriving_ids()).map(SlotId::member).collect();
        let now = members.len();
        let most = self.policy.algorithm.capacity().unwrap_or(MOST_SLOTS).min(MOST_SLOTS);
        if n > most - now.min(most) {
            return Err(bad(format!("`n` is {n}, but the fleet has {now} slots and can have {most}")));
        }
        if self.policy.algorithm.capacity().is_some() {
            let newcomers = self.free_indices(n).into_iter();
            members.extend(newcomers.map(|index| Member { index, name: String::new() }));
            Mapping::build(&self.policy.algorithm, &members).map_err(|full| bad(full.to_string()))?;
        }
        Ok(())
    }

    /// The name of the slot that is called `name`, or whose replica is.
    fn slot_called(&self, name: &Hostname) -> Option<Hostname> {
        let named = |place: &&Place| {
            place.slot.as_ref().is_some_and(|slot| slot.name == *name || place.life.hostname() == name)
        };
        self.places.iter().find(named)?.slot.as_ref().map(|slot| slot.name.clone())
    }

    /// Every slot name and hostname of the fleet. A leaving replica is not part of it any more.
    fn taken_names(&self) -> HashSet<Hostname> {
        let hostnames = self.places.iter().map(|place| place.life.hostname());
        self.slot_ids().chain(self.arriving_ids()).map(|slot| &slot.name).chain(hostnames).cloned().collect()
    }

    fn fresh_name(&mut self) -> Option<Hostname> {
        let taken = self.taken_names();
        self.names.next(&taken, &mut self.rng)
    }

    fn free_indices(&self, n: usize) -> Vec<u32> {
        let taken: HashSet<u32> = self.slot_ids().chain(self.arriving_ids()).map(|slot| slot.index).collect();
        (1..).filter(|index| !taken.contains(index)).take(n).collect()
    }

    fn position_of(&self, id: ReplicaId) -> Option<usize> {
        self.places.iter().position(|place| place.life.replica().is_some_and(|replica| replica.id == id))
    }

    fn place_of(&mut self, id: ReplicaId) -> Option<&mut Place> {
        let at = self.position_of(id)?;
        self.places.get_mut(at)
    }

    /// What its last failed probe said.
    fn last_failure(&mut self, id: ReplicaId) -> Option<String> {
        let newcomer = self.newcomer(id).and_then(|newcomer| newcomer.reason.take());
        newcomer.or_else(|| self.place_of(id)?.reason.take())
    }

    fn newcomer(&mut self, id: ReplicaId) -> Option<&mut Newcomer> {
        let mut newcomers = self.arriving.iter_mut().flat_map(|arrival| &mut arrival.newcomers);
        newcomers.find(|newcomer| newcomer.replica.id == id)
    }
}

impl Newcomer {
    fn view(&self) -> View {
        View {
            slot: Some(self.slot.clone()),
            hostname: self.replica.hostname.clone(),
            replica: Some(self.replica.id),
            state: State::Starting,
            reason: self.reason.clone(),
            since: self.since,
            restarts: 0,
        }
    }
}

impl Leaver {
    fn view(&self) -> View {
        View {
            slot: Some(self.slot.clone()),
            hostname: self.replica.hostname.clone(),
            replica: Some(self.replica.id),
            state: State::Draining,
            reason: None,
            since: self.since,
            restarts: self.restarts,
        }
    }
}

fn bad(message: impl Into<String>) -> Failure {
    FailureKind::BadRequest.because(message)
}
