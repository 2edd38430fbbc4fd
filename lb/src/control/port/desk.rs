//! The desk of the control port: checks tokens, has commands carried out, and returns their answers.
//!
//! What the snapshot tells is answered here. Everything else is the controller's. The desk also holds the limits that both languages share. It reads and writes no connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use proto::control::{Answer, Change, Command, Failure, FailureKind, Kill, Reload, Remapping};
use subtle::ConstantTimeEq as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::audit::{self, Refusals, Who};
use super::backoff::Backoff;
use super::events::{Events, beginning};
use super::pictures::Pictures;
use super::places::Place;
use crate::control::explain::explain;
use crate::control::exposition::Exposition;
use crate::control::{Asked, Operation, Reloading, Request, Requests, Terms, Upgrade, Upgrades};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::snapshot::Cell;

/// The longest command, in bytes.
pub(super) const COMMAND_MAX: usize = 64 * 1024;
/// The deadline for receiving one command, from its first byte on.
pub(super) const SENDER: Duration = Duration::from_secs(10);
/// The deadline for carrying a command out. The contract promises an answer within a minute, its way to the client included.
const EXECUTION: Duration = Duration::from_secs(58);
/// How many commands of one connection are refused before it is closed.
const REFUSALS: u32 = 3;
/// What a command is called in metrics that is refused before its name is known.
const UNREAD: &str = "unread";
/// A token of fewer characters can be guessed: refusals wait, but a right token never does.
const LONG_ENOUGH: usize = 16;

/// Checks tokens, has commands carried out, and waits for their answers.
#[derive(Debug)]
pub(crate) struct Desk {
    requests: Requests,
    upgrades: Upgrades,
    snapshot: Arc<Cell>,
    journal: Arc<Journal>,
    terms: Arc<ArcSwap<Terms>>,
    reloads: mpsc::Sender<Reloading>,
    metrics: Arc<Metrics>,
    pub(super) exposition: Arc<Exposition>,
    pub(super) refusals: Refusals,
    backoff: Backoff,
    pictures: Pictures,
}

/// The client of one connection.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) who: Who,
    pub(super) place: Place,
    refused: AtomicU32,
}

impl Caller {
    pub(super) fn new(who: Who, place: Place) -> Self {
        Caller { who, place, refused: AtomicU32::new(0) }
    }

    /// Whether so many commands were refused that the connection ends.
    pub(super) fn is_unwelcome(&self) -> bool {
        self.refused.load(Ordering::Relaxed) >= REFUSALS
    }

    /// Whether the connection ends after the answer that is due.
    pub(super) fn is_last_answer(&self) -> bool {
        self.is_unwelcome() || self.place.is_closing()
    }
}

/// What a command leads to.
pub(super) enum Served {
    /// One answer.
    Answer(Answer),
    /// Entries of the journal, until the connection ends.
    Events(Events),
}

/// Why a command is not carried out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unproven {
    /// It has no token.
    Missing,
    /// It has another token.
    Wrong,
}

impl Desk {
    /// Commands are carried out on these `terms`; `reloads` leads to what loads the configuration again.
    pub(crate) fn new(
        (requests, reloads, upgrades): (Requests, mpsc::Sender<Reloading>, Upgrades),
        snapshot: Arc<Cell>,
        journal: Arc<Journal>,
        terms: Arc<ArcSwap<Terms>>,
        (metrics, exposition): (Arc<Metrics>, Arc<Exposition>),
    ) -> Self {
        let (refusals, backoff) = (Refusals::default(), Backoff::new());
        let pictures = Pictures::default();
        Desk {
            requests,
            upgrades,
            snapshot,
            journal,
            terms,
            reloads,
            metrics,
            exposition,
            refusals,
            backoff,
            pictures,
        }
    }

    /// Warns of a token that can be guessed.
    pub(super) fn judge_token(&self) {
        self.terms.load().judge_token();
    }

    /// Whether commands of this client need a token. On a Unix socket the permission of its file is the token.
    pub(super) fn demands_token(&self, caller: &Caller) -> bool {
        self.terms.load().token.is_some() && caller.who.address().is_some()
    }

    /// Checks the token of a command. The comparison takes the same time wherever the tokens differ.
    pub(super) fn check(&self, caller: &Caller, given: Option<&str>) -> Result<(), Unproven> {
        let terms = self.terms.load();
        let has_address = caller.who.address().is_some();
        let Some(expected) = terms.token.as_ref().filter(|_| has_address) else { return Ok(()) };
        match given {
            Some(given) if expected.as_bytes().ct_eq(given.as_bytes()).into() => Ok(()),
            Some(_) => Err(Unproven::Wrong),
            None => Err(Unproven::Missing),
        }
    }

    /// Refuses a command without the right token. The more wrong tokens came from an address, the longer this takes.
    pub(super) async fn turn_away(&self, caller: &Caller, unproven: Unproven) -> Failure {
        let what = match unproven {
            Unproven::Missing => "missing",
            Unproven::Wrong => "wrong",
        };
        let how = "HTTP `Authorization: Bearer TOKEN` or the JSON field `token`";
        let failure = FailureKind::Unauthorized.because(format!("the token is {what}: expected {how}"));
        let failure = self.refuse(caller, failure);
        if let (Unproven::Wrong, Some(source)) = (unproven, caller.who.address()) {
            sleep(self.backoff.next(source, Instant::now())).await;
        }
        failure
    }

