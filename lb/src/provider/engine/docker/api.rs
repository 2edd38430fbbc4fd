//! The calls to the engine, each with a deadline of its own and an error that says whose fault it is.
//!
//! Only what was checked gets into a path: names by the configuration and [`proto::control::Hostname`], ids here.

use std::error::Error as _;
use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, EventMessage, NetworkCreateRequest,
    Volume, VolumeCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions, InspectNetworkOptions,
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveVolumeOptions, StartContainerOptions, StopContainerOptionsBuilder,
};
use futures_util::Stream;
use tokio::time::{sleep, timeout};

/// Where the engine is if `DOCKER_HOST` says nothing.
pub(super) const LOCAL: &str = "unix:///var/run/docker.sock";
/// How long a call may take. A command has to be answered within five seconds when the engine hangs.
pub(super) const LIMIT: Duration = Duration::from_secs(4);
/// How long it may take to start or to remove a container while the engine answers.
const SLOW: Duration = Duration::from_secs(20);
/// How long an engine that is busy may take to answer the simplest question.
const SIGN: Duration = Duration::from_secs(2);
/// How far back a subscription to events begins: what happened just before it is told again rather than to nobody.
const OVERLAP: Duration = Duration::from_secs(2);

/// The label of a network that an `lb` has made, and may remove when it is empty.
const MADE_BY_LB: &str = "lb.made";

/// Filters of a list or a stream, as the engine takes them.
type Filters<'a> = [(&'a str, &'a [&'a str])];

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The engine took it in, and would not or could not do it.
    #[error("the engine does not {call}: {message} (status {status})")]
    Refused { call: &'static str, status: u16, message: String },
    /// The engine did not answer in time. It may do it all the same.
    #[error("the engine does not {call}: no answer within {limit:?}")]
    Late { call: &'static str, limit: Duration },
    /// There is no engine to talk to.
    #[error("the engine cannot be reached to {call}: {reason}")]
    Unreachable { call: &'static str, reason: String },
    /// What the engine says makes no sense.
    #[error("the engine's answer to {call} makes no sense: {reason}")]
    Garbled { call: &'static str, reason: String },
}

impl Trouble {
    /// Whether the engine is in no state to do anything, whatever it is asked.
    pub(super) fn is_the_engines(&self) -> bool {
        !matches!(self, Trouble::Refused { .. })
    }

    /// Whether there is no engine, or none that answers.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Trouble::Late { .. } | Trouble::Unreachable { .. })
    }

    /// Whether the engine refused with this status.
    pub(super) fn is(&self, wanted: u16) -> bool {
        matches!(self, Trouble::Refused { status, .. } if *status == wanted)
    }

    fn new(call: &'static str, error: &Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Trouble::Refused { call, status: *status_code, message: message.trim().to_owned() }
            }
            Error::IOError { .. }
            | Error::HyperResponseError { .. }
            | Error::HyperLegacyError { .. }
            | Error::RequestTimeoutError
            | Error::UnsupportedURISchemeError { .. }
            | Error::SocketNotFoundError(_) => Trouble::Unreachable { call, reason: chain(error) },
            _ => Trouble::Garbled { call, reason: chain(error) },
        }
    }
}

/// What an error says, and what the errors behind it say that is not in it already.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// A container engine.
#[derive(Clone, Debug)]
pub(super) struct Engine(bollard::Docker);

impl Engine {
    /// Looks whether an engine answers at `host` (as in `DOCKER_HOST`), and which version it speaks.
    pub(super) async fn connect(host: &str) -> Result<Self, Trouble> {
        const CALL: &str = "say its version";
        let docker = bollard::Docker::connect_with_host(host).map_err(|error| Trouble::new(CALL, &error))?;
        call(CALL, LIMIT, docker.negotiate_version()).await.map(Engine)
    }

    pub(super) async fn has_image(&self, image: &str) -> Result<bool, Trouble> {
        let found = if_there(call("look up the image", LIMIT, self.0.inspect_image(image)).await)?;
        Ok(found.is_some())
    }

    /// Whether there is such a network, and whether it was made by [`Engine::create_network`].
    pub(super) async fn network(&self, name: &str) -> Result<Option<bool>, Trouble> {
        let inspected = self.0.inspect_network(name, None::<InspectNetworkOptions>);
        let found = if_there(call("look up the network", LIMIT, inspected).await)?;
        Ok(found.map(|network| network.labels.is_some_and(|labels| labels.contains_key(MADE_BY_LB))))
    }

