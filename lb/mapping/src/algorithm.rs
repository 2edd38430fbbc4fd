//! The choice of a mapping: an algorithm, its parameters, and the seed of its hash.

use std::fmt;
use std::str::FromStr;

use crate::hash::Seed;
use crate::slots::SlotsShape;
use crate::value::{self, InvalidValue};

/// The algorithm of a mapping, with its parameters.
///
/// ```
/// use mapping::{Algorithm, MappingName};
///
/// let ring = Algorithm::named(MappingName::Ring);
/// assert_eq!(ring, Algorithm::Ring { points: 1000 });
/// assert_eq!(ring.capacity(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// [`Ring`](crate::Ring): consistent hashing.
    Ring {
        /// Positions of a member of weight 1. More of them spread keys more evenly; each takes 14 to 16 bytes.
        points: u32,
    },
    /// [`Slots`](crate::Slots): the table of the classic teaching assignment.
    Slots(SlotsShape),
    /// [`Maglev`](crate::Maglev): a table that the members fill in turns.
    Maglev,
    /// [`Rendezvous`](crate::Rendezvous): the member with the highest score for a key.
    Rendezvous,
}

impl Algorithm {
    /// The default for `points`.
    pub const POINTS: u32 = 1000;

    /// The algorithm of this name with default parameters.
    #[must_use]
    pub fn named(name: MappingName) -> Self {
        match name {
            MappingName::Ring => Algorithm::Ring { points: Self::POINTS },
            MappingName::Slots => Algorithm::Slots(SlotsShape::default()),
            MappingName::Maglev => Algorithm::Maglev,
            MappingName::Rendezvous => Algorithm::Rendezvous,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> MappingName {
        match self {
            Algorithm::Ring { .. } => MappingName::Ring,
            Algorithm::Slots(_) => MappingName::Slots,
            Algorithm::Maglev => MappingName::Maglev,
            Algorithm::Rendezvous => MappingName::Rendezvous,
        }
    }

    /// How many members of weight 1 fit; `None` where there is no limit. Quadratic probing may find no entry for fewer.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        match self {
            Algorithm::Slots(shape) => shape.capacity(),
            Algorithm::Ring { .. } | Algorithm::Maglev | Algorithm::Rendezvous => None,
        }
    }
}

/// The name of an algorithm.
///
/// ```
/// use mapping::MappingName;
///
/// assert_eq!("maglev".parse(), Ok(MappingName::Maglev));
/// assert_eq!(MappingName::Maglev.to_string(), "maglev");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingName {
    /// `ring`
    Ring,
    /// `slots`
    Slots,
    /// `maglev`
    Maglev,
    /// `rendezvous`
    Rendezvous,
}

impl MappingName {
    /// Every name, the default first.
    pub const ALL: [MappingName; 4] =
        [MappingName::Ring, MappingName::Slots, MappingName::Maglev, MappingName::Rendezvous];

    /// The name as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            MappingName::Ring => "ring",
            MappingName::Slots => "slots",
            MappingName::Maglev => "maglev",
            MappingName::Rendezvous => "rendezvous",
        }
    }
}

impl fmt::Display for MappingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MappingName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        value::one_of(text, &Self::ALL.map(|name| (name.as_str(), name)))
    }
}

/// What a mapping is built from, apart from its members.
///
/// ```
/// use mapping::{Algorithm, Scheme, Seed};
///
/// let unseeded = Scheme::from(Algorithm::Maglev);
/// assert_eq!(unseeded.seed, Seed(0));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// The algorithm and its parameters.
    pub algorithm: Algorithm,
    /// The seed of the hash of keys.
    pub seed: Seed,
}

impl From<Algorithm> for Scheme {
    /// A scheme without a seed.
    fn from(algorithm: Algorithm) -> Self {
        Scheme { algorithm, seed: Seed::default() }
    }
}
