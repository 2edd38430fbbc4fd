//! How a replica becomes a container: what the engine is asked for, and what is read back.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum as State,
    EndpointSettings, HostConfig, Mount, MountType, NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
};
use proto::control::Hostname;

use super::Settings;
use crate::provider::doors::{Door, Doors};
use crate::provider::engine::dress;
use crate::provider::engine::identity::Identity;
use crate::provider::engine::record::Labels;

/// The folder of all doors as a container sees it.
const DOORS: &str = "/run/lb-doors";

/// The one network in which containers cannot have aliases.
const DEFAULT_BRIDGE: &str = "bridge";

/// What a new replica gets.
pub(super) struct Plan<'a> {
    pub(super) settings: &'a Settings,
    pub(super) identity: &'a Identity,
    pub(super) hostname: &'a Hostname,
    pub(super) door: Option<(&'a Doors, &'a Door)>,
    /// The id of the network of the fleet.
    pub(super) network: &'a str,
}

/// The body of `POST /containers/create` for a new replica.
pub(super) fn body(plan: &Plan<'_>) -> ContainerCreateBody {
    let Plan { settings, door, .. } = *plan;
    let hostname = plan.hostname.to_string();
    let is_default = settings.common.network == DEFAULT_BRIDGE;
    let aliases = (!is_default).then(|| vec![hostname.clone()]);
    let endpoint = EndpointSettings { aliases, ..EndpointSettings::default() };
    // By id: if the network is gone, the engine takes its name for the beginning of another's id.
    let network = if is_default { DEFAULT_BRIDGE } else { plan.network }.to_owned();
    let (cap_drop, cap_add) = settings.common.capabilities.taken_and_given();
    ContainerCreateBody {
        image: Some(settings.common.image.clone()),
        env: Some(environment(settings, plan.hostname, door.map(|(_, door)| door))),
        labels: Some(labels(&settings.common.fleet, plan.identity)),
        hostname: Some(hostname),
        host_config: Some(HostConfig {
            network_mode: Some(network.clone()),
            // lb replaces what dies. If the engine restarted it as well, it would run twice.
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                ..RestartPolicy::default()
            }),
            memory: settings.common.memory,
            // The limit holds for memory and swap together: a replica cannot use swap instead.
            memory_swap: settings.common.memory,
            pids_limit: Some(settings.common.pids),
            cap_drop: Some(cap_drop),
            cap_add: Some(cap_add),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            mounts: door.map(|(doors, _)| vec![mount(settings, doors)]),
            ..HostConfig::default()
        }),
        networking_config: Some(NetworkingConfig { endpoints_config: Some([(network, endpoint)].into()) }),
        ..ContainerCreateBody::default()
    }
}

fn environment(settings: &Settings, hostname: &Hostname, door: Option<&Door>) -> Vec<String> {
    let door = door.map(|door| format!("{}={DOORS}/{}", handoff::VARIABLE, door.name()));
    dress::environment(&settings.common, hostname).chain(door).collect()
}

/// Mounts the folder of all doors into a container: a folder of this machine or, if `lb` itself runs in a container, the
/// volume that holds the folder.
fn mount(settings: &Settings, doors: &Doors) -> Mount {
    let (typ, source) = match &settings.volume {
        Some(volume) => (MountType::VOLUME, volume.clone()),
        None => (MountType::BIND, doors.path().to_string_lossy().into_owned()),
    };
    Mount { typ: Some(typ), source: Some(source), target: Some(DOORS.to_owned()), ..Mount::default() }
}

fn labels(fleet: &str, identity: &Identity) -> Labels {
    identity.labels(fleet).into_iter().chain(dress::not_composes()).collect()
}

/// A container with the label of the fleet, as the engine lists it. Its id says which one it is; its name can change.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) id: String,
    /// Its present name, for the log.
    pub(super) name: String,
    /// The id of its image; `None` if the engine does not say.
    pub(super) image: Option<String>,
    pub(super) identity: Identity,
    pub(super) state: State,
    /// Its address in the network of the fleet.
    pub(super) address: Option<IpAddr>,
}

impl Listed {
    /// Reads one line of a list. `None` if the container has not the label of this fleet, even if the list was asked for it.
    /// Its address is the one in the network with the id `network`.
    pub(super) fn of(summary: ContainerSummary, settings: &Settings, network: &str) -> Option<Self> {
        let identity = Identity::read(&summary.labels?, &settings.common.fleet)?;
        let networks = summary.network_settings.and_then(|settings| settings.networks);
        let (id, name) = (summary.id?, summary.names.and_then(|names| names.into_iter().next()));
        Some(Listed {
            name: name.map_or_else(|| id.clone(), |name| name.trim_start_matches('/').to_owned()),
            id,
            image: summary.image_id.filter(|image| !image.is_empty()),
            identity,
            state: summary.state.unwrap_or(State::EMPTY),
            address: networks.and_then(|networks| address_in(&networks, settings, network)),
        })
    }

