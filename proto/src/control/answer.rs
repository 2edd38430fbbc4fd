//! The answers of the control port, and their HTTP status.
//!
//! Each is read as it is written. A reader ignores fields that it does not know, so that it understands a newer `lb`.

use std::collections::BTreeMap;

use mapping::Parameter;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::backends::{Backends, State};
use super::plan::Plan;
use super::reload::{Reloaded, Written};
use super::ring::Ring;
use super::value::{Malformed, Weight};
use crate::incident::Incident;

/// The answer to a command, as `lb` gives it.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The command is done.
    Successful(Box<Body>),
    /// To `incidents`: a bare array.
    Incidents(Vec<Incident>),
    /// The command was refused or has failed, and has changed nothing.
    Failure(Failure),
}

/// The answer to a command, as a client reads it from JSON; `B` is the part of a body that the client wants.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "status", content = "message", rename_all = "lowercase")]
pub enum Reply<B = Body> {
    /// The command is done.
    Successful(B),
    /// The text of the [`Failure`]. JSON does not tell its kind; the HTTP status does.
    Failure(String),
}

impl Answer {
    /// The status of this answer over HTTP.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Answer::Successful(_) | Answer::Incidents(_) => 200,
            Answer::Failure(failure) => failure.kind.http_status(),
        }
    }

    /// The answer as one line of JSON, without its line feed.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (message, status) = match self {
            Answer::Successful(body) => (serde_json::to_string(body), "successful"),
            Answer::Incidents(incidents) => return serde_json::to_string(incidents).unwrap_or_default(),
            Answer::Failure(failure) => (serde_json::to_string(&failure.to_string()), "failure"),
        };
        format!(r#"{{"message":{},"status":"{status}"}}"#, message.unwrap_or_default())
    }
}

/// The body of a successful answer. Each kind has fields that no other has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Body {
    /// To `rep`, `add` and `rm`.
    Replicas(Replicas),
    /// To `backends`.
    Backends(Backends),
    /// To `explain`.
    Explanation(Explanation),
    /// To `health`.
    Health(Health),
    /// To `mapping`.
    Mapping(Mapping),
    /// To `plan`.
    Plan(Plan),
    /// To `kill`.
    Killed(Killed),
    /// To `ring`.
    Ring(Ring),
    /// To `reload`.
    Reloaded(Reloaded),
    /// To `config`.
    Written(Written),
    /// To `upgrade`.
    Upgraded(Upgraded),
}

/// The replicas, in the order of their slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replicas {
    /// How many there are.
    #[serde(rename = "N")]
    pub n: usize,
    /// Their hostnames.
    pub replicas: Vec<String>,
}

/// A replica that was killed. Its slot heals as after any other death.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// Its hostname.
    pub killed: String,
    /// The name of its slot; a spare has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
}

/// A successor that serves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upgraded {
    /// Its process id.
    pub successor: u32,
    /// How long it took until it served.
    pub seconds: f64,
}

/// Which replica gets a request id, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The request id, as asked.
    pub id: String,
    /// What is hashed.
    pub key: String,
    /// Its bytes, in hexadecimal.
    pub key_bytes: String,
    /// What keys are (`--key`), if they are not request ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_kind: Option<String>,
    /// The mapping's name.
    pub mapping: String,
    /// The key's hash; under `rendezvous` its highest score. `None` under a seed, which could be computed from it.
    pub hash: Option<u64>,
    /// The same as text: many readers of JSON round numbers above 2^53.
    pub hash_text: Option<String>,
    /// The key's position on the ring or its entry in the table; under `rendezvous`, which has neither, the hash again. `None`
    /// under a seed.
    pub position: Option<u64>,
    /// The same as text.
    pub position_text: Option<String>,
    /// The position as a whole percentage of all positions, from 0 to 99.
    #[serde(default)]
    pub position_percent: u8,
    /// All slots: first those that are tried for this key, in that order, then the others.
    pub candidates: Vec<Candidate>,
    /// The name of the slot that owns the key, whatever its state. `None` where every slot has weight 0.
    pub owner: Option<String>,
    /// The hostname of the replica that gets the connection; `None` where no replica is available.
    pub pick: Option<String>,
    /// The bound of a replica's connections, as a multiple of the mean, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance_factor: Option<f64>,
}

