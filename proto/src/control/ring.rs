//! The answer to `ring`: a picture of the mapping, as a page or a terminal draws it.

use serde::{Deserialize, Serialize};

use super::backends::State;
use super::plan::{Basis, Move};
use super::value::Weight;

/// Which slot owns which keys, and where the keys of slots out of rotation go meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ring {
    /// The name of the mapping.
    pub mapping: String,
    /// What the shares are shares of.
    pub basis: Basis,
    /// How many keys were counted for the shares, where they can be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u32>,
    /// How many positions there are: 2^64 on a ring, M in a table of M.
    pub positions: f64,
    /// In how many equal parts the positions are drawn; 0 under `rendezvous`, which has no positions.
    pub parts: u32,
    /// The slots, by index.
    pub slots: Vec<RingSlot>,
    /// The parts, clockwise. Neighbours with the same owner and the same stand-in are one arc. No slot has a part that is in none.
    pub arcs: Vec<Arc>,
    /// Where the keys of slots out of rotation go meanwhile, the largest share first; at most a thousand.
    pub meanwhile: Vec<Move>,
    /// With how many six-digit ids `meanwhile` is estimated; 0 if every slot is in rotation.
    pub sampled: u32,
}

/// A slot of a [`Ring`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RingSlot {
    /// The slot's index.
    pub index: u32,
    /// The slot's name.
    pub name: String,
    /// The hostname of the slot's replica, or of its last one.
    pub hostname: String,
    /// The slot's weight.
    pub weight: Weight,
    /// The slot's state.
    pub state: State,
    /// Its share of all keys, from 0 to 1.
    pub share: f64,
}

/// Neighbouring parts of a [`Ring`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arc {
    /// The first part, from 0 on.
    pub at: u32,
    /// How many parts they are.
    pub parts: u32,
    /// The name of the slot that owns their keys.
    pub owner: String,
    /// The name of the slot that gets them now; left out if no replica is available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<String>,
}
