//! The controller: the only owner of the fleet. It applies messages to the fleet and performs the effects.
//!
//! It waits only for the next message or deadline. Everything that takes time (starting, stopping, probing, draining, planning)
//! is a separate task that reports back.

mod commands;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::bail;
use mapping::{Mapping, Member, Scheme};
use proto::control::{DrainTime, State};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::health::{self, HealthPolicy, OnDown};
use super::{Mailbox, Message};
use crate::fleet::{CommandId, Effect, Event, Fleet, ReplicaId, SlotId, Time, View};
use crate::provider::{Keeper, Provider, Reach, Report, Reports};
use crate::replica::{EVICTION, Replica};
use crate::snapshot::{Cell, Slot, Snapshot};
use commands::Waiting;

/// The most reports of the provider that may wait.
const REPORTS: usize = 1024;
/// The most clients that may wait for a plan.
const PLANS: usize = 8;
/// How long a lost replica must have sent nothing before its sessions are ended.
const SILENCE: Duration = Duration::from_secs(5);

/// What a controller works with.
pub(crate) struct Setup {
    pub(crate) health: HealthPolicy,
    pub(crate) drain_timeout: Duration,
    pub(crate) provider: Provider,
    /// Where snapshots are published.
    pub(crate) cell: Arc<Cell>,
    /// Ends all sessions.
    pub(crate) evict: CancellationToken,
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
    /// What the published mapping was built from.
    mapped: Option<(Scheme, Vec<Member>)>,
    running: HashMap<ReplicaId, Running>,
    waiting: HashMap<CommandId, Waiting>,
    last_command: u64,
    /// Admits clients that wait for a plan, and lets one of them compute at a time.
    planning: Arc<Semaphore>,
    one_plan: Arc<Mutex<()>>,
    mailbox: Mailbox,
    reports: Reports,
    clock: Clock,
}

impl Controller {
    /// Runs the fleet, which begins with `effects`, until `Shutdown` comes and every replica has been stopped.
    ///
    /// # Errors
    /// Another `lb` has taken the fleet over. The replicas keep running.
    pub(crate) async fn run(
        (fleet, effects): (Fleet, Vec<Effect>),
        setup: Setup,
        ready: oneshot::Sender<usize>,
        (mailbox, mut inbox): (Mailbox, mpsc::Receiver<Message>),
    ) -> anyhow::Result<()> {
        let (reports, mut reported) = mpsc::channel(REPORTS);
        let mut controller = Controller {
            fleet,
            setup,
            ready: Some(ready),
            mapped: None,
            running: HashMap::new(),
            waiting: HashMap::new(),
            last_command: 0,
            planning: Arc::new(Semaphore::new(PLANS)),
            one_plan: Arc::default(),
            mailbox,
            reports,
            clock: Clock { instant: Instant::now(), wall: SystemTime::now() },
        };
        controller.perform(effects);
        loop {
            let deadline = controller.fleet.next_deadline().map(|at| controller.clock.instant + at);
            tokio::select! {
                message = inbox.recv() => match message {
                    None | Some(Message::Shutdown) => break,
                    Some(Message::Request(command, reply)) => controller.serve(command, reply),
                    Some(Message::Event(event)) => controller.apply(event),
                },
                Some(report) = reported.recv() => controller.see(report),
                () = until(deadline) => controller.apply(Event::Tick),
                () = controller.setup.provider.lost() => bail!("another lb has taken the fleet over"),
            }
        }
        controller.ready = None;
        // Closes the queues, so that no sender waits for them.
        drop((inbox, reported));
        controller.apply(Event::Shutdown);
        controller.setup.provider.stopped().await;
        Ok(())
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
                Effect::Answer(command, result) => self.answer(command, result),
            }
        }
        self.announce();
    }

    /// Reports once that all replicas are in rotation.
    fn announce(&mut self) {
        if self.fleet.slots().all(|view| view.state == State::Up)
            && let Some(ready) = self.ready.take()
        {
            // It fails only while `lb` ends.
            let _ = ready.send(self.fleet.slots().count());
        }
    }

    fn publish(&mut self) {
        let slots: Vec<View> = self.fleet.slots().collect();
        let members: Vec<Member> = slots.iter().filter_map(View::member).collect();
        let policy = self.fleet.mapping().clone();
        let wanted = (policy.scheme, members);
        let mapping = if self.mapped.as_ref() == Some(&wanted) {
            Arc::clone(self.setup.cell.load().mapping())
        } else {
            match Mapping::build(&wanted.0, &wanted.1) {
                Ok(mapping) => Arc::new(mapping),
                // The fleet refuses slots that do not fit, so this is a bug. The old mapping is better than none.
                Err(full) => return error!("the mapping cannot be built: {full}"),
            }
        };
        self.mapped = Some(wanted);
        let slots = slots.into_iter().filter_map(|view| self.slot(view)).collect();
        self.setup.cell.store(Arc::new(Snapshot::new(mapping, slots, policy.balance)));
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
            self.mailbox.clone(),
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
        let (replica, mailbox) = (running.replica.clone(), self.mailbox.clone());
        tokio::spawn(async move {
            if let Some(replica) = replica
                && timeout(limit, replica.drained()).await.is_err()
            {
                replica.evict();
                let _ = timeout(EVICTION, replica.drained()).await;
            }
            // It fails only while `lb` ends.
            let _ = mailbox.send(Message::Event(Event::Drained(id))).await;
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
