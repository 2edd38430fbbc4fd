//! The desk of the control port: checks tokens, hands commands to the controller, and returns their answers.
//!
//! It also holds the limits that both languages share. It reads and writes no connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use proto::control::{Answer, Command, Failure, FailureKind};
use subtle::ConstantTimeEq as _;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::audit::{self, Refusals, Who};
use super::backoff::Backoff;
use super::places::Place;
use crate::control::{Request, Requests};

/// The longest command, in bytes.
pub(super) const COMMAND_MAX: usize = 64 * 1024;
/// The deadline for receiving one command, from its first byte on.
pub(super) const SENDER: Duration = Duration::from_secs(10);
/// The deadline for carrying a command out. The contract promises an answer within a minute, its way to the client included.
const EXECUTION: Duration = Duration::from_secs(58);
/// How many commands of one connection are refused before it is closed.
const REFUSALS: u32 = 3;

/// Checks tokens, hands commands to the controller and waits for their answers.
#[derive(Debug)]
pub(crate) struct Desk {
    requests: Requests,
    token: Option<String>,
    pub(super) refusals: Refusals,
    backoff: Backoff,
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

/// Why a command is not carried out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unproven {
    /// It has no token.
    Missing,
    /// It has another token.
    Wrong,
}

impl Desk {
    /// With a `token`, only commands that come with it are carried out.
    pub(crate) fn new(requests: Requests, token: Option<String>) -> Self {
        Desk { requests, token, refusals: Refusals::default(), backoff: Backoff::new() }
    }

    /// Whether commands of this client need a token. On a Unix socket the permission of its file is the token.
    pub(super) fn demands_token(&self, caller: &Caller) -> bool {
        self.token.is_some() && caller.who.address().is_some()
    }

    /// Checks the token of a command. The comparison takes the same time wherever the tokens differ.
    pub(super) fn check(&self, caller: &Caller, given: Option<&str>) -> Result<(), Unproven> {
        let Some(expected) = self.token.as_ref().filter(|_| self.demands_token(caller)) else {
            return Ok(());
        };
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
        caller.refused.fetch_add(1, Ordering::Relaxed);
        self.refusals.count(caller.who);
        failure
    }

    /// Has the controller carry a command out, and waits for the answer. A command that asks for a change goes on, and into the audit,
    /// if its client leaves.
    pub(super) async fn execute(self: &Arc<Self>, caller: &Caller, command: Command) -> Answer {
        caller.place.work();
        let answer = if audit::changes(&command) {
            let (desk, who) = (Arc::clone(self), caller.who);
            let task = tokio::spawn(async move {
                let answer = desk.ask(command.clone()).await;
                audit::record(who, &command, &answer);
                answer
            });
            task.await.unwrap_or_else(|_| shutting_down())
        } else {
            self.ask(command).await
        };
        caller.place.rest();
        answer
    }

    async fn ask(&self, command: Command) -> Answer {
        let (reply, answer) = oneshot::channel();
        let ask = async {
            self.requests.send(Request { command, reply }).await.ok()?;
            answer.await.ok()
        };
        match timeout(EXECUTION, ask).await {
            Ok(Some(answer)) => answer,
            Ok(None) => shutting_down(),
            Err(_) => {
                let late = format!("the command is not done within {EXECUTION:?}");
                Answer::Failure(FailureKind::StartFailed.because(late))
            }
        }
    }
}

fn shutting_down() -> Answer {
    Answer::Failure(FailureKind::Unavailable.because("lb is shutting down"))
}
