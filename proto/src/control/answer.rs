//! What is answered: messages, failures, and their status over HTTP.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Backends, Malformed, State, Weight};

/// The answer to a command.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is done.
    Successful(Box<Message>),
    /// Nothing has changed.
    Failure(Failure),
}

impl Answer {
    /// The status of this answer over HTTP.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Answer::Successful(_) => 200,
            Answer::Failure(failure) => failure.kind.http_status(),
        }
    }

    /// The answer as one line of JSON, without its line feed.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (message, status) = match self {
            Answer::Successful(message) => (serde_json::to_string(message), "successful"),
            Answer::Failure(failure) => (serde_json::to_string(&failure.to_string()), "failure"),
        };
        format!(r#"{{"message":{},"status":"{status}"}}"#, message.unwrap_or_default())
    }
}

/// What a successful answer says.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Message {
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
}

/// The replicas, in the order of their slots.
#[derive(Clone, Debug, Serialize)]
pub struct Replicas {
    /// How many there are.
    #[serde(rename = "N")]
    pub n: usize,
    /// Their hostnames.
    pub replicas: Vec<String>,
}

/// Why a request id goes where it goes.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The request id, as asked.
    pub id: String,
    /// What is hashed.
    pub key: String,
    /// Its bytes, in hexadecimal.
    pub key_bytes: String,
    /// The mapping's name.
    pub mapping: &'static str,
    /// The key's hash, before it is brought onto the ring or into the table; under `rendezvous` its highest score.
    pub hash: u64,
    /// The key's place on the ring or in the table; under `rendezvous`, which has no places, the hash again.
    pub position: u64,
    /// All slots, in the order in which they are tried for this key; after them those that are not tried.
    pub candidates: Vec<Candidate>,
    /// The name of the slot that owns the key: where it goes if nothing is wrong. `None` where nobody has a weight.
    pub owner: Option<String>,
    /// The hostname of the replica that gets the connection; `None` where no replica can be had.
    pub pick: Option<String>,
    /// The bound of a replica's connections as a multiple of the mean, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance_factor: Option<f64>,
}

/// A slot in the order of an [`Explanation`].
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// The slot's index.
    pub index: u32,
    /// The slot's name.
    pub name: String,
    /// The hostname of the replica that runs there, or ran there last.
    pub hostname: String,
    /// The slot's state.
    pub state: State,
    /// Why it is passed over, if it is.
    pub skipped: Option<String>,
}

/// How keys are mapped. Of the parameters those that the algorithm has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mapping {
    /// The name of the algorithm.
    pub mapping: &'static str,
    /// `ring`: positions of a slot of weight 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points: Option<u32>,
    /// The parameters of `slots`.
    #[serde(flatten)]
    pub table: Option<Table>,
    /// The bound of a replica's connections, as a multiple of the mean.
    pub balance_factor: Option<f64>,
    /// Whether the hash has a seed. (The seed itself is a secret.)
    pub seeded: bool,
    /// The weight of each slot.
    pub weights: BTreeMap<String, Weight>,
}

/// The table of the mapping `slots`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Its size, M.
    pub slots: u32,
    /// Virtual servers of a server of weight 1, K.
    #[serde(rename = "virtual")]
    pub virtuals: u32,
    /// What follows a collision.
    pub probing: String,
    /// Where a request falls.
    pub request_hash: String,
    /// Where a virtual server wants to be.
    pub server_hash: String,
}

/// What would follow from a change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The command that does exactly this, also where the change leaves names to the fleet.
    pub command: String,
    /// What was looked at: `positions` (all 2^64 of a ring), `entries` (all of a table), `expected` (exact for a key that
    /// may be any), `ids` (all that have six digits) or `sample` (some of those).
    pub basis: &'static str,
    /// How many keys that are, where they can be counted: 65,537 entries, 900,000 ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u32>,
    /// The share of them that gets another slot, from 0 to 1.
    pub moved: f64,
    /// The share that has to move at least for the slots to own what they will.
    pub least: f64,
    /// From which slot to which, the largest share first.
    pub moves: Vec<Move>,
    /// The smaller ones, if there are more than a thousand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omitted: Option<Omitted>,
    /// As it is.
    pub before: Shares,
    /// As it would be.
    pub after: Shares,
    /// What becomes of open connections. (They stay where they are.)
    pub connections: Displaced,
    /// What one would rather know before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Keys that get another slot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Move {
    /// Whose they are; `None` for nobody's.
    pub from: Option<String>,
    /// Whose they would be.
    pub to: Option<String>,
    /// Their share of all keys, from 0 to 1.
    pub share: f64,
}

/// Moves that are not told one by one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Omitted {
    /// How many there are.
    pub moves: usize,
    /// Their share of all keys together, from 0 to 1.
    pub share: f64,
}

/// Who owns how many keys.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shares {
    /// The most that a slot owns for each unit of its weight, as a multiple of the mean; `None` where nobody owns anything.
    pub max_over_mean: Option<f64>,
    /// The share of each slot, from 0 to 1.
    pub shares: BTreeMap<String, f64>,
}

/// Open connections, and whether they are where their keys are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Displaced {
    /// How many there are.
    pub open: usize,
    /// Of those, on another slot than the one that owns their key now.
    pub out_of_place_now: usize,
    /// On another than the one that would own it.
    pub out_of_place_then: usize,
    /// With a key that is too long to be known any more, or one too many to be looked at.
    pub unknown: usize,
}

/// How many replicas are in rotation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Health {
    /// In rotation.
    pub up: usize,
    /// In the fleet.
    #[serde(rename = "N")]
    pub n: usize,
}

/// Why a command was refused or has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("<Error> {message}")]
pub struct Failure {
    /// Whose fault it was.
    pub kind: FailureKind,
    message: String,
}

/// Whose fault a failure was, and so its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The command is wrong.
    BadRequest,
    /// The token is missing or wrong.
    Unauthorized,
    /// A web page asked.
    Forbidden,
    /// There is no such path.
    NotFound,
    /// The path takes other methods.
    MethodNotAllowed,
    /// The sender was too slow.
    TooSlow,
    /// The command is too long.
    TooLarge,
    /// A replica could not be started.
    StartFailed,
    /// There is nothing to serve with, or no time.
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

    /// A failure of this kind; `message` says what was wrong and what is allowed.
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

impl From<Result<Message, Failure>> for Answer {
    fn from(result: Result<Message, Failure>) -> Self {
        result.map_or_else(Answer::Failure, |message| Answer::Successful(Box::new(message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_message_first() {
        let replicas = Replicas { n: 2, replicas: vec!["server1".into(), "server2".into()] };
        let done = Answer::from(Ok(Message::Replicas(replicas)));
        assert_eq!(
            done.to_json(),
            r#"{"message":{"N":2,"replicas":["server1","server2"]},"status":"successful"}"#
        );
        let refused = Answer::from(Err(FailureKind::BadRequest.because("no \"x\"")));
        assert_eq!(refused.to_json(), r#"{"message":"<Error> no \"x\"","status":"failure"}"#);
        assert_eq!((done.http_status(), refused.http_status()), (200, 400));
    }
}
