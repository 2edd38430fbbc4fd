//! The answer to `plan`: what a change would move.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a change would move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The command that makes exactly this change; it names the replicas that the change left to the fleet.
    pub command: String,
    /// What was compared.
    pub basis: Basis,
    /// How many keys were compared, where they can be counted: 65,537 entries, 900,000 ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u32>,
    /// The share of the keys that gets another slot, from 0 to 1.
    pub moved: f64,
    /// The smallest share that could move for the slots to own what they will, from 0 to 1.
    pub least: f64,
    /// The moves from slot to slot, the largest share first; at most a thousand.
    pub moves: Vec<Move>,
    /// The sum of the smaller moves, if there are more than a thousand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omitted: Option<Omitted>,
    /// The parts of the positions that would get another owner, clockwise, of as many parts as `ring` draws. Empty where the positions
    /// before and after are not the same ones, and under `rendezvous`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arcs: Vec<MovedArc>,
    /// The shares now.
    pub before: Shares,
    /// The shares after the change.
    pub after: Shares,
    /// The open connections whose key would have another owner. (They stay where they are.)
    pub connections: Displaced,
    /// What is worth knowing before the change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The keys that a [`Plan`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// All 2^64 positions of a ring.
    Positions,
    /// All entries of a table.
    Entries,
    /// Every key there can be: the expected value, exactly.
    Expected,
    /// All six-digit ids.
    Ids,
    /// A sample of the six-digit ids.
    Sample,
}

/// Keys that get another slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Move {
    /// The slot that owns them now, if any.
    pub from: Option<String>,
    /// The slot that would own them, if any.
    pub to: Option<String>,
    /// Their share of all keys, from 0 to 1.
    pub share: f64,
}

/// Neighbouring parts of the positions that get another owner by a planned change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedArc {
    /// The first part, from 0 on.
    pub at: u32,
    /// How many parts they are.
    pub parts: u32,
    /// The name of the slot that owns their keys now, if any.
    pub from: Option<String>,
    /// The name of the slot that would own them, if any.
    pub to: Option<String>,
}

/// The moves that a [`Plan`] does not list.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Omitted {
    /// How many there are.
    pub moves: usize,
    /// Their share of all keys together, from 0 to 1.
    pub share: f64,
}

/// How many keys each slot owns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// The largest share for each unit of weight, as a multiple of the mean; `None` where no slot owns a key.
    pub max_over_mean: Option<f64>,
    /// The share of each slot, from 0 to 1.
    pub shares: BTreeMap<String, f64>,
}

/// Open connections, and how many of them are not on the slot that owns their key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Displaced {
    /// All open connections.
    pub open: usize,
    /// Those on another slot than the one that owns their key now.
    pub out_of_place_now: usize,
    /// Those on another slot than the one that would own their key.
    pub out_of_place_then: usize,
    /// Those that were not compared: their key was too long to be kept, or there were too many.
    pub unknown: usize,
}
