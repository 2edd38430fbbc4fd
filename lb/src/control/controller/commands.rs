//! Commands to the controller, and their answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::{CommandId, Demand, Epoch, Event, Room, View};
use mapping::{Algorithm, BalanceFactor, Parameter, Setting};
use proto::control::{
    Answer, Backend, Backends, Body, Change, Connections, Failure, FailureKind, Health, Mapping, Parameters,
    Replicas, State, Transport,
};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tracing::error;

use super::Controller;
use crate::control::{Operation, plan};
use crate::provider::{Carrier, Task};

/// A client that waits for the end of its command.
pub(super) struct Waiting {
    pub(super) sender: oneshot::Sender<Answer>,
    pub(super) question: Question,
}

/// The checks of room, which are made outside the controller, one at a time. The fleet bounds how many wait.
#[derive(Default)]
pub(super) struct Checks {
    pub(super) underway: Option<JoinHandle<Result<Room, Failure>>>,
    /// The command of the check that is under way.
    command: Option<CommandId>,
    waiting: VecDeque<(CommandId, Demand)>,
}

/// What a successful command answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    Replicas,
    Mapping,
}

impl Controller {
    pub(super) fn serve(&mut self, operation: Operation, sender: oneshot::Sender<Answer>) {
        let answer = match operation {
            Operation::Change(change) => return self.change(change, sender),
            Operation::Kill(name) => return self.kill(&name, sender),
            Operation::Plan(change) => return self.plan(&change, sender),
            Operation::Compare(wish, reply) => return self.compare((wish, reply)),
            Operation::Revise(revision, yields) => return self.revise(*revision, yields, sender),
            Operation::Adjust(adjustment) => {
                self.adjust(*adjustment);
                Ok(self.replicas())
            }
            Operation::Mapping => Ok(self.mapping()),
            Operation::Replicas => Ok(self.replicas()),
            Operation::Backends => Ok(self.backends()),
            Operation::Health => self.health(),
            Operation::Incidents => {
                let refused = self.setup.refusals.totals().no_replica;
                // The client may have gone.
                let _ = sender.send(Answer::Incidents(self.incidents.all(refused)));
                return;
            }
        };
        reply(sender, answer);
    }

    /// Applies a change. Its answer is an effect, now or later.
    fn change(&mut self, change: Change, sender: oneshot::Sender<Answer>) {
        self.last_command += 1;
        let command = CommandId(self.last_command);
        let (event, question) = match change {
            Change::Add(change) => (Event::Add(command, change), Question::Replicas),
            Change::Remove(change) => (Event::Remove(command, change), Question::Replicas),
            Change::Mapping(change) => (Event::Remap(command, change), Question::Mapping),
        };
        self.waiting.insert(command, Waiting { sender, question });
        self.apply(event);
    }

    /// Has the room for a command checked, one command at a time.
    pub(super) fn check(&mut self, command: CommandId, demand: Demand) {
        self.checks.waiting.push_back((command, demand));
        self.next_check();
    }

    fn next_check(&mut self) {
        if self.checks.underway.is_none()
            && let Some((command, demand)) = self.checks.waiting.pop_front()
        {
            self.checks.command = Some(command);
            self.checks.underway = Some(spawn_blocking(move || demand.check()));
        }
    }

    /// The fleet goes on with a command, or refuses it.
    pub(super) fn checked(&mut self, checked: Result<Result<Room, Failure>, JoinError>) {
        self.checks.underway = None;
        let room = checked.unwrap_or_else(|error| {
            // The check has panicked, which is a bug.
            error!(%error, "a command cannot be checked");
            Err(FailureKind::Unavailable.because("lb cannot check whether the mapping has room"))
        });
        if let Some(command) = self.checks.command.take() {
            self.apply(Event::Checked(command, room));
        }
        self.next_check();
    }

    /// Nothing waits for the check of a command any more.
    pub(super) fn forget_check(&mut self, command: CommandId) {
        let Checks { command: checked, waiting, .. } = &mut self.checks;
        checked.take_if(|known| *known == command);
        waiting.retain(|(known, _)| *known != command);
    }

    /// Answers a command that has changed nothing.
    pub(super) fn refuse(&mut self, command: CommandId, refusal: Failure) {
        if let Some(Waiting { sender, .. }) = self.waiting.remove(&command) {
            reply(sender, Err(refusal));
        }
    }

    /// Answers every command whose change is published.
    pub(super) fn answer_all(&mut self) {
        let publication = &self.publication;
        let done: Vec<_> =
            self.done.extract_if(.., |(version, _)| publication.is_settled(*version)).collect();
        for (_, command) in done {
            self.answer(command);
        }
    }

    /// Answers a command that has changed the fleet, when the change is persisted.
    fn answer(&mut self, command: CommandId) {
        let Some(Waiting { sender, question }) = self.waiting.remove(&command) else { return };
        let answer = match question {
            Question::Replicas => self.replicas(),
            Question::Mapping => self.mapping(),
        };
        let written = self.setup.provider.written();
        tokio::spawn(async move {
            written.await;
            reply(sender, Ok(answer));
        });
    }

