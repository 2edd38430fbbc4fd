//! What a simulation results in.

use serde::Serialize;

use super::cost::Cost;
use super::outcome::{Balance, Disturbance};

/// The result of a simulation. Its fields are those of the JSON answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// How many requests there were.
    pub ids: u32,
    /// How many different ids they were for.
    pub distinct: usize,
    /// The distribution of the ids.
    pub distribution: String,
    /// The seed of the ids that were drawn.
    pub seed: u64,
    /// The fleet at first and after each step.
    pub stages: Vec<Fleet>,
    /// One for each mapping.
    pub mappings: Vec<Row>,
}

/// A fleet: the servers that a mapping chooses from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fleet {
    /// The step that led to it.
    pub step: Option<String>,
    /// The part of the requests that would have to move in this step, if all shares were as the weights say.
    pub fair: Option<f64>,
    /// Its servers, by their indices.
    pub replicas: Vec<Server>,
}

/// A server of a fleet on paper.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Server {
    /// Its place in the fleet.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its share, relative to the weights of the others.
    pub weight: u32,
}

/// The results of one mapping.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The name of the mapping.
    pub mapping: String,
    /// One for each fleet.
    pub stages: Vec<Outcome>,
    /// The costs with the first fleet.
    pub measured: Cost,
}

/// The result of one mapping with one fleet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// How even it is.
    #[serde(flatten)]
    pub balance: Balance,
    /// What moved in the step that led to it.
    #[serde(flatten)]
    pub disturbance: Option<Disturbance>,
}
