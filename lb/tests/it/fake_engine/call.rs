//! The calls of the engine, and the faults that a test gives them.

use std::collections::HashMap;

use serde_json::Value;

use super::wire::Asked;

/// A call of the Docker API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Call {
    Version,
    Ping,
    Image,
    Network,
    Networks,
    MakeNetwork,
    RemoveNetwork,
    Volumes,
    MakeVolume,
    RemoveVolume,
    Containers,
    Create,
    Start,
    Inspect,
    Stop,
    Kill,
    Remove,
    Events,
    /// A call that `lb` must never make, such as to pull an image.
    Strange,
}

impl Call {
    pub(super) const ALL: [Call; 18] = [
        Call::Version,
        Call::Ping,
        Call::Image,
        Call::Network,
        Call::Networks,
        Call::MakeNetwork,
        Call::RemoveNetwork,
        Call::Volumes,
        Call::MakeVolume,
        Call::RemoveVolume,
        Call::Containers,
        Call::Create,
        Call::Start,
        Call::Inspect,
        Call::Stop,
        Call::Kill,
        Call::Remove,
        Call::Events,
    ];
    /// The calls that change containers.
    pub(super) const CHANGES: [Call; 5] = [Call::Create, Call::Start, Call::Stop, Call::Kill, Call::Remove];

    /// The call, and the name or id of its object.
    pub(super) fn of(asked: &Asked) -> (Call, String) {
        let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
        let made = |field: &str| asked.body[field].as_str().unwrap_or_default().to_owned();
        match (asked.method.as_str(), &path[..]) {
            ("GET", ["version"]) => (Call::Version, String::new()),
            ("GET", ["_ping"]) => (Call::Ping, String::new()),
            ("GET", ["events"]) => (Call::Events, String::new()),
            ("GET", ["images", name @ .., "json"]) => (Call::Image, name.join("/")),
            ("POST", ["networks", "create"]) => (Call::MakeNetwork, made("Name")),
            ("GET", ["networks"]) => (Call::Networks, String::new()),
            ("GET", ["networks", name]) => (Call::Network, (*name).to_owned()),
            ("DELETE", ["networks", name]) => (Call::RemoveNetwork, (*name).to_owned()),
            ("GET", ["volumes"]) => (Call::Volumes, String::new()),
            ("POST", ["volumes", "create"]) => (Call::MakeVolume, made("Name")),
            ("DELETE", ["volumes", name]) => (Call::RemoveVolume, (*name).to_owned()),
            ("GET", ["containers", "json"]) => (Call::Containers, String::new()),
            ("POST", ["containers", "create"]) => {
                (Call::Create, asked.query.get("name").cloned().unwrap_or_default())
            }
            ("POST", ["containers", id, "start"]) => (Call::Start, (*id).to_owned()),
            ("GET", ["containers", id, "json"]) => (Call::Inspect, (*id).to_owned()),
            ("POST", ["containers", id, "stop"]) => (Call::Stop, (*id).to_owned()),
            ("POST", ["containers", id, "kill"]) => (Call::Kill, (*id).to_owned()),
            ("DELETE", ["containers", id]) => (Call::Remove, (*id).to_owned()),
            (method, path) => (Call::Strange, format!("{method} /{}", path.join("/"))),
        }
    }
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The call is not performed. The answer has this status.
    Status(u16),
    /// The call is performed. The answer is not JSON.
    Garbage,
    /// The call is performed. The answer is JSON of another shape.
    Shape,
    /// The call is performed. The answer breaks off.
    Cut,
    /// The call is performed. The answer has this id.
    Id(&'static str),
    /// The call is performed. The connection ends without an answer.
    Close,
    /// The call is not performed. The connection ends without an answer when the fault ends.
    Hang,
    /// The call is performed and answered when the fault ends.
    Late,
    /// The started container exits at once with code 3.
    Exit,
    /// Listeners get no events.
    Mute,
}

/// A request to the engine.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) call: Call,
    /// The name or id of its object.
    pub(super) object: String,
    pub(super) query: HashMap<String, String>,
    pub(super) body: Value,
}

impl Request {
    /// The values of a filter.
    pub(super) fn filter(&self, name: &str) -> Vec<String> {
        let filters = self.query.get("filters").map_or("{}", String::as_str);
        let filters: HashMap<String, Vec<String>> = serde_json::from_str(filters).unwrap();
        filters.get(name).cloned().unwrap_or_default()
    }
}
