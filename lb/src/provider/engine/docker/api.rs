//! The calls about containers, volumes and networks (Docker Engine API).
//!
//! Only checked text becomes part of a path: the configuration and [`proto::control::Hostname`] check names, this module checks ids.
//! The engine takes the beginning of an id for a name. So a network is looked up by name, and by its id afterwards, and what the
//! engine returns for an id has to have that id. (An image may be named by its id, as Docker's users do.)

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, EventMessage, NetworkCreateRequest,
    Volume, VolumeCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions, KillContainerOptions,
    ListContainersOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveVolumeOptions, StartContainerOptions, StopContainerOptionsBuilder,
};
use futures_util::Stream;
use tokio::time::sleep;

use crate::provider::engine::call::{Filters, LIMIT, Trouble, call, connect, filters, garbled, if_there};
use crate::provider::engine::network::{self, MADE_BY_LB, Network};

/// How long the start or removal of a container may take while the engine answers pings.
const SLOW: Duration = Duration::from_secs(20);
/// How long a busy engine may take to answer a ping.
const SIGN: Duration = Duration::from_secs(2);
/// How far back a subscription to events begins. Events just before it are told twice rather than not at all.
const OVERLAP: Duration = Duration::from_secs(2);

/// A client of one container engine.
#[derive(Clone, Debug)]
pub(super) struct Engine(bollard::Docker);

impl Engine {
    /// Connects to the engine at `host` (as in `DOCKER_HOST`) and agrees on a version of the API.
    pub(super) async fn connect(host: &str) -> Result<Self, Trouble> {
        connect(host).await.map(Engine)
    }

    pub(super) async fn has_image(&self, image: &str) -> Result<bool, Trouble> {
        let found = if_there(call("GET /images/NAME/json", LIMIT, self.0.inspect_image(image)).await)?;
        Ok(found.is_some())
    }

    /// The labels of the image with this id; `None` if there is no such image.
    pub(super) async fn labels_of_image(&self, id: &str) -> Result<Option<HashMap<String, String>>, Trouble> {
        const CALL: &str = "GET /images/ID/json";
        if !is_id(id.strip_prefix("sha256:").unwrap_or(id)) {
            return Err(garbled(CALL, format_args!("id {id:?}")));
        }
        let found = if_there(call(CALL, LIMIT, self.0.inspect_image(id)).await)?;
        Ok(found.map(|image| image.config.and_then(|config| config.labels).unwrap_or_default()))
    }

    /// The network of this name; `None` if there is none.
    pub(super) async fn network(&self, name: &str) -> Result<Option<Network>, Trouble> {
        network::find(&self.0, name, None).await
    }

