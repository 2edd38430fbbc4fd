//! What everybody who looks after this fleet's containers shares.

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

/// Containers that are made and started at the same time: the engine does not get faster by more.
const STARTS: usize = 8;
/// Containers that are stopped and removed at the same time.
const STOPS: usize = 16;
/// Notices that a keeper may leave unread before it misses some (and waits for the next list).
const NOTICES: usize = 1024;

/// What may be the end of a container.
#[derive(Clone, Debug)]
pub(super) enum Notice {
    /// The container with this id has asked for more memory than it may have.
    OutOfMemory(Arc<str>),
    /// The container with this id has ended, with this exit code.
    Died(Arc<str>, Option<i64>),
    /// All containers of the fleet, by id, as they were some time after this.
    Seen(Instant, Arc<HashMap<String, Listed>>),
}

/// The engine, and what is known of the fleet there.
pub(super) struct Site {
    pub(super) engine: Engine,
    pub(super) settings: Settings,
    /// Where containers take connections over.
    pub(super) doors: Option<Doors>,
    pub(super) notices: broadcast::Sender<Notice>,
    pub(super) starts: Semaphore,
    pub(super) stops: Semaphore,
    held: watch::Receiver<bool>,
    /// Sweeps that go on.
    pub(super) sweeps: TaskTracker,
    /// Whether the engine is away, as far as is known.
    away: watch::Sender<bool>,
    /// Says that it may be.
    doubt: Notify,
    /// Held by whoever looks whether there is a network, until there is.
    network: AsyncMutex<()>,
    /// The names of the containers that somebody here looks after, or is about to make.
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

    /// Completes when the fleet is not ours any more.
    pub(super) async fn lost(&self) {
        let mut held = self.held.clone();
        // Whoever would say so may have ended, because this program does.
        if held.wait_for(|is_held| !is_held).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the fleet is (still) ours; if not, nothing of it may be touched.
    pub(super) fn is_held(&self) -> bool {
        *self.held.borrow()
    }

    /// Says that somebody looks after the container of this name, as long as the answer lives; `None` if somebody does
    /// already.
    pub(super) fn know(self: &Arc<Self>, name: String) -> Option<Known> {
        let is_new = self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        is_new.then(|| Known { site: Arc::clone(self), name })
    }

    /// The same for a name like this one that nobody looks after.
    pub(super) fn know_variant(self: &Arc<Self>, name: &str) -> Known {
        loop {
            if let Some(known) = self.know(format!("{name}.{:06x}", fastrand::u32(..1 << 24))) {
                return known;
            }
        }
    }

    /// Whether the engine is away, as far as is known.
    pub(super) fn is_away(&self) -> bool {
        *self.away.borrow()
    }

    /// Notes whether the engine is away; whether it was.
    pub(super) fn set_away(&self, is_away: bool) -> bool {
        self.away.send_replace(is_away)
    }

    /// Completes as soon as the engine is away, or is not.
    pub(super) async fn away(&self, wanted: bool) {
        // It fails only without a sender.
        let _ = self.away.subscribe().wait_for(|&is_away| is_away == wanted).await;
    }

    /// Says that the engine may be away.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Completes when somebody has said so.
    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// Makes the network if it is not there.
    pub(super) async fn ensure_network(&self) -> Result<(), Trouble> {
        let ensured = async {
            let _one_at_a_time = self.network.lock().await;
            ensure_network(&self.engine, &self.settings.network).await
        };
        let late = || Trouble::Late { call: "make the network", limit: LIMIT };
        timeout(LIMIT, ensured).await.map_err(|_| late())?
    }

    /// All containers of the fleet, by id.
    pub(super) async fn containers(&self) -> Result<HashMap<String, Listed>, Trouble> {
        let listed = list(&self.engine, &self.settings).await?;
        Ok(listed.into_iter().map(|container| (container.id.clone(), container)).collect())
    }

    /// Removes the containers of the fleet that nobody looks after: those that an `lb` which was killed has left half
    /// made, those that the engine made after we had given up waiting, and those it could not remove when it was told.
    pub(super) async fn sweep(self: &Arc<Self>, containers: &HashMap<String, Listed>) {
        let orphans = containers.values().filter(|container| !container.is_going());
        let sweeps = orphans.filter_map(|orphan| Some((orphan, self.know(orphan.name.clone())?)));
        join_all(sweeps.map(async |(orphan, _known)| {
            let _turn = self.stops.acquire().await;
            if !self.is_held() {
                return;
            }
            info!(container = orphan.name, "a container of this fleet that nobody looks after is removed");
            self.remove(&orphan.id).await;
        }))
        .await;
    }

    pub(super) async fn stop(&self, id: &str, grace: Duration) {
        if self.is_held() {
            complain(self.engine.stop(id, grace).await);
        }
    }

    /// Removes a container; whether it is gone. If that fails, a sweep does it later.
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

/// Logs what went wrong, unless it is that the container is gone already, or on its way.
fn complain(done: Result<(), Trouble>) {
    match done {
        Err(trouble) if !trouble.is(404) && !trouble.is(409) => warn!("{trouble}"),
        _ => {}
    }
}

/// Makes the network if it is not there.
pub(super) async fn ensure_network(engine: &Engine, network: &str) -> Result<(), Trouble> {
    if engine.network(network).await?.is_none() {
        engine.create_network(network).await?;
        info!(network, "network made");
    }
    Ok(())
}

/// All containers of the fleet.
pub(super) async fn list(engine: &Engine, settings: &Settings) -> Result<Vec<Listed>, Trouble> {
    let listed = engine.containers(&fleet_label(&settings.fleet)).await?;
    Ok(listed.into_iter().filter_map(|summary| Listed::of(summary, settings)).collect())
}

/// Somebody looks after the container of this name.
pub(super) struct Known {
    site: Arc<Site>,
    name: String,
}

impl Known {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// As long as this program runs.
    pub(super) fn for_good(self) {
        std::mem::forget(self);
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.site.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}
