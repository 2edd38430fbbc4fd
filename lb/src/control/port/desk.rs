//! The desk of the control port: checks tokens, hands commands to the controller, and returns their answers.
//!
//! It also holds the limits that both languages share. It reads and writes no connection.

use std::time::Duration;

use proto::control::{Answer, Command, Failure, FailureKind};
use subtle::ConstantTimeEq as _;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::control::{Mailbox, Message};

/// The longest command, in bytes.
pub(super) const COMMAND_MAX: usize = 64 * 1024;
/// The deadline for receiving one command, from its first byte on.
pub(super) const SENDER: Duration = Duration::from_secs(10);
/// The deadline for carrying a command out. The contract promises an answer within a minute, its way to the client included.
const EXECUTION: Duration = Duration::from_secs(58);

/// Checks tokens, hands commands to the controller and waits for their answers.
#[derive(Debug)]
pub(crate) struct Desk {
    mailbox: Mailbox,
    token: Option<String>,
    /// Notified while the port is full: idle connections then close.
    pub(super) crowded: Notify,
}

impl Desk {
    /// With a `token`, only commands that come with it are carried out.
    pub(crate) fn new(mailbox: Mailbox, token: Option<String>) -> Self {
        Desk { mailbox, token, crowded: Notify::new() }
    }

    /// Checks a token. The comparison takes the same time wherever the tokens differ.
    pub(super) fn admit(&self, given: Option<&str>) -> Result<(), Failure> {
        let refuse = |what: &str| {
            let how = "HTTP `Authorization: Bearer TOKEN` or the JSON field `token`";
            Err(FailureKind::Unauthorized.because(format!("the token is {what}: expected {how}")))
        };
        match (&self.token, given) {
            (None, _) => Ok(()),
            (Some(_), None) => refuse("missing"),
            (Some(expected), Some(given)) if expected.as_bytes().ct_eq(given.as_bytes()).into() => Ok(()),
            (Some(_), Some(_)) => refuse("wrong"),
        }
    }

    /// Has the controller carry a command out, and waits for the answer.
    pub(super) async fn execute(&self, command: Command) -> Answer {
        let (sender, answer) = oneshot::channel();
        let ask = async {
            self.mailbox.send(Message::Request(command, sender)).await.ok()?;
            answer.await.ok()
        };
        let failure = match timeout(EXECUTION, ask).await {
            Ok(Some(answer)) => return answer,
            Ok(None) => FailureKind::Unavailable.because("lb is shutting down"),
            Err(_) => {
                FailureKind::StartFailed.because(format!("the command is not done within {EXECUTION:?}"))
            }
        };
        Answer::Failure(failure)
    }
}