/// A slot in the order of an [`Explanation`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The slot's index.
    pub index: u32,
    /// The slot's name.
    pub name: String,
    /// The hostname of the slot's replica, or of its last one.
    pub hostname: String,
    /// The slot's state.
    pub state: State,
    /// Why the slot does not get the connection, if it is passed over.
    pub skipped: Option<String>,
}

/// How keys are mapped, with the parameters that the algorithm has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mapping {
    /// The name of the algorithm.
    pub mapping: String,
    /// The values of its parameters.
    #[serde(flatten)]
    pub parameters: Parameters,
    /// The bound of a replica's connections, as a multiple of the mean, if there is one.
    pub balance_factor: Option<f64>,
    /// Whether the hash has a seed. (The seed itself is a secret.)
    pub seeded: bool,
    /// The weight of each slot.
    pub weights: BTreeMap<String, Weight>,
}

/// The values of the parameters of an algorithm, by name and in the order of [`mapping::Parameter::ALL`]. A number is a number in
/// JSON, anything else text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(pub Vec<(&'static str, Value)>);

impl Serialize for Parameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        let known = Parameter::ALL.iter().map(|parameter| parameter.name);
        Ok(Parameters(known.filter_map(|name| Some((name, fields.remove(name)?))).collect()))
    }
}

/// How many replicas are in rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Replicas in rotation.
    pub up: usize,
    /// Replicas in the fleet.
    #[serde(rename = "N")]
    pub n: usize,
}

/// The reason why a command was refused or has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("<Error> {message}")]
pub struct Failure {
    /// The kind, which is the HTTP status.
    pub kind: FailureKind,
    message: String,
}

impl Failure {
    /// What was wrong and what is expected.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// The kind of a failure: one for each HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The command is wrong.
    BadRequest,
    /// The token is missing or wrong.
    Unauthorized,
    /// The request comes from a web page of another host.
    Forbidden,
    /// There is no such path.
    NotFound,
    /// The path does not take this method.
    MethodNotAllowed,
    /// The sender was too slow.
    TooSlow,
    /// The command is too long.
    TooLarge,
    /// A replica could not be started.
    StartFailed,
    /// No replica is in rotation, or `lb` is busy or shutting down.
    Unavailable,
}

impl FailureKind {
    fn http_status(self) -> u16 {
        match self {
            FailureKind::BadRequest => 400,
            FailureKind::Unauthorized => 401,
            FailureKind::Forbidden => 403,
            FailureKind::NotFound => 404,
            FailureKind::MethodNotAllowed => 405,
            FailureKind::TooSlow => 408,
            FailureKind::TooLarge => 413,
            FailureKind::StartFailed => 502,
            FailureKind::Unavailable => 503,
        }
    }

    /// A failure of this kind; `message` says what was wrong and what is expected.
    #[must_use]
    pub fn because(self, message: impl Into<String>) -> Failure {
        Failure { kind: self, message: message.into() }
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        FailureKind::BadRequest.because(malformed.to_string())
    }
}

impl From<Result<Body, Failure>> for Answer {
    fn from(result: Result<Body, Failure>) -> Self {
        result.map_or_else(Answer::Failure, |body| Answer::Successful(Box::new(body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_message_first() {
        let replicas = Replicas { n: 2, replicas: vec!["server1".into(), "server2".into()] };
        let done = Answer::from(Ok(Body::Replicas(replicas)));
        assert_eq!(
            done.to_json(),
            r#"{"message":{"N":2,"replicas":["server1","server2"]},"status":"successful"}"#
        );
        let refused = Answer::from(Err(FailureKind::BadRequest.because("no \"x\"")));
        assert_eq!(refused.to_json(), r#"{"message":"<Error> no \"x\"","status":"failure"}"#);
        assert_eq!((done.http_status(), refused.http_status()), (200, 400));
    }
}
