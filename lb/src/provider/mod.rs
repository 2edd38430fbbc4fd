//! Where replicas come from.
//!
//! A provider starts and stops what it is told to, and reports what it sees: that a replica was started, and that one
//! is gone. It never decides that one has to be replaced.

pub(crate) mod fixed;
pub(crate) mod process;

use std::net::SocketAddr;

use proto::control::Hostname;
use tokio::sync::{mpsc, oneshot};

/// One running server; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ReplicaId(pub(crate) u64);

/// How a replica is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopping {
    /// It is asked to end, and made to after a while.
    Gently,
    /// It does not listen any more.
    AtOnce,
}

/// What a provider sees.
#[derive(Debug)]
pub(crate) enum Report {
    /// The replica has been started; it listens, or soon will, at this address.
    Started(ReplicaId, SocketAddr),
    /// It could not be started, or has ended; with the reason.
    Lost(ReplicaId, String),
}

/// Where providers report; bounded, so that whoever reports too much waits.
pub(crate) type Reports = mpsc::Sender<Report>;

/// One of the known providers.
#[derive(Debug)]
pub(crate) enum Provider {
    /// Child processes.
    Process(process::Process),
    /// Addresses that others look after.
    Fixed(fixed::Fixed),
}

impl Provider {
    /// Starts a replica. `Started` or `Lost` is reported, and after `Started` in the end `Lost`.
    pub(crate) fn start(&mut self, id: ReplicaId, hostname: Hostname, reports: Reports) -> Keeper {
        let (stop, stopped) = oneshot::channel();
        let keeper = Keeper { hostname: hostname.clone(), stop };
        match self {
            Provider::Process(process) => process.start(id, hostname, reports, stopped),
            Provider::Fixed(fixed) => fixed.start(id, &hostname, reports),
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
