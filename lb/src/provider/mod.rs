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

use proto::control::{Hostname, Weight};
use tokio::sync::{mpsc, oneshot};

use crate::ring::Member;

/// One running server; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ReplicaId(pub(crate) u64);

/// A slot's stable identity: what the ring hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotId {
    pub(crate) index: u32,
    pub(crate) name: Hostname,
}

impl SlotId {
    /// The slot as a mapping sees it.
    pub(crate) fn member(&self, weight: Weight) -> Member {
        Member { index: self.index, name: self.name.to_string(), weight: weight.get() }
    }
}

impl Seat {
    /// The slot as a mapping sees it.
    pub(crate) fn member(&self) -> Member {
        self.slot.member(self.weight)
    }
}

/// What a new replica is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) hostname: Hostname,
    /// The slot it is started for; a spare has none.
    pub(crate) slot: Option<SlotId>,
    /// Whether somebody waits for it, and has to be told soon if it cannot be had. Else it may wait until it can.
    pub(crate) is_urgent: bool,
}

/// A slot, what share of the keys it gets, and the hostname of the replica in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) slot: SlotId,
    pub(crate) weight: Weight,
    pub(crate) hostname: Hostname,
}

/// How a replica is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopping {
    /// It is asked to end, and made to after a while.
    Gently,
    /// It does not listen any more.
    AtOnce,
    /// It is not: it goes on without us, where it can.
    Release,
}

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
    pub(crate) fn remember(&self, seats: impl FnOnce() -> Vec<Seat>) {
        if let Provider::Docker(docker) = self {
            docker.remember(seats());
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

    /// What is to be remembered is what was until now: the rest is the end.
    pub(crate) fn close_record(&mut self) {
        if let Provider::Docker(docker) = self {
            docker.close_record();
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
