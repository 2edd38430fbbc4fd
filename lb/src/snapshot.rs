//! What the data plane knows of the fleet: the one thing that both planes see.
//!
//! The controller publishes a [`Snapshot`] into the [`Cell`]; a session loads exactly one and drops it before it copies
//! bytes. A published snapshot never changes. What does change, and is shared, are the counters of a [`Replica`].

use std::iter;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use proto::control::{Connections, State};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::ring::{Algorithm, Full, Location, Mapping};

/// How long sessions may take to end after they were evicted.
pub const EVICTION: Duration = Duration::from_secs(1);

/// Where the newest snapshot is.
pub type Cell = ArcSwap<Snapshot>;

/// The fleet at one moment.
#[derive(Debug)]
pub struct Snapshot {
    mapping: Arc<Mapping>,
    slots: Vec<Slot>,
}

/// A slot on the ring and the replica in it.
#[derive(Debug)]
pub struct Slot {
    /// Its stable index.
    pub index: u32,
    /// Its stable name, which the ring hashes.
    pub name: String,
    /// The hostname of the replica in it, or of the last one.
    pub hostname: String,
    /// Its state.
    pub state: State,
    /// Why it is in that state, where there is something to say.
    pub reason: Option<String>,
    /// The replica in it, if one runs and its address is known.
    pub replica: Option<Arc<Replica>>,
}

/// Whether a slot can get a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// In rotation.
    Yes,
    /// Only when every slot in rotation has been tried: its replica fails its probes, but runs.
    LastResort,
    /// There is no replica to connect to.
    No,
}

impl Slot {
    /// Whether it can get a connection.
    #[must_use]
    pub fn eligibility(&self) -> Eligibility {
        match (&self.replica, self.state) {
            (Some(_), State::Up) => Eligibility::Yes,
            (Some(_), State::Down) => Eligibility::LastResort,
            _ => Eligibility::No,
        }
    }
}

impl Snapshot {
    /// A snapshot of `slots`, in the order of the members that `mapping` was built from.
    #[must_use]
    pub fn new(mapping: Arc<Mapping>, slots: Vec<Slot>) -> Self {
        Snapshot { mapping, slots }
    }

    /// A fleet without slots.
    ///
    /// # Errors
    /// The mapping has no room for even none.
    pub fn empty(algorithm: &Algorithm) -> Result<Self, Full> {
        Ok(Snapshot { mapping: Arc::new(Mapping::build(algorithm, &[])?), slots: Vec::new() })
    }

    /// The mapping, to be used again as long as the slots are the same.
    #[must_use]
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// All slots, by index.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Where a key falls.
    #[must_use]
    pub fn locate(&self, key: &[u8]) -> Location {
        self.mapping.locate(key)
    }

    /// All slots in the order in which the mapping gives them to `key`, whatever their state.
    pub fn order(&self, key: &[u8]) -> impl Iterator<Item = &Slot> {
        self.mapping.candidates(key).filter_map(|ordinal| self.slots.get(ordinal))
    }

    /// The replicas that may get a connection with this key, in the order in which to try them: those in rotation, and
    /// after them the ones that fail their probes but run.
    pub fn candidates(&self, key: &[u8]) -> impl Iterator<Item = &Arc<Replica>> {
        let (mut wanted, mut order) = (Eligibility::Yes, self.mapping.candidates(key));
        iter::from_fn(move || {
            loop {
                match order.next() {
                    Some(ordinal) => {
                        let slot = self.slots.get(ordinal).filter(|slot| slot.eligibility() == wanted);
                        if let Some(replica) = slot.and_then(|slot| slot.replica.as_ref()) {
                            return Some(replica);
                        }
                    }
                    // Only now: an order is not for nothing, and the last resort is hardly ever needed.
                    None if wanted == Eligibility::Yes => {
                        (wanted, order) = (Eligibility::LastResort, self.mapping.candidates(key));
                    }
                    None => return None,
                }
            }
        })
    }
}

/// A running server as the data plane sees it.
#[derive(Debug)]
pub struct Replica {
    /// The name it runs under.
    pub hostname: String,
    /// Where it listens.
    pub address: SocketAddr,
    sessions: TaskTracker,
    evicted: CancellationToken,
    connected: AtomicU64,
    received: AtomicU64,
    suspected: Notify,
    is_suspect: AtomicBool,
}

impl Replica {
    /// A replica without connections; its sessions end when `evicted` is cancelled.
    #[must_use]
    pub fn new(hostname: String, address: SocketAddr, evicted: CancellationToken) -> Self {
        Replica {
            hostname,
            address,
            sessions: TaskTracker::new(),
            evicted,
            connected: AtomicU64::new(0),
            received: AtomicU64::new(0),
            suspected: Notify::new(),
            is_suspect: AtomicBool::new(false),
        }
    }

    /// Takes hold of the replica for one session: it is not stopped by a drain as long as the lease lives.
    #[must_use]
    pub fn lease(self: &Arc<Self>) -> Lease {
        Lease { _session: self.sessions.token(), replica: Arc::clone(self) }
    }

    /// Its connections.
    #[must_use]
    pub fn connections(&self) -> Connections {
        Connections { open: self.sessions.len(), total: self.connected.load(Relaxed) }
    }

    /// Bytes received from it so far: a sign of life, whatever its probes say.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Says that a session had trouble with it, so that it is probed now and not at the next interval, and that the
    /// next session looks twice.
    pub fn suspect(&self) {
        self.is_suspect.store(true, Relaxed);
        self.suspected.notify_one();
    }

    /// Whether the last session had trouble with it.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.is_suspect.load(Relaxed)
    }

    /// Says that a session had no trouble with it after all.
    pub fn trust(&self) {
        self.is_suspect.store(false, Relaxed);
    }

    /// Waits until a session has had trouble with it.
    pub async fn suspected(&self) {
        self.suspected.notified().await;
    }

    /// Waits until no session holds it.
    pub async fn drained(&self) {
        self.sessions.close();
        self.sessions.wait().await;
    }

    /// Ends the sessions that are still there as soon as nothing comes from it any more: what its sockets here have received
    /// is passed on first.
    pub async fn evict_when_silent(&self, silence: Duration) {
        let mut received = self.received();
        while timeout(silence, self.drained()).await.is_err() {
            let before = std::mem::replace(&mut received, self.received());
            if before == received {
                return self.evict();
            }
        }
    }

    /// Ends the sessions that are still there.
    pub fn evict(&self) {
        self.evicted.cancel();
    }
}

/// A session's hold on its replica.
#[derive(Debug)]
pub struct Lease {
    replica: Arc<Replica>,
    _session: TaskTrackerToken,
}

impl Lease {
    /// The replica.
    #[must_use]
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// Counts the connection that has been made.
    pub fn connected(&self) {
        self.replica.connected.fetch_add(1, Relaxed);
    }

    /// Counts bytes that have come from the replica.
    pub fn received(&self, bytes: usize) {
        self.replica.received.fetch_add(bytes as u64, Relaxed);
    }

    /// Waits until the session has to end.
    pub async fn evicted(&self) {
        self.replica.evicted.cancelled().await;
    }
}
