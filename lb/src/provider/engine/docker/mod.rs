//! Replicas as containers, through the engine's API.
//!
//! Every container carries the label of its fleet, and what does not is never touched. Names are checked before they
//! get here ([`proto::control::Hostname`], the configuration), for some of them end in paths.
//!
//! - [`container`]: what a container of ours looks like;
//! - [`keeper`]: the life of one of them;
//! - [`events`]: how its end is noticed, and [`main_process`]: how it is noticed sooner;
//! - [`record`]: who holds the fleet and what its slots are, so that the next `lb` can take it over as it is;
//! - [`site`]: what they share; [`api`]: the calls, each with a deadline.

mod api;
mod container;
mod events;
mod keeper;
mod main_process;
mod record;
mod site;

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use mapping::{Mapping, Member, Scheme};
use proto::control::{Hostname, Weight};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{info, warn};

use api::Engine;
use container::Listed;

use events::Ears;
use record::{Fate, Pen, Record, Remains, Writer};
use site::{Known, Site, ensure_network, list};

use crate::fleet::{Assignment, ReplicaId, Seat, SlotId, Stopping};
use crate::provider::Reports;
use crate::provider::doors::Doors;

/// What the containers of a fleet are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the engine is; `None` for the local one.
    pub host: Option<String>,
    /// What they run.
    pub image: String,
    /// Where they have their addresses.
    pub network: String,
    /// The label that makes them ours.
    pub fleet: String,
    /// Where they listen.
    pub port: u16,
    /// Bytes of memory that each may use.
    pub memory: Option<i64>,
    /// Processes and threads that each may have.
    pub pids: Option<i64>,
    /// Whether they stay when this program ends.
    pub keep: bool,
    /// The volume that holds the folder in which they listen for connections that are handed over; `None` if that is a folder
    /// of the engine's machine.
    pub volume: Option<String>,
}

/// The fleet as it was found, or as it is to begin.
pub(crate) struct Found {
    /// The slots, by index, with the hostnames of their replicas.
    pub(crate) seats: Vec<Seat>,
    /// The hostnames of the spares.
    pub(crate) spares: Vec<Hostname>,
}

/// Starts containers.
pub(crate) struct Docker {
    site: Arc<Site>,
    /// Containers that run already, by hostname, for whoever is to be started under that name.
    adoptable: HashMap<Hostname, (Listed, Known)>,
    keepers: TaskTracker,
    ears: [AbortOnDropHandle<()>; 2],
    pen: Pen,
    /// Whether what is to be remembered is what was until now.
    is_closed: bool,
    writer: JoinHandle<Record>,
}

impl std::fmt::Debug for Docker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Docker").field("settings", &self.site.settings).finish_non_exhaustive()
    }
}

impl Docker {
    /// Takes hold of the fleet, and finds out what there is of it. Where nothing is, it begins with slots of these
    /// `names`. At most so many `spares` are taken over.
    ///
    /// # Errors
    /// There is no engine, no image, another `lb` holds the fleet, or its slots do not fit the `algorithm`. Nothing has
    /// been touched then.
    pub(crate) async fn open(
        settings: Settings,
        doors: Option<Doors>,
        (names, spares): (&[Hostname], usize),
        scheme: &Scheme,
    ) -> anyhow::Result<(Self, Found)> {
        let host = settings.host.as_deref().unwrap_or(api::LOCAL);
        let engine = Engine::connect(host).await.with_context(|| format!("--provider docker: {host}"))?;
        let has_image = engine.has_image(&settings.image).await?;
        let containers = list(&engine, &settings).await?;
        let is_empty = containers.is_empty();
        let alive: Vec<Listed> = containers.into_iter().filter(Listed::is_alive).collect();
        let remains = match (is_empty, alive.is_empty()) {
            (true, _) => Remains::Nothing,
            (_, true) => Remains::Dead,
            (_, false) => Remains::Alive,
        };
        if !has_image && alive.is_empty() {
            bail!(
                "the engine has no image {} (--image); lb pulls none: build it, or pull it, first",
                settings.image
            );
        }
        let beginning = beginning(&alive, names);
        let record = record::claim(engine.clone(), settings.fleet.clone(), beginning, remains).await?;
        let (seats, is_new) = (record.seats().to_vec(), record.is_new());
        let doubts = Arc::new(Notify::new());
        let (writer, pen, held) = Writer::new(record);
        let writer = tokio::spawn(writer.run(Arc::clone(&doubts)));
        if let Err(error) = prepare(&engine, &settings, scheme, &seats).await {
            drop(pen);
            writer.await?.conclude(if is_new { Fate::Erase } else { Fate::Release }).await;
            return Err(error);
        }
        let site = Arc::new(Site::new(engine, settings, doors, held));
        let (adoptable, spares) = adoptable(&site, alive, &seats, spares);
        if !adoptable.is_empty() {
            info!(containers = adoptable.len(), slots = seats.len(), "the fleet is taken over as it is");
        }
        let ears = Arc::new(Ears { site: Arc::clone(&site), doubts });
        let listening = Arc::clone(&ears);
        let docker = Docker {
            site,
            adoptable,
            keepers: TaskTracker::new(),
            ears: [
                tokio::spawn(async move { listening.listen().await }),
                tokio::spawn(async move { ears.look().await }),
            ]
            .map(AbortOnDropHandle::new),
            pen,
            is_closed: false,
            writer,
        };
        Ok((docker, Found { seats, spares }))
    }

