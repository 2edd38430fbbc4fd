//! Where replicas come from.
//!
//! A provider starts and stops what it is told to, and reports what it sees: that a replica was started, and that one
//! is gone. It never decides that one has to be replaced.

pub(crate) mod fixed;
pub(crate) mod process;

use proto::control::Hostname;
use tokio::sync::oneshot;

use crate::control::Mailbox;
use crate::control::fleet::{ReplicaId, Stopping};

/// One of the known providers.
#[derive(Debug)]
pub(crate) enum Provider {
    /// Child processes.
    Process(process::Process),
    /// Addresses that others look after.
    Fixed(fixed::Fixed),
}

impl Provider {
    /// Starts a replica; `Started` or `Lost` is reported to the mailbox, and `Lost` again when it has ended.
    pub(crate) fn start(&mut self, id: ReplicaId, hostname: Hostname, mailbox: Mailbox) -> Keeper {
        let (stop, stopped) = oneshot::channel();
        let keeper = Keeper { hostname: hostname.clone(), stop };
        match self {
            Provider::Process(process) => process.start(id, hostname, mailbox, stopped),
            Provider::Fixed(fixed) => fixed.start(id, &hostname, mailbox),
        }
        keeper
    }

    /// Waits until every replica that was told to stop has ended.
    pub(crate) async fn stopped(&self) {
        match self {
            Provider::Process(process) => process.stopped().await,
            Provider::Fixed(_) => {}
        }
    }
}

/// A replica in the care of its provider. Dropping it is stopping it at once.
#[derive(Debug)]
pub(crate) struct Keeper {
    hostname: Hostname,
    stop: oneshot::Sender<Stopping>,
}

impl Keeper {
    /// The name the replica runs under.
    pub(crate) fn hostname(&self) -> &Hostname {
        &self.hostname
    }

    /// Has the replica stopped.
    pub(crate) fn stop(self, how: Stopping) {
        // It fails only on a replica that has already ended, or that has nobody to stop it.
        let _ = self.stop.send(how);
    }
}
