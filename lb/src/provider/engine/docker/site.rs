//! What the tasks that look after the containers of one fleet share.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore, broadcast, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::Settings;
use super::api::Engine;
use super::container::Listed;
use crate::provider::doors::{Door, Doors};
use crate::provider::engine::call::{LIMIT, Trouble};
use crate::provider::engine::claim::Tenure;
use crate::provider::engine::dress::GRACE;
use crate::provider::engine::identity::fleet_label;
use crate::provider::engine::leftovers::Leftovers;
use crate::provider::engine::record::Labels;

/// The most containers that are started at the same time. More do not make the engine faster.
const STARTS: usize = 8;
/// The most containers that are stopped or removed at the same time.
const STOPS: usize = 16;
/// The most notices that a keeper may leave unread. After more it misses some, and goes by the next list.
const NOTICES: usize = 1024;

/// Why this program does not touch a container.
pub(super) const HELD_BY_ANOTHER: &str = "another lb holds this fleet";

/// News about containers, for their keepers.
#[derive(Clone, Debug)]
pub(super) enum Notice {
    /// The container with this id ran out of memory.
    OutOfMemory(Arc<str>),
    /// The container with this id has ended, with this exit code.
    Died(Arc<str>, Option<i64>),
    /// All containers with the label of the fleet, by id. The list was requested at this time, so it says nothing about later ones.
    Seen(Instant, Arc<HashMap<String, Listed>>),
}

/// Whether this program may touch the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It holds it.
    Holds,
    /// A successor that goes on with this tenure has it, or is about to. Only what the successor does not know is stopped.
    Lends(Tenure),
    /// Another `lb` holds it.
    Lost,
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
    standing: watch::Receiver<Standing>,
    /// The sweeps that run.
    pub(super) sweeps: TaskTracker,
    /// Whether the engine was away when it was last called.
    away: watch::Sender<bool>,
    /// Signals that it may be away now.
    doubt: Notify,
    /// Held by the task that checks and creates the network.
    renewal: AsyncMutex<()>,
    /// The id of the network of the fleet.
    network: Mutex<String>,
    /// The ids of the containers that have a keeper, and the nonces of those that are about to be created.
    known: Mutex<HashSet<String>>,
    /// The containers that have none.
    leftovers: Mutex<Leftovers>,
    /// What the times of [`Leftovers`] are counted from.
    begun: Instant,
}

impl Site {
    pub(super) fn new(
        engine: Engine,
        settings: Settings,
        doors: Option<Doors>,
        (standing, network): (watch::Receiver<Standing>, String),
    ) -> Self {
        Site {
            engine,
            settings,
            doors,
            notices: broadcast::channel(NOTICES).0,
            starts: Semaphore::new(STARTS),
            stops: Semaphore::new(STOPS),
            standing,
            sweeps: TaskTracker::new(),
            away: watch::Sender::new(false),
            doubt: Notify::new(),
            renewal: AsyncMutex::new(()),
            network: Mutex::new(network),
            known: Mutex::default(),
            leftovers: Mutex::new(Leftovers::of_containers()),
            begun: Instant::now(),
        }
    }

    /// Completes when another `lb` holds the fleet.
    pub(super) async fn lost(&self) {
        let mut standing = self.standing.clone();
        // The writer may have ended together with this program; then it never says so.
        if standing.wait_for(|standing| *standing == Standing::Lost).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether this program holds the fleet. If not, it must neither make a container nor sweep.
    pub(super) fn is_held(&self) -> bool {
        *self.standing.borrow() == Standing::Holds
    }

    /// Whether another `lb` holds the fleet: this one must not touch anything of it.
    fn is_lost(&self) -> bool {
        *self.standing.borrow() == Standing::Lost
    }

    /// Whether a successor of this program has the fleet.
    pub(super) fn is_lent(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Lends(_))
    }

    /// Claims a container for one keeper, until the answer is dropped: by its id, or by its nonce before it is created. `None` if
    /// it has a keeper already.
    pub(super) fn know(self: &Arc<Self>, key: &str) -> Option<Known> {
        let is_new = lock(&self.known).insert(key.to_owned());
        is_new.then(|| Known { site: Arc::clone(self), key: key.to_owned() })
    }

