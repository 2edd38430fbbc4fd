//! The controller: the only owner of the fleet. It applies messages to the fleet and performs the effects.
//!
//! It waits only for the next event or deadline. Everything that takes time (starting, stopping, probing, draining, planning, building a
//! mapping) is a separate task that reports back. A command is taken only when nothing else is due, and one at a time.

mod commands;
mod incidents;
mod killing;
mod publication;
mod restarts;
mod running;
mod telling;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::bail;
use fleet::{CommandId, Effect, Event, Fleet, ReplicaId, SlotId, Time, UnixTime, View};
use mapping::{Full, Mapping, Member};
use proto::control::State;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle, spawn_blocking, yield_now};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::exposition::Slots;
use super::health::HealthPolicy;
use super::{Events, Request};
use crate::journal::Journal;
use crate::journal::step::What;
use crate::metrics::Metrics;
use crate::provider::{Provider, Report, Reports};
use crate::refusals::Refusals;
use crate::snapshot::{Cell, Slot, Snapshot};
use commands::{Checks, Waiting};
use incidents::Incidents;
use publication::{Blueprint, Publication, Version};
use restarts::Restarts;
use running::Running;
use telling::Rotation;

/// The most events, and the most reports of the provider, that may wait.
const REPORTS: usize = 1024;
/// The most clients that may wait for a plan.
const PLANS: usize = 8;

/// What a controller works with.
pub(crate) struct Setup {
    /// The clock that the fleet began with.
    pub(crate) clock: Clock,
    pub(crate) health: HealthPolicy,
    /// The most connections of a replica.
    pub(crate) most_per_replica: Option<usize>,
    /// The connections that the data plane has not served.
    pub(crate) refusals: Arc<Refusals>,
    /// Where recoveries are measured.
    pub(crate) metrics: Arc<Metrics>,
    /// What slots have counted.
    pub(crate) slots: Arc<Slots>,
    pub(crate) provider: Provider,
    /// Where snapshots are published.
    pub(crate) cell: Arc<Cell>,
    /// Where everything is recorded that happens.
    pub(crate) journal: Arc<Journal>,
    /// How far the end of `lb` has come.
    pub(crate) ending: Ending,
    /// Whether the data plane would accept a new client now, and if not, why.
    pub(crate) accepts: Box<dyn Fn() -> Result<(), &'static str> + Send>,
    /// Ends all sessions.
    pub(crate) evict: CancellationToken,
}

/// How far the end of `lb` has come.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// Cancelled with the first signal.
    pub(crate) stop: CancellationToken,
    /// Cancelled at the end of the drain: every replica is stopped then.
    pub(crate) over: CancellationToken,
}

/// The only owner of the fleet.
pub(crate) struct Controller {
    fleet: Fleet,
    setup: Setup,
    ready: Option<oneshot::Sender<usize>>,
    publication: Publication,
    /// The mapping that is being built.
    building: Option<JoinHandle<Result<Mapping, Full>>>,
    running: HashMap<ReplicaId, Running>,
    incidents: Incidents,
    rotation: Rotation,
    restarts: Restarts,
    waiting: HashMap<CommandId, Waiting>,
    last_command: u64,
    checks: Checks,
    /// Commands that are done, and answered when this version of the mapping is published.
    done: Vec<(Version, CommandId)>,
    /// Admits clients that wait for a plan, and lets one of them compute at a time.
    planning: Arc<Semaphore>,
    one_plan: Arc<Mutex<()>>,
    events: Events,
    reports: Reports,
}

/// Where everything arrives that a controller waits for.
struct Inbox {
    reports: mpsc::Receiver<Report>,
    events: mpsc::Receiver<Event>,
    requests: mpsc::Receiver<Request>,
}

