//! What a simulation results in.

use serde::Serialize;

use super::cost::Cost;
use super::outcome::{Balance, Disturbance};

/// The result of a simulation. Its fields are those of the JSON answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    /// How many requests there were.
    pub(crate) ids: u32,
    /// How many different ids they were for.
    pub(crate) distinct: usize,
    /// The distribution of the ids.
    pub(crate) distribution: String,
    /// The seed of the ids that were drawn.
    pub(crate) seed: u64,
    /// The same as text: many readers of JSON round numbers above 2^53.
    pub(crate) seed_text: String,
    /// The fleet at first and after each step.
    pub(crate) stages: Vec<Fleet>,
    /// One for each mapping.
    pub(crate) mappings: Vec<Row>,
}

/// A fleet: the servers that a mapping chooses from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Fleet {
    /// The step that led to it.
    pub(crate) step: Option<String>,
    /// The part of the requests that would have to move in this step, if all shares were as the weights say.
    pub(crate) fair: Option<f64>,
    /// Its servers, by their indices.
    pub(crate) replicas: Vec<Server>,
}

/// A server of a fleet on paper.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Server {
    /// Its place in the fleet.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Its share, relative to the weights of the others.
    pub(crate) weight: u32,
}

/// The results of one mapping.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// The name of the mapping.
    pub(crate) mapping: String,
    /// One for each fleet.
    pub(crate) stages: Vec<Outcome>,
    /// The costs with the first fleet.
    pub(crate) measured: Cost,
}

/// The result of one mapping with one fleet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Outcome {
    /// How even it is.
    #[serde(flatten)]
    pub(crate) balance: Balance,
    /// What moved in the step that led to it.
    #[serde(flatten)]
    pub(crate) disturbance: Option<Disturbance>,
}