    pub(crate) fn start(
        &mut self,
        id: ReplicaId,
        assignment: Assignment,
        reports: Reports,
        stop: oneshot::Receiver<Stopping>,
    ) {
        let found = self.adoptable.remove(&assignment.hostname);
        let site = Arc::clone(&self.site);
        self.keepers.spawn(keeper::keep(site, (id, assignment), found, reports, stop));
    }

    pub(crate) fn remember(&self, seats: Vec<Seat>) {
        if !self.is_closed {
            self.pen.write(seats);
        }
    }

    pub(crate) fn close_record(&mut self) {
        self.is_closed = true;
    }

    pub(crate) fn written(&self) -> impl Future<Output = ()> + Send + use<> {
        self.pen.written()
    }

    pub(crate) async fn lost(&self) {
        self.site.lost().await;
    }

    /// Waits until every container that was told to stop is gone, and puts record and network away.
    pub(crate) async fn stopped(self) {
        self.keepers.close();
        self.keepers.wait().await;
        drop(self.ears);
        self.site.sweeps.close();
        self.site.sweeps.wait().await;
        let is_over = !self.site.settings.keep && is_empty(&self.site).await;
        // Only now: until here somebody else may want the fleet, and has to be answered.
        drop(self.pen);
        let Ok(record) = self.writer.await else { return };
        if !self.site.is_held() {
            return;
        }
        record.conclude(if is_over { Fate::Erase } else { Fate::Release }).await;
        if is_over {
            remove_network(&self.site).await;
        }
    }
}

/// Looks whether the fleet can live here, and makes its network.
async fn prepare(
    engine: &Engine,
    settings: &Settings,
    scheme: &Scheme,
    seats: &[Seat],
) -> anyhow::Result<()> {
    let members: Vec<Member> = seats.iter().map(Seat::member).collect();
    Mapping::build(scheme, &members).context(
        "the slots of the fleet as it was found do not fit; it takes another mapping (--mapping, --points, --slots)",
    )?;
    Ok(ensure_network(engine, &settings.network).await?)
}

/// Whether nothing is left of the fleet.
async fn is_empty(site: &Arc<Site>) -> bool {
    match site.containers().await {
        Ok(containers) => {
            site.sweep(&containers).await;
            let is_empty =
                site.containers().await.is_ok_and(|containers| containers.values().all(Listed::is_going));
            if !is_empty {
                warn!("containers may be left, for the next lb of this fleet to find");
            }
            is_empty
        }
        Err(trouble) => {
            warn!("containers may be left, for the next lb of this fleet to find: {trouble}");
            false
        }
    }
}

/// Removes a network that an `lb` has made, unless somebody else uses it.
async fn remove_network(site: &Site) {
    let network = &site.settings.network;
    if site.engine.network(network).await.is_ok_and(|made_by_lb| made_by_lb == Some(true)) {
        // The engine refuses as long as there is anybody in it.
        let _ = site.engine.remove_network(network).await;
    }
}

/// Who sits where if no record says it: whoever was started for a slot, and new slots for the rest of the `names`.
fn beginning(alive: &[Listed], names: &[Hostname]) -> Vec<Seat> {
    let mut seats: Vec<Seat> = Vec::new();
    let started =
        alive.iter().filter_map(|container| Some((container.slot.clone()?, container.hostname.clone()?)));
    let planned = (1..).zip(names).map(|(index, name)| (SlotId { index, name: name.clone() }, name.clone()));
    for (number, (slot, hostname)) in started.map(|seat| (0, seat)).chain((1..).zip(planned)) {
        let is_taken = seats.iter().any(|seat| {
            seat.slot.index == slot.index
                || [&seat.slot.name, &seat.hostname].iter().any(|name| [&slot.name, &hostname].contains(name))
        });
        if !is_taken && number <= names.len() {
            seats.push(Seat { slot, weight: Weight::default(), hostname });
        }
    }
    seats.sort_by_key(|seat| seat.slot.index);
    seats
}

/// The containers that can be taken over, and the hostnames of those that become spares.
fn adoptable(
    site: &Arc<Site>,
    alive: Vec<Listed>,
    seats: &[Seat],
    spares: usize,
) -> (HashMap<Hostname, (Listed, Known)>, Vec<Hostname>) {
    let (mut adoptable, mut benched) = (HashMap::new(), Vec::new());
    for container in alive.into_iter().filter(|container| container.address.is_some()) {
        let Some(hostname) = container.hostname.clone() else { continue };
        let is_seated = seats.iter().any(|seat| seat.hostname == hostname);
        let is_spare = container.slot.is_none() && benched.len() < spares;
        if adoptable.contains_key(&hostname) || !(is_seated || is_spare) {
            continue;
        }
        if !is_seated {
            benched.push(hostname.clone());
        }
        let Some(known) = site.know(container.name.clone()) else { continue };
        adoptable.insert(hostname, (container, known));
    }
    (adoptable, benched)
}
