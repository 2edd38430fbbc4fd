//! Health checks: probes each replica, and reports what the judge believes.
//!
//! A probe ([`probe`]) asks the application, with a deadline, because the kernel completes handshakes for a program that hangs. What
//! probes show together is decided by the judge ([`judge`]), which is pure. A starting replica is probed often, so that it joins soon.
//! A replica that failed one probe is probed again at once, and so is one at which a session failed: that alone is no evidence,
//! because a client's garbage can make a healthy replica reset. A local shortage (files, memory, ports) is not held against a
//! replica.
//!
//! A passed probe also makes the link to a replica that takes connections over ([`Links`]).
//!
//! Where a replica has a name, its name is followed: the addresses that it gets are probed before sessions go there, and while the
//! replica is in doubt, its name is asked for sooner.
//!
//! This module replaces nothing. It tells the controller that probes pass, that they fail, and that a failing replica has been
//! silent for too long. A replica with open sessions may be busy with them, so its silence counts later, unless its provider says
//! that it is stopped.

mod judge;
mod probe;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use fleet::{Event, ReplicaId};
use proto::proxy::Version;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use super::Events;
use super::link::Links;
use crate::net::{Addresses, Endpoint, is_local, more_telling};
use crate::provider::Inspector;
use crate::replica::{Probed, Replica};
use judge::{Judge, Rules, Silence};
use probe::{Asked, Prober};
pub(crate) use probe::{Http, Kind, Probe, Runner, Statuses};

/// How long a provider may take to answer.
const INSPECTION: Duration = Duration::from_secs(1);
/// The least time between two wishes to ask again for the name of a replica in doubt.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// How replicas are probed, and what the results mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// What a probe asks.
    pub probe: Probe,
    /// The version of the PROXY header that comes before a probe, for replicas that get one from clients; `None`: none comes.
    pub foreword: Option<Version>,
    /// The time between two probes.
    pub interval: Duration,
    /// The deadline of one probe.
    pub timeout: Duration,
    /// The number of failures in a row that take a replica out of rotation.
    pub fall: u32,
    /// The number of passes in a row that take it into rotation.
    pub rise: u32,
    /// How long a failing replica may send nothing before it is replaced, if it has no open sessions or is stopped.
    pub replace_after: Duration,
    /// The same for a replica that has open sessions and runs: it may be busy with them.
    pub replace_busy_after: Duration,
    /// What becomes of the open sessions of a replica that is taken out of rotation because it fails its probes.
    pub on_down: OnDown,
}

/// What becomes of open sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDown {
    /// They stay: the replica may still serve them.
    Keep,
    /// They are reset, so that their clients connect again, to another replica.
    Reset,
}

impl HealthPolicy {
    fn rules(&self) -> Rules {
        let HealthPolicy { interval, fall, rise, replace_after, replace_busy_after, .. } = *self;
        // A busy replica is never replaced sooner than an idle one.
        let replace_busy_after = replace_busy_after.max(replace_after);
        Rules { interval, fall, rise, replace_after, replace_busy_after }
    }
}

/// Probes a replica until this future is dropped, always by the newest policy. With `identity`, an answer that names another hostname
/// fails the probe.
pub(super) async fn watch(
    id: ReplicaId,
    replica: Arc<Replica>,
    inspector: Inspector,
    identity: bool,
    (mut policies, runner): (watch::Receiver<HealthPolicy>, Runner),
    events: Events,
) {
    let policy = policies.borrow_and_update().clone();
    let mut watch = Watch {
        judge: Judge::new(policy.rules()),
        begun: Instant::now(),
        is_asked_for: false,
        identity: identity.then(|| replica.hostname.clone()),
        links: Links::default(),
        replica,
        inspector,
        next: None,
        asked: None,
        prober: Prober::new(runner),
        policy,
        policies,
    };
    loop {
        watch.follow().await;
        for event in watch.observe(id).await {
            if events.send(event).await.is_err() {
                return;
            }
        }
        watch.pause().await;
    }
}

/// What a probe counts as.
fn probed<T>(outcome: &io::Result<T>) -> Probed {
    match outcome {
        Ok(_) => Probed::Ok,
        Err(error) if is_local(error) => Probed::Local,
        Err(_) => Probed::Failed,
    }
}

/// The probes of one replica.
struct Watch {
    replica: Arc<Replica>,
    inspector: Inspector,
    /// Where it has moved to, if that has not been probed yet, and how many probes have failed there.
    next: Option<(Addresses, u32)>,
    /// When its name was last asked for because of a doubt.
    asked: Option<Instant>,
    links: Links,
    prober: Prober,
    /// The hostname that an answer may name.
    identity: Option<String>,
    policy: HealthPolicy,
    /// Whatever comes after it.
    policies: watch::Receiver<HealthPolicy>,
    judge: Judge,
    begun: Instant,
    /// Whether a session has asked for the next probe.
    is_asked_for: bool,
}

