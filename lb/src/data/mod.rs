//! The data plane: client connections, from `accept` to the last byte.
//!
//! Each worker is a thread with its own runtime, listening socket and sessions; a connection stays on one worker. What the
//! workers share is in [`Plane`]. The data plane never starts, stops or judges a replica: it reads the newest snapshot, and
//! at most reports that a replica looks suspicious.

mod client;
mod connect;
mod files;
mod flow;
mod head;
pub(crate) mod listener;
mod relay;
mod session;
mod socket;
mod source;
mod splice;
pub(crate) mod watchdog;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use proto::control::Transport;
use tokio_util::task::TaskTracker;

pub(crate) use files::FileBudget;
pub(crate) use splice::Pipes;
pub(crate) use worker::Worker;

use crate::net::{Errors, Tally};
use crate::snapshot::Cell;

/// What a connection's key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// The request id in the first line.
    Id,
    /// The client's IP address; nothing is read from the client before the replica is chosen.
    Source,
}

/// The rules for a session: how it finds its key, and its limits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// What the key is.
    pub key: KeyKind,
    /// The query parameter that holds the request id.
    pub id_param: String,
    /// How long the first line may take, counted from accept.
    pub first_line_timeout: Duration,
    /// The longest first line in bytes, its line feed included.
    pub first_line_max: usize,
    /// How long one connection attempt may take.
    pub connect_timeout: Duration,
    /// How many replicas are tried at most.
    pub connect_attempts: usize,
    /// Whether connections may be handed over. If so, the first line is only looked at and stays in the client's stream.
    pub transport: Transport,
}

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Plane {
    /// The newest snapshot.
    pub(crate) fleet: Arc<Cell>,
    /// The rules for sessions.
    pub(crate) limits: Limits,
    /// How many sessions the limit of open files allows.
    pub(crate) files: FileBudget,
    /// The pipes for bytes that are not copied.
    pub(crate) pipes: Arc<Pipes>,
    /// The workers.
    pub(crate) workers: Vec<Worker>,
    /// Says that a listener does not work.
    pub(crate) troubles: Errors,
    /// All sessions of all workers.
    pub(crate) sessions: TaskTracker,
    /// The connections that were handed over and that no replica has reported as closed.
    pub(crate) handed_over: TaskTracker,
    /// The clients for which there was no replica.
    pub(crate) turned_away: Tally,
}

impl Plane {
    /// The most sessions at once.
    fn most_sessions(&self) -> usize {
        self.files.sessions(self.fleet.load().slots().len())
    }

    /// Whether a new client would be accepted now, and if not, why.
    pub(crate) fn accepts(&self) -> Result<(), &'static str> {
        if !self.workers.iter().any(Worker::accepts) {
            return Err("no worker accepts connections");
        }
        if self.sessions.len() >= self.most_sessions() {
            return Err("the limit of connections is reached");
        }
        Ok(())
    }
}

/// Helpers for the tests of several modules.
#[cfg(test)]
mod testing {
    use tokio::net::{TcpListener, TcpStream};

    /// Returns both ends of a new connection on loopback.
    pub(super) async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (one, other) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }
}