    /// Whether a container has a keeper. What has only inherited the nonce of another has none.
    fn is_known(&self, container: &Listed) -> bool {
        let known = lock(&self.known);
        let is_being_created = container.identity.nonce.as_ref().is_some_and(|nonce| known.contains(nonce));
        is_being_created || known.contains(&container.id)
    }

    /// The id of the network of the fleet.
    pub(super) fn network(&self) -> String {
        lock(&self.network).clone()
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

    /// Creates the network if it is missing; returns its id.
    pub(super) async fn renew_network(&self) -> Result<String, Trouble> {
        let renewed = async {
            let _one_at_a_time = self.renewal.lock().await;
            ensure_network(&self.engine, &self.settings.common.network).await
        };
        let late = || Trouble::Late { call: "POST /networks/create", limit: LIMIT };
        let id = timeout(LIMIT, renewed).await.map_err(|_| late())??;
        lock(&self.network).clone_from(&id);
        Ok(id)
    }

    /// All containers with the label of the fleet, by id.
    pub(super) async fn containers(&self) -> Result<HashMap<String, Listed>, Trouble> {
        let listed = list(&self.engine, &self.settings, &self.network()).await?;
        Ok(listed.into_iter().map(|container| (container.id.clone(), container)).collect())
    }

    /// Removes the containers of the fleet that have had no keeper for a while: those that ended, half made ones of an `lb` that
    /// was killed, those that the engine created after their call had timed out, and those that it failed to remove before.
    pub(super) async fn sweep(self: &Arc<Self>, containers: &HashMap<String, Listed>) {
        if !self.is_held() {
            return;
        }
        let left = self.left(containers);
        let due = lock(&self.leftovers)
            .due(self.begun.elapsed(), left.iter().map(|container| container.id.as_str()));
        self.retire(due.iter().filter_map(|id| containers.get(id))).await;
    }

    /// Removes all containers of the fleet that have no keeper; returns whether none is left.
    pub(super) async fn clear(self: &Arc<Self>) -> Result<bool, Trouble> {
        self.retire(self.left(&self.containers().await?).into_iter()).await;
        let containers = self.containers().await?;
        let leftovers = lock(&self.leftovers);
        Ok(self.left(&containers).iter().all(|container| leftovers.is_foreign(&container.id)))
    }

    /// The containers without a keeper that may be of this fleet, and are not being removed.
    fn left<'a>(&self, containers: &'a HashMap<String, Listed>) -> Vec<&'a Listed> {
        let left = containers.values().filter(|container| !container.is_going() && !self.is_known(container));
        left.collect()
    }

    /// Removes those of these containers that are of this fleet.
    async fn retire(self: &Arc<Self>, containers: impl Iterator<Item = &Listed>) {
        join_all(containers.map(async |container| {
            let Some(_known) = self.know(&container.id) else { return };
            let _turn = self.stops.acquire().await;
            match Origins::default().is_own(&self.engine, container, &self.settings).await {
                Ok(true) if self.is_held() => self.retire_own(container).await,
                Ok(true) => {}
                Ok(false) => self.leave_alone(container),
                Err(trouble) => {
                    warn!(error = %trouble, "it cannot be found out whether a container is of this fleet");
                }
            }
        }))
        .await;
    }

    async fn retire_own(&self, container: &Listed) {
        let (Listed { id, name, .. }, may_run) = (container, container.may_run());
        if may_run {
            warn!(
                container = name,
                "a container of this fleet runs, but has no slot (any more): it was started again by hand, or is left over. It is \
                 stopped and removed. To take a replica out, say `lb rm 1 HOSTNAME`; there is no need to restart one, because what \
                 ends is replaced"
            );
            self.stop(id, GRACE).await;
        } else {
            info!(container = name, "removes a container of this fleet that belongs to no slot");
        }
        // One that has just been started again gets the time to end, too.
        if self.remove(id, may_run).await {
            self.door_of(container).into_iter().for_each(Door::remove);
        }
    }

    /// Where a container takes connections over.
    pub(super) fn door_of(&self, container: &Listed) -> Option<Door> {
        self.doors.as_ref()?.known(container.identity.door.as_deref()?)
    }

    /// Notes that a container is not of this fleet.
    pub(super) fn leave_alone(&self, container: &Listed) {
        if lock(&self.leftovers).is_foreign_now(&container.id) {
            warn!(
                container = container.name,
                fleet = self.settings.common.fleet,
                "a container has the label of this fleet from its image, or its image is gone: it is not of this fleet, and is left alone"
            );
        }
    }

    pub(super) async fn stop(&self, id: &str, grace: Duration) {
        if !self.is_lost() {
            complain(self.engine.stop(id, grace).await);
        }
    }

    /// Kills a container.
    ///
    /// # Errors
    /// The engine does not do it, or another `lb` holds the fleet.
    pub(super) async fn kill(&self, id: &str) -> Result<(), String> {
        if self.is_lost() {
            return Err(HELD_BY_ANOTHER.to_owned());
        }
        self.engine.kill(id).await.map_err(|trouble| trouble.to_string())
    }

    /// Removes a container; returns whether it is gone. One that runs is killed with `force`, and stays otherwise. If the removal
    /// fails, a sweep tries again.
    pub(super) async fn remove(&self, id: &str, force: bool) -> bool {
        if self.is_lost() {
            return false;
        }
        let removed = self.engine.remove(id, force).await;
        let is_gone = removed.as_ref().map_or_else(|trouble| trouble.is(404), |()| true);
        complain(removed);
        is_gone
    }
}

