//! A running replica: the state that both planes share and change.
//!
//! A session holds a [`Lease`] on its replica. If it hands its connection over, the [`Link`] keeps the lease. The control plane reads
//! the counters, waits until no lease is left, and ends sessions. Nothing here connects, probes or decides.

mod counters;
mod ending;
mod key;
mod link;
mod suspicion;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use proto::control::Connections;
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::net::{Addresses, Endpoint};
pub(crate) use counters::{Counters, Dialled, Probed, Totals, Way};
pub(crate) use ending::Ending;
use key::Key;
use link::HandoffEndpoint;
pub(crate) use link::{About, HandedOver, Link};
use suspicion::Suspicion;

/// The longest that evicted sessions may take to end.
pub(crate) const EVICTION: Duration = Duration::from_secs(1);

/// A running replica with its sessions and counters.
#[derive(Debug)]
pub(crate) struct Replica {
    /// Its hostname.
    pub(crate) hostname: String,
    /// The name of its slot, once it has one.
    slot: OnceLock<String>,
    /// Where it listens; the first address is the one that answered last.
    addresses: ArcSwap<Addresses>,
    /// Its hand-off endpoint, if it was started with one.
    handoff: Option<HandoffEndpoint>,
    sessions: TaskTracker,
    /// The lock is held for a few instructions, and never across a system call.
    open: Mutex<Open>,
    /// Ends all its sessions, now and later.
    evicted: CancellationToken,
    connected: AtomicU64,
    /// What else it counts.
    pub(crate) counters: Arc<Counters>,
    /// The bytes of its reports on its link.
    reported: AtomicU64,
    probe_wanted: Notify,
    /// Whether a connect or a probe has failed.
    pub(crate) suspicion: Suspicion,
}

/// The open sessions of a replica.
#[derive(Debug)]
struct Open {
    /// The key of every session.
    keys: Slab<Key>,
    /// Ends the sessions that are open now.
    reset: Arc<CancellationToken>,
}

impl Replica {
    /// A replica without sessions, and without a hand-off endpoint. Its sessions end when `evicted` is cancelled.
    #[must_use]
    pub(crate) fn new(hostname: String, addresses: Addresses, evicted: CancellationToken) -> Self {
        Replica {
            hostname,
            slot: OnceLock::new(),
            addresses: ArcSwap::from_pointee(addresses),
            handoff: None,
            sessions: TaskTracker::new(),
            open: Mutex::new(Open { keys: Slab::new(), reset: Arc::new(evicted.child_token()) }),
            evicted,
            connected: AtomicU64::new(0),
            counters: Arc::default(),
            reported: AtomicU64::new(0),
            probe_wanted: Notify::new(),
            suspicion: Suspicion::default(),
        }
    }

    /// It sits in this slot from now on, and stays there.
    pub(crate) fn sit(&self, slot: &str) {
        self.slot.get_or_init(|| slot.to_owned());
    }

    /// The name of its slot; a spare has none.
    #[must_use]
    pub(crate) fn slot(&self) -> Option<&str> {
        self.slot.get().map(String::as_str)
    }

    /// The address that answered last, or the first one.
    #[must_use]
    pub(crate) fn address(&self) -> Endpoint {
        self.addresses.load().first().clone()
    }

    /// Its addresses, in the order in which they are tried.
    #[must_use]
    pub(crate) fn addresses(&self) -> Arc<Addresses> {
        self.addresses.load_full()
    }

    /// Tries this one of its addresses first from now on: it has answered.
    pub(crate) fn prefer(&self, address: &Endpoint) {
        if self.addresses.load().first() != address {
            self.addresses.rcu(|addresses| addresses.preferring(address));
        }
    }

    /// It listens at these addresses from now on.
    pub(crate) fn move_to(&self, addresses: Addresses) {
        self.addresses.store(Arc::new(addresses));
    }

    /// Adds the path of its hand-off endpoint, if it has one.
    #[must_use]
    pub(crate) fn with_handoff_at(self, path: Option<PathBuf>) -> Self {
        Replica { handoff: path.map(HandoffEndpoint::new), ..self }
    }

    /// The path of its hand-off endpoint.
    #[must_use]
    pub(crate) fn handoff_path(&self) -> Option<&Path> {
        self.handoff.as_ref().map(HandoffEndpoint::path)
    }

