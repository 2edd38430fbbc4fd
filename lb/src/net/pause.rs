//! Whether new connections are taken: not while another process takes them at the same sockets.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::watch;

/// Whether all ports make a pause: their sockets stay, and connections wait in their queues or for the other process.
#[derive(Debug)]
pub(crate) struct Pause {
    /// What a thread of the data plane looks at.
    is_on: AtomicBool,
    changes: watch::Sender<bool>,
}

impl Pause {
    /// A pause that is on or not.
    pub(crate) fn new(is_on: bool) -> Self {
        Pause { is_on: AtomicBool::new(is_on), changes: watch::Sender::new(is_on) }
    }

    /// Begins or ends it.
    pub(crate) fn set(&self, is_on: bool) {
        self.is_on.store(is_on, Relaxed);
        self.changes.send_replace(is_on);
    }

    /// Whether it is on.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// Waits until it is on, or is not.
    pub(crate) async fn until(&self, is_on: bool) {
        // It fails only if the sender is gone, which this holds.
        let _ = self.changes.subscribe().wait_for(|now| *now == is_on).await;
    }
}
