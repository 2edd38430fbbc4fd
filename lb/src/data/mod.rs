//! The data plane: client connections, from `accept` to the last byte.
//!
//! Each worker is a thread with its own runtime, listening socket and sessions; a connection stays on one worker. What the
//! workers share is in [`Plane`]. The data plane never starts, stops or judges a replica: it reads the newest snapshot, and
//! at most reports that a replica looks suspicious.

mod admission;
pub(crate) mod binding;
mod client;
mod clock;
mod connect;
mod files;
mod flow;
mod foreword;
mod head;
mod header;
mod key;
mod listener;
pub(crate) mod memory;
mod outcome;
mod pair;
mod peer;
mod relay;
mod rules;
mod session;
mod socket;
mod source;
mod splice;
pub(crate) mod stalls;
mod story;
mod stream;
mod warnings;
pub(crate) mod watchdog;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use proto::control::Transport;
use proto::key::KeyKind;
use proto::proxy::Version;
use tokio_util::task::TaskTracker;

pub(crate) use admission::{Admission, AdmissionRules, Networks, Rate};
pub(crate) use files::FileBudget;
pub(crate) use memory::Memory;
pub(crate) use peer::PeerOptions;
pub(crate) use rules::RulesCell;
pub(crate) use splice::Pipes;
pub(crate) use stalls::Stalls;
pub(crate) use warnings::Warnings;
pub(crate) use worker::Worker;

use crate::access::AccessLogs;
use crate::metrics::{Metrics, Workers};
use crate::net::{Pause, Throttle};
use crate::refusals::{Reason, Refusals};
use crate::snapshot::Cell;

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
    /// The version of the PROXY header that a replica gets before the bytes of its client; `None`: it gets none.
    pub send_proxy: Option<Version>,
    /// How long both directions may be silent; `None`: for any time.
    pub idle_timeout: Option<Duration>,
    /// How long one direction may be silent after the other has ended.
    pub half_close_timeout: Duration,
    /// How long a session may last; `None`: for any time.
    pub max_connection_age: Option<Duration>,
    /// The options of both sockets of a session.
    pub peer: PeerOptions,
}

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Plane {
    /// The newest snapshot.
    pub(crate) fleet: Arc<Cell>,
    /// How sessions are served, and who is let in.
    pub(crate) rules: RulesCell,
    /// The log of connections.
    pub(crate) access: Arc<AccessLogs>,
    /// What is measured.
    pub(crate) metrics: Arc<Metrics>,
    /// Counts the connections that are not served.
    pub(crate) refusals: Arc<Refusals>,
    /// How many sessions the limit of open files allows.
    pub(crate) files: FileBudget,
    /// The pipes for bytes that are not copied.
    pub(crate) pipes: Pipes,
    /// How short the kernel's memory for TCP is.
    pub(crate) memory: Memory,
    /// Which sockets are stalled by peers that answer.
    pub(crate) stalls: Stalls,
    /// What is logged now and then.
    pub(crate) warnings: Warnings,
    /// The workers.
    pub(crate) workers: Vec<Worker>,
    /// Whether another process takes the connections.
    pub(crate) pause: Arc<Pause>,
    /// Keeps it rare in the log that a listener does not work.
    pub(crate) troubles: Throttle,
    /// All sessions of all workers.
    pub(crate) sessions: TaskTracker,
    /// The connections that were handed over and that no replica has reported as closed.
    pub(crate) handed_over: TaskTracker,
}

impl Plane {
    /// The most sessions at once.
    fn most_sessions(&self) -> usize {
        self.files.sessions(self.fleet.load().slots().len())
    }

    /// Other rules hold from now on, for connections that come. Those that are open are counted by limits that were off before. Call it
    /// on a runtime.
    pub(crate) fn change_rules(&self, limits: Limits, admission: &AdmissionRules, proxies: &[IpNet]) {
        if self.rules.change(limits, admission, proxies) {
            self.stalls.call();
        }
    }

