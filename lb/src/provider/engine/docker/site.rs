//! What the tasks that look after the containers of one fleet share.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore, broadcast, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::Settings;
use super::api::{Engine, LIMIT, Trouble};
use super::container::Listed;
use crate::provider::doors::Doors;
use crate::provider::engine::identity::fleet_label;

/// The most containers that are started at the same time. More do not make the engine faster.
const STARTS: usize = 8;
/// The most containers that are stopped or removed at the same time.
const STOPS: usize = 16;
/// The most notices that a keeper may leave unread. After more it misses some, and goes by the next list.
const NOTICES: usize = 1024;

/// News about containers, for their keepers.
#[derive(Clone, Debug)]
pub(super) enum Notice {
    /// The container with this id ran out of memory.
    OutOfMemory(Arc<str>),
    /// The container with this id has ended, with this exit code.
    Died(Arc<str>, Option<i64>),
    /// All containers of the fleet, by id. The list was requested at this time, so it says nothing about later ones.
    Seen(Instant, Arc<HashMap<String, Listed>>),
}

/// The engine with one fleet in it, and what `lb` knows of both.
pub(super) struct Site {
    pub(super) engine: Engine,
    pub(super) settings: Settings,
    /// Where containers take connections over; `None` with `--transport proxy`.
    pub(super) doors: Option<Doors>,
    pub(super) notices: broadcast::Sender<Notice>,
    pub(super) starts: Semaphore,
    pub(super) stops: Semaphore,
    /// Whether this program holds the fleet.
    held: watch::Receiver<bool>,
    /// The sweeps that run.
    pub(super) sweeps: TaskTracker,
    /// Whether the engine was away when it was last called.
    away: watch::Sender<bool>,
    /// Signals that it may be away now.
    doubt: Notify,
    /// Held by the task that checks and creates the network.
    network: AsyncMutex<()>,
    /// The names of the containers that have a keeper, also of those that are about to be created.
    known: Mutex<HashSet<String>>,
}

impl Site {
    pub(super) fn new(
        engine: Engine,
        settings: Settings,
        doors: Option<Doors>,
        held: watch::Receiver<bool>,
    ) -> Self {
        Site {
            engine,
            settings,
            doors,
            notices: broadcast::channel(NOTICES).0,
            starts: Semaphore::new(STARTS),
            stops: Semaphore::new(STOPS),
            held,
            sweeps: TaskTracker::new(),
            away: watch::Sender::new(false),
            doubt: Notify::new(),
            network: AsyncMutex::new(()),
            known: Mutex::default(),
        }
    }

    /// Completes when another `lb` holds the fleet.
    pub(super) async fn lost(&self) {
        let mut held = self.held.clone();
        // The writer may have ended together with this program; then it never says so.
        if held.wait_for(|is_held| !is_held).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether this program still holds the fleet. If not, it must not touch anything of it.
    pub(super) fn is_held(&self) -> bool {
        *self.held.borrow()
    }

    /// Claims the container of this name for one keeper, until the answer is dropped; `None` if it has a keeper already.
    pub(super) fn know(self: &Arc<Self>, name: String) -> Option<Known> {
        let is_new = self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        is_new.then(|| Known { site: Arc::clone(self), name })
    }

    /// Claims a free name that begins with this one.
    pub(super) fn know_variant(self: &Arc<Self>, name: &str) -> Known {
        loop {
            if let Some(known) = self.know(format!("{name}.{:06x}", fastrand::u32(..1 << 24))) {
                return known;
            }
        }
    }

    /// Whether the engine was away when it was last called.
    pub(super) fn is_away(&self) -> bool {
        *self.away.borrow()
    }

    /// Notes whether the engine is away; returns whether it was.
    pub(super) fn set_away(&self, is_away: bool) -> bool {
        self.away.send_replace(is_away)
    }

    /// Completes as soon as the engine is away, or is back, as `wanted` says.
    pub(super) async fn away(&self, wanted: bool) {
        // It fails only without a sender, and `self` holds one.
        let _ = self.away.subscribe().wait_for(|&is_away| is_away == wanted).await;
    }

    /// Signals that the engine may be away.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Completes after [`Site::doubt`].
    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// Creates the network if it is missing.
    pub(super) async fn ensure_network(&self) -> Result<(), Trouble> {
        let ensured = async {
            let _one_at_a_time = self.network.lock().await;
            ensure_network(&self.engine, &self.settings.network).await
        };
        let late = || Trouble::Late { call: "POST /networks/create", limit: LIMIT };
        timeout(LIMIT, ensured).await.map_err(|_| late())?
    }

    /// All containers of the fleet, by id.
    pub(super) async fn containers(&self) -> Result<HashMap<String, Listed>, Trouble> {
        let listed = list(&self.engine, &self.settings).await?;
        Ok(listed.into_iter().map(|container| (container.id.clone(), container)).collect())
    }

    /// Removes the containers of the fleet that have no keeper: half made ones of an `lb` that was killed, those that the engine
    /// created after their call had timed out, and those that it failed to remove before.
    pub(super) async fn sweep(self: &Arc<Self>, containers: &HashMap<String, Listed>) {
        let orphans = containers.values().filter(|container| !container.is_going());
        let sweeps = orphans.filter_map(|orphan| Some((orphan, self.know(orphan.name.clone())?)));
        join_all(sweeps.map(async |(orphan, _known)| {
            let _turn = self.stops.acquire().await;
            if !self.is_held() {
                return;
            }
            info!(container = orphan.name, "removes a container of this fleet that belongs to no slot");
            self.remove(&orphan.id).await;
        }))
        .await;
    }

    pub(super) async fn stop(&self, id: &str, grace: Duration) {
        if self.is_held() {
            complain(self.engine.stop(id, grace).await);
        }
    }

    /// Removes a container; returns whether it is gone. If the removal fails, a sweep tries again.
    pub(super) async fn remove(&self, id: &str) -> bool {
        if !self.is_held() {
            return false;
        }
        let removed = self.engine.remove(id).await;
        let is_gone = removed.as_ref().map_or_else(|trouble| trouble.is(404), |()| true);
        complain(removed);
        is_gone
    }
}

/// Logs a failure, unless it means that the container is gone (404) or is being removed (409).
fn complain(done: Result<(), Trouble>) {
    match done {
        Err(trouble) if !trouble.is(404) && !trouble.is(409) => warn!("{trouble}"),
        _ => {}
    }
}

/// Creates the network if it is missing.
pub(super) async fn ensure_network(engine: &Engine, network: &str) -> Result<(), Trouble> {
    if engine.network(network).await?.is_none() {
        engine.create_network(network).await?;
        info!(network, "network created");
    }
    Ok(())
}

/// All containers of the fleet.
pub(super) async fn list(engine: &Engine, settings: &Settings) -> Result<Vec<Listed>, Trouble> {
    let listed = engine.containers(&fleet_label(&settings.fleet)).await?;
    Ok(listed.into_iter().filter_map(|summary| Listed::of(summary, settings)).collect())
}

/// The container of this name has a keeper, as long as this lives.
pub(super) struct Known {
    site: Arc<Site>,
    name: String,
}

impl Known {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Keeps the name claimed until the program ends.
    pub(super) fn for_good(self) {
        std::mem::forget(self);
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.site.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}
