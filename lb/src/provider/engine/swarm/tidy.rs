//! Puts the services of the fleet right, and removes those that have left.

use std::sync::Arc;
use std::time::Duration;

use fleet::Epoch;
use proto::control::Hostname;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::api::is_stale;
use super::duty::{Duty, duty};
use super::service::{self, Listed};
use super::site::{Site, lock};
use crate::provider::engine::call::Trouble;

/// The pause between two attempts to remove a service.
const AGAIN: Duration = Duration::from_secs(1);

/// Does what [`duty`] decides for each service of a list, by tasks of its own.
pub(super) fn tidy(site: &Arc<Site>, services: Vec<Listed>) {
    let record = site.register.record();
    let mut suspects = Vec::new();
    for service in services {
        match duty(&service, &record.roster, &record.birth) {
            Duty::None => {}
            Duty::Mend => drop(tokio::spawn(mend(Arc::clone(site), service))),
            Duty::Suspect => suspects.push(service),
        }
    }
    let due = lock(&site.leftovers).due(site.now(), suspects.iter().map(|service| service.id.as_str()));
    for service in suspects.into_iter().filter(|service| due.contains(&service.id)) {
        drop(tokio::spawn(clear(Arc::clone(site), service)));
    }
}

async fn mend(site: Arc<Site>, service: Listed) {
    let _turn = site.changes.acquire().await;
    warn!(
        service = service.name,
        replicas = service.replicas(),
        "a service of this fleet was changed by hand: it gets one task again. To take a replica out, say `lb rm 1 HOSTNAME`"
    );
    complain(site.manager.update_service(&service, service.with_one_replica()).await);
}

/// Removes a service that no roster has named for long.
async fn clear(site: Arc<Site>, service: Listed) {
    let _turn = site.changes.acquire().await;
    let is_left_over = site.register.read().await.is_ok_and(|()| {
        let record = site.register.record();
        duty(&service, &record.roster, &record.birth) == Duty::Suspect
    });
    if is_left_over {
        warn!(
            service = service.name,
            "a service of this fleet is in no seat: it is left over, and is removed"
        );
        complain(site.manager.remove_service(&service.id).await);
    }
}

/// Logs a failure, unless another was faster: the service is gone (404), or was changed.
fn complain(done: Result<(), Trouble>) {
    match done {
        Err(trouble) if !trouble.is(404) && !is_stale(&trouble) => {
            warn!(error = %trouble, "a service cannot be mended or removed");
        }
        _ => {}
    }
}

/// Removes the service of a replica that is leaving in this epoch, and tries until nothing is left of it.
pub(super) async fn remove(site: &Site, epoch: Epoch, hostname: &Hostname) {
    loop {
        match try_remove(site, epoch, hostname).await {
            Ok(()) => return,
            Err(trouble) => debug!(%hostname, error = %trouble, "its service is not removed yet"),
        }
        sleep(AGAIN).await;
    }
}

async fn try_remove(site: &Site, epoch: Epoch, hostname: &Hostname) -> Result<(), Trouble> {
    // Without a name that Swarm takes, there is no service.
    let Ok(name) = service::name(site.fleet(), hostname) else { return Ok(()) };
    let _turn = site.changes.acquire().await;
    let found = site.manager.service(&name).await?.and_then(|found| Listed::of(found, site.fleet()));
    let birth = site.register.record().birth.clone();
    let is_it =
        |service: &Listed| service.name == name && service.is_of(&birth) && service.is_of_epoch(epoch);
    let Some(service) = found.filter(is_it) else { return Ok(()) };
    match site.manager.remove_service(&service.id).await {
        Err(trouble) if !trouble.is(404) => return Err(trouble),
        _ => info!(service = name, "the service is removed"),
    }
    Ok(())
}
