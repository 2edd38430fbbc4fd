//! Replicas as containers, through the engine's API.
//!
//! Every container carries the label of its fleet, and a nonce. A container without that label, or with one that it has only
//! inherited from its image, is never touched. A container is known by its id, which cannot change; its name can. Names are checked
//! before they get here ([`proto::control::Hostname`], the configuration), because some of them become part of a path.
//!
//! - [`api`]: the calls;
//! - [`container`]: how a replica becomes a container;
//! - [`keeper`]: the life of one container;
//! - [`ending`], [`events`] and [`main_process`]: how `lb` notices that a container has ended;
//! - [`writer`]: the record of the fleet, in volumes;
//! - [`site`]: what all of these share.

mod api;
mod container;
mod ending;
mod events;
pub(crate) mod inspect;
mod keeper;
mod main_process;
mod site;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet::{Assignment, ReplicaId, Seat};
use mapping::{Mapping, Member, Scheme};
use proto::control::Hostname;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{info, warn};

use api::Engine;
use container::Listed;
use events::Watcher;
use site::{Known, Origins, Site, ensure_network, list};
use writer::{Record, Writer, WriterHandle};

use super::call::LOCAL;
use super::claim::{Fate, Remains, Tenure};
use super::dress::Common;
use super::takeover::{Takeover, beginning};
use crate::provider::doors::Doors;
use crate::provider::{Reports, Wishes};

/// How the containers of a fleet are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What does not depend on the engine.
    pub common: Common,
    /// Whether they stay when this program ends.
    pub keep: bool,
    /// The volume that holds the folder of their doors; `None` if it is a folder of the engine's machine.
    pub volume: Option<String>,
}

/// The fleet that was taken over, or a new one.
pub(crate) struct Found {
    /// The slots, by index, with the hostnames of their replicas.
    pub(crate) seats: Vec<Seat>,
    /// The hostnames of the spares.
    pub(crate) spares: Vec<Hostname>,
}

/// A fleet that an `lb` leaves to this process.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) tenure: Tenure,
    pub(crate) seats: Vec<Seat>,
    pub(crate) leaving: Leaving,
}

/// Replicas that the `lb` before this one stops when their connections have ended.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    pub(crate) hostnames: Vec<Hostname>,
    /// What is left of them then is removed.
    pub(crate) limit: Duration,
}

impl Leaving {
    /// Leaves their containers alone until they are gone, or until the limit.
    fn exempt(&self, site: &Arc<Site>, alive: &[Listed]) -> JoinSet<()> {
        let mut exempt = JoinSet::new();
        let is_leaving = |found: &&Listed| {
            found.identity.hostname.as_ref().is_some_and(|name| self.hostnames.contains(name))
        };
        for found in alive.iter().filter(is_leaving) {
            if let Some(known) = site.know(&found.id) {
                exempt.spawn(keeper::exempt(Arc::clone(site), known, found.id.clone(), self.limit));
            }
        }
        exempt
    }
}

/// The provider of containers: it holds one fleet.
pub(crate) struct Docker {
    site: Arc<Site>,
    /// Running containers that are taken over, by hostname, until the fleet starts a replica of that name.
    adopted: HashMap<Hostname, (Listed, Known)>,
    keepers: TaskTracker,
    /// Looks after the containers that the `lb` before this one stops.
    exempt: JoinSet<()>,
    watching: [AbortOnDropHandle<()>; 2],
    record: WriterHandle,
    writer: JoinHandle<()>,
}

impl std::fmt::Debug for Docker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Docker").field("settings", &self.site.settings).finish_non_exhaustive()
    }
}