    /// Counts a refused command.
    pub(super) fn refuse(&self, caller: &Caller, failure: Failure) -> Failure {
        self.metrics.command(UNREAD, "refused");
        caller.refused.fetch_add(1, Ordering::Relaxed);
        self.refusals.count(caller.who);
        failure
    }

    /// Has a command carried out, and waits for the answer. One that asks for a change goes on, and into the audit,
    /// if its client leaves.
    pub(super) async fn execute(self: &Arc<Self>, caller: &Caller, command: Command) -> Served {
        caller.place.work();
        let name = command.name();
        let answer = match command {
            Command::Events { since, follow } => {
                self.metrics.command(name, "ok");
                let follower = self.journal.follow(beginning(since));
                return Served::Events(Events::new(follower, follow, caller.place.pulse()));
            }
            Command::Explain { id } => explain(&self.snapshot.load(), &self.terms.load().key, id).into(),
            Command::Ring {} => self
                .pictures
                .of(&self.snapshot)
                .await
                .map_or_else(shutting_down, |picture| Ok(picture).into()),
            Command::Add(change) => self.change(caller.who, Change::Add(change)).await,
            Command::Remove(change) => self.change(caller.who, Change::Remove(change)).await,
            Command::Mapping(change) if change != Remapping::default() => {
                self.change(caller.who, Change::Mapping(change)).await
            }
            Command::Kill(kill) => self.kill(caller.who, kill).await,
            Command::Reload(reload) => self.reload(caller.who, reload).await,
            Command::Config {} => self.ask_reloader(Asked::Write).await,
            Command::Upgrade { binary } => self.upgrade(caller.who, binary).await,
            Command::Mapping(_) => self.ask(Operation::Mapping).await,
            Command::Plan { change } => self.ask(Operation::Plan(change)).await,
            Command::Rep {} => self.ask(Operation::Replicas).await,
            Command::Backends {} => self.ask(Operation::Backends).await,
            Command::Health {} => self.ask(Operation::Health).await,
            Command::Incidents {} => self.ask(Operation::Incidents).await,
        };
        self.metrics.command(name, result(&answer));
        caller.place.rest();
        Served::Answer(answer)
    }

    /// Whether a new client would be served.
    pub(super) async fn health(self: &Arc<Self>, caller: &Caller) -> Answer {
        match self.execute(caller, Command::Health {}).await {
            Served::Answer(answer) => answer,
            Served::Events(_) => shutting_down(),
        }
    }

    async fn change(self: &Arc<Self>, who: Who, change: Change) -> Answer {
        let command = audit::text(&change);
        self.audited(who, command, Operation::Change(change)).await
    }

    async fn kill(self: &Arc<Self>, who: Who, Kill { hostname }: Kill) -> Answer {
        let command = audit::text(&Command::Kill(Kill { hostname: hostname.clone() }));
        self.audited(who, command, Operation::Kill(hostname)).await
    }

    /// Has the configuration loaded again. That goes on, and into the audit, if its client leaves.
    async fn reload(self: &Arc<Self>, who: Who, reload: Reload) -> Answer {
        let desk = Arc::clone(self);
        let task = tokio::spawn(async move {
            let answer = desk.ask_reloader(Asked::Load { dry_run: reload.dry_run }).await;
            if !reload.dry_run {
                audit::record(&desk.journal, who, audit::text(&Command::Reload(reload)), &answer);
            }
            answer
        });
        task.await.unwrap_or_else(|_| shutting_down())
    }

    /// Has a successor take over. That goes on, and into the audit, if its client leaves.
    async fn upgrade(self: &Arc<Self>, who: Who, binary: Option<PathBuf>) -> Answer {
        let is_near = who.address().is_none_or(|address| address.to_canonical().is_loopback());
        if binary.is_some() && !is_near {
            let refusal = "binary: expected no such field from another machine; only a client on this one may say what is run";
            return Answer::Failure(FailureKind::Forbidden.because(refusal));
        }
        let command = audit::text(&Command::Upgrade { binary: binary.clone() });
        let (reply, answer) = oneshot::channel();
        let desk = Arc::clone(self);
        let task = tokio::spawn(async move {
            let asked = async {
                desk.upgrades.send(Upgrade { binary, reply }).await.ok()?;
                answer.await.ok()
            };
            let answer = in_time(asked).await;
            audit::record(&desk.journal, who, command, &answer);
            answer
        });
        task.await.unwrap_or_else(|_| shutting_down())
    }

    /// Asks what loads the configuration.
    async fn ask_reloader(&self, what: Asked) -> Answer {
        let (reply, answer) = oneshot::channel();
        let reloading = Reloading { what, reply };
        in_time(async { self.reloads.send(reloading).await.ok().and(answer.await.ok()) }).await
    }

