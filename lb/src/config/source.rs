//! Where replicas come from: the flags of each provider, checked together. Nothing is started or looked up.

use std::collections::HashSet;

use proto::control::{Hostname, Weight};

use super::value::{BackendPart, Checked, ProviderName};
use super::{Capabilities, DockerSettings, FixedBackend, Problems, Serve, environment};

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

/// Where replicas come from, and the first slots.
pub(super) fn read(serve: &Serve, problems: &mut Problems) -> (Source, Vec<(Hostname, Weight)>) {
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
        keep: problems.take("keep", serve.keep.clone(), false),
        volume: serve
            .handoff_volume
            .clone()
            .map(|volume| problems.take("handoff-volume", volume, String::new())),
    }
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
