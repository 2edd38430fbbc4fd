//! What was last seen of each service: the watcher writes it, keepers read it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::service::Listed;
use super::tasks::Task;

/// What was last seen of a service.
#[derive(Clone, Debug, Default)]
pub(super) enum Seen {
    /// Nothing yet.
    #[default]
    Nothing,
    /// Its tasks.
    Tasks(Arc<[Task]>),
    /// It is gone.
    Gone,
}

/// How many reads in a row have to show that a service is gone before that is believed.
const BELIEVED: u32 = 2;

struct Place {
    seen: watch::Sender<Seen>,
    /// How many reads in a row did not show it.
    missed: u32,
}

/// The services that someone follows, by id.
#[derive(Default)]
pub(super) struct Board(Mutex<HashMap<String, Place>>);

impl Board {
    /// Follows a service from now on, until the answer is dropped.
    pub(super) fn follow(&self, service: &str) -> watch::Receiver<Seen> {
        let mut places = self.lock();
        places.retain(|_, place| place.seen.receiver_count() > 0);
        let place = places
            .entry(service.to_owned())
            .or_insert_with(|| Place { seen: watch::Sender::new(Seen::Nothing), missed: 0 });
        place.seen.subscribe()
    }

    /// Whether someone follows this service.
    pub(super) fn is_followed(&self, service: &str) -> bool {
        self.lock().get(service).is_some_and(|place| place.seen.receiver_count() > 0)
    }

    /// Shows the tasks of these services, or of all.
    pub(super) fn show(&self, tasks: Vec<Task>, services: Option<&[String]>) {
        let mut by_service: HashMap<String, Vec<Task>> = HashMap::new();
        for task in tasks {
            by_service.entry(task.service.clone()).or_default().push(task);
        }
        for (id, place) in self.lock().iter() {
            if services.is_none_or(|services| services.contains(id)) {
                let tasks = by_service.remove(id).unwrap_or_default();
                place.seen.send_replace(Seen::Tasks(tasks.into()));
            }
        }
    }

    /// Compares those that are followed with all that there are. One that is missing twice is gone.
    pub(super) fn compare(&self, all: &[Listed]) {
        for (id, place) in self.lock().iter_mut() {
            let is_there = all.iter().any(|service| service.id == *id);
            place.missed = if is_there { 0 } else { place.missed + 1 };
            if place.missed >= BELIEVED {
                place.seen.send_replace(Seen::Gone);
            }
        }
    }

    /// Whether a service is missing that may be gone.
    pub(super) fn misses(&self) -> bool {
        self.lock().values().any(|place| (1..BELIEVED).contains(&place.missed))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Place>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
