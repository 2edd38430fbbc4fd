//! The controller: the only owner of the fleet. It applies messages to the fleet and performs the effects.
//!
//! It waits only for the next event or deadline. Everything that takes time (starting, stopping, probing, draining, planning, building a
//! mapping) is a separate task that reports back. A command is taken only when nothing else is due, and one at a time.

mod commands;
mod publication;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::bail;
use mapping::{Full, Mapping, Member};
use proto::control::{DrainTime, State};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle, spawn_blocking, yield_now};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::health::{self, HealthPolicy, OnDown};
use super::{Events, Request};
use crate::fleet::{CommandId, Effect, Event, Fleet, ReplicaId, SlotId, Time, View};
use crate::provider::{Keeper, Provider, Reach, Report, Reports};
use crate::refusals::Refusals;
use crate::replica::{EVICTION, Replica};
use crate::snapshot::{Cell, Slot, Snapshot};
use commands::{Checks, Waiting};
use publication::{Blueprint, Publication, Version};

/// The most events, and the most reports of the provider, that may wait.
const REPORTS: usize = 1024;
/// The most clients that may wait for a plan.
const PLANS: usize = 8;
/// How long a lost replica must have sent nothing before its sessions are ended.
const SILENCE: Duration = Duration::from_secs(5);

/// What a controller works with.
pub(crate) struct Setup {
    pub(crate) health: HealthPolicy,
    pub(crate) drain_timeout: Duration,
    /// The most connections of a replica.
    pub(crate) most_per_replica: Option<usize>,
    /// The connections that the data plane has not served.
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) provider: Provider,
    /// Where snapshots are published.
    pub(crate) cell: Arc<Cell>,
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

