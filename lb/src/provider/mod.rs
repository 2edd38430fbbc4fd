//! Providers: where replicas come from.
//!
//! A provider starts and stops replicas as it is told to, and reports that a replica has started or ended. It never decides that
//! a replica has to be replaced.
//!
//! Where several `lb`s serve one fleet, its provider also keeps the roster that they share ([`fleet::Roster`]): it replaces it as it is told
//! to ([`Provider::propose`]), and reports every change of it, its own and those of other `lb`s ([`Report::Adopted`]).

pub(crate) mod dns;
pub(crate) mod doors;
pub(crate) mod engine;
pub(crate) mod fixed;
mod keeper;
mod named;
mod proc;
pub(crate) mod process;

use std::path::PathBuf;

use fleet::{Assignment, Epoch, Rejection, ReplicaId, Roster, Seat};
use proto::control::{Hostname, Resolutions};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::net::Addresses;
use crate::resolver::Followed;

pub(crate) use dns::SeatingPlan;
pub(crate) use engine::claim::Tenure;
pub(crate) use engine::docker::{Inheritance, Leaving};
use keeper::Wishes;
pub(crate) use keeper::{Keeper, Killed};

/// The addresses of a replica, its door, and who can say more about it.
pub(crate) struct Reach {
    pub(crate) addresses: Addresses,
    /// The path at which it takes connections over; `None` if it was not told to.
    pub(crate) door: Option<PathBuf>,
    /// `None` where that is not known.
    pub(crate) carrier: Option<Carrier>,
    pub(crate) inspector: Inspector,
}

/// What a replica runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// The process with this id.
    Process(u32),
    /// The container with this id.
    Container(String),
    /// A task of something that runs it on one of several machines.
    Task(Task),
}

/// What runs a replica on one of several machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) id: String,
    /// The name of the machine.
    pub(crate) node: String,
}

/// What only its provider can tell about a running replica. To ask takes time, so it is asked only while the replica is in doubt.
pub(crate) enum Inspector {
    Process(process::inspect::Inspector),
    Container(engine::docker::inspect::Inspector),
    Service(engine::swarm::inspect::Inspector),
    /// A server that has a name, or only an address.
    Named(Followed),
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

impl From<engine::swarm::inspect::Inspector> for Inspector {
    fn from(inspector: engine::swarm::inspect::Inspector) -> Self {
        Inspector::Service(inspector)
    }
}

impl Inspector {
    /// A probe has failed. The provider may look sooner whether the replica has ended. It never waits.
    pub(crate) fn doubt(&self) {
        match self {
            Inspector::Service(service) => service.doubt(),
            // Their providers learn of an end at once, or never.
            Inspector::Process(_) | Inspector::Container(_) | Inspector::Named(_) => {}
        }
    }

    /// Whether the replica is stopped (SIGSTOP, a paused container), so that it cannot answer, and not merely busy. False where that
    /// is not known.
    pub(crate) async fn is_stopped(&self) -> bool {
        match self {
            Inspector::Process(process) => process.is_stopped().await,
            Inspector::Container(container) => container.is_stopped().await,
            // Only the engine of its node could say so.
            Inspector::Service(_) | Inspector::Named(_) => false,
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
            Inspector::Container(_) | Inspector::Service(_) | Inspector::Named(_) => Ok(()),
        }
    }

    /// Waits until the name of the replica has other addresses; for ever if it has no name.
    pub(crate) async fn moved(&mut self) -> Addresses {
        match self {
            Inspector::Named(name) => name.moved().await,
            Inspector::Process(_) | Inspector::Container(_) | Inspector::Service(_) => {
                std::future::pending().await
            }
        }
    }

    /// Asks soon for the addresses that the name of the replica has now.
    pub(crate) fn ask_soon(&self) {
        if let Inspector::Named(name) = self {
            name.ask_soon();
        }
    }
}

/// What a provider reports about a replica, or about the roster.
pub(crate) enum Report {
    /// It has been started; it listens there, or soon will.
    Started(ReplicaId, Reach),
    /// It could not be started, or has ended, for this reason.
    Lost(ReplicaId, String),
    /// It could not be started for a reason that lies in the provider, not in the replica.
    Hindered(ReplicaId, String),
    /// It waits to be started elsewhere, for this reason.
    Waits(ReplicaId, String),
    /// The roster is this one now. Some in between may be skipped, but none comes after a later one.
    Adopted(Epoch, Roster),
    /// What became of the proposal. A [`Rejection::Stale`] follows the roster that was there first.
    Proposed(Result<Epoch, Rejection>),
    /// Nothing is left of the replica of this name.
    Removed(Hostname),
}

/// What a successor needs of a provider, beside the roster.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Lent {
    /// To hold a fleet of containers.
    #[serde(default)]
    pub(crate) tenure: Option<Tenure>,
    /// To seat the servers of a name.
    #[serde(default)]
    pub(crate) seating: SeatingPlan,
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
    /// Services of a Swarm.
    Swarm(engine::swarm::Swarm),
    /// Servers at fixed addresses.
    Fixed(fixed::Fixed),
    /// The servers that a name leads to.
    Dns(dns::Dns),
}

impl Provider {
    /// Starts a replica, and reports `Started`, `Lost` or `Hindered`. `Started` is followed by `Lost` at the end of the replica.
    pub(crate) fn start(&mut self, id: ReplicaId, assignment: Assignment, reports: Reports) -> Keeper {
        let (keeper, wishes) = Keeper::new(assignment.hostname.clone());
        match self {
            Provider::Process(process) => process.start(id, assignment.hostname, reports, wishes),
            Provider::Docker(docker) => docker.start(id, assignment, reports, wishes),
            Provider::Swarm(swarm) => swarm.start(id, assignment, reports, wishes.stop),
            Provider::Fixed(fixed) => fixed.start(id, assignment, reports),
            Provider::Dns(dns) => dns.start(id, &assignment.hostname, reports),
        }
        keeper
    }

