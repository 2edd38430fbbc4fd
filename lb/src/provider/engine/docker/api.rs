//! The calls to the engine (Docker Engine API), each with a deadline of its own and an error that says what went wrong.
//!
//! Only checked text becomes part of a path: the configuration and [`proto::control::Hostname`] check names, this module checks ids.
//! The engine takes the beginning of an id for a name. So a network is looked up by name, and by its id afterwards, and what the
//! engine returns for an id has to have that id. (An image may be named by its id, as Docker's users do.)

use std::collections::HashMap;
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

/// The address of the engine if `DOCKER_HOST` is not set.
pub(super) const LOCAL: &str = "unix:///var/run/docker.sock";
/// How long a call may take. If the engine hangs, a command still has to be answered within five seconds.
pub(super) const LIMIT: Duration = Duration::from_secs(4);
/// How long the start or removal of a container may take while the engine answers pings.
const SLOW: Duration = Duration::from_secs(20);
/// How long a busy engine may take to answer a ping.
const SIGN: Duration = Duration::from_secs(2);
/// How far back a subscription to events begins. Events just before it are told twice rather than not at all.
const OVERLAP: Duration = Duration::from_secs(2);

/// The label of a network that an `lb` has created. An `lb` may remove it when it is empty.
const MADE_BY_LB: &str = "lb.made";

/// Filters of a list or a stream: names with the values that match.
type Filters<'a> = [(&'a str, &'a [&'a str])];

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The engine replied with an error.
    #[error("the engine refused {call}: {message} (status {status})")]
    Refused { call: &'static str, status: u16, message: String },
    /// The engine did not reply in time. It may carry out the call all the same.
    #[error("the engine did not reply to {call} within {limit:?}")]
    Late { call: &'static str, limit: Duration },
    /// There is no connection to an engine.
    #[error("cannot reach the engine for {call}: {reason}")]
    Unreachable { call: &'static str, reason: String },
    /// The reply is not what the API promises.
    #[error("cannot parse the engine's reply to {call}: {reason}")]
    Garbled { call: &'static str, reason: String },
}

impl Trouble {
    /// Whether the fault is the engine's: it is away, or would fail at any call.
    pub(super) fn is_the_engines(&self) -> bool {
        !matches!(self, Trouble::Refused { .. })
    }

    /// Whether the engine is away: it cannot be reached, or does not reply.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Trouble::Late { .. } | Trouble::Unreachable { .. })
    }

    /// Whether the engine replied with this status.
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

/// The text of an error, followed by the texts of its sources that are not part of it already.
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

/// A network of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) id: String,
    /// Whether [`Engine::create_network`] has created it.
    pub(super) is_made_by_lb: bool,
}

impl Network {
    /// `None` if the id cannot be part of a path. (Networks of a swarm have ids of letters and digits.)
    fn of(id: Option<String>, labels: Option<&HashMap<String, String>>) -> Option<Self> {
        let is_made_by_lb = labels.is_some_and(|labels| labels.contains_key(MADE_BY_LB));
        let is_plain =
            |id: &String| (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        id.filter(is_plain).map(|id| Network { id, is_made_by_lb })
    }
}

/// A client of one container engine.
#[derive(Clone, Debug)]
pub(super) struct Engine(bollard::Docker);

impl Engine {
    /// Connects to the engine at `host` (as in `DOCKER_HOST`) and agrees on a version of the API.
    pub(super) async fn connect(host: &str) -> Result<Self, Trouble> {
        const CALL: &str = "GET /version";
        let docker = bollard::Docker::connect_with_host(host).map_err(|error| Trouble::new(CALL, &error))?;
        call(CALL, LIMIT, docker.negotiate_version()).await.map(Engine)
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
        const CALL: &str = "GET /networks/NAME";
        let inspected = self.0.inspect_network(name, None::<InspectNetworkOptions>);
        let found = match if_there(call(CALL, LIMIT, inspected).await) {
            // Several networks have this name, or ids that begin with it.
            Err(trouble) if trouble.is(400) => return self.first_network(name).await,
            found => found?.filter(|network| network.name.as_deref() == Some(name)),
        };
        let Some(found) = found else { return Ok(None) };
        let strange = garbled(CALL, format_args!("id {:?}", found.id));
        Network::of(found.id, found.labels.as_ref()).map(Some).ok_or(strange)
    }

    /// The oldest network of this name.
    async fn first_network(&self, name: &str) -> Result<Option<Network>, Trouble> {
        let options = ListNetworksOptionsBuilder::default().filters(&filters(&[("name", &[name])])).build();
        let all = call("GET /networks", LIMIT, self.0.list_networks(Some(options))).await?;
        // The filter also matches a part of a name.
        let namesakes = all.into_iter().filter(|network| network.name.as_deref() == Some(name));
        let first = namesakes.min_by_key(|network| (network.created.clone(), network.id.clone()));
        Ok(first.and_then(|network| Network::of(network.id, network.labels.as_ref())))
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
        let first = self.first_network(name).await?;
        if let (Some(made), Some(first)) = (&made, &first)
            && made.id != first.id
        {
            self.remove_network(&made.id).await?;
        }
        let there = first.or(made).ok_or_else(|| garbled(CALL, format_args!("no network {name}")))?;
        Ok(there.id)
    }

    pub(super) async fn remove_network(&self, id: &str) -> Result<(), Trouble> {
        call("DELETE /networks/ID", LIMIT, self.0.remove_network(id)).await
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
        while let Ok(Ok(_)) = timeout(SIGN, self.0.ping()).await {
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

/// Turns status 404 into `None`.
fn if_there<T>(answer: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
    match answer {
        Err(trouble) if trouble.is(404) => Ok(None),
        answer => answer.map(Some),
    }
}

fn garbled(call: &'static str, reason: impl Display) -> Trouble {
    Trouble::Garbled { call, reason: reason.to_string() }
}

/// Whether this is an id of the engine. Ids become part of paths.
fn is_id(id: &str) -> bool {
    (12..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn filters(filters: &Filters<'_>) -> HashMap<String, Vec<String>> {
    let owned = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
    filters.iter().map(|&(name, values)| (name.to_owned(), owned(values))).collect()
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

    #[test]
    fn a_refusal_is_about_the_call_and_everything_else_about_the_engine() {
        const CALL: &str = "GET /version";
        let response =
            |status_code| Error::DockerResponseServerError { status_code, message: " no\n".to_owned() };
        let refused = Trouble::new(CALL, &response(404));
        assert_eq!(refused.to_string(), "the engine refused GET /version: no (status 404)");
        assert!(refused.is(404) && !refused.is_the_engines() && !refused.is_absence());
        let late = Trouble::Late { call: CALL, limit: LIMIT };
        let unreachable = Trouble::new(CALL, &Error::RequestTimeoutError);
        let garbled = garbled(CALL, "no JSON");
        assert!(
            [&late, &unreachable, &garbled]
                .iter()
                .all(|trouble| trouble.is_the_engines() && !trouble.is(404))
        );
        assert!(late.is_absence() && unreachable.is_absence() && !garbled.is_absence());
        assert_eq!(garbled.to_string(), "cannot parse the engine's reply to GET /version: no JSON");
    }
}
