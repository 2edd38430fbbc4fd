//! The hand-off endpoint of a replica (`docs/HANDOFF.md`), the link to it, and the connections that were handed over.
//!
//! A worker sends the client's socket over the link and leaves the lease of its session here, under a number. The control plane makes
//! the link and receives the numbers of closed connections from the replica. Nothing here waits.

use std::collections::HashMap;
use std::fmt::Debug;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use handoff::{Channel, Metadata, Refused};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Lease;

/// The Unix socket at which a replica takes connections over, and the link to it while there is one.
#[derive(Debug)]
pub(super) struct HandoffEndpoint {
    path: PathBuf,
    link: ArcSwapOption<Link>,
}

impl HandoffEndpoint {
    pub(super) fn new(path: PathBuf) -> Self {
        HandoffEndpoint { path, link: ArcSwapOption::empty() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.link.load_full()
    }

    pub(super) fn attach(&self, link: Arc<Link>) {
        self.link.store(Some(link));
    }

    /// Detaches a link, unless another one has replaced it.
    pub(super) fn detach(&self, link: &Arc<Link>) {
        self.link.compare_and_swap(link, None);
    }
}

/// A Unix connection to a replica, and the open connections that were handed over on it.
#[derive(Debug)]
pub(crate) struct Link {
    channel: Channel,
    next_number: AtomicU64,
    has_reported: AtomicBool,
    over: CancellationToken,
    /// By number; `None` once the link has ended. The lock is held for a few instructions, and never across a system call.
    open: Mutex<Option<HashMap<u64, HandedOver>>>,
}

/// A session that continues without `lb`. It keeps its lease, and counts among the open sessions.
#[derive(Debug)]
#[expect(dead_code, reason = "nothing reads them: they are dropped when the connection is closed")]
pub(crate) struct HandedOver {
    /// Its lease on the replica.
    pub(crate) lease: Lease,
    /// Its place among the open sessions.
    pub(crate) counted: TaskTrackerToken,
    /// What else it holds until its end.
    pub(crate) places: Option<Arc<dyn Debug + Send + Sync>>,
}

/// What a replica learns about a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    /// The name of the replica's slot.
    pub(crate) slot: &'a str,
    /// The key that was hashed.
    pub(crate) key: &'a [u8],
    /// The request id in the first line, if there is one.
    pub(crate) request_id: Option<&'a [u8]>,
    /// The number of candidates that failed before.
    pub(crate) attempt: usize,
}

impl Link {
    /// A link over this channel.
    #[must_use]
    pub(crate) fn new(channel: Channel) -> Self {
        let (next_number, has_reported) = (AtomicU64::new(0), AtomicBool::new(false));
        let (over, open) = (CancellationToken::new(), Mutex::new(Some(HashMap::new())));
        Link { channel, next_number, has_reported, over, open }
    }

    /// Hands a client's connection over. `held` is kept until the replica reports that the connection is closed, or the link
    /// ends. The caller closes its socket.
    ///
    /// # Errors
    /// The replica does not get the connection, and `held` is dropped. The socket is unchanged.
    pub(crate) fn hand_over(
        &self,
        socket: impl AsFd,
        held: HandedOver,
        about: About<'_>,
    ) -> Result<(), Refused> {
        let number = self.next_number.fetch_add(1, Relaxed);
        let attempt = u8::try_from(about.attempt).unwrap_or(u8::MAX);
        let metadata = Metadata::new(number, about.slot.as_bytes(), about.key, about.request_id);
        // Before the send: the replica may report the close at once.
        match self.open().as_mut() {
            Some(open) => drop(open.insert(number, held)),
            None => return Err(Refused::Gone(Errno::PIPE.into())),
        }
        let sent = self.channel.send(socket, &metadata.after(attempt));
        if sent.is_err() {
            drop(self.take(&[number]));
        }
        sent
    }

    /// Drops what is held for these closed connections. Unknown numbers are ignored.
    pub(crate) fn closed(&self, numbers: &[u64]) {
        self.has_reported.store(true, Relaxed);
        drop(self.take(numbers));
    }

    /// Whether the replica has ever reported a closed connection, and so understands the protocol.
    #[must_use]
    pub(crate) fn has_reported(&self) -> bool {
        self.has_reported.load(Relaxed)
    }

    /// Ends the link. It drops everything that is held, because no report can come, and refuses further connections.
    pub(crate) fn end(&self) {
        self.over.cancel();
        let open = self.open().take();
        // Dropped after the lock is released.
        drop(open);
    }

    /// Whether it has ended.
    #[must_use]
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Waits for its end.
    pub(crate) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Takes out what is held under these numbers. The caller drops it after the lock is released.
    fn take(&self, numbers: &[u64]) -> Vec<HandedOver> {
        let mut open = self.open();
        let taken = open.iter_mut().flat_map(|open| numbers.iter().filter_map(|number| open.remove(number)));
        taken.collect()
    }

    fn open(&self) -> MutexGuard<'_, Option<HashMap<u64, HandedOver>>> {
        // No code panics while it holds the lock, and a panic would leave the map intact.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
