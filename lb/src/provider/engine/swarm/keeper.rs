//! The keeper of a seat or spare: follows the tasks of one service, from one that is a replica to its end.
//!
//! Swarm starts, restarts and moves tasks by itself. A keeper creates the service if there is none, waits for its next task, and
//! reports the end of that task. It replaces a task only if it is told that the task hangs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::ServiceSpecUpdateConfigOrderEnum as Order;
use fleet::{Assignment, ReplicaId, Stopping};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::api::is_stale;
use super::board::Seen;
use super::duty::is_named;
use super::inspect::Inspector;
use super::service::{self, Listed, Plan};
use super::site::Site;
use super::tasks::{Standing, Usable, has_to_be_replaced, hindrance, newest, standing, waits_for_room_of};
use crate::log::TOLD;
use crate::provider::engine::no_replica::NoReplica;
use crate::provider::{Carrier, Reach, Report, Reports, Task};

/// How long a start of a slot waits for an API that is away, before it reports that.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two attempts to replace a task that hangs.
const AGAIN: Duration = Duration::from_secs(1);

/// What a keeper knows of its service.
struct Kept {
    service: Option<Followed>,
    /// The id of the task that is the replica.
    task: Option<String>,
}

struct Followed {
    id: String,
    seen: watch::Receiver<Seen>,
}

/// Keeps a replica for `assignment` until its task has ended, or it is to be stopped.
pub(super) async fn keep(
    site: Arc<Site>,
    (id, assignment): (ReplicaId, Assignment),
    reports: Reports,
    mut stop: oneshot::Receiver<Stopping>,
) {
    let mut kept = Kept { service: None, task: None };
    let ended = tokio::select! {
        why = kept.live(&site, (id, &assignment), &reports) => why,
        how = &mut stop => return kept.end(&site, how.unwrap_or(Stopping::Release)),
    };
    let hostname = &assignment.hostname;
    match &ended {
        NoReplica::Lost(reason) => warn!(target: TOLD, %hostname, error = %reason, "no replica"),
        NoReplica::Hindered(reason) => {
            debug!(%hostname, error = %reason, "no replica for now");
            site.is_stale();
        }
    }
    // To send fails only if the program is ending.
    let _ = reports.send(ended.report(id)).await;
}

impl Kept {
    /// The life of a replica; returns why it is over.
    async fn live(
        &mut self,
        site: &Arc<Site>,
        (id, assignment): (ReplicaId, &Assignment),
        reports: &Reports,
    ) -> NoReplica {
        let service = match find(site, assignment).await {
            Ok(service) => service,
            Err(why) => return why,
        };
        let followed = self.service.insert(Followed { seen: site.board.follow(&service), id: service });
        let usable = match next_task(site, followed, id, reports).await {
            Ok(usable) => usable,
            Err(why) => return why,
        };
        self.task = Some(usable.id.clone());
        let node = site.node(&usable.node).await;
        info!(hostname = %assignment.hostname, node, task = usable.id, address = %usable.address, "a task runs");
        let reach = Reach {
            addresses: SocketAddr::new(usable.address, site.settings.common.port).into(),
            door: None,
            inspector: Inspector { site: Arc::clone(site), service: followed.id.clone() }.into(),
            carrier: Some(Carrier::Task(Task { node, id: usable.id.clone() })),
        };
        let _ = reports.send(Report::Started(id, reach)).await;
        NoReplica::Lost(end_of(site, followed, &usable.id).await)
    }

    /// Does what the end of a replica needs that is to be stopped. Its service stays.
    fn end(self, site: &Site, how: Stopping) {
        // The next keeper of the service has the task replaced.
        if let (Stopping::AtOnce, Some(service), Some(task)) = (how, self.service, self.task) {
            site.shun(&service.id, &task);
        }
    }
}

/// The id of the service of a replica. Creates the service if there is none.
async fn find(site: &Site, assignment: &Assignment) -> Result<String, NoReplica> {
    let limit = if assignment.is_urgent { Duration::ZERO } else { PATIENCE };
    let begun = Instant::now();
    loop {
        match try_find(site, assignment).await {
            Err(NoReplica::Hindered(reason)) if begun.elapsed() < limit => {
                debug!(hostname = %assignment.hostname, error = %reason, "no service for now");
                tokio::time::sleep(AGAIN).await;
            }
            found => return found,
        }
    }
}

