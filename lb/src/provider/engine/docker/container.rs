//! What a container of ours looks like: its name, its labels, what is asked of the engine, and what is read back.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum as State,
    EndpointSettings, HostConfig, Mount, MountType, NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
};
use proto::control::Hostname;

use super::Settings;
use crate::fleet::{Assignment, SlotId};
use crate::provider::doors::{Door, Doors};

/// The label that makes a container (or volume) part of a fleet.
pub(super) const FLEET: &str = "lb.fleet";
/// What a container was started for. A spare that has moved into a slot still has the labels of a spare; who sits where
/// is in the record.
const SLOT_INDEX: &str = "lb.slot.index";
const SLOT_NAME: &str = "lb.slot.name";
const HOSTNAME: &str = "lb.hostname";
/// The name of its door, if it was told to take connections over.
const DOOR: &str = "lb.door";

/// Where a container sees the folder of all doors.
const DOORS: &str = "/run/lb-doors";

/// An image that Compose has built carries its labels. A container that inherits them would be taken for one of Compose's.
const NOT_COMPOSES: [(&str, &str); 2] =
    [("com.docker.compose.project", ""), ("com.docker.compose.service", "")];

/// The one network in which containers cannot have aliases.
const DEFAULT_BRIDGE: &str = "bridge";

/// The filter for everything that belongs to a fleet.
pub(super) fn fleet_label(fleet: &str) -> String {
    format!("{FLEET}={fleet}")
}

/// What is asked of the engine for a new replica.
pub(super) fn body(
    settings: &Settings,
    assignment: &Assignment,
    door: Option<(&Doors, &Door)>,
) -> ContainerCreateBody {
    let hostname = assignment.hostname.to_string();
    let aliases = (settings.network != DEFAULT_BRIDGE).then(|| vec![hostname.clone()]);
    let endpoint = EndpointSettings { aliases, ..EndpointSettings::default() };
    ContainerCreateBody {
        image: Some(settings.image.clone()),
        env: Some(environment(settings, &hostname, door.map(|(_, door)| door))),
        labels: Some(labels(&settings.fleet, assignment, door.map(|(_, door)| door))),
        hostname: Some(hostname),
        host_config: Some(HostConfig {
            network_mode: Some(settings.network.clone()),
            // Whoever dies is replaced by us; two who start the same thing start it twice.
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                ..RestartPolicy::default()
            }),
            memory: settings.memory,
            // The limit is for all of it: what may not be used as memory may not be used as swap instead.
            memory_swap: settings.memory,
            pids_limit: settings.pids,
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            mounts: door.map(|(doors, _)| vec![mount(settings, doors)]),
            ..HostConfig::default()
        }),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some([(settings.network.clone(), endpoint)].into()),
        }),
        ..ContainerCreateBody::default()
    }
}

fn environment(settings: &Settings, hostname: &str, door: Option<&Door>) -> Vec<String> {
    let door = door.map(|door| format!("{}={DOORS}/{}", handoff::VARIABLE, door.name()));
    [format!("SERVER_ID={hostname}"), format!("PORT={}", settings.port)].into_iter().chain(door).collect()
}

/// How the folder of all doors gets into a container: as a folder of this machine, or, where this program is itself in a
/// container, as the volume that it has mounted there.
fn mount(settings: &Settings, doors: &Doors) -> Mount {
    let (typ, source) = match &settings.volume {
        Some(volume) => (MountType::VOLUME, volume.clone()),
        None => (MountType::BIND, doors.path().to_string_lossy().into_owned()),
    };
    Mount { typ: Some(typ), source: Some(source), target: Some(DOORS.to_owned()), ..Mount::default() }
}

fn labels(fleet: &str, assignment: &Assignment, door: Option<&Door>) -> HashMap<String, String> {
    let identity = [(FLEET, fleet), (HOSTNAME, assignment.hostname.as_str())];
    let mut labels: HashMap<String, String> = identity.into_iter().chain(NOT_COMPOSES).map(owned).collect();
    if let Some(slot) = &assignment.slot {
        labels.extend(
            [(SLOT_INDEX, slot.index.to_string().as_str()), (SLOT_NAME, slot.name.as_str())].map(owned),
        );
    }
    labels.extend(door.map(|door| owned((DOOR, door.name()))));
    labels
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A container of the fleet, as the engine lists it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) hostname: Option<Hostname>,
    /// The slot that it was started for.
    pub(super) slot: Option<SlotId>,
    /// The name of its door.
    pub(super) door: Option<String>,
    pub(super) state: State,
    /// Its address in the network of the fleet.
    pub(super) address: Option<IpAddr>,
}

impl Listed {
    /// `None` if it is none of this fleet, whatever it was asked for.
    pub(super) fn of(summary: ContainerSummary, settings: &Settings) -> Option<Self> {
        let labels = summary.labels.filter(|labels| labels.get(FLEET) == Some(&settings.fleet))?;
        let networks = summary.network_settings.and_then(|settings| settings.networks);
        let name = summary.names.and_then(|names| names.into_iter().next());
        Some(Listed {
            id: summary.id?,
            name: name?.trim_start_matches('/').to_owned(),
            hostname: labels.get(HOSTNAME).and_then(|name| Hostname::try_from(name.clone()).ok()),
            slot: slot(&labels),
            door: labels.get(DOOR).cloned(),
            state: summary.state.unwrap_or(State::EMPTY),
            address: networks.and_then(|networks| address_in(&networks, &settings.network)),
        })
    }

    /// Whether its processes are there, though perhaps stopped for the moment.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.state, State::RUNNING | State::PAUSED)
    }

    /// Whether somebody is about to remove it.
    pub(super) fn is_going(&self) -> bool {
        self.state == State::REMOVING
    }
}

fn slot(labels: &HashMap<String, String>) -> Option<SlotId> {
    let index = labels.get(SLOT_INDEX)?.parse().ok().filter(|&index| index > 0)?;
    let name = Hostname::try_from(labels.get(SLOT_NAME)?.clone()).ok()?;
    Some(SlotId { index, name })
}

fn address_in(networks: &HashMap<String, EndpointSettings>, network: &str) -> Option<IpAddr> {
    networks.get(network)?.ip_address.as_ref()?.parse().ok()
}

/// Where a container listens that runs, in the network of the fleet.
pub(super) fn address(inspected: &ContainerInspectResponse, settings: &Settings) -> Option<SocketAddr> {
    let is_running = inspected.state.as_ref()?.running?;
    let networks = inspected.network_settings.as_ref()?.networks.as_ref()?;
    let address = is_running.then(|| address_in(networks, &settings.network))??;
    Some(SocketAddr::new(address, settings.port))
}

/// How a container ended that was just started.
pub(super) fn end(inspected: &ContainerInspectResponse) -> String {
    let state = inspected.state.clone().unwrap_or_default();
    let error = state.error.filter(|error| !error.is_empty());
    error.unwrap_or_else(|| ended(state.exit_code, state.oom_killed == Some(true)))
}

/// How a container ended.
pub(super) fn ended(exit_code: Option<i64>, is_out_of_memory: bool) -> String {
    let code = exit_code.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
    let why = if is_out_of_memory { " (it ran out of memory)" } else { "" };
    format!("ended with exit code {code}{why}")
}
