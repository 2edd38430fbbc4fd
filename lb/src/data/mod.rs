//! The data plane: client connections, from `accept` to the last byte.
//!
//! Each worker is a thread with a runtime, a listening socket and sessions of its own; a connection lives and dies on
//! one core. What the workers share is in [`Plane`]. The data plane never starts, stops or judges a replica: it reads
//! the newest snapshot, and says at most that a replica looked suspicious.

mod client;
mod connect;
mod files;
mod flow;
mod head;
pub mod listener;
mod relay;
mod session;
mod socket;
mod source;
mod splice;

use std::sync::Arc;
use std::time::Duration;

use proto::control::Transport;
use tokio_util::task::TaskTracker;

pub use files::FileBudget;
pub use splice::Pipes;

use crate::snapshot::Cell;

/// What is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// The request id in the first line.
    Id,
    /// The client's IP address; nothing is read before the replica is chosen.
    Source,
}

/// What a session may take, and how it finds its key.
#[derive(Clone, Debug)]
pub struct Limits {
    /// What is hashed.
    pub key: KeyKind,
    /// The query parameter that holds the request id.
    pub id_param: String,
    /// How long the first line may take, from accept on.
    pub first_line_timeout: Duration,
    /// How many bytes the first line may have, its line feed included.
    pub first_line_max: usize,
    /// How long one connection attempt may take.
    pub connect_timeout: Duration,
    /// How many replicas are tried.
    pub connect_attempts: usize,
    /// Whether connections may be handed over: then what a client sends first is looked at, and left where it is.
    pub transport: Transport,
}

/// What all workers share.
#[derive(Debug)]
pub struct Plane {
    /// The newest snapshot.
    pub fleet: Arc<Cell>,
    /// The rules for sessions.
    pub limits: Limits,
    /// How many files sessions may have open.
    pub files: FileBudget,
    /// What bytes go through if they are not copied.
    pub pipes: Arc<Pipes>,
    /// All sessions of all workers.
    pub sessions: TaskTracker,
    /// The connections that were handed over and are still open, as far as is known.
    pub handed_over: TaskTracker,
}

/// What the tests of several parts share.
#[cfg(test)]
mod testing {
    use tokio::net::{TcpListener, TcpStream};

    /// Both ends of a new connection.
    pub(super) async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (one, other) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }
}
