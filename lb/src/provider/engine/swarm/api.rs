//! The calls to a manager of the Swarm (Docker Engine API), each with a deadline and an error that says what went wrong.
//!
//! Only checked text becomes part of a path: the configuration and [`super::service`] check names, and ids are checked where they come
//! in. The engine takes the beginning of an id for a name, so what it returns for a name has to have that name.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::{
    self, ConfigSpec, EventMessage, Ipam, IpamConfig, LocalNodeState, NetworkCreateRequest, Service,
    ServiceSpec, SwarmInfo,
};
use bollard::query_parameters::{
    EventsOptionsBuilder, InspectServiceOptions, ListNetworksOptions, ListNodesOptions,
    ListServicesOptionsBuilder, UpdateConfigOptionsBuilder, UpdateServiceOptionsBuilder,
};
use futures_util::{Stream, StreamExt as _};
use ipnet::Ipv4Net;

use super::raw::Raw;
use super::secret::{Missing, Secret};
use super::service::{Listed, is_id};
use super::tasks::Task;
use crate::provider::engine::call::{Filters, LIMIT, Trouble, call, connect, filters, garbled, if_there};
use crate::provider::engine::identity::fleet_label;
use crate::provider::engine::network::{self, MADE_BY_LB, Network};
use crate::provider::engine::record::Labels;

/// How far back a subscription to events begins. Events just before it are told twice rather than not at all.
const OVERLAP: Duration = Duration::from_secs(2);
/// What a config object of a fleet holds: it must not be empty. The rest is in its labels.
const DATA: &str = "VGhpcyBpcyBhIGZsZWV0IG9mIGxiLiBJdHMgc2VhdHMgYXJlIGluIHRoZSBsYWJlbHMuCg==";

/// A config object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigObject {
    pub(super) id: String,
    pub(super) version: u64,
    pub(super) labels: Labels,
}

/// A client of one manager.
#[derive(Clone, Debug)]
pub(super) struct Manager {
    docker: bollard::Docker,
    raw: Raw,
}

/// Whether a manager refused a change because it named an old version.
pub(super) fn is_stale(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Refused { message, .. } if message.contains("update out of sequence"))
}

impl Manager {
    /// Connects to the engine at `host` (as in `DOCKER_HOST`).
    pub(super) async fn connect(host: &str) -> Result<Self, Trouble> {
        let docker = connect(host).await?;
        let version = docker.client_version();
        let raw = Raw::new(host, &format!("v{}.{}", version.major_version, version.minor_version))?;
        Ok(Manager { docker, raw })
    }

    /// What the engine has to do with a Swarm.
    pub(super) async fn membership(&self) -> Result<Membership, Trouble> {
        let info = call("GET /info", LIMIT, self.docker.info()).await?;
        let SwarmInfo { local_node_state, control_available, .. } = info.swarm.unwrap_or_default();
        Ok(match (local_node_state, control_available) {
            (Some(LocalNodeState::ACTIVE), Some(true)) => Membership::Manager,
            (Some(LocalNodeState::ACTIVE), _) => Membership::Worker,
            _ => Membership::None,
        })
    }

    /// The config object of this name; `None` if there is none.
    pub(super) async fn config(&self, name: &str) -> Result<Option<ConfigObject>, Trouble> {
        const CALL: &str = "GET /configs/NAME";
        let Some(config) = if_there(call(CALL, LIMIT, self.docker.inspect_config(name)).await)? else {
            return Ok(None);
        };
        let spec = config.spec.unwrap_or_default();
        if spec.name.as_deref() != Some(name) {
            return Ok(None);
        }
        let object = config.id.filter(|id| is_id(id)).zip(config.version.and_then(|version| version.index));
        let labels = spec.labels.unwrap_or_default();
        let object = object.map(|(id, version)| ConfigObject { id, version, labels });
        object.map(Some).ok_or_else(|| garbled(CALL, "no id, or no version"))
    }