    /// Begins to report the roster, where others than this `lb` decide about it. Call it once, before the first start.
    pub(crate) fn begin(&mut self, reports: Reports) {
        match self {
            Provider::Swarm(swarm) => swarm.follow(reports),
            Provider::Dns(dns) => dns.begin(reports),
            Provider::Process(_) | Provider::Docker(_) | Provider::Fixed(_) => {}
        }
    }

    /// Replaces the roster of this epoch, and reports `Proposed` within 5 s. There is one proposal at a time.
    pub(crate) fn propose(&mut self, epoch: Epoch, roster: Roster, reports: Reports) {
        match self {
            Provider::Swarm(swarm) => swarm.propose(epoch, roster, reports),
            Provider::Process(_) | Provider::Docker(_) | Provider::Fixed(_) | Provider::Dns(_) => {
                let refusal = Rejection::Failed("this provider shares no roster".to_owned());
                tokio::spawn(async move { reports.send(Report::Proposed(Err(refusal))).await });
            }
        }
    }

    /// Removes the replica of this name, which is leaving in this epoch. This or another `lb` may have started it. One that was created
    /// for a later epoch is another, and stays. Reports `Removed` when nothing of it is left, and tries until then.
    pub(crate) fn remove(&mut self, (epoch, hostname): (Epoch, Hostname), reports: Reports) {
        match self {
            Provider::Swarm(swarm) => swarm.remove(epoch, hostname, reports),
            // Only this `lb` has started replicas, and each is stopped by its keeper.
            Provider::Process(_) | Provider::Docker(_) | Provider::Fixed(_) | Provider::Dns(_) => {}
        }
    }

    /// Whether it alone says which slots there are: no command changes them.
    pub(crate) fn brings_slots(&self) -> bool {
        matches!(self, Provider::Dns(_))
    }

    /// Whether it can kill a replica ([`Keeper::kill`]).
    ///
    /// # Errors
    /// It cannot; why.
    pub(crate) fn can_kill(&self) -> Result<(), &'static str> {
        match self {
            Provider::Process(_) | Provider::Docker(_) => Ok(()),
            Provider::Swarm(_) => Err(
                "was started by the Swarm, and only the engine of its node can kill it: docker kill its container there",
            ),
            Provider::Fixed(_) | Provider::Dns(_) => Err("was not started by lb: end it where it runs"),
        }
    }

    /// Whether the replicas end with this process, or with their guardian.
    pub(crate) fn has_children(&self) -> bool {
        matches!(self, Provider::Process(_))
    }

    /// Whether the replicas know their hostname.
    pub(crate) fn names_replicas(&self) -> bool {
        !matches!(self, Provider::Fixed(_) | Provider::Dns(_))
    }

    /// Whether the network of a replica ends with it. Then its connections may not be told of its end.
    pub(crate) fn takes_the_network_along(&self) -> bool {
        matches!(self, Provider::Docker(_) | Provider::Swarm(_))
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

    /// Leaves the fleet to a successor of this program, until [`Provider::take_back`]. Completes with what that needs.
    ///
    /// # Errors
    /// Its record cannot be written now, or another `lb` holds it.
    pub(crate) fn lend(&self) -> impl Future<Output = Result<Lent, String>> + Send + use<> {
        let lent = if let Provider::Docker(docker) = self { Some(docker.lend()) } else { None };
        let seating = if let Provider::Dns(dns) = self { dns.seating() } else { SeatingPlan::new() };
        async {
            let Some(lent) = lent else { return Ok(Lent { tenure: None, seating }) };
            let tenure = lent
                .await
                .ok_or("the record of the fleet cannot be written now: expected an engine that answers")?;
            Ok(Lent { tenure: Some(tenure), seating })
        }
    }

    /// The successor has failed.
    pub(crate) fn take_back(&self) {
        if let Provider::Docker(docker) = self {
            docker.take_back();
        }
    }

    /// Whether the replicas were started by this program, and only it can stop them.
    pub(crate) fn owns_replicas(&self) -> bool {
        matches!(self, Provider::Process(_) | Provider::Docker(_))
    }

    /// How the questions to the DNS have ended, if there are names.
    pub(crate) fn resolutions(&self) -> Option<Resolutions> {
        match self {
            Provider::Fixed(fixed) => fixed.resolutions(),
            Provider::Dns(dns) => Some(dns.resolutions()),
            Provider::Process(_) | Provider::Docker(_) | Provider::Swarm(_) => None,
        }
    }

    /// Completes when the replicas are no longer those of this `lb`, which must not touch them any more; why.
    pub(crate) async fn lost(&self) -> String {
        match self {
            Provider::Docker(docker) => {
                docker.lost().await;
                "another lb has taken the fleet over".to_owned()
            }
            Provider::Swarm(swarm) => swarm.over().await,
            Provider::Process(_) | Provider::Fixed(_) | Provider::Dns(_) => std::future::pending().await,
        }
    }

    /// Waits until every replica that was told to stop has ended, then cleans up.
    pub(crate) async fn stopped(self) {
        match self {
            Provider::Process(process) => process.stopped().await,
            Provider::Docker(docker) => docker.stopped().await,
            Provider::Swarm(swarm) => swarm.leave(),
            Provider::Fixed(_) | Provider::Dns(_) => {}
        }
    }
}
