//! Where replicas come from.
//!
//! A provider starts and stops what it is told to, and reports what it sees: that a replica was started, and that one
//! is gone. It never decides that one has to be replaced.

pub(crate) mod doors;
pub(crate) mod engine;
pub(crate) mod fixed;
pub(crate) mod process;

use std::net::SocketAddr;
use std::path::PathBuf;

use proto::control::Hostname;
use tokio::sync::{mpsc, oneshot};

use crate::fleet::{Assignment, ReplicaId, Seat, Stopping};

/// How one gets to a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) address: SocketAddr,
    /// Where it takes connections over, if it was asked to.
    pub(crate) door: Option<PathBuf>,
}

/// What a provider sees.
#[derive(Debug)]
pub(crate) enum Report {
    /// The replica has been started; it listens, or soon will, where this says.
    Started(ReplicaId, Reach),
    /// It could not be started, or has ended; with the reason.
    Lost(ReplicaId, String),
    /// It could not even be tried to start it, for reasons that are not its own.
    Hindered(ReplicaId, String),
}

/// Where providers report; bounded, so that whoever reports too much waits.
pub(crate) type Reports = mpsc::Sender<Report>;

/// One of the known providers.
#[derive(Debug)]
pub(crate) enum Provider {
    /// Child processes.
    Process(process::Process),
    /// Containers.
    Docker(engine::docker::Docker),
    /// Addresses that others look after.
    Fixed(fixed::Fixed),
}

impl Provider {
    /// Starts a replica. `Started`, `Lost` or `Hindered` is reported, and after `Started` in the end `Lost`.
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

    /// Whether the replicas know the hostname that they run under.
    pub(crate) fn names_replicas(&self) -> bool {
        !matches!(self, Provider::Fixed(_))
    }

    /// Whether the network of a replica goes with it, so that its connections may never hear of its end.
    pub(crate) fn takes_the_network_along(&self) -> bool {
        matches!(self, Provider::Docker(_))
    }

    /// Writes down who sits where, for the next start; only where replicas outlive this program.
    pub(crate) fn remember(&self, seats: Vec<Seat>) {
        if let Provider::Docker(docker) = self {
            docker.remember(seats);
        }
    }

    /// Completes when all that was to be remembered is written, or it has taken too long.
    pub(crate) fn written(&self) -> impl Future<Output = ()> + Send + use<> {
        let written = if let Provider::Docker(docker) = self { Some(docker.written()) } else { None };
        async {
            if let Some(written) = written {
                written.await;
            }
        }
    }

    /// Completes when somebody else has the right to these replicas: nothing may be done to them any more.
    pub(crate) async fn lost(&self) {
        match self {
            Provider::Docker(docker) => docker.lost().await,
            Provider::Process(_) | Provider::Fixed(_) => std::future::pending().await,
        }
    }

    /// Waits until every replica that was told to stop has ended, and puts everything away.
    pub(crate) async fn stopped(self) {
        match self {
            Provider::Process(process) => process.stopped().await,
            Provider::Docker(docker) => docker.stopped().await,
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
