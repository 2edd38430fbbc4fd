//! From a key to the members that may serve it, in the order in which to try them.
//!
//! Pure: it does no I/O, reads no clock and draws no random number, and it knows neither addresses nor health. A
//! mapping is built once for a set of members and never changes; whoever is down is skipped by the caller, so its
//! keys come home when it is back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

mod formula;
mod hash;
mod maglev;
mod points;
mod rendezvous;
mod slots;

pub use formula::{NotAFormula, RequestHash, ServerHash};
pub use maglev::Maglev;
pub use points::Ring;
pub use rendezvous::Rendezvous;
pub use slots::{Full, Probing, Slots, SlotsShape};

/// A slot of the fleet as a mapping sees it. Names and indices are unique within a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The slot's place in the fleet, 1, 2, 3 ...; what `slots` hashes.
    pub index: u32,
    /// The slot's name; what the other mappings hash. It outlives the replica in the slot.
    pub name: String,
}

/// Which algorithm to build a mapping with, and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Consistent hashing.
    Ring {
        /// Positions of each member on the ring: more spread keys more evenly, at 12 bytes each.
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

    /// How many members fit; `None` where there is no limit. Quadratic probing may refuse fewer.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        match self {
            Algorithm::Slots(shape) => shape.capacity(),
            Algorithm::Ring { .. } | Algorithm::Maglev | Algorithm::Rendezvous => None,
        }
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
    /// [`Full`] if the algorithm has no room for this many members.
    pub fn build(algorithm: &Algorithm, members: &[Member]) -> Result<Self, Full> {
        match algorithm {
            Algorithm::Ring { points } => Ok(Mapping::Ring(Ring::build(*points, members))),
            Algorithm::Slots(shape) => Slots::build(shape, members).map(Mapping::Slots),
            Algorithm::Maglev => Ok(Mapping::Maglev(Maglev::build(members))),
            Algorithm::Rendezvous => Ok(Mapping::Rendezvous(Rendezvous::build(members))),
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

    /// The ordinals of all members in the order in which `key` tries them, each exactly once; the first is its owner.
    #[must_use]
    pub fn candidates(&self, key: &[u8]) -> Candidates<'_> {
        match self {
            Mapping::Ring(ring) => ring.candidates(key),
            Mapping::Slots(slots) => slots.candidates(key),
            Mapping::Maglev(maglev) => maglev.candidates(key),
            Mapping::Rendezvous(rendezvous) => rendezvous.candidates(key),
        }
    }
}

/// The members in the order in which a key tries them, as ordinals.
#[derive(Clone, Debug)]
pub struct Candidates<'a>(Order<'a>);

#[derive(Clone, Debug)]
enum Order<'a> {
    Walk(Walk<'a>),
    Ranked(BinaryHeap<Rank>),
}

/// A member's score, its place among the names, and its ordinal. The highest score comes first, and of two that are
/// equal the lesser name.
type Rank = (u64, Reverse<u32>, u32);

impl<'a> Candidates<'a> {
    /// Walks once around `owners` from `start`, past owners that came before. With none of `members` left it stops at
    /// once, and need not walk to the end to learn so.
    fn clockwise(owners: &'a [u32], start: usize, members: usize) -> Self {
        Self::in_steps(1, owners, start, members)
    }

    /// The same in steps of this many owners. To come past each of them, the step has to be below their number and
    /// without a divisor in common with it.
    fn in_steps(step: usize, owners: &'a [u32], start: usize, members: usize) -> Self {
        let (unmet, last, seen) = (owners.len(), None, Vec::new());
        Self(Order::Walk(Walk { owners, at: start, step, unmet, last, seen, members, left: members }))
    }

    /// Takes the ranks from the highest down; only those that are asked for are put in order.
    fn ranked(ranks: impl Iterator<Item = Rank>) -> Self {
        Self(Order::Ranked(ranks.collect()))
    }
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match &mut self.0 {
            Order::Walk(walk) => walk.next(),
            Order::Ranked(ranks) => ranks.pop().map(|(_, _, ordinal)| ordinal as usize),
        }
    }
}

/// A walk over owners, each of them once.
///
/// Most sessions need only the first, which costs no allocation; the second allocates one byte a member.
#[derive(Clone, Debug)]
struct Walk<'a> {
    owners: &'a [u32],
    /// Where the walk goes on, at most their number further than it may be.
    at: usize,
    step: usize,
    /// How many owners the walk has not come past.
    unmet: usize,
    last: Option<usize>,
    /// Which members have come before `last`.
    seen: Vec<bool>,
    members: usize,
    /// How many members are still to come.
    left: usize,
}