    /// Has something changed that goes on, and into the audit, if its client leaves.
    async fn audited(self: &Arc<Self>, who: Who, command: String, operation: Operation) -> Answer {
        let desk = Arc::clone(self);
        let task = tokio::spawn(async move {
            let answer = desk.ask(operation).await;
            audit::record(&desk.journal, who, command, &answer);
            answer
        });
        task.await.unwrap_or_else(|_| shutting_down())
    }

    /// Asks the controller.
    async fn ask(&self, operation: Operation) -> Answer {
        let (reply, answer) = oneshot::channel();
        let ask = async {
            self.requests.send(Request { operation, reply }).await.ok()?;
            answer.await.ok()
        };
        in_time(ask).await
    }
}

/// The answer, if it comes in time. `None`: `lb` ends.
async fn in_time(answer: impl Future<Output = Option<Answer>>) -> Answer {
    match timeout(EXECUTION, answer).await {
        Ok(Some(answer)) => answer,
        Ok(None) => shutting_down(),
        Err(_) => {
            let late = format!("the command is not done within {EXECUTION:?}");
            Answer::Failure(FailureKind::StartFailed.because(late))
        }
    }
}

impl Terms {
    /// Warns of a token that can be guessed.
    pub(crate) fn judge_token(&self) {
        if self.token.as_ref().is_some_and(|token| token.chars().count() < LONG_ENOUGH) {
            warn!("the control token is short, and could be guessed: make it longer (openssl rand -hex 16)");
        }
    }
}

/// What a command has come to, for metrics.
fn result(answer: &Answer) -> &'static str {
    match answer.http_status() {
        ..400 => "ok",
        400..500 => "refused",
        500.. => "failed",
    }
}

fn shutting_down() -> Answer {
    Answer::Failure(FailureKind::Unavailable.because("lb is shutting down"))
}

#[cfg(test)]
mod tests {
    use mapping::{Algorithm, MappingPolicy, Scheme};
    use proto::control::Body;
    use proto::key::KeyKind;
    use tokio::sync::mpsc::error::TryRecvError;

    use super::super::places::Places;
    use super::*;
    use crate::control::exposition::Sources;
    use crate::metrics::Workers;
    use crate::snapshot::Snapshot;

    /// A desk without a controller, and what the controller would get.
    fn desk(token: Option<&str>) -> (Arc<Desk>, mpsc::Receiver<Request>) {
        let policy = MappingPolicy { scheme: Scheme::from(Algorithm::Maglev), balance: None };
        let snapshot = Arc::new(Cell::from_pointee(Snapshot::empty(&policy).unwrap()));
        let (requests, requested) = mpsc::channel(1);
        let journal = Arc::new(Journal::new(None));
        let metrics = Arc::new(Metrics::new(1));
        let exposition = Arc::new(Exposition::new(Sources {
            metrics: Arc::clone(&metrics),
            slots: Arc::default(),
            snapshot: Arc::clone(&snapshot),
            refusals: Arc::default(),
            journal: Arc::clone(&journal),
            access: Arc::default(),
            workers: Box::new(Workers::default),
        }));
        let terms = Terms { token: token.map(str::to_owned), key: KeyKind::Id };
        let terms = Arc::new(ArcSwap::from_pointee(terms));
        let requests = (requests, mpsc::channel(1).0, mpsc::channel(1).0);
        (Arc::new(Desk::new(requests, snapshot, journal, terms, (metrics, exposition))), requested)
    }

    /// A new connection from this port of this address.
    async fn caller(address: [u8; 4], port: u16) -> Caller {
        Caller::new(Who::Address((address, port).into()), Places::new(2).enter().await)
    }

    #[tokio::test]
    async fn who_guesses_on_fresh_connections_waits_as_on_one_and_a_right_token_never_does() {
        let (desk, _requested) = desk(Some("secret"));
        let mut waits = Vec::new();
        for port in 1..=14 {
            let (caller, begun) = (caller([192, 0, 2, 1], port).await, Instant::now());
            let unproven = desk.check(&caller, Some("guess")).unwrap_err();
            desk.turn_away(&caller, unproven).await;
            waits.push(begun.elapsed().as_millis());
            assert!(desk.check(&caller, Some("secret")).is_ok());
        }
        let least = [0, 0, 0, 0, 0, 0, 0, 0, 10, 20, 40, 80, 160, 250];
        assert!(waits.iter().zip(least).all(|(wait, least)| *wait >= least), "{waits:?}");
    }

    #[tokio::test]
    async fn an_explanation_needs_no_controller() {
        let ((desk, mut requested), caller) = (desk(None), caller([127, 0, 0, 1], 1).await);
        for _ in 0..3 {
            let explain = Command::Explain { id: "7".into() };
            let Served::Answer(Answer::Successful(body)) = desk.execute(&caller, explain).await else {
                panic!("an explanation is refused");
            };
            let Body::Explanation(explanation) = *body else { panic!("{body:?}") };
            assert_eq!((explanation.mapping.as_str(), explanation.pick), ("maglev", None));
        }
        assert!(matches!(requested.try_recv(), Err(TryRecvError::Empty)), "the controller was asked");
    }
}
