//! From a key to the members that may serve it, in the order in which to try them.
//!
//! Pure: it does no I/O, reads no clock and draws no random number, and it knows neither addresses nor health. A
//! mapping is built once for a set of members and never changes; whoever is down is skipped by the caller, so its
//! keys come home when it is back.

mod bound;
mod candidates;
mod hash;
mod maglev;
mod rendezvous;
mod ring;
mod shift;
mod slots;
#[cfg(test)]
mod tests;

pub use bound::BalanceFactor;
pub use candidates::Candidates;
use candidates::Count;
pub use hash::Seed;
pub use maglev::Maglev;
pub use rendezvous::Rendezvous;
pub use ring::Ring;
pub use shift::{Flow, Keys, Shift, Side};
pub use slots::{NotAFormula, Probing, RequestHash, ServerHash, Slots, SlotsShape};

/// The most members that a fleet may have.
pub const MOST_SLOTS: usize = 1000;

/// A slot of the fleet as a mapping sees it. Names and indices are unique within a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The slot's place in the fleet, 1, 2, 3 ...; what `slots` hashes.
    pub index: u32,
    /// The slot's name; what the other mappings hash. It outlives the replica in the slot.
    pub name: String,
    /// Its share of the keys, against the others: 2 is twice as many as 1. With 0 it is no candidate.
    pub weight: u32,
}

impl Member {
    fn count(members: &[Member]) -> Count {
        Count { members: members.len(), present: members.iter().filter(|member| member.weight > 0).count() }
    }
}

/// Which algorithm to build a mapping with, and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Consistent hashing.
    Ring {
        /// Positions of a member of weight 1 on the ring: more spread keys more evenly, at 14 to 16 bytes each.
        points: u32,
    },
    /// The classic table.
    Slots(SlotsShape),
    /// A table filled in turns.
    Maglev,
    /// The highest score.
    Rendezvous,
}

impl Algorithm {
    /// Positions of a member of weight 1 on a ring, if nobody says anything.
    pub const POINTS: u32 = 1000;

    /// With default parameters.
    #[must_use]
    pub fn named(name: MappingName) -> Self {
        match name {
            MappingName::Ring => Algorithm::Ring { points: Self::POINTS },
            MappingName::Slots => Algorithm::Slots(SlotsShape::default()),
            MappingName::Maglev => Algorithm::Maglev,
            MappingName::Rendezvous => Algorithm::Rendezvous,
        }
    }

    /// The name under which it is chosen.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Algorithm::Ring { .. } => "ring",
            Algorithm::Slots(_) => "slots",
            Algorithm::Maglev => "maglev",
            Algorithm::Rendezvous => "rendezvous",
        }
    }

    /// How many members of weight 1 fit; `None` where there is no limit. Quadratic probing may refuse fewer.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        match self {
            Algorithm::Slots(shape) => shape.capacity(),
            Algorithm::Ring { .. } | Algorithm::Maglev | Algorithm::Rendezvous => None,
        }
    }
}

/// The name of an algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingName {
    /// Consistent hashing.
    Ring,
    /// The classic table.
    Slots,
    /// A table filled in turns.
    Maglev,
    /// The highest score.
    Rendezvous,
}

impl MappingName {
    /// All names.
    pub const ALL: [MappingName; 4] =
        [MappingName::Ring, MappingName::Slots, MappingName::Maglev, MappingName::Rendezvous];

    /// The name as text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            MappingName::Ring => "ring",
            MappingName::Slots => "slots",
            MappingName::Maglev => "maglev",
            MappingName::Rendezvous => "rendezvous",
        }
    }
}

/// How keys are mapped to members, and how far loads may differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingPolicy {
    /// Which mapping is built.
    pub scheme: Scheme,
    /// The bound of a member's connections, if there is one.
    pub balance: Option<BalanceFactor>,
}

/// Everything that a mapping depends on but its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// How members and keys are brought together.
    pub algorithm: Algorithm,
    /// What keys the hash.
    pub seed: Seed,
}

impl From<Algorithm> for Scheme {
    /// Without a seed.
    fn from(algorithm: Algorithm) -> Self {
        Scheme { algorithm, seed: Seed::default() }
    }
}

/// Where a key falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The hash of the key; under `rendezvous`, which hashes no key alone, the highest score.
    pub hash: u64,
    /// The place of that hash in the mapping: 0 .. 2^64-1 on a ring, 0 .. M-1 in a table of M. `rendezvous` has no
    /// places, so there it is the hash again.
    pub position: u64,
}

/// An immutable mapping from keys to members.
///
/// It speaks of members by their ordinal, their place in the slice it was built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Consistent hashing.
    Ring(Ring),
    /// The classic table.
    Slots(Slots),
    /// A table filled in turns.
    Maglev(Maglev),
    /// The highest score.
    Rendezvous(Rendezvous),
}

impl Mapping {
    /// Builds the mapping of `members`; their order decides nothing but the ordinals.
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

    /// Whether a mapping of `members` can be built: cheaper than to build it.
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

