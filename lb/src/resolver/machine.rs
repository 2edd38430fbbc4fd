//! How this machine resolves names: its hosts file, its servers and its search list (hosts(5), resolv.conf(5)). Both files are read
//! again when they have changed. This module asks no server.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};

use super::names::candidates;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long one attempt to ask the servers may take, and how many more follow the first.
const ATTEMPT: Duration = Duration::from_secs(2);
const MORE_ATTEMPTS: usize = 1;

/// How names are resolved here.
pub(super) struct Machine {
    hosts: Kept<Hosts>,
    servers: Servers,
}

/// Where the servers come from.
enum Servers {
    /// They were given. Names are asked for as they are.
    Given(Directions),
    /// The file says which.
    OfTheFile(Kept<Result<Directions, String>>),
}

/// Whom to ask, and for which names.
#[derive(Clone)]
pub(super) struct Directions {
    pub(super) resolver: TokioResolver,
    ndots: usize,
    search: Vec<String>,
}

impl Machine {
    /// With servers, these are asked, and not those of the file. Call it on a runtime.
    pub(super) fn new(servers: &[SocketAddr]) -> Result<Self, String> {
        let servers = if servers.is_empty() {
            Servers::OfTheFile(Kept::new(RESOLV_CONF))
        } else {
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
            Servers::Given(Directions::new(config, ResolverOpts::default())?)
        };
        Ok(Machine { hosts: Kept::new(HOSTS), servers })
    }

    /// The addresses that the hosts file has for this name.
    pub(super) fn in_hosts(&mut self, host: &str) -> Option<Vec<IpAddr>> {
        let name = Name::from_ascii(host).ok()?;
        let hosts = self.hosts.now(|bytes| {
            let mut hosts = Hosts::default();
            // What was read before a line that is no text is kept.
            let _ = hosts.read_hosts_conf(bytes);
            hosts
        });
        let of = |family| hosts.lookup_static_host(&Query::query(name.clone(), family));
        let lookups = [RecordType::A, RecordType::AAAA].into_iter().filter_map(of);
        let found: Vec<IpAddr> = lookups
            .flat_map(|lookup| lookup.answers().iter().filter_map(|it| it.data.ip_addr()).collect::<Vec<_>>())
            .collect();
        (!found.is_empty()).then_some(found)
    }

    /// Whom to ask now.
    ///
    /// # Errors
    /// There is no server to ask.
    pub(super) fn directions(&mut self) -> Result<Directions, String> {
        match &mut self.servers {
            Servers::Given(directions) => Ok(directions.clone()),
            Servers::OfTheFile(file) => file.now(Directions::read).clone(),
        }
    }
}

impl Directions {
    fn read(resolv_conf: &[u8]) -> Result<Self, String> {
        let (config, options) = parse_resolv_conf(resolv_conf)
            .map_err(|error| format!("{RESOLV_CONF} names no server that could be asked ({error})"))?;
        Directions::new(config, options)
    }

    fn new(config: ResolverConfig, mut options: ResolverOpts) -> Result<Self, String> {
        options.timeout = ATTEMPT;
        options.attempts = MORE_ATTEMPTS;
        // The follower of a name knows how long an answer holds, and asks sooner only with a reason.
        options.cache_size = 0;
        let ndots = options.ndots;
        let mut search: Vec<String> = config.search().iter().map(Name::to_ascii).collect();
        search.extend(config.domain().filter(|_| search.is_empty()).map(Name::to_ascii));
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(|error| format!("names cannot be resolved: {error}"))?;
        Ok(Directions { resolver, ndots, search })
    }

    /// The names to ask for, in order.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        candidates(name, self.ndots, &self.search)
    }
}

/// A server that is asked over UDP, and over TCP for an answer that does not fit.
fn server(address: &SocketAddr) -> NameServerConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at).into();
    NameServerConfig::new(address.ip(), true, connections)
}

/// What a file holds, read again when the file has changed.
struct Kept<T> {
    path: &'static str,
    stamp: Option<Stamp>,
    content: Option<T>,
}

/// What changes with a file: its number, its size, and when it was written.
type Stamp = (u64, u64, i64, i64);

impl<T> Kept<T> {
    fn new(path: &'static str) -> Self {
        Kept { path, stamp: None, content: None }
    }

    /// What the file holds now. A file that cannot be read holds nothing.
    fn now(&mut self, read: impl FnOnce(&[u8]) -> T) -> &T {
        let stamp = fs::metadata(self.path).ok().map(|it| (it.ino(), it.len(), it.mtime(), it.mtime_nsec()));
        let is_known = stamp == self.stamp;
        self.stamp = stamp;
        let content = self.content.take().filter(|_| is_known);
        let content = content.unwrap_or_else(|| read(&fs::read(self.path).unwrap_or_default()));
        self.content.insert(content)
    }
}
