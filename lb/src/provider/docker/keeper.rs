//! The life of one container, from its making (or its adoption) to its removal.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, oneshot};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::container::{self, Listed};
use super::engine::Trouble;
use super::events::Notice;
use super::process::Process;
use super::site::{Known, Site};
use crate::provider::{Assignment, ReplicaId, Report, Reports, Stopping};

/// How long a container may take to end after its stop signal before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How long after the end of its process the engine may take to tell how a container ended.
const VERDICT: Duration = Duration::from_secs(1);

/// A container that runs.
struct Container {
    id: String,
    address: SocketAddr,
    /// Its first process, if that is a process of this machine.
    process: Option<Process>,
    /// Nothing that was found out about it before this says anything about it now.
    since: Instant,
    known: Known,
}

/// Why there is no container.
enum Failure {
    /// It cannot be had, or has ended already.
    Lost(String),
    /// The engine is in no state to do anything.
    Hindered(String),
    /// Nobody wants it any more.
    Unwanted,
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        if trouble.is_the_engines() {
            Failure::Hindered(trouble.to_string())
        } else {
            Failure::Lost(trouble.to_string())
        }
    }
}

/// Keeps a container for `assignment` until it has ended or is to be stopped; `found` is one that is there already.
pub(super) async fn keep(
    site: Arc<Site>,
    (id, assignment): (ReplicaId, Assignment),
    found: Option<(Listed, Known)>,
    reports: Reports,
    mut stop: oneshot::Receiver<Stopping>,
) {
    // Before it runs, or its death could be missed.
    let notices = site.notices.subscribe();
    let hostname = &assignment.hostname;
    let obtained = match found {
        Some((listed, known)) => adopt(&site, listed, known).await,
        None => make(&site, &assignment, &mut stop).await,
    };
    // To send fails only if the program is ending.
    let container = match obtained {
        Ok(container) => container,
        Err(Failure::Unwanted) => return,
        Err(Failure::Lost(reason)) => {
            warn!(%hostname, "no container: {reason}");
            return drop(reports.send(Report::Lost(id, reason)).await);
        }
        Err(Failure::Hindered(reason)) => {
            warn!(%hostname, "no container for now: {reason}");
            return drop(reports.send(Report::Hindered(id, reason)).await);
        }
    };
    let _ = reports.send(Report::Started(id, container.address)).await;
    let report = async |reason| drop(reports.send(Report::Lost(id, reason)).await);
    let how = tokio::select! {
        end = watch(&container, notices, report) => {
            info!(%hostname, "container {end}");
            Stopping::AtOnce
        }
        how = &mut stop => how.unwrap_or(Stopping::AtOnce),
    };
    end(&site, container, how).await;
}

/// Waits for the end of a container, and reports it as soon as it is known; how it ended.
async fn watch(
    container: &Container,
    notices: broadcast::Receiver<Notice>,
    report: impl AsyncFnOnce(String),
) -> String {
    let mut death = pin!(death(container, notices));
    tokio::select! {
        end = &mut death => {
            report(end.clone()).await;
            end
        }
        // Much sooner than the engine tells it.
        () = ended(container.process.as_ref()) => {
            report("has ended".to_owned()).await;
            timeout(VERDICT, death).await.unwrap_or_else(|_| "has ended".to_owned())
        }
    }
}

async fn ended(process: Option<&Process>) {
    match process {
        Some(process) => process.ended().await,
        None => pending().await,
    }
}

/// Takes over a container that another `lb` has started.
async fn adopt(site: &Site, listed: Listed, known: Known) -> Result<Container, Failure> {
    let since = Instant::now();
    let inspected = site.engine.inspect(&listed.id).await?;
    match container::address(&inspected, &site.settings) {
        Some(address) => {
            let process = Process::of(&inspected, &listed.id);
            Ok(Container { id: listed.id, address, process, since, known })
        }
        None => {
            site.remove(&listed.id).await;
            Err(Failure::Lost(container::end(&inspected)))
        }
    }
}

/// Makes a container and starts it.
async fn make(
    site: &Arc<Site>,
    assignment: &Assignment,
    stop: &mut oneshot::Receiver<Stopping>,
) -> Result<Container, Failure> {
    let _turn = tokio::select! {
        turn = site.starts.acquire() => turn,
        _ = stop => return Err(Failure::Unwanted),
    };
    if !site.is_held() {
        return Err(Failure::Hindered("another lb holds this fleet".to_owned()));
    }
    let (id, known) = create(site, assignment).await?;
    match start(site, &id).await {
        Ok((address, process, since)) => Ok(Container { id, address, process, since, known }),
        Err(failure) => {
            site.remove(&id).await;
            Err(failure)
        }
    }
}

async fn create(site: &Arc<Site>, assignment: &Assignment) -> Result<(String, Known), Trouble> {
    let body = container::body(&site.settings, assignment);
    let name = format!("{}-{}", site.settings.fleet, assignment.hostname);
    let known = site.know(name.clone());
    match site.engine.create(known.name(), body.clone()).await {
        // The name belongs to somebody else, or to one of ours that is on its way out.
        Err(trouble) if trouble.is(409) => {
            let known = site.know(format!("{name}.{:06x}", fastrand::u32(..1 << 24)));
            Ok((site.engine.create(known.name(), body).await?, known))
        }
        created => Ok((created?, known)),
    }
}

/// Starts a container; where it listens, its process, and since when.
async fn start(site: &Site, id: &str) -> Result<(SocketAddr, Option<Process>, Instant), Failure> {
    match site.engine.start(id).await {
        // Somebody may have removed the network.
        Err(trouble) if trouble.is(404) && site.ensure_network().await? => site.engine.start(id).await?,
        started => started?,
    }
    let since = Instant::now();
    let inspected = site.engine.inspect(id).await?;
    let address = container::address(&inspected, &site.settings);
    let address = address.ok_or_else(|| Failure::Lost(container::end(&inspected)))?;
    Ok((address, Process::of(&inspected, id), since))
}

/// Waits for the end of a container; how it ended.
async fn death(container: &Container, mut notices: broadcast::Receiver<Notice>) -> String {
    let mut is_out_of_memory = false;
    loop {
        match notices.recv().await {
            Ok(Notice::OutOfMemory(id)) if *id == *container.id => is_out_of_memory = true,
            Ok(Notice::Died(id, exit_code)) if *id == *container.id => {
                return container::ended(exit_code, is_out_of_memory);
            }
            Ok(Notice::Seen(asked, all)) if asked > container.since => match all.get(&container.id) {
                None => return "was removed by somebody".to_owned(),
                Some(listed) if !listed.is_alive() => return "has ended".to_owned(),
                // It was started again by somebody, and another container may have its old address.
                Some(listed) if listed.address != Some(container.address.ip()) => {
                    return "has another address".to_owned();
                }
                Some(_) => {}
            },
            // What was missed shows when all containers are listed the next time.
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => pending().await,
        }
    }
}

async fn end(site: &Site, container: Container, how: Stopping) {
    if how == Stopping::Release {
        container.known.for_good();
        return;
    }
    let _turn = site.stops.acquire().await;
    if how == Stopping::Gently {
        site.stop(&container.id, GRACE).await;
    }
    site.remove(&container.id).await;
}