    /// The ordinal of the member that owns `key`, which is the first of its candidates; `None` without members.
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> Option<usize> {
        match self {
            Mapping::Ring(ring) => ring.owner(key),
            Mapping::Slots(slots) => slots.owner(key),
            Mapping::Maglev(maglev) => maglev.owner(key),
            Mapping::Rendezvous(rendezvous) => rendezvous.owner(key),
        }
    }

    /// The ordinals of all members that have a weight, in the order in which `key` tries them, each exactly once; the
    /// first is its owner.
    #[must_use]
    pub fn candidates<'a>(&'a self, key: &'a [u8]) -> Candidates<'a> {
        match self {
            Mapping::Ring(ring) => ring.candidates(key),
            Mapping::Slots(slots) => slots.candidates(key),
            Mapping::Maglev(maglev) => maglev.candidates(key),
            Mapping::Rendezvous(rendezvous) => rendezvous.candidates(key),
        }
    }

    /// How many hashes it takes to find an owner.
    #[must_use]
    pub fn hashes(&self) -> u64 {
        match self {
            Mapping::Ring(_) | Mapping::Slots(_) | Mapping::Maglev(_) => 1,
            Mapping::Rendezvous(rendezvous) => rendezvous.hashes(),
        }
    }

    /// The memory it holds, in bytes.
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

/// There is no room for these members, with their weights.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The table of `slots` is too small, or quadratic probing found no free entry in it.
    #[error(
        "{members} servers of {virtuals} virtual servers each{} do not fit into {slots} slots ({probing} probing)",
        weighted(*.members, *.weight)
    )]
    Slots {
        /// How many.
        members: usize,
        /// The sum of their weights.
        weight: u64,
        /// K.
        virtuals: u32,
        /// M.
        slots: u32,
        /// What follows a collision.
        probing: Probing,
    },
    /// A ring would get too long to be worth its memory.
    #[error(
        "{positions} positions are more than a ring can have, {}: it takes fewer --points, or smaller weights",
        Ring::LONGEST
    )]
    Ring {
        /// How many it would have.
        positions: u64,
    },
}

/// Says that there are weights, where there are.
fn weighted(members: usize, weight: u64) -> String {
    if weight == members as u64 {
        String::new()
    } else {
        format!(" (for each unit of weight; there are {weight})")
    }
}

/// The sum of all weights.
fn total_weight(members: &[Member]) -> u64 {
    members.iter().map(|member| u64::from(member.weight)).sum()
}

/// What the tests of all mappings share.
#[cfg(test)]
mod testing {
    use super::{Algorithm, Mapping, Member, Probing, SlotsShape};
    use proptest::collection::{btree_set, size_range, vec};
    use proptest::prelude::*;
    use std::ops::Range;

    /// Members with the indices 1, 2, 3 ...
    pub(super) fn named<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Vec<Member> {
        names
            .into_iter()
            .zip(1..)
            .map(|(name, index)| Member { index, name: name.into(), weight: 1 })
            .collect()
    }

    impl Algorithm {
        /// One of each.
        pub(super) fn examples() -> [Algorithm; 5] {
            let linear = SlotsShape::default();
            let quadratic = SlotsShape { probing: Probing::Quadratic, ..linear.clone() };
            let [linear, quadratic] = [linear, quadratic].map(Algorithm::Slots);
            [Algorithm::Ring { points: 40 }, linear, quadratic, Algorithm::Maglev, Algorithm::Rendezvous]
        }

        /// The mapping of these members, without a seed.
        pub(super) fn of(&self, members: &[Member]) -> Mapping {
            Mapping::build(&self.clone().into(), members).unwrap()
        }
    }

    /// The same members with these weights.
    pub(super) fn weighing(members: Vec<Member>, weights: &[u32]) -> Vec<Member> {
        members.into_iter().zip(weights).map(|(member, &weight)| Member { weight, ..member }).collect()
    }

    /// The names of the candidates of `key`.
    pub(super) fn order<'a>(mapping: &Mapping, members: &'a [Member], key: &[u8]) -> Vec<&'a str> {
        mapping.candidates(key).map(|ordinal| members[ordinal].name.as_str()).collect()
    }

    /// The members but the one with this name.
    pub(super) fn without(members: &[Member], gone: &str) -> Vec<Member> {
        members.iter().filter(|member| member.name != gone).cloned().collect()
    }

    /// Different names that the control port would take, in any order.
    pub(super) fn names(count: Range<usize>) -> impl Strategy<Value = Vec<String>> {
        btree_set("[A-Za-z0-9][A-Za-z0-9_.-]{0,12}", size_range(count))
            .prop_map(|names| names.into_iter().collect::<Vec<_>>())
            .prop_shuffle()
    }

    /// Keys as clients send them: six-digit ids and any bytes.
    pub(super) fn keys() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let id = (100_000..=999_999_u32).prop_map(|id| id.to_string().into_bytes());
        vec(prop_oneof![id, vec(any::<u8>(), 0..20)], 20)
    }
}
