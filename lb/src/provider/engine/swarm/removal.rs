//! `lb fleet rm`: removes all that the `lb`s of a fleet have made in the Swarm.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};

use super::api::{Manager, is_stale};
use super::config;
use super::manager;
use crate::provider::engine::call::Trouble;
use crate::provider::engine::identity::FLEET;

/// How long the last containers may take to leave the network.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause between two attempts.
const AGAIN: Duration = Duration::from_millis(500);

/// Removes the services and the config object of this fleet, and this network if an `lb` has made it and nothing else uses it. Every `lb`
/// of the fleet that runs is told first, and ends. Returns what was removed, in words.
///
/// # Errors
/// The engine at `host` (as in `DOCKER_HOST`; `None` for the local one) is no manager of a Swarm, there is no such fleet, or the Swarm
/// refuses.
pub(crate) async fn remove(host: Option<&str>, fleet: &str, network: &str) -> anyhow::Result<String> {
    let manager = manager(host).await?;
    let has_object = tell(&manager, fleet).await?;
    let services = manager.services(fleet).await?;
    if !has_object && services.is_empty() {
        bail!("there is no fleet {fleet} in the Swarm (--fleet)");
    }
    for service in &services {
        if_there(manager.remove_service(&service.id).await)?;
    }
    // Last, so that an attempt that fails half-way can be repeated.
    if let Some(object) = manager.config(&config::name(fleet)).await?
        && object.labels.get(FLEET).is_some_and(|label| label == fleet)
    {
        if_there(manager.remove_config(&object.id).await)?;
    }
    let left = leave(&manager, network).await?;
    Ok(format!("fleet {fleet}: {} services and the config object are removed; {left}", services.len()))
}

/// Tells every `lb` of the fleet to end. Returns whether there is a config object.
async fn tell(manager: &Manager, fleet: &str) -> anyhow::Result<bool> {
    let name = config::name(fleet);
    loop {
        let Some(object) = manager.config(&name).await? else { return Ok(false) };
        if object.labels.get(FLEET).is_none_or(|label| label != fleet) {
            bail!(
                "the config object {name} has not the label {FLEET}={fleet}: lb has not made it, and leaves it alone"
            );
        }
        let mut labels = object.labels.clone();
        config::mark_as_removed(&mut labels);
        match manager.update_config(&name, &object, labels).await {
            Err(trouble) if is_stale(&trouble) => {}
            told => return Ok(told.map(|()| true)?),
        }
    }
}

/// Removes the network if an `lb` has made it, as soon as nothing uses it; says what became of it.
async fn leave(manager: &Manager, name: &str) -> Result<String, Trouble> {
    let begun = Instant::now();
    loop {
        let Some(network) = manager.network(name).await? else {
            return Ok(format!("there is no network {name}"));
        };
        if !network.is_made_by_lb {
            return Ok(format!("the network {name} was not made by lb, and stays"));
        }
        match manager.remove_network(&network.id).await {
            Ok(()) => return Ok(format!("so is the network {name}")),
            Err(Trouble::Refused { message, .. }) if begun.elapsed() >= PATIENCE => {
                return Ok(format!("the network {name} stays, because it is in use: {message}"));
            }
            Err(Trouble::Refused { .. }) => sleep(AGAIN).await,
            Err(trouble) => return Err(trouble),
        }
    }
}

/// What is gone already is removed.
fn if_there(removed: Result<(), Trouble>) -> Result<(), Trouble> {
    match removed {
        Err(trouble) if trouble.is(404) => Ok(()),
        removed => removed,
    }
}
