//! Providers: where replicas come from.
//!
//! A provider starts and stops replicas as it is told to, and reports that a replica has started or ended. It never decides that
//! a replica has to be replaced.

pub(crate) mod doors;
pub(crate) mod engine;
pub(crate) mod fixed;
mod proc;
pub(crate) mod process;

use std::path::PathBuf;

use proto::control::Hostname;
use tokio::sync::{mpsc, oneshot};

use crate::fleet::{Assignment, ReplicaId, Seat, Stopping};
use crate::net::Addresses;

/// The addresses of a replica, its door, and who can say more about it.
pub(crate) struct Reach {
    pub(crate) addresses: Addresses,
    /// The path at which it takes connections over; `None` if it was not told to.
    pub(crate) door: Option<PathBuf>,
    pub(crate) inspector: Inspector,
}

/// What only its provider can tell about a running replica. To ask takes time, so it is asked only while the replica is in doubt.
pub(crate) enum Inspector {
    Process(process::inspect::Inspector),
    Container(engine::docker::inspect::Inspector),
    Fixed(fixed::Inspector),
}

impl From<process::inspect::Inspector> for Inspector {
    fn from(inspector: process::inspect::Inspector) -> Self {
        Inspector::Process(inspector)
    }
}

impl From<engine::docker::inspect::Inspector> for Inspector {
    fn from(inspector: engine::docker::inspect::Inspector) -> Self {
        Inspector::Container(inspector)
    }
}

impl Inspector {
    /// Whether the replica is stopped (SIGSTOP, a paused container), so that it cannot answer, and not merely busy. False where that
    /// is not known.
    pub(crate) async fn is_stopped(&self) -> bool {
        match self {
            Inspector::Process(process) => process.is_stopped().await,
            Inspector::Container(container) => container.is_stopped().await,
            Inspector::Fixed(_) => false,
        }
    }

    /// Checks that what listens at the replica's address is the replica itself, where that can be known.
    ///
    /// # Errors
    /// It is another process; which one.
    pub(crate) async fn check_owner(&self) -> Result<(), String> {
        match self {
            Inspector::Process(process) => process.check_owner().await,
            // A container has an address of its own, and a fixed server is what listens there.
            Inspector::Container(_) | Inspector::Fixed(_) => Ok(()),
        }
    }

    /// The addresses that the name of the replica has now; `None` if it has none, or no name.
    pub(crate) async fn look_up(&self) -> Option<Addresses> {
        match self {
            Inspector::Fixed(fixed) => fixed.look_up().await,
            Inspector::Process(_) | Inspector::Container(_) => None,
        }
    }
}

/// What a provider reports about a replica.
pub(crate) enum Report {
    /// It has been started; it listens there, or soon will.
    Started(ReplicaId, Reach),
    /// It could not be started, or has ended, for this reason.
    Lost(ReplicaId, String),
    /// It could not be started for a reason that lies in the provider, not in the replica.
    Hindered(ReplicaId, String),
}

/// The channel for reports. It is bounded: a provider that reports too fast waits.
pub(crate) type Reports = mpsc::Sender<Report>;

/// One of the providers.
#[derive(Debug)]
pub(crate) enum Provider {
    /// Child processes.
    Process(process::Process),
    /// Containers.
    Docker(engine::docker::Docker),
    /// Servers at fixed addresses.
    Fixed(fixed::Fixed),
}

impl Provider {
    /// Starts a replica, and reports `Started`, `Lost` or `Hindered`. `Started` is followed by `Lost` at the end of the replica.
    pub(crate) fn start(&mut self, id: ReplicaId, assignment: Assignment, reports: Reports) -> Keeper {
        let (stop, stopped) = oneshot::channel();
        let keeper = Keeper { hostname: assignment.hostname.clone(), stop };
        match self {
            Provider::Process(process) => process.start(id, assignment.hostname, reports, stopped),
            Provider::Docker(docker) => docker.start(id, assignment, reports, stopped),
            Provider::Fixed(fixed) => fixed.start(id, &assignment.hostname, reports),
        }
        keeper
    }

    /// Whether the replicas know their hostname.
    pub(crate) fn names_replicas(&self) -> bool {
        !matches!(self, Provider::Fixed(_))
    }

    /// Whether the network of a replica ends with it. Then its connections may not be told of its end.
    pub(crate) fn takes_the_network_along(&self) -> bool {
        matches!(self, Provider::Docker(_))
    }

    /// Persists these seats for the next start. Only containers outlive this program.
    pub(crate) fn remember(&self, seats: Vec<Seat>) {
        if let Provider::Docker(docker) = self {
            docker.remember(seats);
        }
    }

    /// Completes when the record is written, or after three seconds.
    pub(crate) fn written(&self) -> impl Future<Output = ()> + Send + use<> {
        let written = if let Provider::Docker(docker) = self { Some(docker.written()) } else { None };
        async {
            if let Some(written) = written {
                written.await;
            }
        }
    }

    /// Completes when another `lb` holds these replicas. This one must not touch them any more.
    pub(crate) async fn lost(&self) {
        match self {
            Provider::Docker(docker) => docker.lost().await,
            Provider::Process(_) | Provider::Fixed(_) => std::future::pending().await,
        }
    }

    /// Waits until every replica that was told to stop has ended, then cleans up.
    pub(crate) async fn stopped(self) {
        match self {
            Provider::Process(process) => process.stopped().await,
            Provider::Docker(docker) => docker.stopped().await,
            Provider::Fixed(_) => {}
        }
    }
}

/// The handle of a started replica. Dropping it stops the replica at once.
#[derive(Debug)]
pub(crate) struct Keeper {
    hostname: Hostname,
    stop: oneshot::Sender<Stopping>,
}

impl Keeper {
    /// The hostname of the replica.
    pub(crate) fn hostname(&self) -> &Hostname {
        &self.hostname
    }

    /// Stops the replica.
    pub(crate) fn stop(self, how: Stopping) {
        // It fails if the replica has already ended, or has a fixed address.
        let _ = self.stop.send(how);
    }
}
