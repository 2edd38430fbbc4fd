//! Where replicas come from: the flags of each provider, checked together. Nothing is started or looked up.

use std::collections::HashSet;
use std::path::Path;

use proto::control::{Hostname, Weight};

use super::backends_file::read_backends;
use super::value::{BackendPart, Checked, Given, ProviderName};
use super::{
    Capabilities, ContainerSettings, DockerSettings, FixedBackend, Problems, Serve, ServiceName,
    SwarmSettings, Variable, environment,
};
use crate::provider::engine::swarm::service::is_name;

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
    /// Services of a Docker Swarm.
    Swarm(SwarmSettings),
    /// Addresses of servers that `lb` neither starts nor stops.
    Fixed(Vec<FixedBackend>),
    /// The servers that this name leads to.
    Dns(ServiceName),
}

impl Source {
    /// Where the replicas come from, in words: two `lb`s that have the same can have the same replicas.
    pub(crate) fn origin(&self) -> String {
        match self {
            Source::Process { .. } => "--provider process".to_owned(),
            Source::Docker(settings) => format!("--provider docker --fleet {}", settings.common.fleet),
            Source::Swarm(settings) => format!("--provider swarm --fleet {}", settings.common.fleet),
            Source::Fixed(_) => "--provider fixed".to_owned(),
            Source::Dns(_) => "--provider dns".to_owned(),
        }
    }

    /// Whether names are resolved while `lb` runs.
    pub(crate) fn resolves_names(&self) -> bool {
        match self {
            Source::Dns(_) => true,
            // A backend that is added later may have one.
            Source::Fixed(_) => true,
            Source::Process { .. } | Source::Docker(_) | Source::Swarm(_) => false,
        }
    }
}

/// Where replicas come from, and the first slots.
pub(super) fn read(serve: &Serve, problems: &mut Problems) -> (Source, Vec<(Hostname, Weight)>) {
    let provider = problems.take("provider", serve.provider.clone(), ProviderName::Process);
    let replicas = serve.replicas.clone().map(|replicas| problems.take("replicas", replicas, 0));
    let common = common(serve, problems);
    let docker = docker(serve, common.clone(), problems);
    let swarm = swarm(serve, common, problems);
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
        ProviderName::Swarm => {
            check_fleet(&swarm.common.fleet, problems);
            (Source::Swarm(swarm), slots)
        }
        ProviderName::Fixed => fixed(serve, replicas, problems),
        ProviderName::Dns => (dns(serve, replicas, problems), Vec::new()),
    }
}

/// Flags that have no default are given on purpose; with the wrong provider they would be without effect.
fn refuse_what_belongs_elsewhere(serve: &Serve, provider: &ProviderName, problems: &mut Problems) {
    use ProviderName::{Dns, Docker, Fixed, Process, Swarm};
    let containers: &[ProviderName] = &[Docker, Swarm];
    let flags = [
        ("command", serve.command.is_some(), &[Process][..]),
        ("memory", serve.memory.as_ref().is_some_and(Checked::is_fine), containers),
        ("pids", serve.pids.as_ref().is_some_and(Checked::is_fine), containers),
        ("container-caps", serve.container_caps.as_ref().is_some_and(Checked::is_fine), containers),
        ("cpus", serve.cpus.as_ref().is_some_and(Checked::is_fine), &[Swarm]),
        ("constraint", !serve.constraint.is_empty(), &[Swarm]),
        ("env", !serve.env.is_empty(), containers),
        ("secret", !serve.secret.is_empty(), &[Swarm]),
        ("keep", serve.keep.0 == Ok(true), &[Docker]),
        ("handoff-volume", serve.handoff_volume.as_ref().is_some_and(Checked::is_fine), &[Docker]),
        ("backend", !serve.backend.is_empty(), &[Fixed]),
        ("backends-file", serve.backends_file.is_some(), &[Fixed]),
        ("dns", serve.dns.is_some(), &[Dns]),
        ("allow-new-privileges", serve.allow_new_privileges.0 == Ok(true), &[Process]),
    ];
    for (flag, is_given, homes) in flags {
        if is_given && !homes.contains(provider) {
            let homes: Vec<String> = homes.iter().map(ToString::to_string).collect();
            problems.add(format!("--{flag}: it goes with --provider {} only", homes.join(" and ")));
        }
    }
    if !serve.dns_server.is_empty() && !matches!(provider, ProviderName::Dns | ProviderName::Fixed) {
        problems.add("--dns-server: it goes with --provider dns and fixed only");
    }
}

/// The processes and threads of a container, unless told otherwise: far more than a server uses, and too few to harm the machine.
const PIDS: i64 = 2048;

/// What the containers of a fleet have in common, whichever engine runs them.
fn common(serve: &Serve, problems: &mut Problems) -> ContainerSettings {
    ContainerSettings {
        host: environment::docker_host(),
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
        environment: environment(serve, problems),
    }
}