/// Logs a failure, unless it means that the container is gone (404), is being removed or runs again (409).
fn complain(done: Result<(), Trouble>) {
    match done {
        Err(trouble) if !trouble.is(404) && !trouble.is(409) => {
            warn!(error = %trouble, "a container cannot be stopped or removed");
        }
        _ => {}
    }
}

/// Creates the network if it is missing; returns its id.
pub(super) async fn ensure_network(engine: &Engine, name: &str) -> Result<String, Trouble> {
    if let Some(network) = engine.network(name).await? {
        return Ok(network.id);
    }
    let id = engine.create_network(name).await?;
    info!(network = name, "network created");
    Ok(id)
}

/// All containers with the label of the fleet, with their addresses in the network with this id.
pub(super) async fn list(
    engine: &Engine,
    settings: &Settings,
    network: &str,
) -> Result<Vec<Listed>, Trouble> {
    let listed = engine.containers(&fleet_label(&settings.common.fleet)).await?;
    Ok(listed.into_iter().filter_map(|summary| Listed::of(summary, settings, network)).collect())
}

/// Tells the containers of the fleet from those that have only inherited its label from their image.
#[derive(Default)]
pub(super) struct Origins {
    /// The labels of images, by id; `None` for those that are gone.
    images: HashMap<String, Option<Labels>>,
}

impl Origins {
    /// Whether a container with the label of the fleet is of this fleet. Without its image that cannot be known; then it is not.
    pub(super) async fn is_own(
        &mut self,
        engine: &Engine,
        container: &Listed,
        settings: &Settings,
    ) -> Result<bool, Trouble> {
        // An engine that names no image has none to inherit from.
        let Some(image) = &container.image else { return Ok(true) };
        if !self.images.contains_key(image) {
            self.images.insert(image.clone(), engine.labels_of_image(image).await?);
        }
        let labels = self.images.get(image).and_then(Option::as_ref);
        Ok(labels.is_some_and(|labels| container.identity.is_own(&settings.common.fleet, labels)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A container has a keeper, as long as this lives.
pub(super) struct Known {
    site: Arc<Site>,
    key: String,
}

impl Known {
    /// Claims the container by the id that it has got, instead of by its nonce.
    pub(super) fn created(&mut self, id: &str) {
        let mut known = lock(&self.site.known);
        known.insert(id.to_owned());
        known.remove(&std::mem::replace(&mut self.key, id.to_owned()));
    }

    /// Keeps the container claimed until the program ends.
    pub(super) fn for_good(self) {
        std::mem::forget(self);
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        lock(&self.site.known).remove(&self.key);
    }
}