    /// Creates a config object, unless there is one of this name (409).
    pub(super) async fn create_config(&self, name: &str, labels: Labels) -> Result<(), Trouble> {
        let created = self.docker.create_config(config_spec(name, labels));
        call("POST /configs/create", LIMIT, created).await.map(drop)
    }

    /// Replaces the labels of a config object, if it still has this version ([`is_stale`]).
    pub(super) async fn update_config(
        &self,
        name: &str,
        object: &ConfigObject,
        labels: Labels,
    ) -> Result<(), Trouble> {
        let version = i64::try_from(object.version).unwrap_or(i64::MAX);
        let options = UpdateConfigOptionsBuilder::default().version(version).build();
        let updated = self.docker.update_config(&object.id, config_spec(name, labels), options);
        call("POST /configs/ID/update", LIMIT, updated).await
    }

    pub(super) async fn remove_config(&self, id: &str) -> Result<(), Trouble> {
        call("DELETE /configs/ID", LIMIT, self.docker.delete_config(id)).await
    }

    /// The secrets with these names.
    pub(super) async fn secrets(&self, names: &[String]) -> Result<Result<Vec<Secret>, Missing>, Trouble> {
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            match self.secret(name).await? {
                Some(id) => found.push(Secret { name: name.clone(), id }),
                None => return Ok(Err(Missing(name.clone()))),
            }
        }
        Ok(Ok(found))
    }

    /// The id of the secret of this name; `None` if there is none.
    async fn secret(&self, name: &str) -> Result<Option<String>, Trouble> {
        const CALL: &str = "GET /secrets/NAME";
        let found = if_there(call(CALL, LIMIT, self.docker.inspect_secret(name)).await)?;
        let is_called = |secret: &models::Secret| {
            secret.spec.as_ref().is_some_and(|spec| spec.name.as_deref() == Some(name))
        };
        let Some(secret) = found.filter(is_called) else { return Ok(None) };
        secret.id.filter(|id| is_id(id)).map(Some).ok_or_else(|| garbled(CALL, "no id"))
    }

    /// The services with the label of this fleet.
    pub(super) async fn services(&self, fleet: &str) -> Result<Vec<Listed>, Trouble> {
        let wanted = filters(&[("label", &[&fleet_label(fleet)])]);
        let options = ListServicesOptionsBuilder::default().filters(&wanted).build();
        let listed = call("GET /services", LIMIT, self.docker.list_services(Some(options))).await?;
        Ok(listed.into_iter().filter_map(|service| Listed::of(service, fleet)).collect())
    }

    /// The service of this name or id; `None` if there is none.
    pub(super) async fn service(&self, name: &str) -> Result<Option<Service>, Trouble> {
        let inspected = self.docker.inspect_service(name, None::<InspectServiceOptions>);
        if_there(call("GET /services/NAME", LIMIT, inspected).await)
    }

    /// Creates a service, unless there is one of this name (409); returns its id.
    pub(super) async fn create_service(&self, spec: ServiceSpec) -> Result<String, Trouble> {
        const CALL: &str = "POST /services/create";
        let created = call(CALL, LIMIT, self.docker.create_service(spec, None)).await?;
        created.id.filter(|id| is_id(id)).ok_or_else(|| garbled(CALL, "no id"))
    }

    /// Changes a service, if it still has this version ([`is_stale`]).
    pub(super) async fn update_service(&self, service: &Listed, spec: ServiceSpec) -> Result<(), Trouble> {
        let version = i32::try_from(service.version).unwrap_or(i32::MAX);
        let options = UpdateServiceOptionsBuilder::default().version(version).build();
        let updated = self.docker.update_service(&service.id, spec, options, None);
        call("POST /services/ID/update", LIMIT, updated).await.map(drop)
    }

    pub(super) async fn remove_service(&self, id: &str) -> Result<(), Trouble> {
        call("DELETE /services/ID", LIMIT, self.docker.delete_service(id)).await
    }

    /// The tasks of all services with the label of this fleet.
    pub(super) async fn tasks_of_fleet(&self, fleet: &str) -> Result<Vec<Task>, Trouble> {
        self.tasks(&[("label", &[&fleet_label(fleet)])]).await
    }

    /// The tasks of the services with these ids.
    ///
    /// # Errors
    /// One of them is gone (404).
    pub(super) async fn tasks_of(&self, services: &[String]) -> Result<Vec<Task>, Trouble> {
        let services: Vec<&str> = services.iter().map(String::as_str).collect();
        self.tasks(&[("service", &services)]).await
    }

    async fn tasks(&self, wanted: &Filters<'_>) -> Result<Vec<Task>, Trouble> {
        // bollard's task has no addresses.
        self.raw.list("GET /tasks", "tasks", &filters(wanted)).await
    }

    /// The names of all nodes, by id.
    pub(super) async fn nodes(&self) -> Result<HashMap<String, String>, Trouble> {
        let nodes = call("GET /nodes", LIMIT, self.docker.list_nodes(None::<ListNodesOptions>)).await?;
        Ok(nodes.into_iter().filter_map(|node| Some((node.id?, node.description?.hostname?))).collect())
    }

    /// The network of the Swarm of this name; `None` if there is none.
    pub(super) async fn network(&self, name: &str) -> Result<Option<Network>, Trouble> {
        network::find(&self.docker, name, Some("swarm")).await
    }

    pub(super) async fn remove_network(&self, id: &str) -> Result<(), Trouble> {
        network::remove(&self.docker, id).await
    }

    /// The address pools of the Swarm, and the subnets that its networks have.
    pub(super) async fn subnets(&self) -> Result<(Vec<Ipv4Net>, Vec<Ipv4Net>), Trouble> {
        let swarm = call("GET /swarm", LIMIT, self.docker.inspect_swarm()).await?;
        let networks =
            call("GET /networks", LIMIT, self.docker.list_networks(None::<ListNetworksOptions>)).await?;
        let pools = swarm.default_addr_pool.into_iter().flatten().filter_map(|pool| pool.parse().ok());
        let configs = networks.into_iter().filter_map(|network| network.ipam?.config).flatten();
        let taken = configs.filter_map(|config| config.subnet?.parse().ok());
        Ok((pools.collect(), taken.collect()))
    }

    /// Creates an overlay network, unless there is one of this name (409); returns its id.
    pub(super) async fn create_overlay(&self, name: &str, subnet: Ipv4Net) -> Result<String, Trouble> {
        const CALL: &str = "POST /networks/create";
        let config = IpamConfig { subnet: Some(subnet.to_string()), ..IpamConfig::default() };
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("overlay".to_owned()),
            attachable: Some(true),
            ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
            labels: Some([(MADE_BY_LB.to_owned(), "true".to_owned())].into()),
            ..NetworkCreateRequest::default()
        };
        let created = call(CALL, LIMIT, self.docker.create_network(request)).await?;
        Some(created.id).filter(|id| is_id(id)).ok_or_else(|| garbled(CALL, "no id"))
    }

    /// The events of config objects, services, nodes and networks from now on, until the stream fails or ends.
    pub(super) fn events(&self) -> impl Stream<Item = Result<EventMessage, Trouble>> + use<> {
        let wanted: &Filters<'_> = &[("type", &["config", "service", "node"])];
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(OVERLAP);
        let since = since.as_secs().to_string();
        let options = EventsOptionsBuilder::default().filters(&filters(wanted)).since(&since).build();
        self.docker
            .events(Some(options))
            .map(|event| event.map_err(|error| Trouble::new("GET /events", &error)))
    }
}

/// What an engine has to do with a Swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Membership {
    Manager,
    Worker,
    None,
}

fn config_spec(name: &str, labels: Labels) -> ConfigSpec {
    ConfigSpec {
        name: Some(name.to_owned()),
        labels: Some(labels),
        data: Some(DATA.to_owned()),
        ..ConfigSpec::default()
    }
}