    /// Whether its processes exist; they may be paused.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.state, State::RUNNING | State::PAUSED)
    }

    /// Whether it has to be stopped before it can be removed.
    pub(super) fn may_run(&self) -> bool {
        self.is_alive() || self.state == State::RESTARTING
    }

    /// Whether the engine is already removing it.
    pub(super) fn is_going(&self) -> bool {
        self.state == State::REMOVING
    }
}

/// The address in the network with the id `network`.
fn address_in(
    networks: &HashMap<String, EndpointSettings>,
    settings: &Settings,
    network: &str,
) -> Option<IpAddr> {
    let is_it = |(name, endpoint): &(&String, &EndpointSettings)| match endpoint.network_id.as_deref() {
        Some(id) if !id.is_empty() => id == network,
        // Not every engine says which network it is.
        _ => **name == settings.common.network,
    };
    networks.iter().find(is_it)?.1.ip_address.as_ref()?.parse().ok()
}

/// The address of a running container in the network of the fleet, with the port of the replica.
pub(super) fn address(
    inspected: &ContainerInspectResponse,
    settings: &Settings,
    network: &str,
) -> Option<SocketAddr> {
    let is_running = inspected.state.as_ref()?.running?;
    let networks = inspected.network_settings.as_ref()?.networks.as_ref()?;
    let address = is_running.then(|| address_in(networks, settings, network))??;
    Some(SocketAddr::new(address, settings.common.port))
}

/// Why a container that was just started does not run.
pub(super) fn end(inspected: &ContainerInspectResponse) -> String {
    let state = inspected.state.clone().unwrap_or_default();
    let error = state.error.filter(|error| !error.is_empty());
    error.unwrap_or_else(|| ended(state.exit_code, state.oom_killed == Some(true)))
}

