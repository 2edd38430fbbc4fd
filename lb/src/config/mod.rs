//! The configuration: flags and environment in, one checked and immutable [`Config`] out.
//!
//! The only reader of the environment ([`environment`]). Every value is checked before anything is bound or started, and all problems are
//! reported at once: so every flag accepts any text ([`Checked`]), and a wrong one fails only in [`Config::check`].

mod args;
mod client;
mod environment;
mod handoff;
mod order;
mod parameters;
mod simulate;
mod user;
pub(crate) mod value;

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _};
use ipnet::IpNet;
use mapping::{BalanceFactor, Full, MOST_SLOTS, Mapping, MappingName, MappingPolicy, Member, Scheme};
use proto::control::{Hostname, Transport, Weight};
use tracing_subscriber::filter::Targets;

pub use crate::provider::engine::docker::{Capabilities, Settings as DockerSettings};
pub use crate::provider::fixed::FixedBackend;
pub use args::{Cli, ClientCommand, Serve, Subcommand};
pub use environment::{FromEnvironment, Ignored};
pub use simulate::Simulate;
pub use value::Checked;

use crate::control::port::Address as ControlAddress;
use crate::control::{HealthPolicy, OnDown, Probe};
use crate::data::{AdmissionRules, KeyKind, Limits, PeerOptions};
use crate::log::LogFormat;
use crate::privileges::Identity;
use value::{BackendPart, ProviderName, RespawnName, Several};

/// Everything `lb serve` has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data port.
    pub listen: SocketAddr,
    /// Where the control port listens, at least one address.
    pub control: Vec<ControlAddress>,
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
    /// How keys are mapped to slots.
    pub mapping: MappingPolicy,
    /// The rules for sessions.
    pub limits: Limits,
    /// Who is let in.
    pub admission: AdmissionRules,
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
}

/// Where replicas come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Child processes of this command, or of the built-in demo server.
    Process {
        /// For `sh -c`.
        command: Option<String>,
    },
    /// Containers.
    Docker(DockerSettings),
    /// Addresses of servers that `lb` neither starts nor stops.
    Fixed(Vec<FixedBackend>),
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

impl Cli {
    /// The command line of this process, completed from its environment; and the variables that do not count, to warn of. Ends
    /// the process after `--help` and the like, and if there is no such command.
    pub fn read() -> (Self, impl Iterator<Item = Ignored>) {
        let (mut command, ignored) = environment::sift(Cli::command());
        let matches = command.try_get_matches_from_mut(order::flags_last(std::env::args_os().collect()));
        match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
            Ok(cli) => (cli, ignored.into_iter()),
            Err(error) => environment::blame_the_variable(error.format(&mut command)).exit(),
        }
    }
}

impl Config {
    /// Checks every flag by itself, and then what they are together.
    ///
    /// # Errors
    /// All problems at once; each names the flag or the variable, the given value and what is expected.
    pub fn check(serve: Serve) -> Result<Self, Problems> {
        let (mut problems, set) = (Problems::default(), serve.from_environment.clone());
        let config = Config::read(serve, &mut problems);
        problems.or(config, &set)
    }

    /// Whether replicas outlive this process.
    #[must_use]
    pub fn replicas_go_on(&self) -> bool {
        match &self.source {
            Source::Process { .. } => false,
            Source::Docker(settings) => settings.keep,
            Source::Fixed(_) => true,
        }
    }

    fn read(serve: Serve, problems: &mut Problems) -> Self {
        let control = control_port(&serve, problems);
        let control_token = token(serve.control_token.clone(), serve.control_token_file.as_deref())
            .unwrap_or_else(|problem| {
                problems.add(problem);
                None
            });
        let (source, slots) = source(&serve, problems);
        let user = user::read(&serve, &source, problems);
        let (transport, handoff_dir) = handoff::read(&serve, &source, problems);
        let health = health(&serve, problems);
        let limits = limits(&serve, transport, problems);
        let (admission, most_per_replica) = connection_limits(&serve, problems);
        let so_far = problems.0.len();
        let mapping = mapping(&serve, problems);
        let is_understood = problems.0.len() == so_far;
        let spares = problems.take("spares", serve.spares, 0);
        if spares > 0 && matches!(source, Source::Fixed(_)) {
            problems
                .add("--spares: fixed addresses cannot be started, so there can be no spares; leave it at 0");
        }
        if is_understood {
            check_fit(&mapping.scheme, &slots, problems);
        }
        let same_name =
            problems.take("respawn-name", serve.respawn_name, RespawnName::Random) == RespawnName::Same;
        Config {
            listen: problems.take("listen", serve.listen, ([127, 0, 0, 1], 0).into()),
            control,
            control_token,
            user,
            allow_new_privileges: problems.take("allow-new-privileges", serve.allow_new_privileges, false),
            workers: serve.workers.map_or_else(cores, |workers| problems.take("workers", workers, 1)),
            // A fixed address has only the one name.
            same_name: same_name || matches!(source, Source::Fixed(_)),
            slots,
            spares,
            source,
            mapping,
            limits,
            admission,
            most_per_replica,
            handoff_dir,
            splice: splice(serve.splice, serve.splice_pipe, problems),
            health,
            start_timeout: problems.take("start-timeout", serve.start_timeout, Duration::ZERO),
            drain_timeout: problems.take("drain-timeout", serve.drain_timeout, Duration::ZERO),
            stop_delay: problems.take("stop-delay", serve.stop_delay, Duration::ZERO),
            log: problems.take("log", serve.log, Targets::new()),
            log_format: problems.take("log-format", serve.log_format, LogFormat::Text),
        }
    }
}

