//! The life of one container, from its creation (or adoption) to its removal.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
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
use super::inspect::Inspector;
use super::main_process::MainProcess;
use super::site::{Known, Notice, Site};
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
/// How long a keeper waits for the engine to report how a container ended, once its process has ended.
const VERDICT: Duration = Duration::from_secs(1);

/// A container that runs.
struct Container {
    running: Running,
    /// `None` if its main process is not a process of this machine.
    process: Option<MainProcess>,
    known: Known,
    /// Where it takes connections over.
    door: Option<Door>,
}

/// What news about a running container is compared with.
struct Running {
    id: String,
    address: SocketAddr,
    /// Lists that were requested earlier say nothing about it.
    since: Instant,
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
    // Subscribed before it runs, or its end could be missed.
    let mut watch = Watch { notices: site.notices.subscribe(), is_out_of_memory: false };
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
        sign = watch.sign(&container) => {
            report(sign.to_string()).await;
            // The fleet has been told, so there is time to hear how it ended.
            warn!(target: TOLD, %hostname, "container {}", watch.verdict(&container, sign).await);
            return leave(container);
        }
        how = &mut stop => how.unwrap_or(Stopping::AtOnce),
        never = obey(&site, &container.running.id, &mut kill) => match never {},
    };
    end(&site, container, how).await;
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
            NoReplica::Lost(reason) => warn!(target: TOLD, %hostname, "no container: {reason}"),
            NoReplica::Hindered(reason) => {
                site.doubt();
                debug!(%hostname, "no container for now: {reason}");
            }
        }
        // To send fails only if the program is ending.
        let _ = reports.send(why.report(id)).await;
    }
    if let Some((id, _known)) = left {
        site.remove(&id, true).await;
    }
}

/// The first sign of the end of a container.
enum Sign {
    /// The engine has reported it, and how it came.
    Told(String),
    /// The kernel has reported the end of its process, much sooner than the engine.
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

/// Waits for the end of a container.
struct Watch {
    notices: broadcast::Receiver<Notice>,
    /// Whether it ran out of memory.
    is_out_of_memory: bool,
}

impl Watch {
    /// Waits for the first sign of its end.
    async fn sign(&mut self, container: &Container) -> Sign {
        tokio::select! {
            end = self.death(&container.running) => Sign::Told(end),
            () = ended(container.process.as_ref()) => Sign::Process,
        }
    }

    /// How it ended, if the engine reports that soon.
    async fn verdict(&mut self, container: &Container, sign: Sign) -> String {
        match sign {
            Sign::Told(end) => end,
            Sign::Process => timeout(VERDICT, self.death(&container.running))
                .await
                .unwrap_or_else(|_| "has ended; the engine has not reported how".to_owned()),
        }
    }

    /// Waits until the engine reports its end; returns how it ended.
    async fn death(&mut self, running: &Running) -> String {
        loop {
            match self.notices.recv().await {
                Ok(notice) => {
                    if let Some(end) = running.end_by(&notice, &mut self.is_out_of_memory) {
                        return end;
                    }
                }
                // The next list shows what was missed.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => pending().await,
            }
        }
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

impl Running {
    /// How it has ended, if that shows in a notice. Notes in `is_out_of_memory` if it ran out of memory before.
    fn end_by(&self, notice: &Notice, is_out_of_memory: &mut bool) -> Option<String> {
        match notice {
            Notice::OutOfMemory(id) if **id == *self.id => *is_out_of_memory = true,
            Notice::Died(id, exit_code) if **id == *self.id => {
                return Some(container::ended(*exit_code, *is_out_of_memory));
            }
            Notice::Seen(asked, all) if *asked > self.since => {
                return self.end_in(all).map(str::to_owned);
            }
            _ => {}
        }
        None
    }

    /// How it has ended, if that shows in a list of all containers.
    fn end_in(&self, all: &HashMap<String, Listed>) -> Option<&'static str> {
        match all.get(&self.id) {
            None => Some("was removed from outside"),
            Some(listed) if !listed.is_alive() => Some("has ended"),
            // It was restarted from outside, and another container may have its old address.
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
    Ok(Container { running: Running { id: listed.id, address, since }, process, known, door })
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
        return Err(NoReplica::Hindered("another lb holds this fleet".to_owned()).into());
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
            Ok(Container { running: Running { id, address, since }, process, known, door })
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

#[cfg(test)]
mod tests {
    use super::super::container::tests::listed;
    use super::*;

    const ID: &str = "0123456789ab";

    fn running() -> Running {
        Running { id: ID.to_owned(), address: ([10, 0, 0, 2], 80).into(), since: Instant::now() }
    }

    /// What a notice says about the container, if it has not run out of memory before.
    fn end_by(running: &Running, notice: &Notice) -> Option<String> {
        running.end_by(notice, &mut false)
    }

    #[test]
    fn news_about_other_containers_is_no_end() {
        let running = running();
        assert_eq!(end_by(&running, &Notice::Died("ba9876543210".into(), Some(1))), None);
        let mut is_out_of_memory = false;
        running.end_by(&Notice::OutOfMemory("ba9876543210".into()), &mut is_out_of_memory);
        assert!(!is_out_of_memory);
    }

    #[test]
    fn memory_that_ran_out_is_named_when_the_container_dies() {
        let (running, mut is_out_of_memory) = (running(), false);
        assert_eq!(running.end_by(&Notice::OutOfMemory(ID.into()), &mut is_out_of_memory), None);
        let end = running.end_by(&Notice::Died(ID.into(), Some(137)), &mut is_out_of_memory);
        assert_eq!(end.unwrap(), "ended with exit code 137 (it ran out of memory)");
        assert_eq!(end_by(&running, &Notice::Died(ID.into(), None)).unwrap(), "ended with exit code unknown");
    }

    #[test]
    fn a_list_shows_that_it_is_gone_has_ended_or_moved() {
        let running = running();
        let seen = |asked, entries: &[(&str, &str)]| {
            let all = entries.iter().map(|&(state, address)| (ID.to_owned(), listed(ID, state, address)));
            end_by(&running, &Notice::Seen(asked, Arc::new(all.collect())))
        };
        let later = running.since + Duration::from_millis(1);
        assert_eq!(seen(later, &[("running", "10.0.0.2")]), None);
        assert_eq!(seen(later, &[("paused", "10.0.0.2")]), None);
        assert_eq!(seen(later, &[]).unwrap(), "was removed from outside");
        assert_eq!(seen(later, &[("exited", "10.0.0.2")]).unwrap(), "has ended");
        assert_eq!(seen(later, &[("running", "10.0.0.3")]).unwrap(), "has another address");
        assert_eq!(seen(running.since, &[]), None, "a list that was requested earlier says nothing");
    }
}