/// How a container ended, as the log and the reason of a slot say it.
pub(super) fn ended(exit_code: Option<i64>, is_out_of_memory: bool) -> String {
    let code = exit_code.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
    let why = if is_out_of_memory { " (it ran out of memory)" } else { "" };
    format!("ended with exit code {code}{why}")
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::provider::engine::dress::testing::common;
    use crate::provider::engine::dress::{Capabilities, Common, Variable};

    fn settings() -> Settings {
        Settings { common: common(), keep: false, volume: None }
    }

    fn with(change: impl FnOnce(&mut Common)) -> Settings {
        let mut settings = settings();
        change(&mut settings.common);
        settings
    }

    /// A line of a list, with some parts replaced.
    fn summary(parts: &serde_json::Value) -> ContainerSummary {
        let mut summary = json!({
            "Id": "0123456789ab", "Names": ["/fleet-a"], "State": "running",
            "Labels": {"lb.fleet": "fleet", "lb.hostname": "a", "lb.slot.index": "1", "lb.slot.name": "a"},
            "NetworkSettings": {"Networks": {"net": {"IPAddress": "10.0.0.2"}}},
        });
        summary.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
        serde_json::from_value(summary).unwrap()
    }

    /// The id of the network of the fleet.
    const NETWORK: &str = "5060";

    /// A container of the fleet with this id, state and address.
    pub(in super::super) fn listed(id: &str, state: &str, address: &str) -> Listed {
        let networks = json!({"Networks": {"net": {"IPAddress": address}}});
        let summary = summary(&json!({"Id": id, "State": state, "NetworkSettings": networks}));
        Listed::of(summary, &settings(), NETWORK).unwrap()
    }

    #[test]
    fn a_container_is_read_from_a_list() {
        let listed = Listed::of(summary(&json!({})), &settings(), NETWORK).unwrap();
        assert_eq!((listed.id.as_str(), listed.name.as_str()), ("0123456789ab", "fleet-a"));
        assert_eq!(listed.identity.hostname.unwrap().as_str(), "a");
        assert_eq!(listed.identity.slot.unwrap().index, 1);
        assert_eq!(listed.address.unwrap().to_string(), "10.0.0.2");
    }

    #[test]
    fn containers_outside_the_fleet_are_ignored() {
        for parts in [
            json!({"Labels": null}),
            json!({"Labels": {}}),
            json!({"Labels": {"lb.fleet": "fleet2"}}),
            json!({"Id": null}),
        ] {
            assert!(Listed::of(summary(&parts), &settings(), NETWORK).is_none(), "{parts}");
        }
    }

    #[test]
    fn a_container_needs_no_name() {
        for names in [json!(null), json!([])] {
            let listed = Listed::of(summary(&json!({ "Names": names })), &settings(), NETWORK).unwrap();
            assert_eq!(listed.name, listed.id);
        }
    }

    #[test]
    fn an_address_counts_in_the_network_of_the_fleet_alone() {
        for networks in [
            json!(null),
            json!({}),
            json!({"Networks": {"other": {"IPAddress": "10.0.0.2"}}}),
            json!({"Networks": {"net": {"IPAddress": ""}}}),
            json!({"Networks": {"net": {"IPAddress": "../.."}}}),
            json!({"Networks": {"net": {"IPAddress": "10.0.0.2", "NetworkID": "5061"}}}),
        ] {
            let summary = summary(&json!({"NetworkSettings": networks}));
            assert_eq!(Listed::of(summary, &settings(), NETWORK).unwrap().address, None, "{networks}");
        }
        let renamed = json!({"Networks": {"old": {"IPAddress": "10.0.0.3", "NetworkID": NETWORK}}});
        let listed = Listed::of(summary(&json!({"NetworkSettings": renamed})), &settings(), NETWORK).unwrap();
        assert_eq!(listed.address.unwrap().to_string(), "10.0.0.3");
    }

    #[test]
    fn paused_containers_live_and_others_do_not() {
        let is_alive = |state| listed("0123456789ab", state, "10.0.0.2").is_alive();
        assert!(["running", "paused"].into_iter().all(is_alive));
        assert!(!["created", "restarting", "removing", "exited", "dead", ""].into_iter().any(is_alive));
    }

    #[test]
    fn the_reason_of_an_end_is_the_engines_or_the_exit_code() {
        let end = |state| end(&serde_json::from_value(json!({"State": state})).unwrap());
        assert_eq!(end(json!({"Error": "no such file", "ExitCode": 127})), "no such file");
        assert_eq!(end(json!({"Error": "", "ExitCode": 3})), "ended with exit code 3");
        assert_eq!(
            end(json!({"ExitCode": 137, "OOMKilled": true})),
            "ended with exit code 137 (it ran out of memory)"
        );
        assert_eq!(end(json!(null)), "ended with exit code unknown");
    }

    #[test]
    fn a_container_gets_its_environment_and_is_never_restarted_by_the_engine() {
        let greeting = Variable { name: "GREETING".to_owned(), value: "hello, world".to_owned() };
        let body = planned(&with(|common| common.environment = vec![greeting]));
        assert_eq!(body.env.unwrap(), ["SERVER_ID=a", "PORT=5000", "GREETING=hello, world"]);
        let labels = body.labels.unwrap();
        assert_eq!((labels["lb.fleet"].as_str(), labels["lb.hostname"].as_str()), ("fleet", "a"));
        assert_eq!(labels["lb.nonce"], "00000000000000ff");
        let host = body.host_config.unwrap();
        assert_eq!(host.restart_policy.unwrap().name, Some(RestartPolicyNameEnum::NO));
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
    }

    #[test]
    fn a_container_joins_its_network_by_id_and_the_default_bridge_by_name() {
        let joined = |name: &str| {
            let body = planned(&with(|common| common.network = name.to_owned()));
            let endpoints = body.networking_config.unwrap().endpoints_config.unwrap();
            let [(at, endpoint)] = endpoints.into_iter().collect::<Vec<_>>().try_into().unwrap();
            assert_eq!(body.host_config.unwrap().network_mode, Some(at.clone()));
            (at, endpoint.aliases)
        };
        assert_eq!(joined("506"), (NETWORK.to_owned(), Some(vec!["a".to_owned()])));
        assert_eq!(joined("bridge"), ("bridge".to_owned(), None));
    }

    #[test]
    fn capabilities_are_the_usual_ones_without_raw_sockets_or_only_those_that_are_named() {
        let given = |capabilities| {
            let host = planned(&with(|common| common.capabilities = capabilities)).host_config.unwrap();
            (host.cap_drop.unwrap(), host.cap_add.unwrap())
        };
        let only = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            given(Capabilities::Only(names.clone())) == (vec!["ALL".to_owned()], names)
        };
        assert_eq!(given(Capabilities::Usual), (vec!["NET_RAW".to_owned()], Vec::new()));
        assert!(only(&[]) && only(&["CHOWN", "NET_BIND_SERVICE"]));
    }

    fn planned(settings: &Settings) -> ContainerCreateBody {
        let hostname = Hostname::try_from("a".to_owned()).unwrap();
        let (slot, location) = (None, None);
        let assignment =
            fleet::Assignment { hostname, slot, location, is_urgent: false, since: fleet::Epoch(0) };
        let identity = Identity::new(&assignment, None, 0xff);
        body(&Plan {
            settings,
            identity: &identity,
            hostname: &assignment.hostname,
            door: None,
            network: NETWORK,
        })
    }
}