impl Controller {
    /// Runs the fleet, which begins with `effects`, until `lb` is over and every replica has been stopped.
    ///
    /// # Errors
    /// Another `lb` has taken the fleet over. The replicas keep running.
    pub(crate) async fn run(
        (fleet, effects): (Fleet, Vec<Effect>),
        setup: Setup,
        ready: oneshot::Sender<usize>,
        requests: mpsc::Receiver<Request>,
    ) -> anyhow::Result<()> {
        let (events, happened) = mpsc::channel(REPORTS);
        let (reports, reported) = mpsc::channel(REPORTS);
        let mut inbox = Inbox { reports: reported, events: happened, requests };
        let scheme = fleet.mapping().scheme.clone();
        let mut controller = Controller {
            fleet,
            publication: Publication::new(scheme, Arc::clone(setup.cell.load().mapping())),
            incidents: Incidents::new(setup.clock),
            rotation: Rotation::Begins,
            restarts: Restarts::default(),
            setup,
            ready: Some(ready),
            building: None,
            running: HashMap::new(),
            waiting: HashMap::new(),
            last_command: 0,
            checks: Checks::default(),
            done: Vec::new(),
            planning: Arc::new(Semaphore::new(PLANS)),
            one_plan: Arc::default(),
            events,
            reports,
        };
        controller.setup.provider.begin(controller.reports.clone());
        controller.perform(effects);
        // The first mapping is there before the first command. Replicas start meanwhile.
        if controller.building.is_some() {
            let built = end_of(&mut controller.building).await;
            controller.built(built);
        }
        while controller.turn(&mut inbox).await? {}
        controller.ready = None;
        // Closes the queues, so that no sender waits for them.
        drop(inbox);
        controller.apply(Event::Shutdown);
        // Their clients are told that `lb` is shutting down.
        controller.waiting.clear();
        controller.setup.provider.stopped().await;
        Ok(())
    }

    /// Waits for the next thing to do, and does it. False when `lb` is over.
    async fn turn(&mut self, inbox: &mut Inbox) -> anyhow::Result<bool> {
        let deadline = self.fleet.next_deadline().map(|at| self.setup.clock.instant + at);
        tokio::select! {
            biased;
            () = self.setup.ending.over.cancelled() => return Ok(false),
            reason = self.setup.provider.lost() => bail!(reason),
            Some(report) = inbox.reports.recv() => self.see(report),
            Some(event) = inbox.events.recv() => self.apply(event),
            () = until(deadline) => self.apply(Event::Tick),
            built = end_of(&mut self.building) => self.built(built),
            checked = end_of(&mut self.checks.underway) => self.checked(checked),
            Some(Request { operation, reply }) = inbox.requests.recv() => {
                self.serve(operation, reply);
                // Probes and ends of replicas come to light before the next command.
                yield_now().await;
            }
        }
        Ok(true)
    }

    fn see(&mut self, report: Report) {
        let (id, event) = match report {
            Report::Started(id, reach) => return self.started(id, reach),
            Report::Lost(id, reason) => {
                self.tell_end(id, &reason);
                (id, Event::Lost(id, reason))
            }
            Report::Hindered(id, reason) => {
                self.tell_end(id, &reason);
                (id, Event::Hindered(id, reason))
            }
            Report::Waits(id, reason) => return self.apply(Event::Failed(id, reason)),
            Report::Adopted(epoch, roster) => return self.apply(Event::Adopted(epoch, roster)),
            Report::Proposed(outcome) => return self.apply(Event::Proposed(outcome)),
            Report::Removed(hostname) => return self.apply(Event::Removed(hostname)),
        };
        // The fleet hears first, so that the data plane stops using a replica before its link and its sessions are ended.
        self.apply(event);
        self.give_up(id);
    }

    fn apply(&mut self, event: Event) {
        self.note_cause(&event);
        let now = self.setup.clock.instant.elapsed();
        self.setup.journal.record_step(|| What::happened(now, &event));
        let effects = self.fleet.apply(now, event);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let has_changed = effects.iter().any(|effect| matches!(effect, Effect::Changed(_)));
        for effect in effects {
            match effect {
                Effect::Publish => self.publish(),
                Effect::Remember(seats) => self.setup.provider.remember(seats),
                Effect::Changed(view) => {
                    self.tell_change(&view);
                    self.look_at(&view);
                    self.count_restarts(&view);
                    self.settle_sessions(&view);
                }
                Effect::Doubt(suspects) => self.tell_doubt(suspects),
                Effect::Start(id, assignment) => {
                    self.tell_start(&assignment);
                    let keeper = self.setup.provider.start(id, assignment, self.reports.clone());
                    self.running.insert(id, Running::new(keeper));
                }
                Effect::Drain(id, limit) => self.drain(id, limit),
                Effect::Stop(id, how) => {
                    if let Some(keeper) = self.give_up(id) {
                        self.tell_stop(keeper.hostname());
                        keeper.stop(how);
                    }
                }
                Effect::Check(command, demand) => self.check(command, demand),
                Effect::Propose(epoch, roster) => {
                    self.setup.provider.propose(epoch, roster, self.reports.clone());
                }
                Effect::Remove(epoch, hostname) => {
                    self.setup.provider.remove((epoch, hostname), self.reports.clone());
                }
                Effect::Answer(command, Ok(())) => self.done.push((self.publication.wanted(), command)),
                Effect::Answer(command, Err(refusal)) => self.refuse(command, refusal),
            }
        }
        self.publication.stamp(self.fleet.epoch());
        self.answer_all();
        self.announce();
        if has_changed {
            self.tell_rotation();
        }
    }

