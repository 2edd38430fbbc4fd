//! Looks at the Swarm: its events, and what it lists.
//!
//! Events tell of changes of the config object and of services within milliseconds. The stream can end or fall silent without an error,
//! so it is renewed every minute, and all is read every few seconds ([`fleet::pace`]). Nothing that a read does not show is believed at
//! once: an answer may be empty or old while managers change.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{EventMessage, EventMessageTypeEnum as Type};
use fleet::pace::Next;
use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::config;
use super::site::Site;
use super::tidy;
use crate::provider::engine::call::Trouble;

/// How long one subscription to events lasts.
const RENEWAL: Duration = Duration::from_secs(60);
/// The pause after a subscription that failed.
const RETRY: Duration = Duration::from_millis(200);

/// Follows the event stream until the program ends.
pub(super) async fn listen(site: Arc<Site>) {
    let mut is_silent = false;
    loop {
        match timeout(RENEWAL, follow(&site, &mut is_silent)).await {
            Err(_) => debug!("the event stream is renewed"),
            Ok(trouble) => {
                if !std::mem::replace(&mut is_silent, true) {
                    warn!(error = %trouble, "the Swarm sends no events");
                }
                sleep(RETRY).await;
            }
        }
    }
}

/// Follows one subscription; returns why it ended.
async fn follow(site: &Site, is_silent: &mut bool) -> String {
    let mut events = pin!(site.manager.events());
    loop {
        match events.next().await {
            Some(Ok(event)) => {
                *is_silent = false;
                hear(site, &event).await;
            }
            Some(Err(trouble)) => return trouble.to_string(),
            None => return "the stream has ended".to_owned(),
        }
    }
}

async fn hear(site: &Site, event: &EventMessage) {
    let Some(actor) = &event.actor else { return };
    let name = actor.attributes.as_ref().and_then(|attributes| attributes.get("name"));
    let is_called = |wanted: &dyn Fn(&str) -> bool| name.is_some_and(|name| wanted(name));
    match event.typ {
        Some(Type::CONFIG) if is_called(&|name| name == config::name(site.fleet())) => {
            // If it fails, the next read of everything shows it.
            if let Err(trouble) = site.register.read().await {
                debug!(error = %trouble, "the config object of the fleet cannot be read");
                site.is_stale();
            }
        }
        Some(Type::SERVICE) if is_called(&|name| name.starts_with(site.fleet())) => {
            match (event.action.as_deref(), actor.id.as_deref()) {
                (Some("update"), Some(id)) if site.board.is_followed(id) => site.doubt(id),
                _ => {}
            }
            site.is_stale();
        }
        Some(Type::NODE) => site.is_stale(),
        _ => {}
    }
}

/// Reads what has to be read, until the program ends.
pub(super) async fn look(site: Arc<Site>) {
    loop {
        let (next, at) = (site.next(), site.now());
        let read = match &next {
            Next::Wait(pause) => {
                let _ = timeout(*pause, site.hurried()).await;
                continue;
            }
            Next::Some(services) => read_some(&site, services).await,
            Next::Tasks => read_tasks(&site).await,
            Next::All => read_all(&site).await,
        };
        match read {
            Ok(()) => {
                if site.was_read(&next, at, false) {
                    info!("the Swarm's API is back");
                }
            }
            Err(trouble) => {
                if !site.was_read(&next, at, true) {
                    warn!(
                        error = %trouble, "the Swarm's API is away: connections are served, and the last view holds"
                    );
                }
            }
        }
    }
}

async fn read_some(site: &Site, services: &[String]) -> Result<(), Trouble> {
    match site.manager.tasks_of(services).await {
        // One of them is gone.
        Err(trouble) if trouble.is(404) => {
            site.is_stale();
            read_tasks(site).await
        }
        tasks => {
            site.board.show(tasks?, Some(services));
            Ok(())
        }
    }
}

async fn read_tasks(site: &Site) -> Result<(), Trouble> {
    let tasks = site.manager.tasks_of_fleet(site.fleet()).await?;
    site.board.show(tasks, None);
    Ok(())
}

async fn read_all(site: &Arc<Site>) -> Result<(), Trouble> {
    site.register.read().await?;
    let services = site.manager.services(site.fleet()).await?;
    read_tasks(site).await?;
    site.board.compare(&services);
    if site.board.misses() {
        site.is_stale();
    }
    site.forget_shunned(&services);
    tidy::tidy(site, services);
    Ok(())
}
