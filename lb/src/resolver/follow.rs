//! Followers: each asks for one name again and again, and says what has changed. They run on the thread of the resolver.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::State;
use super::asker::{Target, Targets, Wanted};
use super::known::{Answer, Known, Rules};
use super::office::{AT_ONCE, Office};
use crate::net::{Addresses, Endpoint};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout, timeout_at};

/// How long it may take to ask for the addresses of all targets that came without one.
const ROUND: Duration = Duration::from_secs(10);
/// When to ask again for a target that has no address.
const RETRY: Duration = Duration::from_secs(5);

/// What is known of one name, and the time.
struct Round<T> {
    office: Arc<Office>,
    name: Wanted,
    known: Known<T>,
    wanted: Arc<Notify>,
    begun: Instant,
}

impl<T: PartialEq> Round<T> {
    fn new(office: Arc<Office>, name: String, rules: Rules, wanted: Arc<Notify>) -> Self {
        Round { office, name: Wanted::new(name), known: Known::new(rules), wanted, begun: Instant::now() }
    }

    /// Takes an answer. True if what is known has changed.
    fn hear(&mut self, answer: Answer<T>) -> bool {
        self.office.note(self.name.name(), &answer);
        self.known.hear(self.begun.elapsed(), answer)
    }

    /// Waits until it is time to ask again.
    async fn due(&self) {
        let (soon, usual) = (self.known.short_pause(), self.known.pause());
        sleep(soon).await;
        let _ = timeout(usual.saturating_sub(soon), self.wanted.notified()).await;
    }
}

/// Follows a host until the last receiver is dropped. The last known addresses stay while no answer comes.
pub(super) async fn host(
    office: Arc<Office>,
    (host, port): (String, u16),
    wanted: Arc<Notify>,
    tell: watch::Sender<State>,
) {
    let rules = Rules { empty_after: None, ..office.rules.clone() };
    let mut round = Round::new(office, host.clone(), rules, wanted);
    loop {
        let before = round.known.records().map(ips).unwrap_or_default();
        let answer = round.office.asker.addresses(&round.name, &before).await;
        let why = answer.reason().map(|why| cannot_look_up(&host, why));
        let has_changed = round.hear(answer.map(|found| all_at(found, port)));
        match (round.known.records(), why) {
            (Some(addresses), _) if has_changed => _ = tell.send_replace(Some(Ok(addresses.clone()))),
            (None, Some(why)) => _ = tell.send_replace(Some(Err(why))),
            _ => {}
        }
        tokio::select! {
            () = tell.closed() => return,
            () = round.due() => {}
        }
    }
}

fn all_at(found: Vec<IpAddr>, port: u16) -> Option<Addresses> {
    Addresses::of(found.into_iter().map(|ip| SocketAddr::new(ip, port)))
}

fn ips(addresses: &Addresses) -> Vec<IpAddr> {
    let ip = |address: &Endpoint| match address {
        Endpoint::Tcp(address) => Some(address.ip()),
        Endpoint::Unix(_) => None,
    };
    addresses.iter().filter_map(ip).collect()
}

/// A name that leads to several servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceName {
    /// Each of its addresses is a server, at this port.
    Host(String, u16),
    /// Each target of its service records (SRV, RFC 2782) is one.
    Records(String),
}

/// A server that a service has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Server {
    Address(SocketAddr),
    Target(Target),
}

/// The servers of a service, each with its addresses, or why none are known.
pub(crate) type Servers = BTreeMap<Server, Result<Addresses, String>>;

/// A service that is followed.
pub(crate) struct Service {
    name: ServiceName,
    round: Round<Servers>,
    has_asked: bool,
}

impl Service {
    pub(super) fn new(office: Arc<Office>, name: ServiceName, wanted: Arc<Notify>) -> Self {
        let (ServiceName::Host(text, _) | ServiceName::Records(text)) = &name;
        let (text, rules) = (text.clone(), office.rules.clone());
        Service { name, round: Round::new(office, text, rules, wanted), has_asked: false }
    }

    /// The name that is asked for.
    pub(crate) fn name(&self) -> &str {
        self.round.name.name()
    }

    /// Waits until other servers are known than those that were last returned, and returns them. None at all means that the service
    /// is believed to have none.
    pub(crate) async fn changed(&mut self) -> Servers {
        loop {
            if std::mem::replace(&mut self.has_asked, true) {
                self.round.due().await;
            }
            let answer = self.ask().await;
            if self.round.hear(answer) {
                return self.round.known.records().cloned().unwrap_or_default();
            }
        }
    }

    async fn ask(&self) -> Answer<Servers> {
        let office = &self.round.office;
        let nothing = Servers::new();
        let before = self.round.known.records().unwrap_or(&nothing);
        match &self.name {
            ServiceName::Host(_, port) => {
                let before: Vec<IpAddr> = before.values().flatten().flat_map(ips).collect();
                let server = |ip| {
                    let address = SocketAddr::new(ip, *port);
                    (Server::Address(address), Ok(address.into()))
                };
                let answer = office.asker.addresses(&self.round.name, &before).await;
                answer.map(|found| Some(found.into_iter().map(server).collect()))
            }
            ServiceName::Records(_) => match office.asker.targets(&self.round.name).await {
                Answer::Records(targets, hold) => {
                    let (servers, hold) = with_addresses(office, targets, hold, before).await;
                    Answer::Records(servers, hold)
                }
                Answer::Nothing(why) => Answer::Nothing(why),
                Answer::Failed(why) => Answer::Failed(why),
            },
        }
    }
}

/// The targets with their addresses: those that came with the answer, and for the rest what further questions bring, or else what was
/// known before.
async fn with_addresses(
    office: &Office,
    targets: Targets,
    mut hold: Duration,
    before: &Servers,
) -> (Servers, Duration) {
    let mut servers = Servers::new();
    let mut unknown = Vec::new();
    for (target, found) in targets {
        match all_at(found, target.port) {
            Some(addresses) => _ = servers.insert(Server::Target(target), Ok(addresses)),
            None => unknown.push(target),
        }
    }
    let deadline = Instant::now() + ROUND;
    let look_up = |target: Target| {
        let server = Server::Target(target.clone());
        let known = before.get(&server).and_then(|known| known.as_ref().ok());
        async move { (server, addresses_of(office, &target, known, deadline).await) }
    };
    let mut answers = stream::iter(unknown).map(look_up).buffer_unordered(AT_ONCE);
    while let Some((server, (found, until))) = answers.next().await {
        hold = hold.min(until);
        servers.insert(server, found);
    }
    drop(answers);
    (servers, hold)
}

/// The addresses of a target, or those that are known if the question brings none; and how long they hold.
async fn addresses_of(
    office: &Office,
    Target { host, port }: &Target,
    known: Option<&Addresses>,
    deadline: Instant,
) -> (Result<Addresses, String>, Duration) {
    let before = known.map(ips).unwrap_or_default();
    // A target is a whole name (RFC 2782).
    let name = Wanted::new(format!("{host}."));
    let question = timeout_at(deadline.into(), office.asker.addresses(&name, &before));
    let answer = question.await.unwrap_or_else(|_| Answer::Failed("no answer in time".to_owned()));
    office.note(host, &answer);
    match answer.map(|found| all_at(found, *port)) {
        Answer::Records(addresses, hold) => (Ok(addresses), hold),
        Answer::Nothing(why) | Answer::Failed(why) => {
            (known.cloned().ok_or_else(|| cannot_look_up(host, &why)), RETRY)
        }
    }
}

fn cannot_look_up(host: &str, why: &str) -> String {
    format!("cannot look up {host}: {why}")
}