    /// The link over which connections are handed over now.
    #[must_use]
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.handoff.as_ref()?.link()
    }

    /// Hands connections over on this link from now on.
    pub(crate) fn attach(&self, link: Arc<Link>) {
        if let Some(endpoint) = &self.handoff {
            endpoint.attach(link);
        }
    }

    /// Ends a link. New connections are proxied, unless another link is attached.
    pub(crate) fn detach(&self, link: &Arc<Link>) {
        if let Some(endpoint) = &self.handoff {
            endpoint.detach(link);
        }
        link.end();
    }

    #[cfg(test)]
    /// Leases the replica for one session with this key. A drain waits until the lease is dropped.
    #[must_use]
    pub(crate) fn lease(self: &Arc<Self>, key: &[u8]) -> Lease {
        self.take(&mut self.lock(), key)
    }

    /// Leases the replica, if it has fewer than `most` sessions. If two workers want the last place, exactly one gets it.
    ///
    /// # Errors
    /// The number of its sessions.
    pub(crate) fn lease_within(self: &Arc<Self>, key: &[u8], most: usize) -> Result<Lease, usize> {
        // Every lease is counted under this lock, so the number cannot rise before this one counts.
        let mut sessions = self.lock();
        let open = self.open();
        if open < most { Ok(self.take(&mut sessions, key)) } else { Err(open) }
    }

    fn take(self: &Arc<Self>, open: &mut Open, key: &[u8]) -> Lease {
        Lease {
            _session: self.sessions.token(),
            replica: Arc::clone(self),
            reset: Arc::clone(&open.reset),
            place: open.keys.insert(Key::of(key)),
        }
    }

    /// The number of its sessions.
    #[must_use]
    pub(crate) fn open(&self) -> usize {
        self.sessions.len()
    }

    /// Shows the key of every session, or `None` for a key that is too long to be kept. It copies 256 keys at a time, so that no session
    /// waits long for the lock. A session that begins or ends meanwhile may be missed.
    pub(crate) fn each_key(&self, mut show: impl FnMut(Option<&[u8]>)) {
        const AT_ONCE: usize = 256;
        let mut next = 0;
        loop {
            let some: Vec<Key> = {
                let open = self.lock();
                let end = next + AT_ONCE;
                let some = (next..end).filter_map(|at| open.keys.get(at).cloned()).collect();
                if open.keys.capacity() <= next {
                    return;
                }
                next = end;
                some
            };
            some.iter().for_each(|key| show(key.bytes()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // No code panics while it holds the lock, and a panic would leave the keys intact.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections it has, and has had.
    #[must_use]
    pub(crate) fn connections(&self) -> Connections {
        Connections { open: self.open(), total: self.connected.load(Relaxed), failed: self.counters.failed() }
    }

    /// The bytes received from it so far: a sign of life, whatever its probes say.
    #[must_use]
    pub(crate) fn received(&self) -> u64 {
        self.counters.bytes(Way::Down) + self.reported.load(Relaxed)
    }

    /// Asks for a probe now instead of at the next interval, because a session failed. That is no evidence against the replica: it
    /// may have reset the connection because the client sent garbage.
    pub(crate) fn probe_soon(&self) {
        self.probe_wanted.notify_one();
    }

    /// Waits until a session has asked for a probe.
    pub(crate) async fn probe_wanted(&self) {
        self.probe_wanted.notified().await;
    }

    /// Waits until it has no session.
    pub(crate) async fn drained(&self) {
        self.sessions.close();
        self.sessions.wait().await;
    }

    /// Ends its sessions once it has sent nothing for the time of `silence`: bytes that it sent before it was lost are
    /// forwarded first.
    pub(crate) async fn evict_when_silent(&self, silence: Duration) {
        let mut received = self.received();
        while timeout(silence, self.drained()).await.is_err() {
            let before = std::mem::replace(&mut received, self.received());
            if before == received {
                return self.evict();
            }
        }
    }

    /// Takes back a counted connection that could not be made.
    pub(crate) fn not_connected(&self) {
        self.connected.fetch_sub(1, Relaxed);
    }

    /// Counts bytes received on its link.
    pub(crate) fn heard(&self, bytes: usize) {
        self.reported.fetch_add(bytes as u64, Relaxed);
    }

    /// Ends the sessions that are open now, except those that were handed over: `lb` cannot end them. Later ones stay.
    pub(crate) fn reset_sessions(&self) {
        let next = Arc::new(self.evicted.child_token());
        let reset = std::mem::replace(&mut self.lock().reset, next);
        reset.cancel();
    }

    /// Ends its sessions and its link. `lb` cannot end connections that were handed over, and stops counting them.
    pub(crate) fn evict(&self) {
        self.evicted.cancel();
        if let Some(link) = self.link() {
            link.end();
        }
    }
}

/// The lease of one session on its replica. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    replica: Arc<Replica>,
    _session: TaskTrackerToken,
    /// Cancelled when the session has to end.
    reset: Arc<CancellationToken>,
    /// The position of its key.
    place: usize,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.replica.lock().keys.try_remove(self.place);
    }
}

impl Lease {
    /// The leased replica.
    #[must_use]
    pub(crate) fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// Counts a connection that was made.
    pub(crate) fn connected(&self) {
        self.replica.connected.fetch_add(1, Relaxed);
    }

    /// Waits until the session has to end.
    pub(crate) fn evicted(&self) -> WaitForCancellationFuture<'_> {
        self.reset.cancelled()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proto::control::FailedConnects;

    use super::key::LONGEST;
    use super::*;

    fn keys(replica: &Replica) -> Vec<Option<Vec<u8>>> {
        let mut keys = Vec::new();
        replica.each_key(|key| keys.push(key.map(<[u8]>::to_vec)));
        keys.sort_unstable();
        keys
    }

    #[test]
    fn a_replica_knows_the_keys_of_its_sessions() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let replica = Arc::new(Replica::new("a".into(), address.into(), CancellationToken::new()));
        assert_eq!(keys(&replica), Vec::<Option<Vec<u8>>>::new());
        let longest = [b'x'; LONGEST];
        let leases: Vec<Lease> =
            [b"".as_slice(), b"132574", &longest, &[b'x'; LONGEST + 1]].map(|key| replica.lease(key)).into();
        let kept = |key: &[u8]| Some(key.to_vec());
        assert_eq!(keys(&replica), [None, kept(b""), kept(b"132574"), kept(&longest)]);
        drop(leases);
        assert_eq!((keys(&replica), replica.open()), (Vec::new(), 0));
    }

    #[test]
    fn attempts_are_counted_by_how_they_went() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let replica = Replica::new("a".into(), address.into(), CancellationToken::new());
        assert_eq!(replica.connections().failed, FailedConnects::default());
        let ways = [Dialled::Refused, Dialled::Timeout, Dialled::Local, Dialled::Local, Dialled::Other];
        ways.into_iter().chain([Dialled::Ok]).for_each(|how| replica.counters.dialled(how));
        assert_eq!(replica.counters.read().dials(Dialled::Ok), 1);
        let expected = FailedConnects { refused: 1, timeout: 1, local: 2, other: 1 };
        assert_eq!(replica.connections().failed, expected);
    }

    #[test]
    fn every_key_is_shown_once() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let replica = Arc::new(Replica::new("a".into(), address.into(), CancellationToken::new()));
        let mut leases: Vec<Lease> =
            (0..1000_u32).map(|key| replica.lease(key.to_string().as_bytes())).collect();
        leases.drain(100..400);
        let mut expected: Vec<_> =
            (0..100).chain(400..1000).map(|key| Some(key.to_string().into_bytes())).collect();
        expected.sort_unstable();
        assert_eq!(keys(&replica), expected);
    }

    #[test]
    fn a_reset_ends_the_sessions_of_now_and_an_eviction_the_later_ones_too() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let replica = Arc::new(Replica::new("a".into(), address.into(), CancellationToken::new()));
        let ends = |leases: &[&Lease]| -> Vec<bool> {
            leases.iter().map(|lease| lease.reset.is_cancelled()).collect()
        };
        let before = replica.lease(b"7");
        replica.reset_sessions();
        let after = replica.lease(b"7");
        assert_eq!(ends(&[&before, &after]), [true, false]);
        replica.evict();
        assert_eq!(ends(&[&after, &replica.lease(b"7")]), [true, true]);
    }
}
