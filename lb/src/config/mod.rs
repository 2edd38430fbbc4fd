//! The configuration: flags, environment and file in, one checked and immutable [`Config`] out.
//!
//! The only reader of the environment ([`environment`]) and of the configuration file ([`mod@file`]). Every value is checked before
//! anything is bound or started, and all problems are reported at once: so every flag accepts any text ([`Checked`]), and a wrong one
//! fails only in [`Config::check`].

mod access;
mod applied;
mod args;
mod asking;
mod backends_file;
mod classes;
mod client;
mod cluster;
mod commands;
mod environment;
mod file;
mod fleet;
mod handoff;
mod health;
mod help;
mod listing;
mod live;
mod order;
mod origins;
mod parameters;
mod proxied;
mod reading;
mod resolution;
mod secret;
mod serve;
mod shells;
mod simulate;
mod source;
mod subjects;
mod user;
pub(crate) mod value;
mod writing;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use mapping::{BalanceFactor, Full, MOST_SLOTS, Mapping, MappingName, MappingPolicy, Member, Scheme};
pub use proto::control::{FixedBackend, Location};
use proto::control::{Hostname, Transport, Weight};
use proto::key::KeyKind;
use tracing_subscriber::filter::Targets;

pub use crate::provider::engine::docker::Settings as DockerSettings;
pub use crate::provider::engine::dress::{Capabilities, Common as ContainerSettings, Variable};
pub use crate::provider::engine::swarm::Settings as SwarmSettings;
pub use crate::resolver::{Rules as ResolutionRules, ServiceName};
pub use applied::{Applied, Difference};
pub use args::{Cli, ConfigFlags, FleetAction, FleetRm, ReplayFlags, Subcommand};
pub use backends_file::{Unread, read_backends};
pub use classes::is_live;
pub use commands::ClientCommand;
pub use environment::{FromEnvironment, Ignored};
pub use fleet::Removal;
pub use help::{help, write_manual};
pub use listing::{json, lines, schema};
pub use origins::{Origins, Setting, Shown};
pub use resolution::Resolution;
pub use serve::Serve;
pub use shells::complete;
pub use simulate::{Simulate, Simulation};
pub use source::Source;
pub use value::Checked;
pub use writing::{Runs, Slots, write};

use crate::access::AccessRules;
use crate::control::HealthPolicy;
use crate::data::{AdmissionRules, Limits, PeerOptions};
use crate::log::LogFormat;
use crate::net::ListenAddress;
use crate::privileges::Identity;
use value::{RespawnName, Several};

/// Everything `lb serve` has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data port, at least one address.
    pub listen: Vec<ListenAddress>,
    /// Where the control port listens, at least one address.
    pub control: Vec<ListenAddress>,
    /// Which of these were given.
    pub given: GivenAddresses,
    /// Where metrics are served without a token, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// What a control command has to show.
    pub control_token: Option<String>,
    /// As whom `lb` goes on once its ports are bound; `None`: as it was started.
    pub user: Option<Identity>,
    /// Whether children may gain privileges that `lb` does not have.
    pub allow_new_privileges: bool,
    /// Data-plane threads.
    pub workers: usize,
    /// The slots at start, each with its weight.
    pub slots: Vec<(Hostname, Weight)>,
    /// Replicas kept outside the mapping, ready to take over a slot.
    pub spares: usize,
    /// Where replicas come from.
    pub source: Source,
    /// The file that names the backends, if one does.
    pub backends_file: Option<PathBuf>,
    /// How names are resolved.
    pub resolution: Resolution,
    /// How keys are mapped to slots.
    pub mapping: MappingPolicy,
    /// The rules for sessions.
    pub limits: Limits,
    /// Who is let in.
    pub admission: AdmissionRules,
    /// The proxies whose connections begin with a header of the PROXY protocol.
    pub proxies: Vec<IpNet>,
    /// The most connections of a replica.
    pub most_per_replica: Option<usize>,
    /// The folder in which replicas listen for connections that are handed over; `None`: a new one.
    pub handoff_dir: Option<PathBuf>,
    /// How large the pipes are, in bytes, through which bytes go without being copied; `None`: all are copied.
    pub splice: Option<usize>,
    /// How replicas are probed.
    pub health: HealthPolicy,
    /// How long a replica may take to get ready.
    pub start_timeout: Duration,
    /// Whether a replacement keeps its hostname.
    pub same_name: bool,
    /// How long sessions may take to end.
    pub drain_timeout: Duration,
    /// How long the ports stay open after the first signal.
    pub stop_delay: Duration,
    /// What is logged.
    pub log: Targets,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Which connections are logged, how and where; `None`: none.
    pub access: Option<AccessRules>,
    /// The file to which the journal is appended, and the size in bytes at which it is rotated.
    pub journal: Option<(PathBuf, u64)>,
    /// Whether `lb` makes a small load on itself.
    pub demo: bool,
}

/// Which addresses are not the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenAddresses {
    /// Those of the data port.
    pub listen: bool,
    /// Those of the control port.
    pub control: bool,
}

/// What is wrong with a configuration, a line each.
#[derive(Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Problems(Vec<String>);

