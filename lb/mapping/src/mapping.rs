//! One interface to the four mappings.

use crate::algorithm::{Algorithm, MappingName, Scheme};
use crate::candidates::Candidates;
use crate::full::Full;
use crate::hash::{Location, Seed};
use crate::maglev::Maglev;
use crate::member::Member;
use crate::rendezvous::Rendezvous;
use crate::ring::Ring;
use crate::slots::Slots;

/// An immutable mapping from keys to members. It names a member by its ordinal: its place in the slice that the mapping was
/// built from.
///
/// ```
/// use mapping::{Algorithm, Mapping, Member};
///
/// let member = |index, name: &str| Member { index, name: name.to_owned(), weight: 1 };
/// let members = [member(1, "server1"), member(2, "server2"), member(3, "server3")];
/// let ring = Mapping::build(&Algorithm::Ring { points: 1000 }.into(), &members)?;
/// assert_eq!(ring.owner(b"132574"), Some(1));
/// assert_eq!(ring.candidates(b"132574").collect::<Vec<_>>(), [1, 0, 2]);
/// # Ok::<(), mapping::Full>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// See [`Ring`].
    Ring(Ring),
    /// See [`Slots`].
    Slots(Slots),
    /// See [`Maglev`].
    Maglev(Maglev),
    /// See [`Rendezvous`].
    Rendezvous(Rendezvous),
}

impl Mapping {
    /// Builds the mapping of `members`; their order plays no part, except that it numbers them.
    ///
    /// # Errors
    ///
    /// [`Full`] if the algorithm has no room for this many members, or for their weights.
    pub fn build(scheme: &Scheme, members: &[Member]) -> Result<Self, Full> {
        let seed = scheme.seed;
        match &scheme.algorithm {
            Algorithm::Ring { points } => Ring::build(*points, seed, members).map(Mapping::Ring),
            Algorithm::Slots(shape) => Slots::build(shape, seed, members).map(Mapping::Slots),
            Algorithm::Maglev => Ok(Mapping::Maglev(Maglev::build(seed, members))),
            Algorithm::Rendezvous => Ok(Mapping::Rendezvous(Rendezvous::build(seed, members))),
        }
    }

    /// Checks whether a mapping of `members` can be built. This is cheaper than to build it.
    ///
    /// # Errors
    ///
    /// [`Full`], as from [`Mapping::build`].
    pub fn check(scheme: &Scheme, members: &[Member]) -> Result<(), Full> {
        match &scheme.algorithm {
            Algorithm::Ring { points } => Ring::check(*points, members).map(drop),
            Algorithm::Slots(shape) => Slots::build(shape, scheme.seed, members).map(drop),
            Algorithm::Maglev | Algorithm::Rendezvous => Ok(()),
        }
    }

    /// The name of its algorithm.
    #[must_use]
    pub const fn name(&self) -> MappingName {
        match self {
            Mapping::Ring(_) => MappingName::Ring,
            Mapping::Slots(_) => MappingName::Slots,
            Mapping::Maglev(_) => MappingName::Maglev,
            Mapping::Rendezvous(_) => MappingName::Rendezvous,
        }
    }

    /// The seed of its hash of keys.
    #[must_use]
    pub fn seed(&self) -> Seed {
        match self {
            Mapping::Ring(ring) => ring.seed(),
            Mapping::Slots(slots) => slots.seed(),
            Mapping::Maglev(maglev) => maglev.seed(),
            Mapping::Rendezvous(rendezvous) => rendezvous.seed(),
        }
    }

    /// Where `key` falls.
    #[must_use]
    pub fn locate(&self, key: &[u8]) -> Location {
        match self {
            Mapping::Ring(ring) => ring.locate(key),
            Mapping::Slots(slots) => slots.locate(key),
            Mapping::Maglev(maglev) => maglev.locate(key),
            Mapping::Rendezvous(rendezvous) => rendezvous.locate(key),
        }
    }

    /// How many positions [`Mapping::locate`] tells apart: 2^64 on a ring, M in a table of M. (The scores of `rendezvous` are as many
    /// as the positions of a ring.) At least 1.
    #[must_use]
    pub fn positions(&self) -> u128 {
        match self {
            Mapping::Ring(_) | Mapping::Rendezvous(_) => 1 << u64::BITS,
            Mapping::Slots(slots) => slots.entries().max(1) as u128,
            Mapping::Maglev(_) => Maglev::ENTRIES.into(),
        }
    }

    /// The ordinal of the member that owns `key`: the first of its candidates. `None` if no member has a weight.
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> Option<usize> {
        match self {
            Mapping::Ring(ring) => ring.owner(key),
            Mapping::Slots(slots) => slots.owner(key),
            Mapping::Maglev(maglev) => maglev.owner(key),
            Mapping::Rendezvous(rendezvous) => rendezvous.owner(key),
        }
    }

    /// The ordinals of all members that have a weight, each once, in the order in which `key` tries them. The first is the
    /// owner of the key.
    #[must_use]
    pub fn candidates<'a>(&'a self, key: &'a [u8]) -> Candidates<'a> {
        match self {
            Mapping::Ring(ring) => ring.candidates(key).into(),
            Mapping::Slots(slots) => slots.candidates(key).into(),
            Mapping::Maglev(maglev) => maglev.candidates(key).into(),
            Mapping::Rendezvous(rendezvous) => rendezvous.candidates(key).into(),
        }
    }

    /// The hashes that it takes to find an owner.
    #[must_use]
    pub fn hashes(&self) -> u64 {
        match self {
            Mapping::Ring(_) | Mapping::Slots(_) | Mapping::Maglev(_) => 1,
            Mapping::Rendezvous(rendezvous) => rendezvous.hashes(),
        }
    }

    /// The memory that it holds, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Mapping::Ring(ring) => ring.bytes(),
            Mapping::Slots(slots) => slots.bytes(),
            Mapping::Maglev(maglev) => maglev.bytes(),
            Mapping::Rendezvous(rendezvous) => rendezvous.bytes(),
        }
    }
}