impl Watch {
    /// Sends one probe, and returns the events that follow from it.
    async fn observe(&mut self, id: ReplicaId) -> Vec<Event> {
        let in_doubt = !self.judge.is_well() || self.replica.suspicion.is_raised() || self.is_asked_for;
        if self.replica.suspicion.is_raised() {
            self.doubt_address();
        }
        let asked = Instant::now();
        let addresses = self.replica.addresses();
        let outcome = self.ask(&addresses, in_doubt).await;
        self.replica.counters.probed(probed(&outcome), asked.elapsed());
        let now = self.begun.elapsed();
        self.judge.hear(self.replica.received(), now);
        match outcome {
            Ok(address) => {
                match self.check_owner().await {
                    Some(Ok(())) => {}
                    Some(Err(reason)) => return vec![Event::Usurped(id, reason)],
                    None => return Vec::new(),
                }
                self.replica.prefer(&address);
                self.replica.suspicion.clear();
                // Before its first connection.
                self.links.ensure(&self.replica);
                Vec::from_iter(self.judge.pass(now).then_some(Event::Passed(id)))
            }
            Err(error) if is_local(&error) => Vec::new(),
            Err(error) => {
                self.replica.suspicion.raise();
                self.doubt_address();
                self.inspector.doubt();
                self.fail(id, format!("probe: {error}")).await
            }
        }
    }

    /// Checks, before a passed probe makes the replica healthy, that it was the replica that answered. `None`: that takes too long.
    async fn check_owner(&self) -> Option<Result<(), String>> {
        if self.judge.is_well() {
            return Some(Ok(()));
        }
        timeout(INSPECTION, self.inspector.check_owner()).await.ok()
    }

    /// Probes each of these addresses until one answers, and returns that.
    async fn ask(&mut self, addresses: &Addresses, in_doubt: bool) -> io::Result<Endpoint> {
        let HealthPolicy { probe, timeout, foreword, .. } = &self.policy;
        let (foreword, identity) = (foreword.map_or(&b""[..], Version::local), self.identity.as_deref());
        let (hostname, slot) = (self.replica.hostname.as_str(), self.replica.slot());
        let mut failure = None;
        for address in addresses.iter() {
            match self
                .prober
                .ask(probe, Asked { address, hostname, slot, foreword, identity, in_doubt }, *timeout)
                .await
            {
                Ok(()) => return Ok(address.clone()),
                Err(error) => failure = Some(more_telling(failure, error)),
            }
        }
        Err(failure.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into()))
    }

    /// Its address may be an old one: its name is asked for soon.
    fn doubt_address(&mut self) {
        if self.asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
            self.asked = Some(Instant::now());
            self.inspector.ask_soon();
        }
    }

    /// Follows its name to other addresses. Sessions go there when a probe has passed there, so that a healthy replica is not given up
    /// for one that is not ready; and without that when the old address is in doubt, or is one of the new ones, or when as many probes
    /// have failed there as take a replica out of rotation: the name says where it is.
    async fn follow(&mut self) {
        let Some((addresses, failures)) = self.next.take() else { return };
        let is_known = addresses.contains(&self.replica.address());
        if is_known || !self.judge.is_well() || failures >= self.policy.fall {
            return self.move_to(&addresses, &self.replica.address());
        }
        match self.ask(&addresses, true).await {
            Ok(address) => self.move_to(&addresses, &address),
            Err(error) => self.next = Some((addresses, failures + u32::from(!is_local(&error)))),
        }
    }

    fn move_to(&self, addresses: &Addresses, first: &Endpoint) {
        let addresses = addresses.preferring(first);
        if !addresses.are(&self.replica.addresses()) {
            info!(hostname = %self.replica.hostname, address = %addresses.first(), "the name has other addresses now");
            self.replica.move_to(addresses);
        }
    }

    async fn fail(&mut self, id: ReplicaId, reason: String) -> Vec<Event> {
        let is_news = self.judge.fail(&reason);
        let failed = is_news.then_some(Event::Failed(id, reason));
        let unresponsive = self.is_unresponsive().await.then(|| {
            self.judge.report(self.begun.elapsed());
            Event::Unresponsive(id)
        });
        failed.into_iter().chain(unresponsive).collect()
    }

    async fn is_unresponsive(&self) -> bool {
        match self.judge.silence(self.begun.elapsed(), self.replica.open()) {
            Silence::Bearable => false,
            Silence::Doubtful => timeout(INSPECTION, self.inspector.is_stopped()).await.unwrap_or(false),
            Silence::Fatal => true,
        }
    }

    /// Waits until the next probe is due: the pause is over, a session asks for a probe, the name of the replica has other addresses, or
    /// the policy is another one.
    async fn pause(&mut self) {
        let pause = self.judge.pause(self.begun.elapsed());
        let replica = &self.replica;
        let wanted = async {
            sleep(pause / 10).await;
            replica.probe_wanted().await;
        };
        self.is_asked_for = false;
        tokio::select! {
            () = sleep(pause) => {}
            () = wanted, if self.judge.is_well() => self.is_asked_for = true,
            addresses = self.inspector.moved() => self.next = Some((addresses, 0)),
            Ok(()) = self.policies.changed() => {
                self.policy = self.policies.borrow_and_update().clone();
                self.prober.forget();
                self.judge.follow(self.policy.rules());
            }
        }
    }
}
