//! The life of one container, from its creation (or adoption) to its removal.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fleet::{Assignment, ReplicaId, Stopping};
use proto::control::Hostname;
use tokio::sync::{SemaphorePermit, broadcast, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::container::{self, Listed, Plan};
use super::ending::{Running, Watch};
use super::inspect::Inspector;
use super::main_process::MainProcess;
use super::site::{HELD_BY_ANOTHER, Known, Notice, Site};
use crate::log::TOLD;
use crate::provider::doors::{Door, Doors};
use crate::provider::engine::call::Trouble;
use crate::provider::engine::dress::GRACE;
use crate::provider::engine::identity::Identity;
use crate::provider::engine::no_replica::NoReplica;
use crate::provider::keeper::{Kill, Wishes};
use crate::provider::{Carrier, Reach, Report, Reports};

/// How long a replacement waits for an engine that is away before it reports that. (A spare may take its place then.)
const PATIENCE: Duration = Duration::from_secs(10);

/// A container that runs.
struct Container {
    running: Running,
    known: Known,
    /// Where it takes connections over.
    door: Option<Door>,
}

/// There is no running container. The one that was made in vain, if any, has to be removed.
struct Failure {
    /// `None` if it was told to stop before it was created.
    why: Option<NoReplica>,
    left: Option<(String, Known)>,
}

impl From<NoReplica> for Failure {
    fn from(why: NoReplica) -> Self {
        Failure { why: Some(why), left: None }
    }
}

/// Keeps a container for `assignment` until it has ended or is to be stopped; `found` is a running one to adopt.
pub(super) async fn keep(
    site: Arc<Site>,
    (id, assignment): (ReplicaId, Assignment),
    found: Option<(Listed, Known)>,
    reports: Reports,
    Wishes { mut stop, mut kill }: Wishes,
) {
    let mut watch = Watch::of(&site);
    let hostname = &assignment.hostname;
    let obtained = match found {
        Some((listed, known)) => adopt(&site, listed, known).await,
        None => make(&site, &assignment, &mut stop).await,
    };
    let container = match obtained {
        Ok(container) => container,
        Err(failure) => return fail(&site, (id, hostname), failure, &reports).await,
    };
    // To send fails only if the program is ending.
    let _ = reports.send(Report::Started(id, container.reach(&site))).await;
    let report = async |reason| drop(reports.send(Report::Lost(id, reason)).await);
    let how = tokio::select! {
        sign = watch.sign(&container.running) => {
            report(sign.to_string()).await;
            // The fleet has been told, so there is time to hear how it ended.
            let reason = watch.verdict(&container.running, sign).await;
            warn!(target: TOLD, %hostname, reason, "container {reason}");
            return leave(container);
        }
        how = &mut stop => how.unwrap_or(Stopping::AtOnce),
        never = obey(&site, &container.running.id, &mut kill) => match never {},
    };
    end(&site, container, how).await;
}

/// Leaves a container alone that another process stops, until it is gone, or for this time at most. A sweep removes it then.
pub(super) async fn exempt(site: Arc<Site>, _known: Known, id: String, limit: Duration) {
    let mut notices = site.notices.subscribe();
    let gone = async {
        loop {
            match notices.recv().await {
                Ok(Notice::Seen(_, all)) if !all.contains_key(&id) => return,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => pending().await,
            }
        }
    };
    // Gone or not, the sweeps see to it from now on.
    let _ = timeout(limit, gone).await;
}

/// Kills a container whenever that is wished. Its end shows as any other. Usually it shows sooner than the engine answers, and no answer
/// is waited for then.
async fn obey(site: &Site, id: &str, kills: &mut mpsc::Receiver<Kill>) -> Infallible {
    while let Some(done) = kills.recv().await {
        // The client may have gone.
        let _ = done.send(site.kill(id).await);
    }
    pending().await
}

/// Leaves a container that has ended by itself or by hand to the sweeps, which remove it later: the command that ended it may not be
/// over.
fn leave(container: Container) {
    container.door.into_iter().for_each(Door::remove);
}

/// Reports that there is no container, and removes the one that is left.
async fn fail(
    site: &Site,
    (id, hostname): (ReplicaId, &Hostname),
    Failure { why, left }: Failure,
    reports: &Reports,
) {
    if let Some(why) = why {
        match &why {
            NoReplica::Lost(reason) => warn!(target: TOLD, %hostname, error = %reason, "no container"),
            NoReplica::Hindered(reason) => {
                site.doubt();
                debug!(%hostname, error = %reason, "no container for now");
            }
        }
        // To send fails only if the program is ending.
        let _ = reports.send(why.report(id)).await;
    }
    if let Some((id, _known)) = left {
        site.remove(&id, true).await;
    }
}

impl Container {
    fn reach(&self, site: &Arc<Site>) -> Reach {
        let inspector = Inspector { site: Arc::clone(site), id: self.running.id.clone() };
        Reach {
            addresses: self.running.address.into(),
            door: self.door.as_ref().map(|door| door.path().to_owned()),
            carrier: Some(Carrier::Container(self.running.id.clone())),
            inspector: inspector.into(),
        }
    }
}

/// Takes over a container that another `lb` has started.
async fn adopt(site: &Site, listed: Listed, known: Known) -> Result<Container, Failure> {
    let since = Instant::now();
    let obtained = match site.engine.inspect(&listed.id).await {
        Ok(inspected) => container::address(&inspected, &site.settings, &site.network())
            .map(|address| (address, MainProcess::of(&inspected, &listed.id)))
            .ok_or_else(|| container::end(&inspected)),
        Err(trouble) if trouble.is(404) => Err("was removed from outside".to_owned()),
        // It was in the list of all containers. If it is gone since, the next list shows it.
        Err(trouble) => listed
            .address
            .map(|address| (SocketAddr::new(address, site.settings.common.port), None))
            .ok_or_else(|| trouble.to_string()),
    };
    let door = site.door_of(&listed);
    // If it has ended, the sweeps remove it later.
    let (address, process) = obtained.map_err(NoReplica::Lost)?;
    Ok(Container { running: Running { id: listed.id, address, since, process }, known, door })
}

/// Creates a container and starts it.
async fn make(
    site: &Arc<Site>,
    assignment: &Assignment,
    stop: &mut oneshot::Receiver<Stopping>,
) -> Result<Container, Failure> {
    let _turn = tokio::select! {
        biased;
        _ = stop => return Err(Failure { why: None, left: None }),
        () = absence(site, assignment.is_urgent) => {
            return Err(NoReplica::Hindered("the engine is away".to_owned()).into());
        }
        turn = turn(site) => turn,
    };
    if !site.is_held() {
        return Err(NoReplica::Hindered(HELD_BY_ANOTHER.to_owned()).into());
    }
    let door = site.doors.as_ref().map(Doors::fresh);
    let network = site.network();
    let mut made = create(site, assignment, door.as_ref(), &network).await.map_err(NoReplica::from)?;
    let mut started = site.engine.start(&made.0).await;
    // The network may have been removed.
    if started.as_ref().is_err_and(|trouble| trouble.is(404)) {
        started = match site.renew_network().await {
            Ok(renewed) if renewed == network => site.engine.start(&made.0).await,
            Ok(renewed) => {
                site.remove(&made.0, true).await;
                made = create(site, assignment, door.as_ref(), &renewed).await.map_err(NoReplica::from)?;
                site.engine.start(&made.0).await
            }
            Err(trouble) => Err(trouble),
        };
    }
    let (id, known) = made;
    match look(site, &id, started).await {
        Ok((address, process, since)) => {
            Ok(Container { running: Running { id, address, since, process }, known, door })
        }
        Err(why) => Err(Failure { why: Some(why), left: Some((id, known)) }),
    }
}

/// Completes when there is no point in waiting for the engine: if it is urgent as soon as the engine does not answer pings, else when
/// the engine has been away for a while. A start waits for a busy engine without limit.
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

/// Waits until the engine is there, and for one of the places to start a container.
async fn turn(site: &Site) -> Option<SemaphorePermit<'_>> {
    site.away(false).await;
    site.starts.acquire().await.ok()
}