    /// Creates a network, and returns its id. Older engines create a second one of the same name; if another client was faster,
    /// the own one is removed.
    pub(super) async fn create_network(&self, name: &str) -> Result<String, Trouble> {
        const CALL: &str = "POST /networks/create";
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            labels: Some([(MADE_BY_LB.to_owned(), "true".to_owned())].into()),
            ..NetworkCreateRequest::default()
        };
        let made = match call(CALL, LIMIT, self.0.create_network(request)).await {
            Err(trouble) if trouble.is(409) => None,
            made => Network::of(Some(made?.id), None),
        };
        let first = network::oldest(&self.0, name, None).await?;
        if let (Some(made), Some(first)) = (&made, &first)
            && made.id != first.id
        {
            self.remove_network(&made.id).await?;
        }
        let there = first.or(made).ok_or_else(|| garbled(CALL, format_args!("no network {name}")))?;
        Ok(there.id)
    }

    pub(super) async fn remove_network(&self, id: &str) -> Result<(), Trouble> {
        network::remove(&self.0, id).await
    }

    /// Creates a container; returns its id.
    pub(super) async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String, Trouble> {
        const CALL: &str = "POST /containers/create";
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let created = self.patiently(CALL, LIMIT, self.0.create_container(Some(options), body)).await?;
        if is_id(&created.id) {
            Ok(created.id)
        } else {
            Err(garbled(CALL, format_args!("id {:?}", created.id)))
        }
    }

    pub(super) async fn start(&self, id: &str) -> Result<(), Trouble> {
        let started = self.0.start_container(id, None::<StartContainerOptions>);
        self.patiently("POST /containers/ID/start", SLOW, started).await
    }

    /// Waits for a call that may take long on a busy machine, but not longer than the engine answers pings.
    async fn patiently<T>(
        &self,
        name: &'static str,
        limit: Duration,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Trouble> {
        tokio::select! {
            answer = call(name, limit, answer) => answer,
            limit = self.hung() => Err(Trouble::Late { call: name, limit }),
        }
    }

    /// Completes when the engine no longer answers pings; returns how long it had for the last one.
    pub(super) async fn hung(&self) -> Duration {
        while call("GET /_ping", SIGN, self.0.ping()).await.is_ok() {
            sleep(SIGN / 2).await;
        }
        SIGN
    }

    pub(super) async fn inspect(&self, id: &str) -> Result<ContainerInspectResponse, Trouble> {
        const CALL: &str = "GET /containers/ID/json";
        let inspected = self.0.inspect_container(id, None::<InspectContainerOptions>);
        let inspected = self.patiently(CALL, LIMIT, inspected).await?;
        match inspected.id.as_deref() {
            Some(there) if there == id => Ok(inspected),
            other => Err(garbled(CALL, format_args!("id {other:?} for {id}"))),
        }
    }

    /// Asks a container to end, and kills it after `grace`.
    pub(super) async fn stop(&self, id: &str, grace: Duration) -> Result<(), Trouble> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        self.patiently("POST /containers/ID/stop", grace + SLOW, self.0.stop_container(id, Some(options)))
            .await
    }

    /// Kills a container with SIGKILL. That it does not run is no error.
    pub(super) async fn kill(&self, id: &str) -> Result<(), Trouble> {
        let killed = self.0.kill_container(id, None::<KillContainerOptions>);
        match call("POST /containers/ID/kill", LIMIT, killed).await {
            Err(trouble) if trouble.is(404) || trouble.is(409) => Ok(()),
            killed => killed,
        }
    }

    /// Removes a container with its anonymous volumes. One that runs is killed with `force`, otherwise refused (409).
    pub(super) async fn remove(&self, id: &str, force: bool) -> Result<(), Trouble> {
        let options = RemoveContainerOptionsBuilder::default().force(force).v(true).build();
        self.patiently("DELETE /containers/ID", SLOW, self.0.remove_container(id, Some(options))).await
    }

    /// The containers with this label, in any state.
    pub(super) async fn containers(&self, label: &str) -> Result<Vec<ContainerSummary>, Trouble> {
        const CALL: &str = "GET /containers/json";
        let options =
            ListContainersOptionsBuilder::default().all(true).filters(&filters(&[("label", &[label])]));
        let listed = call(CALL, LIMIT, self.0.list_containers(Some(options.build()))).await?;
        match listed.iter().find(|container| !container.id.as_deref().is_some_and(is_id)) {
            Some(strange) => Err(garbled(CALL, format_args!("id {:?}", strange.id))),
            None => Ok(listed),
        }
    }

    /// The volumes with this label.
    pub(super) async fn volumes(&self, label: &str) -> Result<Vec<Volume>, Trouble> {
        let options = ListVolumesOptionsBuilder::default().filters(&filters(&[("label", &[label])])).build();
        let listed = call("GET /volumes", LIMIT, self.0.list_volumes(Some(options))).await?;
        Ok(listed.volumes.unwrap_or_default())
    }

    /// Creates a volume, or returns the one that has this name already.
    pub(super) async fn create_volume(&self, request: VolumeCreateRequest) -> Result<Volume, Trouble> {
        call("POST /volumes/create", LIMIT, self.0.create_volume(request)).await
    }

    pub(super) async fn remove_volume(&self, name: &str) -> Result<(), Trouble> {
        call("DELETE /volumes/NAME", LIMIT, self.0.remove_volume(name, None::<RemoveVolumeOptions>)).await
    }

    /// The events of containers and volumes from now on, until the stream fails or ends.
    pub(super) fn events(&self) -> impl Stream<Item = Result<EventMessage, Trouble>> + use<> {
        use futures_util::StreamExt as _;
        let wanted: &Filters<'_> =
            &[("type", &["container", "volume"]), ("event", &["oom", "die", "destroy", "create"])];
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(OVERLAP);
        let since = since.as_secs().to_string();
        let options = EventsOptionsBuilder::default().filters(&filters(wanted)).since(&since).build();
        let events = self.0.events(Some(options));
        events.map(|event| event.map_err(|error| Trouble::new("GET /events", &error)))
    }
}

/// Whether this is an id of the engine. Ids become part of paths.
fn is_id(id: &str) -> bool {
    (12..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hexadecimal_digits_are_an_id() {
        assert!(is_id("0123456789ab") && is_id(&"f".repeat(64)));
        for text in
            ["", "0123456789a", &"f".repeat(65), "0123456789a/", "../../../../..", "0123456789a\u{661}"]
        {
            assert!(!is_id(text), "{text}");
        }
    }
}
