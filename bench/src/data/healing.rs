//! What A-3 has found.

use serde::{Deserialize, Serialize};

use super::{Drill, Swarm};

/// the control port, and recovery from kills.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Healing {
    /// Every control endpoint and error case.
    pub(crate) checks: Vec<Check>,
    /// Replicas killed under load.
    pub(crate) drill: Option<Drill>,
    /// What more was measured on a Docker Swarm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) swarm: Option<Swarm>,
}

/// A request to the control port, and whether its answer was right.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Check {
    /// What is tried, in words.
    pub(crate) what: String,
    /// The request.
    pub(crate) request: String,
    /// The answer that is right.
    pub(crate) expected: String,
    /// The answer.
    pub(crate) answer: String,
    /// Whether it is right.
    pub(crate) passed: bool,
}