impl Docker {
    /// Claims the fleet, or goes on for the `lb` `before`, and takes its running containers over. A new fleet begins with slots of these
    /// `names`. At most `spares` spares are taken over.
    ///
    /// # Errors
    /// There is no engine or no image, another `lb` holds the fleet, or its slots do not fit the mapping `scheme`. No container
    /// has been touched then.
    pub(crate) async fn open(
        settings: Settings,
        doors: Option<Doors>,
        (names, spares): (&[Hostname], usize),
        scheme: &Scheme,
        before: Option<Inheritance>,
    ) -> anyhow::Result<(Self, Found)> {
        let Survey { engine, alive, foreign, remains } = survey(&settings).await?;
        let record = Record::new(engine.clone(), settings.common.fleet.clone());
        let is_lent = before.is_some();
        let ((writer, record), leaving) = match before {
            Some(Inheritance { tenure, seats, leaving }) => {
                (Writer::succeed(record, tenure, seats).await?, leaving)
            }
            None => {
                let beginning = beginning(alive.iter().map(|container| &container.identity), names);
                (Writer::claim(record, beginning, remains).await?, Leaving::default())
            }
        };
        let (seats, is_new) = (writer.seats().to_vec(), writer.is_new());
        let doubts = Arc::new(Notify::new());
        let writer = tokio::spawn(writer.run(Arc::clone(&doubts)));
        let network = match prepare(&engine, &settings, scheme, &seats).await {
            Ok(network) => network,
            // It is not this process's to release.
            Err(error) if is_lent => return Err(error),
            Err(error) => {
                record.conclude(if is_new { Fate::Erase } else { Fate::Release });
                writer.await?;
                return Err(error);
            }
        };
        let site = Arc::new(Site::new(engine, settings, doors, (record.standing(), network)));
        foreign.iter().for_each(|container| site.leave_alone(container));
        let exempt = leaving.exempt(&site, &alive);
        let (adopted, spares) = adopt(&site, alive, &seats, spares);
        if !adopted.is_empty() {
            info!(containers = adopted.len(), slots = seats.len(), "the fleet is taken over as it is");
        }
        let watching = watch(&site, doubts);
        let keepers = TaskTracker::new();
        Ok((Docker { site, adopted, keepers, exempt, watching, record, writer }, Found { seats, spares }))
    }

    pub(in crate::provider) fn start(
        &mut self,
        id: ReplicaId,
        assignment: Assignment,
        reports: Reports,
        wishes: Wishes,
    ) {
        let found = self.adopted.remove(&assignment.hostname);
        let site = Arc::clone(&self.site);
        self.keepers.spawn(keeper::keep(site, (id, assignment), found, reports, wishes));
    }

    pub(crate) fn remember(&self, seats: Vec<Seat>) {
        self.record.write(seats);
    }

    pub(crate) fn written(&self) -> impl Future<Output = ()> + Send + use<> {
        self.record.written()
    }

    /// Leaves the fleet to a successor of this program; completes with what that needs for it.
    pub(crate) fn lend(&self) -> impl Future<Output = Option<Tenure>> + Send + use<> {
        self.record.lend()
    }

    /// The successor has failed.
    pub(crate) fn take_back(&self) {
        self.record.take_back();
    }

    pub(crate) async fn lost(&self) {
        self.site.lost().await;
    }

    /// Waits until every container that was told to stop is gone. Then removes record and network, or releases the record if
    /// containers are left. What a successor has is left as it is.
    pub(crate) async fn stopped(self) {
        self.keepers.close();
        self.keepers.wait().await;
        drop((self.watching, self.exempt));
        self.site.sweeps.close();
        self.site.sweeps.wait().await;
        // The writer ends with its handle, and leaves the record as it is.
        if self.site.is_lent() {
            return;
        }
        let is_over = !self.site.settings.keep && is_empty(&self.site).await;
        // Not earlier: until here another lb may claim the fleet, and needs an answer.
        self.record.conclude(if is_over { Fate::Erase } else { Fate::Release });
        let is_concluded = self.writer.await.is_ok();
        if is_over && is_concluded && self.site.is_held() {
            remove_network(&self.site).await;
        }
    }
}