impl Problems {
    /// The value, unless there are problems; they name the variables in which their values were.
    fn or<T>(self, value: T, set: &FromEnvironment) -> Result<T, Self> {
        if self.0.is_empty() {
            return Ok(value);
        }
        Err(Problems(self.0.iter().map(|problem| set.named_in(problem)).collect()))
    }

    fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// The value, or `stand_in` and a problem: the configuration is refused in the end, but not before the rest of it
    /// has been looked at.
    fn take<T>(&mut self, flag: &str, value: Checked<T>, stand_in: T) -> T {
        value.0.unwrap_or_else(|problem| {
            self.add(format!("--{flag}: {problem}"));
            stand_in
        })
    }
}

impl Config {
    /// Checks every flag by itself, and then what they are together.
    ///
    /// # Errors
    /// All problems at once; each names the flag, the variable, or the key and its place in the file, the given value and what is expected.
    pub fn check(serve: Serve) -> Result<Self, Problems> {
        let (mut problems, origins) = (Problems::default(), serve.origins());
        let config = Config::read(serve, &mut problems);
        let told = origins.told(&problems.0);
        if told.is_empty() { Ok(config) } else { Err(Problems(told)) }
    }

    /// Whether replicas outlive this process.
    #[must_use]
    pub fn replicas_go_on(&self) -> bool {
        match &self.source {
            Source::Process { .. } => false,
            Source::Docker(settings) => settings.keep,
            Source::Swarm(_) | Source::Fixed(_) | Source::Dns(_) => true,
        }
    }

    fn read(serve: Serve, problems: &mut Problems) -> Self {
        let control = control_port(&serve, problems);
        let given = GivenAddresses { listen: serve.is_given("listen"), control: serve.is_given("control") };
        let control_token = secret::token(serve.control_token.clone(), serve.control_token_file.as_deref())
            .unwrap_or_else(|problem| {
                problems.add(problem);
                None
            });
        let (source, slots) = source::read(&serve, problems);
        let resolution = resolution::read(&serve, problems);
        let user = user::read(&serve, &source, problems);
        let (transport, handoff_dir) = handoff::read(&serve, &source, problems);
        let send_proxy = proxied::send(&serve.proxy, source == Source::Process { command: None }, problems);
        let health = health::read(&serve.health, send_proxy, problems);
        let limits = Limits { send_proxy, ..limits(&serve, transport, problems) };
        let (admission, most_per_replica) = connection_limits(&serve, problems);
        let so_far = problems.0.len();
        let mapping = mapping(&serve, problems);
        let is_understood = problems.0.len() == so_far;
        let spares = spares(serve.spares, &source, problems);
        if is_understood {
            check_fit(&mapping.scheme, &slots, problems);
        }
        let same_name =
            problems.take("respawn-name", serve.respawn_name, RespawnName::Random) == RespawnName::Same;
        Config {
            listen: data_port(&serve.listen, problems),
            control,
            given,
            metrics: serve
                .metrics
                .map(|address| problems.take("metrics", address, ([127, 0, 0, 1], 0).into())),
            control_token,
            user,
            allow_new_privileges: problems.take("allow-new-privileges", serve.allow_new_privileges, false),
            workers: serve.workers.map_or_else(cores, |workers| problems.take("workers", workers, 1)),
            // A fixed address has only the one name.
            same_name: same_name || matches!(source, Source::Fixed(_)),
            slots,
            spares,
            source,
            backends_file: serve.backends_file,
            resolution,
            mapping,
            limits,
            admission,
            proxies: proxied::from(serve.proxy, problems),
            most_per_replica,
            handoff_dir,
            splice: splice(serve.splice, serve.splice_pipe, problems),
            health,
            start_timeout: problems.take("start-timeout", serve.start_timeout, Duration::ZERO),
            drain_timeout: problems.take("drain-timeout", serve.drain_timeout, Duration::ZERO),
            stop_delay: problems.take("stop-delay", serve.stop_delay, Duration::ZERO),
            log: problems.take("log", serve.log, Targets::new()),
            log_format: problems.take("log-format", serve.log_format, LogFormat::Text),
            access: access::read(serve.access, problems),
            demo: problems.take("demo", serve.demo, false),
            journal: serve.journal.map(|file| (file, problems.take("journal-size", serve.journal_size, 0))),
        }
    }
}

/// How many spares there are.
fn spares(given: Checked<usize>, source: &Source, problems: &mut Problems) -> usize {
    let spares = problems.take("spares", given, 0);
    if spares > 0 && matches!(source, Source::Fixed(_)) {
        problems.add("--spares: fixed addresses cannot be started, so there can be no spares; leave it at 0");
    }
    if spares > 0 && matches!(source, Source::Dns(_)) {
        problems.add("--spares: with --provider dns, each server of the name has a slot; leave it at 0");
    }
    spares
}

