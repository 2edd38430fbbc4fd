//! What the tasks that look after one fleet in the Swarm share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet::Time;
use fleet::pace::{Next, Pace};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Settings;
use super::api::Manager;
use super::board::Board;
use super::overlay;
use super::register::Register;
use super::service::Listed;
use crate::provider::engine::call::Trouble;
use crate::provider::engine::leftovers::Leftovers;

/// The most calls that create, change or remove services at the same time.
const CHANGES: usize = 8;

/// One fleet in the Swarm, and what `lb` knows of it.
pub(super) struct Site {
    pub(super) manager: Manager,
    pub(super) settings: Settings,
    pub(super) register: Register,
    /// The id of the network of the fleet.
    pub(super) network: String,
    pub(super) board: Board,
    pub(super) changes: Semaphore,
    pub(super) leftovers: Mutex<Leftovers>,
    /// The task of each service, by its id, that must not be used any more: it hangs.
    shunned: Mutex<HashMap<String, String>>,
    /// The names of all nodes, by id.
    nodes: Mutex<HashMap<String, String>>,
    pace: Mutex<Pace>,
    hurry: Notify,
    /// What the times of [`Pace`] are counted from.
    begun: Instant,
}

impl Site {
    pub(super) fn new(manager: Manager, settings: Settings, register: Register, network: String) -> Self {
        Site {
            manager,
            settings,
            register,
            network,
            board: Board::default(),
            changes: Semaphore::new(CHANGES),
            leftovers: Mutex::new(Leftovers::of_services()),
            shunned: Mutex::default(),
            nodes: Mutex::default(),
            pace: Mutex::default(),
            hurry: Notify::new(),
            begun: Instant::now(),
        }
    }

    /// The name of the fleet.
    pub(super) fn fleet(&self) -> &str {
        &self.settings.common.fleet
    }

    pub(super) fn now(&self) -> Time {
        self.begun.elapsed()
    }

    /// Has the tasks of a service read often, until the answer is dropped.
    pub(super) fn wait_for(self: &Arc<Self>, service: &str) -> Waiting {
        lock(&self.pace).wait_for(service, self.now());
        self.hurry.notify_one();
        Waiting { site: Arc::clone(self), service: service.to_owned() }
    }

    /// Has the tasks of a service read soon, because its replica may have ended.
    pub(super) fn doubt(&self, service: &str) {
        lock(&self.pace).doubt(service, self.now());
        self.hurry.notify_one();
    }

    /// Has everything read soon, because something has changed.
    pub(super) fn is_stale(&self) {
        lock(&self.pace).is_stale();
        self.hurry.notify_one();
    }

    /// What to read next.
    pub(super) fn next(&self) -> Next {
        lock(&self.pace).next(self.now())
    }

    /// Completes when something has changed since the last call of [`Site::next`].
    pub(super) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// Takes note of a read; returns whether the API was away before.
    pub(super) fn was_read(&self, what: &Next, at: Time, is_away: bool) -> bool {
        lock(&self.pace).was_read(what, at, is_away)
    }

    /// The name of a node; its id if the name is not known.
    pub(super) async fn node(&self, id: &str) -> String {
        if let Some(name) = lock(&self.nodes).get(id) {
            return name.clone();
        }
        if let Ok(nodes) = self.manager.nodes().await {
            *lock(&self.nodes) = nodes;
        }
        lock(&self.nodes).get(id).cloned().unwrap_or_else(|| id.to_owned())
    }

    /// The task of a service that must not be used any more.
    pub(super) fn shunned(&self, service: &str) -> Option<String> {
        lock(&self.shunned).get(service).cloned()
    }

    /// Uses this task of a service no more.
    pub(super) fn shun(&self, service: &str, task: &str) {
        lock(&self.shunned).insert(service.to_owned(), task.to_owned());
    }

    /// Forgets which tasks were shunned of services that are gone.
    pub(super) fn forget_shunned(&self, all: &[Listed]) {
        lock(&self.shunned).retain(|id, _| all.iter().any(|service| service.id == *id));
    }
}

/// Someone waits for a task of a service, as long as this lives.
pub(super) struct Waiting {
    site: Arc<Site>,
    service: String,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.site.pace).waited_for(&self.service);
    }
}

/// Creates the overlay network if it is missing; returns its id.
pub(super) async fn ensure_overlay(manager: &Manager, name: &str) -> Result<String, Trouble> {
    if let Some(network) = manager.network(name).await? {
        return Ok(network.id);
    }
    let (pools, taken) = manager.subnets().await?;
    let mut trouble = None;
    for subnet in overlay::subnets(&pools, &taken) {
        match manager.create_overlay(name, subnet).await {
            Ok(id) => {
                info!(network = name, %subnet, "overlay network created");
                return Ok(id);
            }
            // Another `lb` may have been faster, or the subnet is taken by what no list shows.
            Err(failed) if failed.is_the_engines() => return Err(failed),
            Err(refused) => {
                if let Some(network) = manager.network(name).await? {
                    return Ok(network.id);
                }
                warn!(error = %refused, %subnet, "the overlay network cannot be created with this subnet");
                trouble = Some(refused);
            }
        }
    }
    let none = || Trouble::Refused {
        call: "POST /networks/create",
        status: 409,
        message: "no subnet of the Swarm's address pools is free".to_owned(),
    };
    Err(trouble.unwrap_or_else(none))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
