//! The members in the order in which a key tries them.
//!
//! Most sessions need only the first, which costs no allocation. The second allocates: one byte a member on a walk,
//! 16 bytes a member where they are ranked.

use std::collections::BinaryHeap;

use super::rendezvous::{Rank, Rendezvous};
use super::ring::Point;

/// The members in the order in which a key tries them, as ordinals.
#[derive(Clone, Debug)]
pub struct Candidates<'a>(Order<'a>);

#[derive(Clone, Debug)]
enum Order<'a> {
    Walk(Walk<'a>),
    Ranking(Ranking<'a>),
}

/// How many members there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// All: no ordinal is as high.
    pub(super) members: usize,
    /// Those that hold anything, and so can be met.
    pub(super) present: usize,
}

/// The members that are met on a walk, again and again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owners<'a> {
    /// Of the entries of a table.
    OfEntries(&'a [u32]),
    /// Of the points on a ring.
    OfPoints(&'a [Point]),
}

impl Owners<'_> {
    fn len(self) -> usize {
        match self {
            Owners::OfEntries(entries) => entries.len(),
            Owners::OfPoints(points) => points.len(),
        }
    }

    fn get(self, at: usize) -> Option<usize> {
        match self {
            Owners::OfEntries(entries) => entries.get(at).map(|&owner| owner as usize),
            Owners::OfPoints(points) => points.get(at).map(|point| point.owner()),
        }
    }
}

impl<'a> Candidates<'a> {
    /// Walks once around `owners` from `start`, past owners that came before. With none of the members left that are
    /// present it stops at once, and need not walk to the end to learn so.
    pub(super) fn clockwise(owners: Owners<'a>, start: usize, count: Count) -> Self {
        Self::in_steps(1, owners, start, count)
    }

    /// The same in steps of this many owners. To come past each of them, the step has to be below their number and
    /// without a divisor in common with it.
    pub(super) fn in_steps(step: usize, owners: Owners<'a>, start: usize, count: Count) -> Self {
        let (unmet, last, seen) = (owners.len(), None, Vec::new());
        let Count { members, present } = count;
        Self(Order::Walk(Walk { owners, at: start, step, unmet, last, seen, members, left: present }))
    }

    /// Goes by falling score.
    pub(super) fn by_score(members: &'a Rendezvous, key: &'a [u8]) -> Self {
        Self(Order::Ranking(Ranking::NotBegun { members, key }))
    }
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match &mut self.0 {
            Order::Walk(walk) => walk.next(),
            Order::Ranking(ranking) => ranking.next(),
        }
    }
}

/// A walk over owners, each of them once.
#[derive(Clone, Debug)]
struct Walk<'a> {
    owners: Owners<'a>,
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
        self.owners.get(at)
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

/// The members by falling score. The highest is looked for alone; only who asks for a second has all of them put in
/// order, and of them only as many as are asked for.
#[derive(Clone, Debug)]
enum Ranking<'a> {
    NotBegun { members: &'a Rendezvous, key: &'a [u8] },
    FirstTaken { members: &'a Rendezvous, key: &'a [u8] },
    Ordered(BinaryHeap<Rank>),
}

impl Iterator for Ranking<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match self {
            &mut Ranking::NotBegun { members, key } => {
                *self = Ranking::FirstTaken { members, key };
                members.owner(key)
            }
            &mut Ranking::FirstTaken { members, key } => {
                let mut ranks = members.ranks(key);
                ranks.pop();
                *self = Ranking::Ordered(ranks);
                self.next()
            }
            Ranking::Ordered(ranks) => ranks.pop().map(|rank| rank.ordinal()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Algorithm;
    use super::super::testing::named;
    use super::*;

    #[test]
    fn the_first_candidate_allocates_nothing() {
        for algorithm in Algorithm::examples() {
            let mapping = algorithm.of(&named(["a", "b"]));
            let mut candidates = mapping.candidates(b"132574");
            assert!(candidates.next().is_some());
            match candidates.0 {
                Order::Walk(walk) => assert_eq!(walk.seen.capacity(), 0, "{algorithm:?}"),
                Order::Ranking(ranking) => assert!(matches!(ranking, Ranking::FirstTaken { .. })),
            }
        }
    }
}