    /// Whether a new client would be accepted now, and if not, why.
    pub(crate) fn accepts(&self) -> Result<(), &'static str> {
        if !self.workers.iter().any(Worker::accepts) {
            return Err("no worker accepts connections");
        }
        if self.memory.is_short() {
            return Err("new connections wait for memory");
        }
        let has_no_place = self.rules.load().admission.as_ref().is_some_and(Admission::is_full);
        if has_no_place || self.sessions.len() >= self.most_sessions() {
            return Err("the limit of connections is reached");
        }
        Ok(())
    }

    /// The listening sockets of all workers, each with the address where it is bound (`None`: a Unix socket).
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (Option<SocketAddr>, Arc<TcpListener>)> {
        self.workers.iter().flat_map(Worker::listeners)
    }

    /// Goes on to take connections, at once.
    pub(crate) fn resume(&self) {
        self.pause.set(false);
        self.workers.iter().for_each(Worker::beat);
    }

    /// What the workers can do for new clients now.
    pub(crate) fn workers(&self) -> Workers {
        let dead = self.workers.iter().filter(|worker| worker.is_dead()).count();
        let accepting = if self.accepts().is_ok() {
            self.workers.iter().filter(|worker| worker.accepts()).count()
        } else {
            0
        };
        let admitted = self.rules.load().admission.as_ref().and_then(Admission::most);
        let most_sessions = self.most_sessions().min(admitted.unwrap_or(usize::MAX));
        let (full, sessions) = (self.workers.len().saturating_sub(dead + accepting), self.sessions.len());
        Workers { accepting, full, dead, sessions, most_sessions }
    }

    /// Counts a connection that is reset for a reason of this machine.
    fn has_failed(&self, error: &io::Error) {
        self.refusals.count(Reason::Local);
        self.warnings.local_reset(error);
    }
}

/// Helpers for the tests of several modules.
#[cfg(test)]
mod testing {
    use std::sync::Arc;
    use std::time::Duration;

    use mapping::{Algorithm, MappingPolicy, Scheme};
    use proto::control::Transport;
    use proto::key::KeyKind;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::task::TaskTracker;

    use super::stream::Stream;
    use super::{FileBudget, Limits, Memory, PeerOptions, Pipes, Plane, RulesCell, Stalls, Warnings};
    use crate::metrics::Metrics;
    use crate::net::{Pause, Throttle};
    use crate::snapshot::{Cell, Snapshot};

    /// Rules for sessions that do not get in the way of a test.
    pub(super) fn limits() -> Limits {
        Limits {
            key: KeyKind::Id,
            id_param: "id".to_owned(),
            first_line_timeout: Duration::from_secs(30),
            first_line_max: 8192,
            connect_timeout: Duration::from_secs(30),
            connect_attempts: 1,
            transport: Transport::Proxy,
            send_proxy: None,
            idle_timeout: None,
            half_close_timeout: Duration::from_secs(600),
            max_connection_age: None,
            peer: PeerOptions::default(),
        }
    }

    /// What workers share, without a replica and without pipes.
    pub(super) fn plane() -> Plane {
        let policy = MappingPolicy { scheme: Scheme::from(Algorithm::Maglev), balance: None };
        Plane {
            fleet: Arc::new(Cell::from_pointee(Snapshot::empty(&policy).unwrap())),
            rules: RulesCell::of(limits()),
            files: FileBudget::of_this_process(1, 0, false, 1),
            pipes: Pipes::new(0, 0, 1),
            memory: Memory::default(),
            stalls: Stalls::default(),
            warnings: Warnings::default(),
            workers: Vec::new(),
            pause: Arc::new(Pause::new(false)),
            troubles: Throttle::default(),
            sessions: TaskTracker::new(),
            handed_over: TaskTracker::new(),
            access: Arc::default(),
            refusals: Arc::default(),
            metrics: Arc::new(Metrics::new(1)),
        }
    }

    /// Returns both ends of a new connection on loopback.
    pub(super) async fn connection() -> (Stream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (one, other) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let watched = |stream: TcpStream| Stream::watch(stream.into_std().unwrap()).unwrap();
        (watched(one.unwrap()), watched(other.unwrap().0))
    }
}
