//! Networks of an engine: to find one by its name, and to remove it.
//!
//! The engine takes the beginning of an id for a name. So a network is looked up by name, by its id afterwards, and what the engine
//! returns has to have that name.

use std::collections::HashMap;

use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptionsBuilder};

use super::call::{LIMIT, Trouble, call, filters, garbled, if_there};

/// The label of a network that an `lb` has created. An `lb` may remove it when it is empty.
pub(super) const MADE_BY_LB: &str = "lb.made";

/// A network of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) id: String,
    /// Whether an `lb` has created it.
    pub(super) is_made_by_lb: bool,
}

impl Network {
    /// A network with these labels. `None` if the id cannot be part of a path. (Networks of a swarm have ids of letters and digits.)
    pub(super) fn of(id: Option<String>, labels: Option<&HashMap<String, String>>) -> Option<Self> {
        let is_made_by_lb = labels.is_some_and(|labels| labels.contains_key(MADE_BY_LB));
        let is_plain =
            |id: &String| (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        id.filter(is_plain).map(|id| Network { id, is_made_by_lb })
    }
}

/// The network of this name; `None` if there is none. With a `scope` (`swarm`, `local`), only networks of that scope count.
pub(super) async fn find(
    docker: &bollard::Docker,
    name: &str,
    scope: Option<&str>,
) -> Result<Option<Network>, Trouble> {
    const CALL: &str = "GET /networks/NAME";
    let options =
        InspectNetworkOptions { scope: scope.map(str::to_owned), ..InspectNetworkOptions::default() };
    let inspected = docker.inspect_network(name, Some(options));
    let found = match if_there(call(CALL, LIMIT, inspected).await) {
        // Several networks have this name, or ids that begin with it.
        Err(trouble) if trouble.is(400) => return oldest(docker, name, scope).await,
        found => found?.filter(|network| network.name.as_deref() == Some(name)),
    };
    let Some(found) = found else { return Ok(None) };
    let strange = garbled(CALL, format_args!("id {:?}", found.id));
    Network::of(found.id, found.labels.as_ref()).map(Some).ok_or(strange)
}

/// The oldest network of this name and scope.
pub(super) async fn oldest(
    docker: &bollard::Docker,
    name: &str,
    scope: Option<&str>,
) -> Result<Option<Network>, Trouble> {
    let mut wanted: Vec<(&str, &[&str])> = vec![("name", std::slice::from_ref(&name))];
    wanted.extend(scope.as_ref().map(|scope| ("scope", std::slice::from_ref(scope))));
    let options = ListNetworksOptionsBuilder::default().filters(&filters(&wanted)).build();
    let all = call("GET /networks", LIMIT, docker.list_networks(Some(options))).await?;
    // The filter also matches a part of a name.
    let namesakes = all.into_iter().filter(|network| network.name.as_deref() == Some(name));
    let first = namesakes.min_by_key(|network| (network.created.clone(), network.id.clone()));
    Ok(first.and_then(|network| Network::of(network.id, network.labels.as_ref())))
}

/// Removes the network with this id.
pub(super) async fn remove(docker: &bollard::Docker, id: &str) -> Result<(), Trouble> {
    call("DELETE /networks/ID", LIMIT, docker.remove_network(id)).await
}