/// A replica from its start until it is given up.
struct Running {
    keeper: Keeper,
    /// Known once the provider has started it.
    replica: Option<Arc<Replica>>,
    probes: Option<AbortOnDropHandle<()>>,
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
    clock: Clock,
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
            clock: Clock { instant: Instant::now(), wall: SystemTime::now() },
        };
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
        let deadline = self.fleet.next_deadline().map(|at| self.clock.instant + at);
        tokio::select! {
            biased;
            () = self.setup.ending.over.cancelled() => return Ok(false),
            () = self.setup.provider.lost() => bail!("another lb has taken the fleet over"),
            Some(report) = inbox.reports.recv() => self.see(report),
            Some(event) = inbox.events.recv() => self.apply(event),
            () = until(deadline) => self.apply(Event::Tick),
            built = end_of(&mut self.building) => self.built(built),
            checked = end_of(&mut self.checks.underway) => self.checked(checked),
            Some(Request { command, reply }) = inbox.requests.recv() => {
                self.serve(command, reply);
                // Probes and ends of replicas come to light before the next command.
                yield_now().await;
            }
        }
        Ok(true)
    }

    fn see(&mut self, report: Report) {
        let (id, event) = match report {
            Report::Started(id, reach) => return self.started(id, reach),
            Report::Lost(id, reason) => (id, Event::Lost(id, reason)),
            Report::Hindered(id, reason) => (id, Event::Hindered(id, reason)),
        };
        // The fleet hears first, so that the data plane stops using a replica before its link and its sessions are ended.
        self.apply(event);
        self.give_up(id);
    }

    fn apply(&mut self, event: Event) {
        let effects = self.fleet.apply(self.clock.instant.elapsed(), event);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Publish => self.publish(),
                Effect::Remember(seats) => self.setup.provider.remember(seats),
                Effect::Changed(view) => {
                    log(&view);
                    self.settle_sessions(&view);
                }
                Effect::Start(id, assignment) => {
                    let keeper = self.setup.provider.start(id, assignment, self.reports.clone());
                    self.running.insert(id, Running { keeper, replica: None, probes: None });
                }
                Effect::Drain(id, time) => self.drain(id, time),
                Effect::Stop(id, how) => {
                    if let Some(keeper) = self.give_up(id) {
                        keeper.stop(how);
                    }
                }
                Effect::Check(command, change, demand) => self.check((command, change, demand)),
                Effect::Answer(command, Ok(())) => self.done.push((self.publication.wanted(), command)),
                Effect::Answer(command, Err(refusal)) => self.refuse(command, refusal),
            }
        }
        self.answer_all();
        self.announce();
    }

    /// Reports once that all replicas are in rotation.
    fn announce(&mut self) {
        if self.publication.is_settled(self.publication.wanted())
            && self.fleet.slots().all(|view| view.state == State::Up)
            && let Some(ready) = self.ready.take()
        {
            // It fails only while `lb` ends.
            let _ = ready.send(self.fleet.slots().count());
        }
    }

    fn publish(&mut self) {
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
        self.publication.complete(built.ok());
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

    fn started(&mut self, id: ReplicaId, Reach { addresses, door, inspector }: Reach) {
        let Some(running) = self.running.get_mut(&id) else { return };
        let hostname = running.keeper.hostname().to_string();
        let replica = Replica::new(hostname, addresses, self.setup.evict.child_token());
        let replica = Arc::new(replica.with_handoff_at(door));
        let identity = self.setup.provider.names_replicas();
        let watch = health::watch(
            id,
            Arc::clone(&replica),
            inspector,
            identity,
            self.setup.health.clone(),
            self.events.clone(),
        );
        running.replica = Some(replica);
        running.probes = Some(AbortOnDropHandle::new(tokio::spawn(watch)));
        self.apply(Event::Started(id));
    }

    /// Ends the sessions of a replica that has just begun to fail its probes, if they are not to be kept.
    fn settle_sessions(&self, view: &View) {
        let failing = view.replica.filter(|_| view.state == State::Down);
        if self.setup.health.on_down == OnDown::Reset
            && let Some(replica) = failing.and_then(|id| self.running.get(&id)?.replica.as_ref())
        {
            replica.reset_sessions();
        }
    }

    /// Ends probes, link and sessions of a replica that is lost, or is being stopped.
    fn give_up(&mut self, id: ReplicaId) -> Option<Keeper> {
        let Running { keeper, replica, .. } = self.running.remove(&id)?;
        if let Some(link) = replica.as_ref().and_then(|replica| replica.link()) {
            link.end();
        }
        if let Some(replica) = replica.filter(|_| self.setup.provider.takes_the_network_along()) {
            tokio::spawn(async move { replica.evict_when_silent(SILENCE).await });
        }
        Some(keeper)
    }

    fn drain(&mut self, id: ReplicaId, time: Option<DrainTime>) {
        let Some(running) = self.running.get_mut(&id) else { return };
        running.probes = None;
        let limit = time.map_or(self.setup.drain_timeout, Duration::from);
        let (replica, events) = (running.replica.clone(), self.events.clone());
        tokio::spawn(async move {
            if let Some(replica) = replica
                && timeout(limit, replica.drained()).await.is_err()
            {
                replica.evict();
                let _ = timeout(EVICTION, replica.drained()).await;
            }
            // It fails only while `lb` ends.
            let _ = events.send(Event::Drained(id)).await;
        });
    }
}

/// The start of `lb`, on the monotonic clock and on the wall clock.
struct Clock {
    instant: Instant,
    wall: SystemTime,
}

impl Clock {
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

/// Logs a change of state in one line. (The provider warns when a replica ends that was not told to.)
fn log(view: &View) {
    let (hostname, state, reason) = (&view.hostname, view.state, view.reason.as_deref());
    let is_bad = matches!(state, State::Down | State::Quarantined);
    match (&view.slot, is_bad) {
        (Some(slot), true) => {
            warn!(slot = %slot.name, index = slot.index, %hostname, reason, "replica {state}");
        }
        (Some(slot), false) => {
            info!(slot = %slot.name, index = slot.index, %hostname, reason, "replica {state}");
        }
        (None, true) => warn!(%hostname, reason, "spare {state}"),
        (None, false) => info!(%hostname, reason, "spare {state}"),
    }
}
