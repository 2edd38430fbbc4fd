//! The provider of servers that one name of the DNS leads to, as Kubernetes, Consul, Swarm and others keep it.
//!
//! The records decide who has a seat ([`roll`], with [`seating`] and [`naming`], which are pure); the resolver follows them on its thread.
//! Nothing is started or stopped here: a replica that is started is one whose addresses are known.

mod naming;
mod roll;
mod seating;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use fleet::{Epoch, ReplicaId, Roster, Seat};
use mapping::{MOST_SLOTS, Mapping, MappingPolicy, Member, Scheme};
use proto::control::{Hostname, Resolutions};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::{Report, Reports, named};
use crate::resolver::{Followed, Resolver, Server, Servers, Service, ServiceName, State, Target};
use roll::{Guest, Known, Roll, Seated};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Dns {
    resolver: Resolver,
    name: ServiceName,
    mapping: MappingPolicy,
    directory: Directory,
    roll: Arc<Mutex<Roll<Server>>>,
}

/// Who has which seat, and who had one that is free: what a successor needs to go on in the same way.
pub(crate) type SeatingPlan = Vec<Known<Server>>;

impl Dns {
    /// The servers of this name, some of which may have seats already. There are at most as many seats as the mapping has room for.
    pub(crate) fn new(
        resolver: Resolver,
        name: ServiceName,
        mapping: MappingPolicy,
        seating: SeatingPlan,
    ) -> Self {
        let roll = Arc::new(Mutex::new(Roll::new(room(&mapping.scheme), seating)));
        Dns { resolver, name, mapping, directory: Directory::default(), roll }
    }

    /// Follows the name from now on.
    pub(super) fn begin(&self, reports: Reports) {
        let service = self.resolver.service(self.name.clone(), Arc::clone(&self.directory.wanted));
        let (mapping, directory, roll) =
            (self.mapping.clone(), self.directory.clone(), Arc::clone(&self.roll));
        let follower = Follower { mapping, directory, roll, reports };
        self.resolver.spawn(follower.run(service));
    }

    pub(super) fn start(&self, id: ReplicaId, hostname: &Hostname, reports: Reports) {
        named::start(id, self.directory.of(hostname), None, reports);
    }

    pub(super) fn resolutions(&self) -> Resolutions {
        self.resolver.resolutions()
    }

    /// Who has which seat now.
    pub(super) fn seating(&self) -> SeatingPlan {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner).known()
    }
}

/// The addresses of the servers that have a seat, by hostname.
#[derive(Clone, Debug, Default)]
struct Directory {
    states: Arc<Mutex<HashMap<Hostname, watch::Sender<State>>>>,
    /// Has the name of the service asked for.
    wanted: Arc<Notify>,
}

impl Directory {
    /// What is known of a server, from now on.
    fn of(&self, hostname: &Hostname) -> Followed {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        // A seat may have gone before its replica was started.
        let state = states.entry(hostname.clone()).or_insert_with(|| watch::channel(None).0);
        Followed::new(state.subscribe(), Arc::clone(&self.wanted))
    }

    /// Writes down where these servers are, and forgets the others.
    fn write(&self, guests: &BTreeMap<Hostname, Server>, servers: &Servers) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|hostname, _| guests.contains_key(hostname));
        for (hostname, guest) in guests {
            let now = servers.get(guest).cloned();
            let state = states.entry(hostname.clone()).or_insert_with(|| watch::channel(None).0);
            state.send_if_modified(|before| {
                let is_news = *before != now;
                *before = now;
                is_news
            });
        }
    }
}

/// Seats the servers of each new answer. It runs on the thread of the resolver.
struct Follower {
    mapping: MappingPolicy,
    directory: Directory,
    roll: Arc<Mutex<Roll<Server>>>,
    reports: Reports,
}

impl Follower {
    async fn run(self, mut service: Service) {
        let mut last: Vec<Seat> = Vec::new();
        for epoch in 1.. {
            // What has changed may be an address, and no seat.
            let seats = loop {
                let servers = service.changed().await;
                let Seated { seats, guests, left_out } = self.call(&servers.keys().cloned().collect());
                self.directory.write(&guests, &servers);
                say(service.name(), seats.len(), left_out);
                if seats != last {
                    break seats;
                }
            };
            last.clone_from(&seats);
            let report = Report::Adopted(Epoch(epoch), self.roster(seats));
            if self.reports.send(report).await.is_err() {
                return; // The program ends.
            }
        }
    }

    fn call(&self, servers: &BTreeSet<Server>) -> Seated<Server> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner).call(servers)
    }

    /// The mapping in it does not count: it is this `lb`'s own.
    fn roster(&self, seats: Vec<Seat>) -> Roster {
        let mapping = self.mapping.clone();
        Roster { mapping, seats, spares: BTreeSet::new(), coming: Vec::new(), leaving: Vec::new() }
    }
}

/// Logs what an answer has changed.
fn say(name: &str, seats: usize, left_out: usize) {
    if seats > 0 {
        info!(name, servers = seats, "dns: the name has other servers, or other addresses of them");
    } else {
        warn!(name, "dns: the name has no server any more: no answer has named one for --dns-empty-after");
    }
    if left_out > 0 {
        warn!(
            name,
            left_out,
            "dns: the name has more servers than there is room for in the mapping; they get no connection"
        );
    }
}

impl Guest for Server {
    fn names(&self) -> Vec<String> {
        match self {
            Server::Address(address) => {
                let ip = address.ip().to_canonical().to_string();
                // An IPv6 address may begin with a colon, a hostname with a digit at least.
                vec![if ip.starts_with(':') { format!("0{ip}") } else { ip }]
            }
            Server::Target(Target { host, port }) => {
                let first = host.split('.').next().unwrap_or_default();
                vec![first.to_owned(), format!("{first}-{port}"), host.clone(), format!("{host}-{port}")]
            }
        }
    }

    fn names_its_slot(&self) -> bool {
        matches!(self, Server::Target(_))
    }
}

/// How many slots of the usual weight a mapping of this scheme has room for.
fn room(scheme: &Scheme) -> usize {
    let fits = |n: usize| {
        let member = |index: u32| Member { index, name: format!("server{index}"), weight: 1 };
        Mapping::check(scheme, &(1..).take(n).map(member).collect::<Vec<_>>()).is_ok()
    };
    let (mut some, mut too_many) = (0, MOST_SLOTS + 1);
    if fits(MOST_SLOTS) {
        return MOST_SLOTS;
    }
    while too_many - some > 1 {
        let middle = usize::midpoint(some, too_many);
        if fits(middle) { some = middle } else { too_many = middle }
    }
    some
}
