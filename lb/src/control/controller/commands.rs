//! Commands to the controller, and their answers.

use std::collections::VecDeque;
use std::sync::Arc;

use mapping::{Algorithm, BalanceFactor, Parameter, Setting};
use proto::control::{
    Answer, Backend, Backends, Body, Change, Command, Connections, Failure, FailureKind, Health, Mapping,
    Parameters, Remapping, Replicas, Transport,
};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tracing::error;

use super::Controller;
use crate::control::{explain, plan};
use crate::fleet::{CommandId, Demand, Event, Room, View};

/// The most commands that may wait for a check.
const CHECKS: usize = 64;

/// A client that waits for the end of its command.
pub(super) struct Waiting {
    sender: oneshot::Sender<Answer>,
    question: Question,
}

/// A command whose room has to be checked.
type Check = (CommandId, Change, Demand);

/// A command whose room has been checked.
pub(super) struct Checked {
    command: CommandId,
    change: Change,
    room: Result<Room, Failure>,
}

/// The checks of room, which are made outside the controller, one at a time.
#[derive(Default)]
pub(super) struct Checks {
    pub(super) underway: Option<JoinHandle<Checked>>,
    waiting: VecDeque<Check>,
}

/// What a successful command answers.
#[derive(Clone, Copy, Debug)]
enum Question {
    Replicas,
    Mapping,
}

impl Controller {
    pub(super) fn serve(&mut self, command: Command, sender: oneshot::Sender<Answer>) {
        let answer = match command {
            Command::Add(change) => {
                return self.change(sender, |command| Event::Add(command, change, None));
            }
            Command::Remove(change) => return self.change(sender, |command| Event::Remove(command, change)),
            Command::Mapping(change) if change != Remapping::default() => {
                return self.change(sender, |command| Event::Remap(command, change, None));
            }
            Command::Plan { change } => return self.plan(&change, sender),
            Command::Mapping(_) => Ok(self.mapping()),
            Command::Rep {} => Ok(self.replicas()),
            Command::Backends {} => Ok(self.backends()),
            Command::Explain { id } => explain::explain(&self.setup.cell.load(), self.fleet.mapping(), id),
            Command::Health {} => self.health(),
        };
        reply(sender, answer);
    }

    /// Applies a command whose answer is an effect, now or later.
    fn change(&mut self, sender: oneshot::Sender<Answer>, event: impl FnOnce(CommandId) -> Event) {
        self.last_command += 1;
        let command = CommandId(self.last_command);
        let event = event(command);
        let question = if matches!(event, Event::Remap(..)) { Question::Mapping } else { Question::Replicas };
        self.waiting.insert(command, Waiting { sender, question });
        self.apply(event);
    }

    /// Has the room for a command checked, one command at a time.
    pub(super) fn check(&mut self, check: Check) {
        if self.checks.waiting.len() >= CHECKS {
            let busy = "other commands are being checked; try again when they are done";
            return self.refuse(check.0, FailureKind::Unavailable.because(busy));
        }
        self.checks.waiting.push_back(check);
        self.next_check();
    }

    fn next_check(&mut self) {
        while self.checks.underway.is_none()
            && let Some((command, change, demand)) = self.checks.waiting.pop_front()
        {
            // The client may have gone. Nothing has changed yet.
            if self.waiting.get(&command).is_some_and(|waiting| waiting.sender.is_closed()) {
                self.waiting.remove(&command);
                continue;
            }
            let check = move || Checked { command, change, room: demand.check() };
            self.checks.underway = Some(spawn_blocking(check));
        }
    }

    /// Goes on with a command, or refuses it.
    pub(super) fn checked(&mut self, checked: Result<Checked, JoinError>) {
        self.checks.underway = None;
        match checked {
            Ok(Checked { command, change, room: Ok(room) }) => match change {
                Change::Add(change) => self.apply(Event::Add(command, change, Some(room))),
                Change::Mapping(change) => self.apply(Event::Remap(command, change, Some(room))),
                Change::Remove(change) => self.apply(Event::Remove(command, change)),
            },
            Ok(Checked { command, room: Err(refusal), .. }) => self.refuse(command, refusal),
            // The check has panicked, which is a bug. Its client waits until its deadline.
            Err(error) => error!("a command cannot be checked: {error}"),
        }
        self.next_check();
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
        let up = snapshot.slots().iter().filter(|slot| slot.in_rotation().is_ok()).count();
        if up == 0 {
            return refuse("no server replica is available");
        }
        Ok(Body::Health(Health { up, n: self.fleet.slots().count() }))
    }

    fn backends(&self) -> Body {
        let n = self.fleet.slots().count();
        let mut backends: Vec<Backend> =
            self.fleet.slots().chain(self.fleet.in_passing()).map(|view| self.backend(view)).collect();
        backends.sort_by_key(|backend| backend.index);
        let spares = self.fleet.spares().map(|view| self.backend(view)).collect();
        Body::Backends(Backends { n, backends, spares, refused: self.setup.refusals.totals() })
    }

    fn backend(&self, view: View) -> Backend {
        let replica = view.replica.and_then(|id| self.running.get(&id)?.replica.as_ref());
        let is_linked = replica.is_some_and(|replica| replica.link().is_some());
        let (index, name) = view.slot.map(|slot| (slot.index, slot.name.to_string())).unzip();
        Backend {
            index,
            name,
            hostname: view.hostname.to_string(),
            weight: view.weight,
            address: replica.map(|replica| replica.address().to_string()),
            state: view.state,
            reason: view.reason,
            since: self.clock.rfc3339(view.since),
            restarts: view.restarts,
            transport: if is_linked { Transport::Handoff } else { Transport::Proxy },
            connections: replica.map_or_else(Connections::default, |replica| replica.connections()),
        }
    }
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

fn reply(sender: oneshot::Sender<Answer>, result: Result<Body, Failure>) {
    // The client may have gone.
    let _ = sender.send(Answer::from(result));
}
