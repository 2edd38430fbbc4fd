//! The audit of the control port: which commands changed something, who sent them, and how many were refused.
//!
//! Its lines have the target `lb::audit`. It judges nothing, and no token is ever in a line.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::control::{Answer, Command, Remapping};
use tokio::net::unix::UCred;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{info, warn};

/// The target of all lines.
const TARGET: &str = "lb::audit";
/// The longest command in a line, in characters.
const COMMAND_MAX: usize = 1000;
/// The shortest time between two lines about refused commands.
const QUIET: Duration = Duration::from_secs(1);

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

/// Whether a command asks for a change.
pub(super) fn changes(command: &Command) -> bool {
    match command {
        Command::Add(_) | Command::Remove(_) => true,
        Command::Mapping(change) => *change != Remapping::default(),
        Command::Rep {}
        | Command::Backends {}
        | Command::Explain { .. }
        | Command::Health {}
        | Command::Plan { .. } => false,
    }
}

/// Logs a command that asked for a change, with its result.
pub(super) fn record(who: Who, command: &Command, answer: &Answer) {
    let command = clipped(command.to_line(None).trim_end());
    match answer {
        Answer::Successful(_) => info!(target: TARGET, by = %who, %command, result = "done", "command"),
        Answer::Failure(failure) => {
            info!(target: TARGET, by = %who, %command, result = %failure, "command");
        }
    }
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(COMMAND_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Counts refused commands, and says so once a second at most.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// How many since the last line, and who sent the last one.
    since: Mutex<(u64, Option<Who>)>,
    more: Notify,
}

impl Refusals {
    pub(super) fn count(&self, who: Who) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = (since.0 + 1, Some(who));
        self.more.notify_one();
    }

    /// Logs them until it is dropped.
    pub(super) async fn report(&self) -> Infallible {
        loop {
            self.more.notified().await;
            let (refused, last) =
                std::mem::take(&mut *self.since.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(last) = last {
                warn!(
                    target: TARGET,
                    refused,
                    %last,
                    "commands refused: the token is missing or wrong, or a foreign web page sent them"
                );
            }
            sleep(QUIET).await;
        }
    }
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