/// The rules for sessions.
fn limits(serve: &Serve, transport: Transport, problems: &mut Problems) -> Limits {
    let none = Duration::ZERO;
    Limits {
        key: problems.take("key", serve.key.clone(), KeyKind::Id),
        id_param: problems.take("id-param", serve.id_param.clone(), String::new()),
        first_line_timeout: problems.take("first-line-timeout", serve.first_line_timeout.clone(), none),
        first_line_max: problems.take("first-line-max", serve.first_line_max.clone(), 0),
        connect_timeout: problems.take("connect-timeout", serve.connect_timeout.clone(), none),
        connect_attempts: problems.take("connect-attempts", serve.connect_attempts.clone(), 1),
        transport,
        send_proxy: None,
        idle_timeout: problems.take("idle-timeout", serve.idle_timeout.clone(), None),
        half_close_timeout: problems.take("half-close-timeout", serve.half_close_timeout.clone(), none),
        max_connection_age: problems.take("max-connection-age", serve.max_connection_age.clone(), None),
        peer: PeerOptions {
            keepalive: problems.take("keepalive", serve.keepalive.clone(), none),
            ack_timeout: problems.take("ack-timeout", serve.ack_timeout.clone(), None),
            buffer: problems.take("socket-buffer", serve.socket_buffer.clone(), None),
        },
    }
}

/// Who is let in, and the most connections of a replica.
fn connection_limits(serve: &Serve, problems: &mut Problems) -> (AdmissionRules, Option<usize>) {
    let mut networks = |flag: &str, given: &[Several<IpNet>]| {
        let given = given.iter().flat_map(|several| several.0.iter().cloned());
        given.filter_map(|network| problems.take(flag, network.map(Some), None)).collect()
    };
    let (allow, deny) = (networks("allow", &serve.allow), networks("deny", &serve.deny));
    let most = serve.max_connections.clone();
    let rules = AdmissionRules {
        allow,
        deny,
        most: most.map(|most| problems.take("max-connections", most, 0)),
        most_per_source: problems.take(
            "max-connections-per-source",
            serve.max_connections_per_source.clone(),
            None,
        ),
        rate_per_source: problems.take("rate-per-source", serve.rate_per_source.clone(), None),
    };
    let most_per_replica = serve.max_connections_per_replica.clone();
    (rules, problems.take("max-connections-per-replica", most_per_replica, None))
}

fn splice(wanted: Checked<bool>, pipe: Checked<usize>, problems: &mut Problems) -> Option<usize> {
    let size = problems.take("splice-pipe", pipe, 0);
    problems.take("splice", wanted, true).then_some(size)
}

/// The addresses of the data port, each given once.
fn data_port(given: &[Checked<ListenAddress>], problems: &mut Problems) -> Vec<ListenAddress> {
    let mut addresses: Vec<ListenAddress> = Vec::new();
    for address in given {
        let Some(address) = problems.take("listen", address.clone().map(Some), None) else { continue };
        // Any port is another one each time.
        let is_any = matches!(&address, ListenAddress::Tcp(address) if address.port() == 0);
        if !is_any && addresses.contains(&address) {
            problems.add(format!("--listen: {address} is given twice; each address must be unique"));
        }
        addresses.push(address);
    }
    addresses
}

fn control_port(serve: &Serve, problems: &mut Problems) -> Vec<ListenAddress> {
    let is_insecure = problems.take("control-insecure", serve.control_insecure.clone(), true);
    let guarded = serve.control_token.is_some() || serve.control_token_file.is_some() || is_insecure;
    let mut read = |address: &Checked<ListenAddress>| {
        let address = problems.take("control", address.clone(), ListenAddress::Unix(PathBuf::new()));
        if let ListenAddress::Tcp(address) = &address
            && !address.ip().to_canonical().is_loopback()
            && !guarded
        {
            problems.add(format!(
                "--control: {address} can be reached from other machines: expected --control-token TOKEN as well \
                 (or --control-insecure, to take commands from every client)"
            ));
        }
        address
    };
    serve.control.iter().map(&mut read).collect()
}

fn mapping(serve: &Serve, problems: &mut Problems) -> MappingPolicy {
    let name = problems.take("mapping", serve.mapping.clone(), MappingName::Ring);
    let scheme = serve.parameters.scheme(name, problems);
    let balance: Option<BalanceFactor> = problems.take("balance-factor", serve.balance_factor.clone(), None);
    MappingPolicy { scheme, balance }
}

/// Refuses more slots at start than the mapping, or any fleet, can hold.
fn check_fit(scheme: &Scheme, slots: &[(Hostname, Weight)], problems: &mut Problems) {
    if slots.len() > MOST_SLOTS {
        problems.add(format!("--replicas: {} is more than a fleet can have, {MOST_SLOTS}", slots.len()));
        return;
    }
    let member = |(index, (name, weight)): (u32, &(Hostname, Weight))| Member {
        index,
        name: name.to_string(),
        weight: weight.get(),
    };
    let members: Vec<Member> = (1..).zip(slots).map(member).collect();
    match Mapping::check(scheme, &members) {
        Ok(()) => {}
        Err(full @ Full::Ring { .. }) => problems.add(format!("--points: {full}")),
        Err(full @ Full::Slots { .. }) => {
            let more_room = "fewer servers, more --slots or less --virtual";
            problems.add(format!("--replicas: {full}: expected {more_room}"));
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests;