/// The variables that replicas get.
fn environment(serve: &Serve, problems: &mut Problems) -> Vec<Variable> {
    let mut variables: Vec<Variable> = Vec::new();
    for given in serve.env.iter().flat_map(|several| &several.0) {
        let variable = match &given.0 {
            Ok(Given::Whole(variable)) => variable.clone(),
            Ok(Given::Name(name)) => match environment::variable(name) {
                Some(value) => Variable { name: name.clone(), value },
                None => {
                    problems.add(format!(
                        "--env: {name} is not set in the environment of lb: expected {name}=VALUE"
                    ));
                    continue;
                }
            },
            Err(problem) => {
                problems.add(format!("--env: {problem}"));
                continue;
            }
        };
        if variables.iter().any(|other| other.name == variable.name) {
            problems.add(format!("--env: {} is given twice; each name must be unique", variable.name));
        }
        variables.push(variable);
    }
    variables
}

fn docker(serve: &Serve, common: ContainerSettings, problems: &mut Problems) -> DockerSettings {
    DockerSettings {
        common,
        keep: problems.take("keep", serve.keep.clone(), false),
        volume: serve
            .handoff_volume
            .clone()
            .map(|volume| problems.take("handoff-volume", volume, String::new())),
    }
}

fn dns(serve: &Serve, replicas: Option<usize>, problems: &mut Problems) -> Source {
    if replicas.is_some() {
        problems.add("--replicas: with --provider dns, the records of the name decide how many there are");
    }
    let stand_in = ServiceName::Records(String::new());
    Source::Dns(match serve.dns.clone() {
        Some(name) => problems.take("dns", name, stand_in),
        None => {
            problems
                .add("--dns: --provider dns takes --dns NAME[:PORT], the name that leads to the replicas");
            stand_in
        }
    })
}

/// Refuses the name of a fleet with which the names of its services would be none that Swarm takes.
fn check_fleet(fleet: &str, problems: &mut Problems) {
    // What is wrong with it anyway has been said.
    if !fleet.is_empty() && !is_name(&format!("{fleet}-server-xxxxxx")) {
        problems.add(format!(
            "--fleet: {fleet} cannot begin the name of a service: with --provider swarm, expected at most 49 letters, digits, - and _"
        ));
    }
}

fn swarm(serve: &Serve, common: ContainerSettings, problems: &mut Problems) -> SwarmSettings {
    let constraints = serve.constraint.iter().cloned();
    let secrets = serve.secret.iter().cloned();
    let secrets: Vec<String> = secrets.map(|one| problems.take("secret", one, String::new())).collect();
    for (at, secret) in secrets.iter().enumerate() {
        // An empty one stands for a name that has been refused.
        if !secret.is_empty() && secrets[..at].contains(secret) {
            problems.add(format!("--secret: {secret} is given twice; each name must be unique"));
        }
    }
    SwarmSettings {
        common,
        constraints: constraints.map(|one| problems.take("constraint", one, String::new())).collect(),
        secrets,
        cpus: serve.cpus.clone().map(|cpus| problems.take("cpus", cpus, 0)),
    }
}

fn fixed(
    serve: &Serve,
    replicas: Option<usize>,
    problems: &mut Problems,
) -> (Source, Vec<(Hostname, Weight)>) {
    if let Some(file) = &serve.backends_file {
        return from_file(file, serve, replicas, problems);
    }
    let backends = backends(serve, problems);
    let mut seen = HashSet::new();
    for FixedBackend { name, .. } in &backends {
        if !seen.insert(name) {
            problems.add(format!("--backend: the name {name} is given twice; each must be unique"));
        }
    }
    let most = backends.len();
    if most == 0 && serve.backend.is_empty() {
        problems.add("--backend: --provider fixed takes at least one --backend NAME=HOST:PORT, or --backends-file FILE");
    }
    if let Some(replicas) = replicas.filter(|&replicas| replicas > most) {
        problems.add(format!("--replicas: {replicas} is more than the {most} of --backend"));
    }
    let slots = slots(&backends[..replicas.unwrap_or(most).min(most)]);
    (Source::Fixed(backends), slots)
}

/// The backends of a file, which alone says which there are.
fn from_file(
    file: &Path,
    serve: &Serve,
    replicas: Option<usize>,
    problems: &mut Problems,
) -> (Source, Vec<(Hostname, Weight)>) {
    if !serve.backend.is_empty() {
        problems.add("--backends-file: it names all backends, so there can be no --backend beside it: give one of both");
    }
    if replicas.is_some() {
        problems.add("--replicas: with --backends-file, the file decides how many there are");
    }
    let backends = read_backends(file).unwrap_or_else(|unread| {
        unread.to_string().lines().for_each(|problem| problems.add(format!("--backends-file: {problem}")));
        Vec::new()
    });
    let slots = slots(&backends);
    (Source::Fixed(backends), slots)
}

/// The slots of these backends.
pub(super) fn slots(backends: &[FixedBackend]) -> Vec<(Hostname, Weight)> {
    backends.iter().map(|backend| (backend.name.clone(), backend.weight())).collect()
}

/// The backends, each with the weight that follows it.
fn backends(serve: &Serve, problems: &mut Problems) -> Vec<FixedBackend> {
    let mut backends: Vec<FixedBackend> = Vec::new();
    for part in serve.backend.iter().flat_map(|several| &several.0) {
        match (&part.0, backends.last_mut()) {
            (Ok(BackendPart::Backend(backend)), _) => backends.push(backend.clone()),
            (Ok(BackendPart::Weight(weight)), Some(backend)) if backend.weight.is_none() => {
                backend.weight = Some(*weight);
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
