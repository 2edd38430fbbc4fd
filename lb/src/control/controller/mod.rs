//! The controller: the only owner of the fleet. It applies messages to the fleet and performs the effects.
//!
//! It waits only for the next event or deadline. Everything that takes time (starting, stopping, probing, draining, planning, building a
//! mapping) is a separate task that reports back. A command is taken only when nothing else is due, and one at a time.

mod clock;
mod commands;
mod frozen;
mod incidents;
mod killing;
mod publication;
mod publishing;
mod reloading;
mod restarts;
mod running;
mod telling;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use fleet::{CommandId, Effect, Event, Fleet, ReplicaId};
use mapping::{Full, Mapping};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle, yield_now};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::exposition::Slots;
use super::health::{HealthPolicy, Runner};
use super::{Events, Request};
use crate::journal::Journal;
use crate::journal::step::What;
use crate::metrics::Metrics;
use crate::provider::{Provider, Report, Reports};
use crate::refusals::Refusals;
use crate::snapshot::Cell;
pub(crate) use clock::Clock;
use commands::{Checks, Waiting};
pub(crate) use frozen::{Frozen, Takeover};
use incidents::Incidents;
use publication::{Publication, Version};
use reloading::{Parked, Yielding};
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
    /// How replicas are probed. Each probe that runs follows it.
    pub(crate) health: watch::Sender<HealthPolicy>,
    /// Runs the commands of probes.
    pub(crate) runner: Runner,
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
    /// Whether the fleet is another process's.
    pub(crate) takeover: mpsc::Receiver<Takeover>,
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
    parked: Parked,
    /// Commands that are done, and answered when this version of the mapping is published.
    done: Vec<(Version, CommandId)>,
    /// The change of the file of backends that was asked for last.
    yielding: Option<Yielding>,
    /// Admits clients that wait for a plan, and lets one of them compute at a time.
    planning: Arc<Semaphore>,
    one_plan: Arc<Mutex<()>>,
    events: Events,
    reports: Reports,
    /// Whether a successor has the fleet, or is about to.
    is_frozen: bool,
    /// Whether what the fleet is now has to be published, and whether one of its replicas is in another state.
    is_due: bool,
    has_changed: bool,
    /// Whether another event is applied before anything is published.
    more_follows: bool,
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
            incidents: Incidents::after(setup.journal.incidents(), setup.clock),
            rotation: Rotation::Begins,
            restarts: Restarts::default(),
            setup,
            ready: Some(ready),
            building: None,
            running: HashMap::new(),
            waiting: HashMap::new(),
            last_command: 0,
            checks: Checks::default(),
            parked: Parked::default(),
            done: Vec::new(),
            yielding: None,
            planning: Arc::new(Semaphore::new(PLANS)),
            one_plan: Arc::default(),
            events,
            reports,
            is_frozen: false,
            is_due: false,
            has_changed: false,
            more_follows: false,
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
        if controller.is_frozen {
            controller.part().await;
            return Ok(());
        }
        controller.apply(Event::Shutdown);
        // Their clients are told that `lb` is shutting down.
        controller.waiting.clear();
        controller.setup.provider.stopped().await;
        Ok(())
    }

    /// Waits for the next thing to do, and does it. False when `lb` is over.
    async fn turn(&mut self, inbox: &mut Inbox) -> anyhow::Result<bool> {
        if self.is_frozen {
            return Ok(self.wait_frozen(inbox).await);
        }
        let deadline = self.fleet.next_deadline().map(|at| self.setup.clock.instant + at);
        tokio::select! {
            biased;
            () = self.setup.ending.over.cancelled() => return Ok(false),
            Some(takeover) = self.setup.takeover.recv() => self.freeze(takeover),
            () = Yielding::has_to(self.yielding.as_ref()) => self.give_way(),
            reason = self.setup.provider.lost() => bail!(reason),
            Some(report) = inbox.reports.recv() => self.see(report),
            Some(event) = inbox.events.recv() => self.apply_with_more(event, &mut inbox.events),
            () = until(deadline) => self.apply(Event::Tick),
            () = self.setup.journal.wants_checkpoint() => {
                self.setup.journal.record_step(|| What::checkpoint(&self.fleet));
            }
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
        self.compare_parked();
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Publish => self.is_due = true,
                Effect::Remember(seats) => self.setup.provider.remember(seats),
                Effect::Changed(view) => {
                    self.has_changed = true;
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
                Effect::Drain(id, limit) => {
                    self.catch_up();
                    self.drain(id, limit);
                }
                Effect::Stop(id, how) => {
                    self.catch_up();
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
                Effect::Answer(command, Ok(())) => {
                    self.catch_up();
                    self.done.push((self.publication.wanted(), command));
                }
                Effect::Answer(command, Err(refusal)) => self.refuse(command, refusal),
            }
        }
        if !self.more_follows {
            self.settle();
        }
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
