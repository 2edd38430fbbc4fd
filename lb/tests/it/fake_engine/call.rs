//! What the engine can be asked for, and what can go wrong with it.

use std::collections::HashMap;

use serde_json::Value;

use super::wire::Asked;

/// What the engine can be asked for.
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
    Remove,
    Events,
    /// A call that `lb` must never make, such as to pull an image.
    Strange,
}

impl Call {
    pub(super) const ALL: [Call; 17] = [
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
        Call::Remove,
        Call::Events,
    ];
    /// The calls that change containers.
    pub(super) const CHANGES: [Call; 4] = [Call::Create, Call::Start, Call::Stop, Call::Remove];

    /// The call, and what it is about.
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
            ("DELETE", ["containers", id]) => (Call::Remove, (*id).to_owned()),
            (method, path) => (Call::Strange, format!("{method} /{}", path.join("/"))),
        }
    }
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not done; the answer is this status.
    Status(u16),
    /// It is done, and the answer is no JSON.
    Garbage,
    /// It is done, and the answer is JSON of another shape.
    Shape,
    /// It is done, and the answer breaks off.
    Cut,
    /// It is done, and the answer has this id.
    Id(&'static str),
    /// It is done, and the connection ends without an answer.
    Close,
    /// There is neither deed nor answer for as long as the fault lasts, and then no answer.
    Hang,
    /// Both come when the fault ends.
    Late,
    /// What is started exits at once, with code 3.
    Exit,
    /// Nothing is told to those who listen to events.
    Mute,
}

/// What the engine was asked.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) call: Call,
    /// The name or id that it was about.
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
