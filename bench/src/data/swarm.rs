//! What A-3 has found on a Docker Swarm, beside the kills.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Drill, Load};

/// Faults and rest on a Docker Swarm.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Swarm {
    /// How many nodes it had.
    pub(crate) nodes: u64,
    /// How many `lb`s served the fleet together.
    pub(crate) balancers: u64,
    /// Replicas killed one after the other in a fleet with a spare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spare: Option<Drill>,
    /// The calls of each `lb` to its engine while nothing happened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) quiet: Vec<Quiet>,
    /// Several `lb`s and their changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agreement: Option<Agreement>,
    /// A node without power.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) crash: Option<Crash>,
}

/// The calls of one `lb` to its engine while nothing happened.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Quiet {
    /// How long they were counted.
    pub(crate) seconds: f64,
    /// Calls by method and first part of the path.
    pub(crate) calls: BTreeMap<String, u64>,
}

/// Changes at one of several `lb`s, and when all had followed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Agreement {
    /// For each change, the milliseconds from its answer until the last `lb` had the new epoch.
    pub(crate) followed_ms: Vec<f64>,
    /// Ids whose owner was asked of every `lb`.
    pub(crate) asked: u64,
    /// How many of them had different owners.
    pub(crate) different: u64,
}

/// A node that loses its power under load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Crash {
    /// The node's name.
    pub(crate) node: String,
    /// The slots whose replicas were there.
    pub(crate) slots: Vec<String>,
    /// Milliseconds from the first signal until nothing of the node ran any more.
    pub(crate) took_ms: f64,
    /// Requests that were begun before that, and failed.
    pub(crate) failed_before: u64,
    /// The connect timeout of `lb` in milliseconds.
    pub(crate) connect_timeout_ms: f64,
    /// Requests that were begun within a connect timeout after it, and failed.
    pub(crate) failed_soon: u64,
    /// Requests that were begun later, and failed.
    pub(crate) failed_later: u64,
    /// Requests that were begun later.
    pub(crate) begun_later: u64,
    /// The longest time that a right answer took of those begun after the crash, in milliseconds.
    pub(crate) slowest_ms: f64,
    /// Milliseconds until all slots were up again.
    pub(crate) up_again_ms: Option<f64>,
    /// The whole load.
    pub(crate) load: Load,
}