/// Begins to follow what happens to containers.
fn watch(site: &Arc<Site>, doubts: Arc<Notify>) -> [AbortOnDropHandle<()>; 2] {
    let watcher = Arc::new(Watcher { site: Arc::clone(site), doubts });
    let listening = Arc::clone(&watcher);
    [tokio::spawn(async move { listening.listen().await }), tokio::spawn(async move { watcher.look().await })]
        .map(AbortOnDropHandle::new)
}

/// What there is before the fleet is claimed.
struct Survey {
    engine: Engine,
    /// The running containers of the fleet.
    alive: Vec<Listed>,
    /// Containers that only look like some of the fleet.
    foreign: Vec<Listed>,
    remains: Remains,
}

/// Connects to the engine, and looks for what remains of the fleet.
async fn survey(settings: &Settings) -> anyhow::Result<Survey> {
    let host = settings.common.host.as_deref().unwrap_or(LOCAL);
    let engine = Engine::connect(host).await.with_context(|| format!("--provider docker: {host}"))?;
    let has_image = engine.has_image(&settings.common.image).await?;
    // Without a network, no container has an address in it.
    let network =
        engine.network(&settings.common.network).await?.map(|network| network.id).unwrap_or_default();
    let (mut own, mut foreign, mut origins) = (Vec::new(), Vec::new(), Origins::default());
    for container in list(&engine, settings, &network).await? {
        let is_own = origins.is_own(&engine, &container, settings).await?;
        if is_own { &mut own } else { &mut foreign }.push(container);
    }
    let is_empty = own.is_empty();
    let alive: Vec<Listed> = own.into_iter().filter(Listed::is_alive).collect();
    let remains = match (is_empty, alive.is_empty()) {
        (true, _) => Remains::Nothing,
        (_, true) => Remains::Dead,
        (_, false) => Remains::Alive,
    };
    if !has_image && alive.is_empty() {
        bail!(
            "the engine has no image {} (--image); lb does not pull images: build or pull it first",
            settings.common.image
        );
    }
    Ok(Survey { engine, alive, foreign, remains })
}

/// Checks that the mapping has room for the slots, and creates the network of the fleet; returns its id.
async fn prepare(
    engine: &Engine,
    settings: &Settings,
    scheme: &Scheme,
    seats: &[Seat],
) -> anyhow::Result<String> {
    let members: Vec<Member> = seats.iter().map(Seat::member).collect();
    Mapping::build(scheme, &members).context(
        "the mapping has no room for the slots of the fleet; choose another one (--mapping, --points, --slots)",
    )?;
    Ok(ensure_network(engine, &settings.common.network).await?)
}

/// Removes the remaining containers of the fleet; returns whether all are gone.
async fn is_empty(site: &Arc<Site>) -> bool {
    const LEFT: &str = "containers may be left, for the next lb of this fleet to find";
    match site.clear().await {
        Ok(true) => return true,
        Ok(false) => warn!("{LEFT}"),
        Err(trouble) => warn!(error = %trouble, "{LEFT}"),
    }
    false
}

/// Removes the network if an `lb` has made it and no other container uses it.
async fn remove_network(site: &Site) {
    if let Ok(Some(network)) = site.engine.network(&site.settings.common.network).await
        && network.is_made_by_lb
    {
        // The engine refuses while a container is in it.
        let _ = site.engine.remove_network(&network.id).await;
    }
}

/// The containers that are taken over, by hostname, and the hostnames of the spares among them.
fn adopt(
    site: &Arc<Site>,
    alive: Vec<Listed>,
    seats: &[Seat],
    spares: usize,
) -> (HashMap<Hostname, (Listed, Known)>, Vec<Hostname>) {
    let (mut adopted, mut takeover) = (HashMap::new(), Takeover::new(seats, spares));
    for container in alive.into_iter().filter(|container| container.address.is_some()) {
        let Some(hostname) = takeover.take(&container.identity) else { continue };
        let Some(known) = site.know(&container.id) else { continue };
        adopted.insert(hostname, (container, known));
    }
    (adopted, takeover.spares())
}