async fn try_find(site: &Site, assignment: &Assignment) -> Result<String, NoReplica> {
    let hostname = &assignment.hostname;
    let name = service::name(site.fleet(), hostname).map_err(NoReplica::Lost)?;
    let _turn = site.changes.acquire().await;
    let birth = site.register.record().birth.clone();
    if let Some(id) = existing(site, &name, &birth).await? {
        return Ok(id);
    }
    // Others may have removed it, with its slot.
    site.register.read().await?;
    if !is_named(&site.register.record().roster, hostname) {
        return Err(NoReplica::Hindered(format!("{hostname} has left the fleet")));
    }
    let (birth, since) = (birth.as_str(), assignment.since);
    let secrets = site.manager.secrets(&site.settings.secrets).await?;
    let secrets = &secrets.map_err(|missing| NoReplica::Lost(missing.to_string()))?;
    let plan = Plan { settings: &site.settings, hostname, birth, since, secrets, network: &site.network };
    match site.manager.create_service(service::spec(name.clone(), &plan)).await {
        Ok(id) => {
            info!(service = name, "the service is created");
            Ok(id)
        }
        // Another `lb` was faster.
        Err(trouble) if trouble.is(409) => existing(site, &name, birth)
            .await?
            .ok_or_else(|| NoReplica::Lost(format!("there was a service {name}, and is not any more"))),
        Err(trouble) => Err(trouble.into()),
    }
}

/// The id of the service of this name; `None` if there is none.
async fn existing(site: &Site, name: &str, birth: &str) -> Result<Option<String>, NoReplica> {
    let Some(found) = site.manager.service(name).await? else { return Ok(None) };
    let ours = Listed::of(found, site.fleet());
    let ours = ours.filter(|service| service.name == name && service.is_of(birth));
    let foreign = || {
        NoReplica::Lost(format!(
            "the service {name} has not the labels of this fleet: it is not of this fleet, and is left alone"
        ))
    };
    ours.map(|service| Some(service.id)).ok_or_else(foreign)
}

/// Waits for a task of the service that is a replica. Replaces the present one if it hangs.
async fn next_task(
    site: &Arc<Site>,
    followed: &mut Followed,
    replica: ReplicaId,
    reports: &Reports,
) -> Result<Usable, NoReplica> {
    let _waiting = site.wait_for(&followed.id);
    let mut told = None;
    let mut replaced: Option<Instant> = None;
    loop {
        let seen = followed.seen.borrow_and_update().clone();
        match seen {
            Seen::Nothing => {}
            Seen::Gone => return Err(NoReplica::Lost("the service was removed by hand".to_owned())),
            Seen::Tasks(tasks) => {
                let shunned = site.shunned(&followed.id);
                if let Some(usable) = newest(tasks.iter(), &site.network, shunned.as_deref()) {
                    return Ok(usable);
                }
                if let Some(task) = shunned.filter(|task| standing(tasks.iter(), task) == Standing::Runs)
                    && replaced.is_none_or(|at| at.elapsed() >= AGAIN)
                {
                    replace(site, &followed.id, &task).await;
                    replaced = Some(Instant::now());
                }
                let reason = hindrance(tasks.iter());
                if reason.is_some() && reason != told {
                    told.clone_from(&reason);
                    let _ = reports.send(Report::Waits(replica, reason.unwrap_or_default())).await;
                }
            }
        }
        if followed.seen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Has Swarm replace a task that hangs. If another `lb` was faster, or the task has ended, nothing happens.
async fn replace(site: &Site, service: &str, task: &str) {
    let replaced = async {
        let Some(found) = site.manager.service(service).await? else { return Ok(()) };
        let Some(found) = Listed::of(found, site.fleet()).filter(|found| found.id == service) else {
            return Ok(());
        };
        // The version was read before the tasks: if the task is replaced in between, it is old, and the change is refused.
        let tasks = site.manager.tasks_of(&[service.to_owned()]).await?;
        let order = if has_to_be_replaced(&tasks, &site.network, task, found.force_update()) {
            info!(service = found.name, task, "the task does not respond: Swarm is told to replace it");
            Order::START_FIRST
        } else if waits_for_room_of(&tasks, task, found.force_update()) {
            info!(
                service = found.name,
                task, "there is no room for the next task: the one that does not respond is stopped first"
            );
            Order::STOP_FIRST
        } else {
            return Ok(());
        };
        site.manager.update_service(&found, found.with_the_next_task(order)).await
    };
    match replaced.await {
        Err(trouble) if !trouble.is(404) && !is_stale(&trouble) => {
            warn!(error = %trouble, "Swarm cannot be told to replace a task");
        }
        _ => {}
    }
}

/// Waits for the end of the task that is the replica, or for a newer one; returns the reason.
async fn end_of(site: &Site, followed: &mut Followed, task: &str) -> String {
    let mut missed = false;
    loop {
        let seen = followed.seen.borrow_and_update().clone();
        match seen {
            Seen::Nothing => {}
            Seen::Gone => return "the service was removed by hand".to_owned(),
            Seen::Tasks(tasks) => {
                let newer = newest(tasks.iter(), &site.network, None).filter(|usable| usable.id != task);
                match standing(tasks.iter(), task) {
                    Standing::Over(reason) => return reason,
                    _ if newer.is_some() => return "Swarm has started a newer task".to_owned(),
                    // One answer without it may be an old one.
                    Standing::Missing if std::mem::replace(&mut missed, true) => {
                        return "the task is gone".to_owned();
                    }
                    // Its successor comes soon.
                    Standing::Missing | Standing::Ends => site.doubt(&followed.id),
                    Standing::Runs => missed = false,
                }
            }
        }
        if followed.seen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
