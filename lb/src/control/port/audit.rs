//! The audit of the control port: which commands changed something, who sent them, and how many were refused.
//!
//! Its lines have the target `lb::audit`. It judges nothing, and no token is ever in a line.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use proto::control::{Answer, Body};
use proto::journal::Event;
use serde::Serialize;
use tokio::net::unix::UCred;
use tracing::{info, warn};

use crate::journal::Journal;
use crate::net::Tally;

/// The target of all lines.
const TARGET: &str = "lb::audit";
/// The longest command in a line, in characters.
const COMMAND_MAX: usize = 1000;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    /// A client on the network.
    Address(SocketAddr),
    /// A process of this machine on a Unix socket (unix(7), `SO_PEERCRED`). The permission of the socket's file has let it in.
    Process(UCred),
}

impl Who {
    /// The address of a client that has to show a token.
    pub(super) fn address(self) -> Option<IpAddr> {
        match self {
            Who::Address(address) => Some(address.ip()),
            Who::Process(_) => None,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Address(address) => address.fmt(f),
            Who::Process(process) => {
                write!(f, "uid={},gid={}", process.uid(), process.gid())?;
                process.pid().map_or(Ok(()), |pid| write!(f, ",pid={pid}"))
            }
        }
    }
}

/// A command as JSON, without its token, for [`record`].
pub(super) fn text(command: &impl Serialize) -> String {
    // Nothing in a command can fail to serialize.
    clipped(&serde_json::to_string(command).unwrap_or_default())
}

/// Logs a command that asked for a change, with its result, and records it in the journal.
pub(super) fn record(journal: &Journal, who: Who, command: String, answer: &Answer) {
    let (result, replicas) = match answer {
        // A `rm` without names says only how many: the list of those that are left says the rest.
        Answer::Successful(body) => ("done".to_owned(), replicas(body)),
        Answer::Incidents(_) => ("done".to_owned(), None),
        Answer::Failure(failure) => (failure.to_string(), None),
    };
    info!(target: TARGET, by = %who, %command, result, replicas, "command");
    journal.record(Event::Command { by: who.to_string(), command, result });
}

fn replicas(body: &Body) -> Option<String> {
    let Body::Replicas(left) = body else { return None };
    Some(clipped(&left.replicas.join(",")))
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(COMMAND_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The refused commands, by who sent the last one.
pub(super) type Refusals = Tally<Who>;

/// Logs refused commands, once a second at most, until it is dropped.
pub(super) async fn report(refusals: &Refusals) -> Infallible {
    let report = refusals.report(|refused, last| {
        warn!(
            target: TARGET,
            refused,
            %last,
            "commands refused: the token is missing or wrong, or a foreign web page sent them"
        );
    });
    report.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_is_clipped_between_two_characters() {
        assert_eq!(clipped("short"), "short");
        assert_eq!(clipped(&"ä".repeat(COMMAND_MAX)).chars().count(), COMMAND_MAX);
        let long = clipped(&"ä".repeat(COMMAND_MAX + 1));
        assert!(long.ends_with("ä...") && long.chars().count() == COMMAND_MAX + 3);
    }
}