    /// Makes a network, unless somebody else was faster: two of the same name help nobody, but older engines make them.
    pub(super) async fn create_network(&self, name: &str) -> Result<(), Trouble> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            labels: Some([(MADE_BY_LB.to_owned(), "true".to_owned())].into()),
            ..NetworkCreateRequest::default()
        };
        let made = match call("make the network", LIMIT, self.0.create_network(request)).await {
            Err(trouble) if trouble.is(409) => return Ok(()),
            made => made?.id,
        };
        let options = ListNetworksOptionsBuilder::default().filters(&filters(&[("name", &[name])])).build();
        let all = call("list the networks", LIMIT, self.0.list_networks(Some(options))).await?;
        // The filter takes a part of a name for it.
        let namesakes = all.into_iter().filter(|network| network.name.as_deref() == Some(name));
        let first = namesakes.min_by_key(|network| (network.created.clone(), network.id.clone()));
        match first.and_then(|network| network.id) {
            Some(first) if first != made && is_id(&made) => self.remove_network(&made).await,
            _ => Ok(()),
        }
    }

    pub(super) async fn remove_network(&self, name: &str) -> Result<(), Trouble> {
        call("remove the network", LIMIT, self.0.remove_network(name)).await
    }

    /// Makes a container; its id.
    pub(super) async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String, Trouble> {
        const CALL: &str = "make the container";
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
        self.patiently("start the container", SLOW, started).await
    }

    /// What may take long on a busy machine may do so as long as the engine answers at all.
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

    /// Completes when the engine does not answer any more; with how long it was given.
    pub(super) async fn hung(&self) -> Duration {
        while let Ok(Ok(_)) = timeout(SIGN, self.0.ping()).await {
            sleep(SIGN / 2).await;
        }
        SIGN
    }

    pub(super) async fn inspect(&self, id: &str) -> Result<ContainerInspectResponse, Trouble> {
        let inspected = self.0.inspect_container(id, None::<InspectContainerOptions>);
        self.patiently("show the container", LIMIT, inspected).await
    }

    /// Asks a container to end, and makes it after `grace`.
    pub(super) async fn stop(&self, id: &str, grace: Duration) -> Result<(), Trouble> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        self.patiently("stop the container", grace + SLOW, self.0.stop_container(id, Some(options))).await
    }

    /// Removes a container with its anonymous volumes, dead or alive.
    pub(super) async fn remove(&self, id: &str) -> Result<(), Trouble> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        self.patiently("remove the container", SLOW, self.0.remove_container(id, Some(options))).await
    }

    /// The containers with this label, in whatever state.
    pub(super) async fn containers(&self, label: &str) -> Result<Vec<ContainerSummary>, Trouble> {
        const CALL: &str = "list the containers";
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
        let listed = call("list the volumes", LIMIT, self.0.list_volumes(Some(options))).await?;
        Ok(listed.volumes.unwrap_or_default())
    }

    /// Makes a volume, or gives the one that has this name already.
    pub(super) async fn create_volume(&self, request: VolumeCreateRequest) -> Result<Volume, Trouble> {
        call("make the volume", LIMIT, self.0.create_volume(request)).await
    }

    pub(super) async fn remove_volume(&self, name: &str) -> Result<(), Trouble> {
        call("remove the volume", LIMIT, self.0.remove_volume(name, None::<RemoveVolumeOptions>)).await
    }

    /// What happens to containers and volumes from now on, until the stream fails or ends.
    pub(super) fn events(&self) -> impl Stream<Item = Result<EventMessage, Trouble>> + use<> {
        use futures_util::StreamExt as _;
        let wanted: &Filters<'_> =
            &[("type", &["container", "volume"]), ("event", &["oom", "die", "destroy", "create"])];
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(OVERLAP);
        let since = since.as_secs().to_string();
        let options = EventsOptionsBuilder::default().filters(&filters(wanted)).since(&since).build();
        let events = self.0.events(Some(options));
        events.map(|event| event.map_err(|error| Trouble::new("send its events", &error)))
    }
}

async fn call<T>(
    call: &'static str,
    limit: Duration,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Trouble> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| Trouble::new(call, &error)),
        Err(_) => Err(Trouble::Late { call, limit }),
    }
}

/// What was asked for, if it is there.
fn if_there<T>(answer: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
    match answer {
        Err(trouble) if trouble.is(404) => Ok(None),
        answer => answer.map(Some),
    }
}

fn garbled(call: &'static str, reason: impl Display) -> Trouble {
    Trouble::Garbled { call, reason: reason.to_string() }
}

/// Ids come back in paths, so they have to be what they are said to be.
fn is_id(id: &str) -> bool {
    (12..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn filters(filters: &Filters<'_>) -> std::collections::HashMap<String, Vec<String>> {
    let owned = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
    filters.iter().map(|&(name, values)| (name.to_owned(), owned(values))).collect()
}