async fn create(
    site: &Arc<Site>,
    assignment: &Assignment,
    door: Option<&Door>,
    network: &str,
) -> Result<(String, Known), Trouble> {
    let (identity, mut known) = identify(site, assignment, door);
    let body = container::body(&Plan {
        settings: &site.settings,
        identity: &identity,
        hostname: &assignment.hostname,
        door: site.doors.as_ref().zip(door),
        network,
    });
    let name = format!("{}-{}", site.settings.common.fleet, assignment.hostname);
    let id = match site.engine.create(&name, body.clone()).await {
        // Another container has the name: a foreign one, or what is left of one of this fleet.
        Err(trouble) if trouble.is(409) => {
            let variant = format!("{name}.{:06x}", fastrand::u32(..1 << 24));
            site.engine.create(&variant, body).await?
        }
        created => created?,
    };
    known.created(&id);
    Ok((id, known))
}

/// The identity of a new container. Lists may show it before the engine has told its id: until then it is known by its nonce.
fn identify(site: &Arc<Site>, assignment: &Assignment, door: Option<&Door>) -> (Identity, Known) {
    loop {
        let identity = Identity::new(assignment, door.map(Door::name), fastrand::u64(..));
        if let Some(known) = identity.nonce.as_deref().and_then(|nonce| site.know(nonce)) {
            return (identity, known);
        }
    }
}

/// Looks at a container that was `started`; returns its address, its main process, and since when it runs.
async fn look(
    site: &Site,
    id: &str,
    started: Result<(), Trouble>,
) -> Result<(SocketAddr, Option<MainProcess>, Instant), NoReplica> {
    started?;
    let since = Instant::now();
    let inspected = site.engine.inspect(id).await?;
    let address = container::address(&inspected, &site.settings, &site.network());
    let address = address.ok_or_else(|| NoReplica::Lost(container::end(&inspected)))?;
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
        site.stop(&container.running.id, GRACE).await;
    }
    if site.remove(&container.running.id, true).await {
        container.door.into_iter().for_each(Door::remove);
    }
}