fn health(serve: &Serve, problems: &mut Problems) -> HealthPolicy {
    let mut duration = |flag, given: &Checked<Duration>| problems.take(flag, given.clone(), Duration::ZERO);
    let interval = duration("health-interval", &serve.health_interval);
    let timeout = duration("health-timeout", &serve.health_timeout);
    let replace_after = duration("replace-after", &serve.replace_after);
    let replace_busy_after = duration("replace-busy-after", &serve.replace_busy_after);
    HealthPolicy {
        probe: problems.take("health", serve.health.clone(), Probe::Tcp),
        interval,
        timeout,
        fall: problems.take("fall", serve.fall.clone(), 1),
        rise: problems.take("rise", serve.rise.clone(), 1),
        replace_after,
        replace_busy_after,
        on_down: problems.take("on-down", serve.on_down.clone(), OnDown::Keep),
    }
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

fn control_port(serve: &Serve, problems: &mut Problems) -> Vec<ControlAddress> {
    let is_insecure = problems.take("control-insecure", serve.control_insecure.clone(), true);
    let guarded = serve.control_token.is_some() || serve.control_token_file.is_some() || is_insecure;
    let mut read = |address: &Checked<ControlAddress>| {
        let address = problems.take("control", address.clone(), ControlAddress::Unix(PathBuf::new()));
        if let ControlAddress::Tcp(address) = &address
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

/// The token of the control port, from wherever it is given.
fn token(given: Option<String>, file: Option<&Path>) -> Result<Option<String>, String> {
    let (flag, token) = match (given, file) {
        (Some(_), Some(_)) => {
            return Err("--control-token-file: there is a --control-token already; give one of them".into());
        }
        (Some(token), None) => ("--control-token".to_owned(), token),
        (None, Some(file)) => secret("--control-token-file", file)?,
        (None, None) => return Ok(None),
    };
    if token.is_empty() {
        Err(format!("{flag}: invalid value ``: expected any other text"))
    } else {
        Ok(Some(token))
    }
}

/// The secret in a file, after what a message about it begins with.
fn secret(flag: &str, file: &Path) -> Result<(String, String), String> {
    let flag = format!("{flag}: {}", file.display());
    let text = fs::read_to_string(file).map_err(|error| format!("{flag} cannot be read: {error}"))?;
    // Editors and `echo` end a file with a line feed; a secret has none.
    Ok((flag, text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Where replicas come from, and the first slots.
fn source(serve: &Serve, problems: &mut Problems) -> (Source, Vec<(Hostname, Weight)>) {
    let provider = problems.take("provider", serve.provider.clone(), ProviderName::Process);
    let replicas = serve.replicas.clone().map(|replicas| problems.take("replicas", replicas, 0));
    let docker = docker(serve, problems);
    refuse_what_belongs_elsewhere(serve, &provider, problems);
    let names = (1..=replicas.unwrap_or(3)).map(|index| Hostname::try_from(format!("server{index}")));
    let slots = names.flatten().map(|name| (name, Weight::default())).collect();
    match provider {
        ProviderName::Process => {
            if serve.command.as_deref().is_some_and(|command| command.trim().is_empty()) {
                problems.add("--command: invalid value ``: expected a command for `sh -c`");
            }
            (Source::Process { command: serve.command.clone() }, slots)
        }
        ProviderName::Docker => (Source::Docker(docker), slots),
        ProviderName::Fixed => fixed(serve, replicas, problems),
    }
}

/// Flags that have no default are given on purpose; with the wrong provider they would be without effect.
fn refuse_what_belongs_elsewhere(serve: &Serve, provider: &ProviderName, problems: &mut Problems) {
    let flags = [
        ("command", serve.command.is_some(), ProviderName::Process),
        ("memory", serve.memory.as_ref().is_some_and(Checked::is_fine), ProviderName::Docker),
        ("pids", serve.pids.as_ref().is_some_and(Checked::is_fine), ProviderName::Docker),
        ("container-caps", serve.container_caps.as_ref().is_some_and(Checked::is_fine), ProviderName::Docker),
        ("keep", serve.keep.0 == Ok(true), ProviderName::Docker),
        ("handoff-volume", serve.handoff_volume.as_ref().is_some_and(Checked::is_fine), ProviderName::Docker),
        ("backend", !serve.backend.is_empty(), ProviderName::Fixed),
        ("allow-new-privileges", serve.allow_new_privileges.0 == Ok(true), ProviderName::Process),
    ];
    for (flag, is_given, home) in flags {
        if is_given && home != *provider {
            problems.add(format!("--{flag}: it goes with --provider {home} only"));
        }
    }
}

/// The processes and threads of a container, unless told otherwise: far more than a server uses, and too few to harm the machine.
const PIDS: i64 = 2048;

fn docker(serve: &Serve, problems: &mut Problems) -> DockerSettings {
    DockerSettings {
        host: engine(),
        image: problems.take("image", serve.image.clone(), String::new()),
        network: problems.take("network", serve.network.clone(), String::new()),
        fleet: problems.take("fleet", serve.fleet.clone().map(|fleet| fleet.to_string()), String::new()),
        port: problems.take("backend-port", serve.backend_port.clone(), 0),
        memory: serve.memory.clone().map(|memory| problems.take("memory", memory, 0)),
        pids: serve.pids.clone().map_or(PIDS, |pids| problems.take("pids", pids, 0)),
        capabilities: serve
            .container_caps
            .clone()
            .map_or(Capabilities::Usual, |caps| problems.take("container-caps", caps, Capabilities::Usual)),
        keep: problems.take("keep", serve.keep.clone(), false),
        volume: serve
            .handoff_volume
            .clone()
            .map(|volume| problems.take("handoff-volume", volume, String::new())),
    }
}

/// Where the engine is, by the variable that every Docker client goes by.
#[expect(clippy::disallowed_methods, reason = "this module is the only reader of the environment")]
fn engine() -> Option<String> {
    std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty())
}

fn fixed(
    serve: &Serve,
    replicas: Option<usize>,
    problems: &mut Problems,
) -> (Source, Vec<(Hostname, Weight)>) {
    let backends = backends(serve, problems);
    let mut seen = HashSet::new();
    for FixedBackend { name, .. } in &backends {
        if !seen.insert(name) {
            problems.add(format!("--backend: the name {name} is given twice; each must be unique"));
        }
    }
    let most = backends.len();
    if most == 0 && serve.backend.is_empty() {
        problems.add("--backend: --provider fixed takes at least one --backend NAME=HOST:PORT");
    }
    if let Some(replicas) = replicas.filter(|&replicas| replicas > most) {
        problems.add(format!("--replicas: {replicas} is more than the {most} of --backend"));
    }
    let first = backends.iter().take(replicas.unwrap_or(most));
    let slots = first.map(|backend| (backend.name.clone(), backend.weight)).collect();
    (Source::Fixed(backends), slots)
}

/// The backends, each with the weight that follows it.
fn backends(serve: &Serve, problems: &mut Problems) -> Vec<FixedBackend> {
    let mut backends: Vec<FixedBackend> = Vec::new();
    let mut is_weighed = false;
    for part in serve.backend.iter().flat_map(|several| &several.0) {
        match (&part.0, backends.last_mut()) {
            (Ok(BackendPart::Backend(name, address)), _) => {
                let (name, address) = (name.clone(), address.clone());
                backends.push(FixedBackend { name, address, weight: Weight::default() });
                is_weighed = false;
            }
            (Ok(BackendPart::Weight(weight)), Some(backend)) if !is_weighed => {
                backend.weight = *weight;
                is_weighed = true;
            }
            (Ok(BackendPart::Weight(weight)), _) => {
                problems
                    .add(format!("--backend: weight={weight} follows a NAME=HOST:PORT and a comma, once"));
            }
            (Err(problem), _) => problems.add(format!("--backend: {problem}")),
        }
    }
    backends
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
