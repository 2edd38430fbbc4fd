//! The life of one container, from its making (or its adoption) to its removal.

use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{SemaphorePermit, broadcast, oneshot};
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::api::Trouble;
use super::container::{self, Listed};
use super::main_process::MainProcess;

use super::site::{Known, Notice, Site};
use crate::fleet::{Assignment, ReplicaId, Stopping};
use crate::provider::doors::{Door, Doors};
use crate::provider::{Reach, Report, Reports};

/// How long a container may take to end after its stop signal before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How long a replacement waits for an engine that is away before it says so. (A spare may take its place then.)
const PATIENCE: Duration = Duration::from_secs(10);
/// How long after the end of its process the engine may take to tell how a container ended.
const VERDICT: Duration = Duration::from_secs(1);

/// A container that runs.
struct Container {
    id: String,
    address: SocketAddr,
    /// Its first process, if that is a process of this machine.
    process: Option<MainProcess>,
    /// Nothing that was found out about it before this says anything about it now.
    since: Instant,
    known: Known,
    /// Where it takes connections over.
    door: Option<Door>,
}

/// Why there is no container.
enum Why {
    /// It cannot be had, or has ended already.
    Lost(String),
    /// The engine is in no state to do anything.
    Hindered(String),
    /// Nobody wants it any more.
    Unwanted,
}

/// There is no container, but perhaps something is left of one.
struct Failure {
    why: Why,
    left: Option<(String, Known)>,
}

impl From<Why> for Failure {
    fn from(why: Why) -> Self {
        Failure { why, left: None }
    }
}

impl From<Trouble> for Why {
    fn from(trouble: Trouble) -> Self {
        if trouble.is_the_engines() {
            Why::Hindered(trouble.to_string())
        } else {
            Why::Lost(trouble.to_string())
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
    let mut vigil = Vigil { notices: site.notices.subscribe(), is_out_of_memory: false };
    let hostname = &assignment.hostname;
    let obtained = match found {
        Some((listed, known)) => adopt(&site, listed, known).await,
        None => make(&site, &assignment, &mut stop).await,
    };
    // To send fails only if the program is ending.
    let container = match obtained {
        Ok(container) => container,
        Err(Failure { why, left }) => {
            let _ = match why {
                Why::Lost(reason) => {
                    warn!(%hostname, "no container: {reason}");
                    reports.send(Report::Lost(id, reason)).await
                }
                Why::Hindered(reason) => {
                    site.doubt();
                    debug!(%hostname, "no container for now: {reason}");
                    reports.send(Report::Hindered(id, reason)).await
                }
                Why::Unwanted => Ok(()),
            };
            if let Some((id, _known)) = left {
                site.remove(&id).await;
            }
            return;
        }
    };
    let _ = reports.send(Report::Started(id, container.reach())).await;
    let report = async |reason| drop(reports.send(Report::Lost(id, reason)).await);
    let how = tokio::select! {
        sign = vigil.sign(&container) => {
            report(sign.to_string()).await;
            // Nobody asks for it to be stopped any more, so there is time to hear how it ended.
            info!(%hostname, "container {}", vigil.verdict(&container, sign).await);
            Stopping::AtOnce
        }
        how = &mut stop => how.unwrap_or(Stopping::AtOnce),
    };
    end(&site, container, how).await;
}

/// How the end of a container is known.
enum Sign {
    /// The engine has told it, and how it came.
    Told(String),
    /// The kernel knows that its process has ended, much sooner than the engine tells it.
    Process,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sign::Told(end) => end,
            Sign::Process => "has ended",
        })
    }
}

/// Waiting for the end of a container.
struct Vigil {
    notices: broadcast::Receiver<Notice>,
    /// Whether it has asked for more memory than it may have.
    is_out_of_memory: bool,
}

impl Vigil {
    /// Waits for the first sign of its end.
    async fn sign(&mut self, container: &Container) -> Sign {
        tokio::select! {
            end = self.death(container) => Sign::Told(end),
            () = ended(container.process.as_ref()) => Sign::Process,
        }
    }

    /// What the engine says of its end, if it does so soon.
    async fn verdict(&mut self, container: &Container, sign: Sign) -> String {
        match sign {
            Sign::Told(end) => end,
            Sign::Process => timeout(VERDICT, self.death(container))
                .await
                .unwrap_or_else(|_| "has ended, and the engine does not say how".to_owned()),
        }
    }

    /// Waits until the engine tells its end; how it ended.
    async fn death(&mut self, container: &Container) -> String {
        loop {
            match self.notices.recv().await {
                Ok(Notice::OutOfMemory(id)) if *id == *container.id => self.is_out_of_memory = true,
                Ok(Notice::Died(id, exit_code)) if *id == *container.id => {
                    return container::ended(exit_code, self.is_out_of_memory);
                }
                Ok(Notice::Seen(asked, all)) if asked > container.since => {
                    if let Some(end) = container.end_by(&all) {
                        return end.to_owned();
                    }
                }
                // What was missed shows when all containers are listed the next time.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => pending().await,
            }
        }
    }
}

impl Container {
    fn reach(&self) -> Reach {
        Reach { address: self.address, door: self.door.as_ref().map(|door| door.path().to_owned()) }
    }

