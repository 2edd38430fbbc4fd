//! Replicas as services of a Docker Swarm: one service with one task for each hostname, called `FLEET-HOSTNAME`.
//!
//! Swarm places, starts and restarts tasks. What the `lb`s of a fleet agree on is the config object `lb.FLEET`; they are all equal, and
//! none talks to another. An `lb` touches only services with the label of its fleet, and removes only those that the roster in that
//! object says are leaving, or that no roster has named for long.
//!
//! Decisions, which are pure:
//!
//! - [`config`]: the labels of the config object;
//! - [`tasks`]: which task of a service is the replica;
//! - [`duty`]: what to do about a service;
//! - [`fleet::pace`]: when to ask for what;
//! - [`overlay`]: the subnet of a new network.
//!
//! What carries them out:
//!
//! - [`api`] and [`raw`]: the calls, each with a deadline;
//! - [`service`]: how a replica becomes a service, and [`secret`], which secrets it gets;
//! - [`register`]: follows and changes the config object;
//! - [`watcher`], [`board`]: what is seen of the Swarm;
//! - [`keeper`]: follows one service; [`tidy`] puts them right; [`removal`] removes the whole fleet;
//! - [`site`]: what all of these share.

mod api;
mod board;
mod config;
mod duty;
pub(crate) mod inspect;
mod keeper;
mod overlay;
mod raw;
mod register;
pub(crate) mod removal;
mod secret;
pub(crate) mod service;
mod site;
mod tasks;
mod tidy;
mod watcher;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet::{Assignment, Epoch, ReplicaId, Roster, Seat, Stopping};
use mapping::{Mapping, Member};
use proto::control::Hostname;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use api::{Manager, Membership};
use register::Register;
use site::{Site, ensure_overlay};

use super::call::{LOCAL, Trouble};
use super::dress::Common;
use crate::provider::{Report, Reports};

/// How long the start of `lb` waits for a Swarm without a leader.
const ELECTION: Duration = Duration::from_secs(60);
/// The pause between two attempts.
const AGAIN: Duration = Duration::from_secs(1);

/// How the services of a fleet are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What does not depend on the engine.
    pub common: Common,
    /// Where tasks may be placed (`docker service create --constraint`).
    pub constraints: Vec<String>,
    /// The names of the secrets that each gets as files.
    pub secrets: Vec<String>,
    /// The processor time that each may use, in billionths of a core.
    pub cpus: Option<i64>,
}

/// The provider of services: it follows one fleet.
pub(crate) struct Swarm {
    site: Arc<Site>,
    watching: Vec<AbortOnDropHandle<()>>,
}

impl std::fmt::Debug for Swarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Swarm").field("settings", &self.site.settings).finish_non_exhaustive()
    }
}

impl Swarm {
    /// Joins the fleet, or founds it with this roster; returns the roster that holds.
    ///
    /// # Errors
    /// The engine is no manager of a Swarm, the config object is not one that this `lb` can follow, or the slots do not fit the mapping.
    pub(crate) async fn open(settings: Settings, beginning: Roster) -> anyhow::Result<(Self, Epoch, Roster)> {
        let host = settings.common.host.as_deref().unwrap_or(LOCAL);
        let (manager, network, register, is_new) =
            reach(host, &settings, &beginning).await.with_context(|| format!("--provider swarm: {host}"))?;
        let record = register.record();
        let (epoch, roster) = (record.epoch, record.roster.clone());
        let members: Vec<Member> = roster.seats.iter().map(Seat::member).collect();
        Mapping::build(&roster.mapping.scheme, &members)
            .context("the mapping has no room for the slots of the fleet")?;
        if !is_new {
            info!(epoch = epoch.0, slots = members.len(), "the fleet is followed as it is");
        }
        let site = Arc::new(Site::new(manager, settings, register, network));
        Ok((Swarm { site, watching: Vec::new() }, epoch, roster))
    }

    /// Reports changes of the roster from now on.
    pub(crate) fn follow(&mut self, reports: Reports) {
        self.site.register.tell(reports);
        let watching = [
            tokio::spawn(watcher::listen(Arc::clone(&self.site))),
            tokio::spawn(watcher::look(Arc::clone(&self.site))),
        ];
        self.watching = watching.map(AbortOnDropHandle::new).into();
    }

    pub(crate) fn start(
        &self,
        id: ReplicaId,
        assignment: Assignment,
        reports: Reports,
        stop: oneshot::Receiver<Stopping>,
    ) {
        tokio::spawn(keeper::keep(Arc::clone(&self.site), (id, assignment), reports, stop));
    }

    pub(crate) fn propose(&self, epoch: Epoch, roster: Roster, reports: Reports) {
        let site = Arc::clone(&self.site);
        tokio::spawn(async move {
            site.register.propose(epoch, roster, &reports).await;
        });
    }

    pub(crate) fn remove(&self, epoch: Epoch, hostname: Hostname, reports: Reports) {
        let site = Arc::clone(&self.site);
        tokio::spawn(async move {
            tidy::remove(&site, epoch, &hostname).await;
            // It fails only while `lb` ends.
            let _ = reports.send(Report::Removed(hostname)).await;
        });
    }

    /// Leaves the services to other `lb`s of the fleet, and to the next one.
    pub(crate) fn leave(self) {
        let Common { fleet, network, .. } = &self.site.settings.common;
        info!(
            fleet,
            network, "the replicas go on; `lb fleet rm` with this --fleet and --network removes them"
        );
    }

    /// Completes when the fleet is over for this `lb`; why.
    pub(crate) async fn over(&self) -> String {
        self.site.register.over().await
    }
}

/// Connects to a manager, creates network and config object if they are missing. Waits while the Swarm has no leader.
async fn reach(
    host: &str,
    settings: &Settings,
    beginning: &Roster,
) -> anyhow::Result<(Manager, String, Register, bool)> {
    let begun = Instant::now();
    loop {
        match try_reach(host, settings, beginning.clone()).await {
            Err(error) if begun.elapsed() < ELECTION && may_pass(&error) => {
                warn!(error = %format!("{error:#}"), "the Swarm does not answer yet");
                sleep(AGAIN).await;
            }
            reached => return reached,
        }
    }
}

/// Whether a manager may answer otherwise soon: it has no leader.
fn may_pass(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(|trouble: &Trouble| {
        matches!(trouble, Trouble::Late { .. }) || trouble.is(500) || trouble.is(503)
    })
}

async fn try_reach(
    host: &str,
    settings: &Settings,
    beginning: Roster,
) -> anyhow::Result<(Manager, String, Register, bool)> {
    let manager = manager(Some(host)).await?;
    manager.secrets(&settings.secrets).await??;
    let network = ensure_overlay(&manager, &settings.common.network).await?;
    let (register, is_new) = Register::open(manager.clone(), &settings.common.fleet, beginning).await?;
    Ok((manager, network, register, is_new))
}

/// Connects to the manager at `host` (as in `DOCKER_HOST`; `None` for the local engine).
async fn manager(host: Option<&str>) -> anyhow::Result<Manager> {
    let manager = Manager::connect(host.unwrap_or(LOCAL)).await?;
    match manager.membership().await? {
        Membership::Manager => Ok(manager),
        Membership::Worker => bail!("the engine is a worker of its Swarm: lb needs the engine of a manager"),
        Membership::None => bail!("the engine is in no Swarm: `docker swarm init` makes one"),
    }
}