impl Walk<'_> {
    /// The next owner on the way, whoever it is.
    fn meet(&mut self) -> Option<usize> {
        self.unmet = self.unmet.checked_sub(1)?;
        let at = self.at.checked_sub(self.owners.len()).unwrap_or(self.at);
        self.at = at + self.step;
        self.owners.get(at).map(|&owner| owner as usize)
    }
}

impl Iterator for Walk<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        if let Some(last) = self.last {
            self.seen.resize(self.members, false);
            self.seen[last] = true;
        }
        self.last = loop {
            let owner = self.meet()?;
            if self.seen.get(owner) != Some(&true) {
                break Some(owner);
            }
        };
        self.last
    }
}

/// What the tests of all mappings share.
#[cfg(test)]
mod testing {
    use super::{Mapping, Member};
    use proptest::collection::{btree_set, size_range, vec};
    use proptest::prelude::*;
    use std::ops::Range;

    /// Members with the indices 1, 2, 3 ...
    pub(super) fn named<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Vec<Member> {
        names.into_iter().zip(1..).map(|(name, index)| Member { index, name: name.into() }).collect()
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

#[cfg(test)]
mod tests {
    use super::testing::{keys, named, names, order};
    use super::*;
    use proptest::prelude::*;

    fn algorithms() -> [Algorithm; 5] {
        let linear = SlotsShape::default();
        let quadratic = SlotsShape { probing: Probing::Quadratic, ..linear.clone() };
        let [linear, quadratic] = [linear, quadratic].map(Algorithm::Slots);
        [Algorithm::Ring { points: 40 }, linear, quadratic, Algorithm::Maglev, Algorithm::Rendezvous]
    }

    #[test]
    fn an_empty_mapping_has_no_candidates() {
        for algorithm in algorithms() {
            let mapping = Mapping::build(&algorithm, &[]).unwrap();
            assert_eq!(mapping.candidates(b"132574").next(), None, "{algorithm:?}");
        }
    }

    #[test]
    fn members_without_points_are_no_candidates() {
        let mapping = Mapping::build(&Algorithm::Ring { points: 0 }, &named(["a", "b"])).unwrap();
        assert_eq!(mapping.candidates(b"132574").next(), None);
    }

    #[test]
    fn only_slots_has_a_capacity() {
        assert_eq!(
            algorithms().map(|algorithm| algorithm.capacity()),
            [None, Some(56), Some(56), None, None]
        );
    }

    #[test]
    fn the_first_candidate_of_a_walk_allocates_nothing() {
        for algorithm in algorithms() {
            let mapping = Mapping::build(&algorithm, &named(["a", "b"])).unwrap();
            let mut candidates = mapping.candidates(b"132574");
            assert!(candidates.next().is_some());
            match candidates.0 {
                Order::Walk(walk) => assert_eq!(walk.seen.capacity(), 0, "{algorithm:?}"),
                Order::Ranked(_) => assert_eq!(algorithm, Algorithm::Rendezvous),
            }
        }
    }

    #[test]
    fn candidates_that_have_ended_stay_ended() {
        for algorithm in algorithms() {
            let mapping = Mapping::build(&algorithm, &named(["a", "b"])).unwrap();
            let mut candidates = mapping.candidates(b"132574");
            assert_eq!(candidates.by_ref().count(), 2, "{algorithm:?}");
            assert_eq!(candidates.next(), None, "{algorithm:?}");
        }
    }

    proptest! {
        #[test]
        fn candidates_are_all_members_each_exactly_once(names in names(1..20), keys in keys()) {
            let members = named(names);
            for algorithm in algorithms() {
                let mapping = Mapping::build(&algorithm, &members).unwrap();
                for key in &keys {
                    let mut found: Vec<usize> = mapping.candidates(key).collect();
                    found.sort_unstable();
                    prop_assert!(found.into_iter().eq(0..members.len()), "{:?}", algorithm);
                }
            }
        }

        #[test]
        fn the_order_of_the_members_plays_no_part(
            (members, shuffled) in names(1..20).prop_map(named).prop_flat_map(|members| {
                (Just(members.clone()), Just(members).prop_shuffle())
            }),
            keys in keys(),
        ) {
            for algorithm in algorithms() {
                let one = Mapping::build(&algorithm, &members).unwrap();
                let other = Mapping::build(&algorithm, &shuffled).unwrap();
                for key in &keys {
                    prop_assert_eq!(order(&one, &members, key), order(&other, &shuffled, key), "{:?}", algorithm);
                }
            }
        }

        #[test]
        fn a_single_survivor_owns_every_key(name in names(1..2), keys in keys()) {
            for algorithm in algorithms() {
                let mapping = Mapping::build(&algorithm, &named(name.clone())).unwrap();
                for key in &keys {
                    prop_assert!(mapping.candidates(key).eq([0]), "{:?}", algorithm);
                }
            }
        }
    }
}
