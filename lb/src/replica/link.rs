//! The way to hand connections over to a replica (`docs/HANDOFF.md`), and who is on it.
//!
//! A worker sends the client's socket and leaves the lease of its session here, under a number; the control plane, which
//! has made the link, hears from the replica which numbers are closed. Nothing here waits.

use std::collections::HashMap;
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

/// Where a replica may take connections over, and the link to it as long as there is one.
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

    /// Forgets a link, if it is not another one by now.
    pub(super) fn detach(&self, link: &Arc<Link>) {
        self.link.compare_and_swap(link, None);
    }
}

/// One Unix connection with a replica, and the connections that were handed over on it and are not closed yet.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    next_number: AtomicU64,
    has_reported: AtomicBool,
    over: CancellationToken,
    /// By number; `None` at its end. It is locked for a few instructions only, and never over a system call.
    open: Mutex<Option<HashMap<u64, HandedOver>>>,
}

/// A session that goes on without us: it holds its replica, and whoever waits for all sessions.
#[derive(Debug)]
pub struct HandedOver {
    /// Its hold on the replica.
    pub lease: Lease,
    /// It counts as one.
    pub counted: TaskTrackerToken,
}

/// What a replica is told about a connection.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The slot that the replica is taken for.
    pub slot: &'a str,
    /// What was hashed.
    pub key: &'a [u8],
    /// The request id in the first line, if there is one.
    pub request_id: Option<&'a [u8]>,
    /// How many candidates could not be had before.
    pub attempt: usize,
}

impl Link {
    /// A link over this channel.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        let (next_number, has_reported) = (AtomicU64::new(0), AtomicBool::new(false));
        let (over, open) = (CancellationToken::new(), Mutex::new(Some(HashMap::new())));
        Link { channel, next_number, has_reported, over, open }
    }

    /// Hands a client over. What is `held` is kept until the replica says that the connection is closed, or will never say
    /// anything again. The caller closes its socket.
    ///
    /// # Errors
    /// The replica does not get the client, and nobody holds it any more; the socket is as it was.
    pub fn hand_over(&self, socket: impl AsFd, held: HandedOver, about: About<'_>) -> Result<(), Refused> {
        let number = self.next_number.fetch_add(1, Relaxed);
        let attempt = u8::try_from(about.attempt).unwrap_or(u8::MAX);
        let metadata = Metadata::new(number, about.slot.as_bytes(), about.key, about.request_id);
        // Before it is sent: the replica may be quick.
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

    /// Lets go of connections that are closed. A number that is not known is none of ours.
    pub fn closed(&self, numbers: &[u64]) {
        self.has_reported.store(true, Relaxed);
        drop(self.take(numbers));
    }

    /// Whether the replica has ever said that a connection is closed, and so understands what it is sent.
    #[must_use]
    pub fn has_reported(&self) -> bool {
        self.has_reported.load(Relaxed)
    }

    /// Lets go of everything: nobody will say what becomes of it. Nothing can be handed over any more.
    pub fn end(&self) {
        self.over.cancel();
        let open = self.open().take();
        // Not under the lock.
        drop(open);
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Waits for its end.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// What is held under these numbers; to be dropped when nothing is locked.
    fn take(&self, numbers: &[u64]) -> Vec<HandedOver> {
        let mut open = self.open();
        let taken = open.iter_mut().flat_map(|open| numbers.iter().filter_map(|number| open.remove(number)));
        taken.collect()
    }

    fn open(&self) -> MutexGuard<'_, Option<HashMap<u64, HandedOver>>> {
        // Nobody can panic while it is locked; and if somebody did, what is open would be as it was.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