    /// Answers what a change would move. The computation runs outside the controller, one at a time. With too many clients waiting,
    /// the command is refused.
    fn plan(&self, change: &Change, sender: oneshot::Sender<Answer>) {
        let preview = match self.fleet.preview(change) {
            Ok(preview) => preview,
            Err(refusal) => return reply(sender, Err(refusal)),
        };
        let Ok(place) = Arc::clone(&self.planning).try_acquire_owned() else {
            let refusal =
                FailureKind::Unavailable.because("other plans are being made; ask again when they are done");
            return reply(sender, Err(refusal));
        };
        let (snapshot, one_at_a_time) = (self.setup.cell.load_full(), Arc::clone(&self.one_plan));
        let members = self.publication.members().to_vec();
        tokio::spawn(async move {
            let _place = place;
            let _turn = one_at_a_time.lock().await;
            if sender.is_closed() {
                return; // The client has gone.
            }
            let planned = spawn_blocking(move || plan::plan(&snapshot, &members, preview)).await;
            let answer = match planned {
                Ok(plan) => plan.map(Body::Plan),
                Err(_) => Err(FailureKind::Unavailable.because("lb is shutting down")),
            };
            reply(sender, answer);
        });
    }

    fn mapping(&self) -> Body {
        let policy = self.fleet.mapping();
        let algorithm = &policy.scheme.algorithm;
        let weight = |view: View| Some((view.slot?.name.to_string(), view.weight));
        Body::Mapping(Mapping {
            mapping: algorithm.name().to_string(),
            parameters: parameters(algorithm),
            balance_factor: policy.balance.map(BalanceFactor::get),
            seeded: policy.scheme.seed.is_set(),
            weights: self.fleet.slots().filter_map(weight).collect(),
        })
    }

    fn replicas(&self) -> Body {
        let replicas: Vec<String> = self.fleet.slots().map(|view| view.hostname.to_string()).collect();
        Body::Replicas(Replicas { n: replicas.len(), replicas })
    }

    /// Whether a new client would be served now, and if not, why.
    fn health(&self) -> Result<Body, Failure> {
        let refuse = |reason: &str| Err(FailureKind::Unavailable.because(reason));
        if self.setup.ending.stop.is_cancelled() {
            return refuse("stopping: lb has been told to end");
        }
        if let Err(reason) = (self.setup.accepts)() {
            return refuse(reason);
        }
        let snapshot = self.setup.cell.load();
        let up = || snapshot.slots().iter().filter_map(|slot| slot.in_rotation().ok());
        if up().next().is_none() {
            return refuse("no server replica is available");
        }
        if up().all(|replica| replica.open() >= snapshot.most_per_replica()) {
            return refuse("every replica has all the connections that --max-connections-per-replica allows");
        }
        let up = up().count();
        Ok(Body::Health(Health { up, n: self.fleet.slots().count() }))
    }

    fn backends(&self) -> Body {
        let n = self.fleet.slots().count();
        let mut backends: Vec<Backend> =
            self.fleet.slots().chain(self.fleet.in_passing()).map(|view| self.backend(view)).collect();
        backends.sort_by_key(|backend| backend.index);
        let spares = self.fleet.spares().map(|view| self.backend(view)).collect();
        let (refused, dns) = (self.setup.refusals.totals(), self.setup.provider.resolutions());
        // What a name server says has no version that others would know.
        let shared = self.publication.epoch().filter(|_| !self.setup.provider.brings_slots());
        let epoch = shared.map(|Epoch(number)| number);
        let backends_file = self.setup.metrics.backends_file.totals();
        Body::Backends(Backends { n, backends, spares, refused, epoch, dns, backends_file })
    }

    /// The state of a replica, and why it is so. No connection goes to a slot before the mapping with it is built.
    fn shown(&self, view: &View) -> (State, Option<String>) {
        match &view.slot {
            Some(slot) if view.state == State::Up && !self.publication.has(slot) => {
                (State::Starting, Some("the mapping with this slot is being built".to_owned()))
            }
            _ => (view.state, view.reason.clone()),
        }
    }

    fn backend(&self, view: View) -> Backend {
        let running = view.replica.and_then(|id| self.running.get(&id));
        let replica = running.and_then(|running| running.replica.as_ref());
        let (mut pid, mut container, mut task, mut node) = (None, None, None, None);
        match running.and_then(|running| running.carrier.clone()) {
            Some(Carrier::Process(id)) => pid = Some(id),
            Some(Carrier::Container(id)) => container = Some(id),
            Some(Carrier::Task(Task { id, node: on })) => (task, node) = (Some(id), Some(on)),
            None => {}
        }
        let now = self.setup.clock.time(Instant::now());
        let next_retry = view.next_start.map(|at| millis(at.saturating_sub(now)));
        let is_linked = replica.is_some_and(|replica| replica.link().is_some());
        let (state, reason) = self.shown(&view);
        let (index, name) = view.slot.map(|slot| (slot.index, slot.name.to_string())).unzip();
        Backend {
            index,
            name,
            hostname: view.hostname.to_string(),
            weight: view.weight,
            address: replica.map(|replica| replica.address().to_string()),
            location: view.location.map(|location| location.to_string()),
            node,
            task,
            pid,
            container,
            state,
            reason,
            next_retry,
            since: self.setup.clock.rfc3339(view.since),
            restarts: view.restarts,
            transport: if is_linked { Transport::Handoff } else { Transport::Proxy },
            connections: replica.map_or_else(Connections::default, |replica| replica.connections()),
        }
    }
}

/// A time in seconds, to the millisecond.
fn millis(time: Duration) -> f64 {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
}

/// The parameters of an algorithm, for an answer.
fn parameters(algorithm: &Algorithm) -> Parameters {
    let value = |parameter: &Parameter| {
        Some(match parameter.get(algorithm)? {
            Setting::Number(number) => (parameter.name, number.into()),
            Setting::Text(text) => (parameter.name, text.into()),
        })
    };
    Parameters(Parameter::ALL.iter().filter_map(value).collect())
}

pub(super) fn reply(sender: oneshot::Sender<Answer>, result: Result<Body, Failure>) {
    // The client may have gone.
    let _ = sender.send(Answer::from(result));
}
