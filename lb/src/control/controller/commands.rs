//! Commands to the controller, and their answers.

use std::sync::Arc;

use mapping::{Algorithm, BalanceFactor, Parameter, Setting};
use proto::control::{
    Answer, Backend, Backends, Body, Change, Command, Connections, Failure, FailureKind, Health, Mapping,
    Parameters, Remapping, Replicas, State, Transport,
};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::Controller;
use crate::control::{explain, plan};
use crate::fleet::{CommandId, Event, View};

/// A client that waits for the end of its command.
pub(super) struct Waiting {
    sender: oneshot::Sender<Answer>,
    question: Question,
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
            Command::Add(change) => return self.change(sender, |command| Event::Add(command, change)),
            Command::Remove(change) => return self.change(sender, |command| Event::Remove(command, change)),
            Command::Mapping(change) if change != Remapping::default() => {
                return self.change(sender, |command| Event::Remap(command, change));
            }
            Command::Plan { change } => return self.plan(&change, sender),
            Command::Mapping(_) => Ok(self.mapping()),
            Command::Rep {} => Ok(self.replicas()),
            Command::Backends {} => Ok(self.backends()),
            Command::Explain { id } => explain::explain(&self.setup.cell.load(), self.fleet.mapping(), id),
            Command::Health {} => match self.health() {
                Health { up: 0, .. } => {
                    Err(FailureKind::Unavailable.because("no server replica is available"))
                }
                health => Ok(Body::Health(health)),
            },
        };
        reply(Some(sender), answer);
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

    /// Answers a command. If it has changed the fleet, the answer waits until the change is persisted.
    pub(super) fn answer(&mut self, command: CommandId, result: Result<(), Failure>) {
        let Some(Waiting { sender, question }) = self.waiting.remove(&command) else { return };
        let answer = match (result, question) {
            (Err(failure), _) => return reply(Some(sender), Err(failure)),
            (Ok(()), Question::Replicas) => self.replicas(),
            (Ok(()), Question::Mapping) => self.mapping(),
        };
        let written = self.setup.provider.written();
        tokio::spawn(async move {
            written.await;
            reply(Some(sender), Ok(answer));
        });
    }

    /// Answers what a change would move. The computation runs outside the controller, one at a time. With too many clients waiting,
    /// the command is refused.
    fn plan(&self, change: &Change, sender: oneshot::Sender<Answer>) {
        let preview = match self.fleet.preview(change) {
            Ok(preview) => preview,
            Err(refusal) => return reply(Some(sender), Err(refusal)),
        };
        let Ok(place) = Arc::clone(&self.planning).try_acquire_owned() else {
            let refusal =
                FailureKind::Unavailable.because("other plans are being made; ask again when they are done");
            return reply(Some(sender), Err(refusal));
        };
        let (snapshot, one_at_a_time) = (self.setup.cell.load_full(), Arc::clone(&self.one_plan));
        let members = self.mapped.as_ref().map_or_else(Vec::new, |(_, members)| members.clone());
        tokio::spawn(async move {
            let _place = place;
            let _turn = one_at_a_time.lock().await;
            if sender.is_closed() {
                return; // The client has gone.
            }
            let planned = spawn_blocking(move || plan::plan(&snapshot, &members, preview)).await;
            let answer = match planned {
                Ok(Ok(plan)) => Ok(Body::Plan(plan)),
                Ok(Err(full)) => Err(FailureKind::BadRequest.because(full.to_string())),
                Err(_) => Err(FailureKind::Unavailable.because("lb is shutting down")),
            };
            reply(Some(sender), answer);
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

    fn health(&self) -> Health {
        let gets_connections = |view: &View| view.state == State::Up && view.weight.get() > 0;
        let up = self.fleet.slots().filter(gets_connections).count();
        Health { up, n: self.fleet.slots().count() }
    }

    fn backends(&self) -> Body {
        let n = self.fleet.slots().count();
        let mut backends: Vec<Backend> =
            self.fleet.slots().chain(self.fleet.in_passing()).map(|view| self.backend(view)).collect();
        backends.sort_by_key(|backend| backend.index);
        let spares = self.fleet.spares().map(|view| self.backend(view)).collect();
        Body::Backends(Backends { n, backends, spares })
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

fn reply(sender: Option<oneshot::Sender<Answer>>, result: Result<Body, Failure>) {
    if let Some(sender) = sender {
        // The client may have gone.
        let _ = sender.send(Answer::from(result));
    }
}
