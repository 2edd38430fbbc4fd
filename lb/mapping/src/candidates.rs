//! The members in the order in which a key tries them.

use crate::rendezvous::Ranking;
use crate::ring::Point;
use crate::walk::Walk;

/// The ordinals of the members in the order in which a key tries them.
///
/// Most sessions need only the first, which costs no allocation. The second costs one: one byte for each member on a walk,
/// 16 bytes where members are ranked.
///
/// ```
/// use mapping::{Algorithm, Mapping, Member};
///
/// let members = [1, 2].map(|index| Member { index, name: format!("server{index}"), weight: 1 });
/// let maglev = Mapping::build(&Algorithm::Maglev.into(), &members)?;
/// let is_down = |ordinal: &usize| *ordinal == 0;
/// assert_eq!(maglev.candidates(b"132574").find(|ordinal| !is_down(ordinal)), Some(1));
/// # Ok::<(), mapping::Full>(())
/// ```
#[derive(Clone, Debug)]
pub struct Candidates<'a>(Order<'a>);

#[derive(Clone, Debug)]
enum Order<'a> {
    Entries(Walk<'a, u32>),
    Points(Walk<'a, Point>),
    Ranking(Ranking<'a>),
}

impl<'a> From<Walk<'a, u32>> for Candidates<'a> {
    fn from(walk: Walk<'a, u32>) -> Self {
        Self(Order::Entries(walk))
    }
}

impl<'a> From<Walk<'a, Point>> for Candidates<'a> {
    fn from(walk: Walk<'a, Point>) -> Self {
        Self(Order::Points(walk))
    }
}

impl<'a> From<Ranking<'a>> for Candidates<'a> {
    fn from(ranking: Ranking<'a>) -> Self {
        Self(Order::Ranking(ranking))
    }
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match &mut self.0 {
            Order::Entries(walk) => walk.next(),
            Order::Points(walk) => walk.next(),
            Order::Ranking(ranking) => ranking.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Algorithm;
    use crate::testing::named;

    #[test]
    fn the_first_candidate_allocates_nothing() {
        for algorithm in Algorithm::examples() {
            let mapping = algorithm.of(&named(["a", "b"]));
            let mut candidates = mapping.candidates(b"132574");
            assert!(candidates.next().is_some());
            match candidates.0 {
                Order::Entries(Walk { seen, .. }) | Order::Points(Walk { seen, .. }) => {
                    assert_eq!(seen.capacity(), 0, "{algorithm:?}");
                }
                Order::Ranking(ranking) => assert!(matches!(ranking, Ranking::FirstTaken { .. })),
            }
        }
    }
}