    /// Reports once that all replicas are in rotation.
    fn announce(&mut self) {
        // An empty fleet whose slots come from outside has not heard of them yet.
        let is_awaited = self.setup.provider.brings_slots() && self.fleet.slots().next().is_none();
        if !is_awaited
            && self.publication.is_settled(self.publication.wanted())
            && self.fleet.slots().all(|view| view.state == State::Up)
            && let Some(ready) = self.ready.take()
        {
            // It fails only while `lb` ends.
            let _ = ready.send(self.fleet.slots().count());
        }
    }

    fn publish(&mut self) {
        self.forget_incidents();
        let scheme = self.fleet.mapping().scheme.clone();
        let members = self.fleet.slots().filter_map(|view| view.member()).collect();
        self.publication.want(Blueprint { scheme, members });
        self.store();
        self.build();
    }

    /// Publishes the slots of the mapping that there is, as they are now.
    fn store(&self) {
        let views = self.fleet.slots().collect();
        let slots = self.publication.arrange(views);
        let slots =
            slots.map(|(member, view)| view.and_then(|view| self.slot(view)).unwrap_or_else(|| left(member)));
        let (mapping, balance) = (Arc::clone(self.publication.mapping()), self.fleet.mapping().balance);
        let snapshot = Snapshot::new(mapping, slots.collect(), balance, self.setup.most_per_replica);
        self.setup.cell.store(Arc::new(snapshot));
    }

    /// Has the next mapping built, if there is one to build.
    fn build(&mut self) {
        if let Some(blueprint) = self.publication.next() {
            self.building = Some(spawn_blocking(move || blueprint.build()));
        }
    }

    fn built(&mut self, built: Result<Result<Mapping, Full>, JoinError>) {
        self.building = None;
        let built = built.map_err(anyhow::Error::from).and_then(|built| Ok(built?));
        // The fleet refuses slots that do not fit, so this is a bug.
        let built = built.inspect_err(|error| error!("the mapping cannot be built: {error}"));
        let is_new = built.is_ok();
        self.publication.complete(built.ok());
        if is_new {
            self.tell_mapping();
            self.measure_shares();
        }
        self.store();
        self.build();
        self.answer_all();
        self.announce();
    }

    fn slot(&self, view: View) -> Option<Slot> {
        let SlotId { index, name } = view.slot?;
        let replica = view.replica.and_then(|id| self.running.get(&id)?.replica.clone());
        let hostname = view.hostname.to_string();
        Some(Slot {
            index,
            name: name.to_string(),
            weight: view.weight.get(),
            hostname,
            state: view.state,
            reason: view.reason,
            replica,
        })
    }
}

/// When the fleet began, on the monotonic clock and on the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    instant: Instant,
    wall: SystemTime,
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn start() -> Self {
        Clock { instant: Instant::now(), wall: SystemTime::now() }
    }

    /// When it began, as the time since 1970.
    pub(crate) fn born(&self) -> UnixTime {
        self.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    /// The time of the fleet at this instant.
    fn time(&self, instant: Instant) -> Time {
        instant.saturating_duration_since(self.instant)
    }

    fn rfc3339(&self, time: Time) -> String {
        humantime::format_rfc3339_millis(self.wall + time).to_string()
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits for the end of a task, if there is one.
async fn end_of<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// A slot that has left the fleet, and is in the mapping until the next one is built.
fn left(Member { index, name, weight }: &Member) -> Slot {
    Slot {
        index: *index,
        name: name.clone(),
        weight: *weight,
        hostname: name.clone(),
        state: State::Draining,
        reason: Some("it has been removed".to_owned()),
        replica: None,
    }
}
