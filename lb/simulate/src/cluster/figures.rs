//! What is counted and timed while a scenario is played.

use std::collections::BTreeMap;

use fleet::Time;

use super::agreement::Found;
use super::scenario::Kind;

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// From the start to the last fault or command.
    pub(super) length: Time,
    pub(super) deaths: u64,
    /// Moves of sampled keys, by all balancers, and those of them that were needless.
    pub(super) moved: u64,
    pub(super) needless: u64,
    /// Connects to dead replicas, refused and lost.
    pub(super) refused: u64,
    pub(super) lost: u64,
    /// When each of them came.
    pub(super) connects: Vec<Time>,
    /// From a death until a balancer has seen it, and until the replica is up again there.
    pub(super) seen: Vec<Time>,
    pub(super) back: Vec<Time>,
    pub(super) agreement: Found,
    pub(super) commands: BTreeMap<Kind, Answered>,
    pub(super) answered_twice: u64,
    /// The calls of each balancer in each second.
    pub(super) calls: Vec<Vec<u32>>,
    /// What ought not to be at the end.
    pub(super) problems: Vec<String>,
}

/// How long commands of a kind took.
#[derive(Clone, Debug, Default)]
pub(super) struct Answered {
    pub(super) done: Vec<Time>,
    pub(super) failed: Vec<Time>,
}