    /// How it has ended, if that shows in a list of all containers.
    fn end_by(&self, all: &HashMap<String, Listed>) -> Option<&'static str> {
        match all.get(&self.id) {
            None => Some("was removed by somebody"),
            Some(listed) if !listed.is_alive() => Some("has ended"),
            // It was started again by somebody, and another container may have its old address.
            Some(listed) if listed.address != Some(self.address.ip()) => Some("has another address"),
            Some(_) => None,
        }
    }
}

async fn ended(process: Option<&MainProcess>) {
    match process {
        Some(process) => process.ended().await,
        None => pending().await,
    }
}

/// Takes over a container that another `lb` has started.
async fn adopt(site: &Site, listed: Listed, known: Known) -> Result<Container, Failure> {
    let since = Instant::now();
    let obtained = match site.engine.inspect(&listed.id).await {
        Ok(inspected) => container::address(&inspected, &site.settings)
            .map(|address| (address, MainProcess::of(&inspected, &listed.id)))
            .ok_or_else(|| container::end(&inspected)),
        Err(trouble) if trouble.is(404) => Err("was removed by somebody".to_owned()),
        // It was there when all were listed. If it is not any more, that will show.
        Err(trouble) => listed
            .address
            .map(|address| (SocketAddr::new(address, site.settings.port), None))
            .ok_or_else(|| trouble.to_string()),
    };
    let door = site.doors.as_ref().zip(listed.identity.door).and_then(|(doors, name)| doors.known(&name));
    match obtained {
        Ok((address, process)) => Ok(Container { id: listed.id, address, process, since, known, door }),
        Err(reason) => Err(Failure { why: Why::Lost(reason), left: Some((listed.id, known)) }),
    }
}

/// Makes a container and starts it.
async fn make(
    site: &Arc<Site>,
    assignment: &Assignment,
    stop: &mut oneshot::Receiver<Stopping>,
) -> Result<Container, Failure> {
    let _turn = tokio::select! {
        biased;
        _ = stop => return Err(Why::Unwanted.into()),
        () = absence(site, assignment.is_urgent) => {
            return Err(Why::Hindered("the engine is away".to_owned()).into());
        }
        turn = turn(site) => turn,
    };
    if !site.is_held() {
        return Err(Why::Hindered("another lb holds this fleet".to_owned()).into());
    }
    let door = site.doors.as_ref().map(Doors::fresh);
    let (id, known) = create(site, assignment, door.as_ref()).await.map_err(Why::from)?;
    match start(site, &id).await {
        Ok((address, process, since)) => Ok(Container { id, address, process, since, known, door }),
        Err(why) => Err(Failure { why, left: Some((id, known)) }),
    }
}

/// Completes when it is no use to wait for the engine: for who is in a hurry as soon as it does not answer, for others when
/// it has been away for a while. One that is there and busy is worth any wait.
async fn absence(site: &Site, is_urgent: bool) {
    if is_urgent {
        tokio::select! {
            () = site.away(true) => {}
            _ = site.engine.hung() => {}
        }
        return;
    }
    loop {
        site.away(true).await;
        if timeout(PATIENCE, site.away(false)).await.is_err() {
            return;
        }
    }
}

/// Waits until the engine is there and has time.
async fn turn(site: &Site) -> Option<SemaphorePermit<'_>> {
    site.away(false).await;
    site.starts.acquire().await.ok()
}

async fn create(
    site: &Arc<Site>,
    assignment: &Assignment,
    door: Option<&Door>,
) -> Result<(String, Known), Trouble> {
    let body = container::body(&site.settings, assignment, site.doors.as_ref().zip(door));
    let name = format!("{}-{}", site.settings.fleet, assignment.hostname);
    let known = site.know(name.clone()).unwrap_or_else(|| site.know_variant(&name));
    match site.engine.create(known.name(), body.clone()).await {
        // The name belongs to somebody else, or to what is left of one of ours.
        Err(trouble) if trouble.is(409) => {
            let known = site.know_variant(&name);
            Ok((site.engine.create(known.name(), body).await?, known))
        }
        created => Ok((created?, known)),
    }
}

/// Starts a container; where it listens, its process, and since when.
async fn start(site: &Site, id: &str) -> Result<(SocketAddr, Option<MainProcess>, Instant), Why> {
    match site.engine.start(id).await {
        // Somebody may have removed the network.
        Err(trouble) if trouble.is(404) => {
            site.ensure_network().await?;
            site.engine.start(id).await?;
        }
        started => started?,
    }
    let since = Instant::now();
    let inspected = site.engine.inspect(id).await?;
    let address = container::address(&inspected, &site.settings);
    let address = address.ok_or_else(|| Why::Lost(container::end(&inspected)))?;
    Ok((address, MainProcess::of(&inspected, id), since))
}

async fn end(site: &Site, container: Container, how: Stopping) {
    if how == Stopping::Release {
        container.known.for_good();
        return;
    }
    let _turn = site.stops.acquire().await;
    if site.is_away() {
        // A sweep removes it when the engine is back, or the next lb does.
        return;
    }
    if how == Stopping::Gently {
        site.stop(&container.id, GRACE).await;
    }
    if site.remove(&container.id).await {
        container.door.into_iter().for_each(Door::remove);
    }
}
