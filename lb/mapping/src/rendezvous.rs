//! The mapping `rendezvous`: every member has a score for every key, and the highest wins (Thaler and Ravishankar,
//! "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM Transactions on Networking 6(1), 1998).
//!
//! The score of a member is XXH3-64 of its name, one NUL byte and the key's bytes; the candidates are the members by
//! falling score, equal ones by name. The mapping is a pure function of the set of names and weights: the order of the
//! members, their indices and their addresses play no part. When a member leaves, only its own keys move, and they spread
//! over all that stay; when one joins, keys move only to it.
//!
//! A member of weight w draws w scores for a key and keeps the highest: the draw number k = 0 .. w-1 is hashed with the
//! seed plus k. So its share is w of the sum of all weights, exactly; a weight that grows only draws keys to its member;
//! and it needs no logarithm, which differs between machines and languages.
//!
//! There is no table to fill. The price is paid for each key: one hash for each unit of weight.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::hash::{Location, Seed};
use crate::member::Member;

/// The bytes that fit on the stack: the longest name with its NUL, and any usual key.
const ROOM: usize = 320;

/// Rendezvous hashing. It holds the names of the members and little else.
///
/// ```
/// use mapping::{Algorithm, Mapping, Member};
///
/// let members = [1, 2, 3].map(|index| Member { index, name: format!("server{index}"), weight: 2 });
/// let rendezvous = Mapping::build(&Algorithm::Rendezvous.into(), &members)?;
/// assert_eq!(rendezvous.hashes(), 6, "one for each unit of weight");
/// # Ok::<(), mapping::Full>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendezvous {
    /// By name, only those that have a weight.
    entrants: Vec<Entrant>,
    /// The bytes of the longest stem.
    longest: usize,
    seed: Seed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entrant {
    /// The name and its NUL.
    stem: String,
    ordinal: u32,
    weight: u32,
}

/// A member's score, its place among the names, and its ordinal. The highest score comes first, and of two that are
/// equal the lesser name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(u64, Reverse<u32>, u32);

impl Rank {
    pub(crate) fn ordinal(self) -> usize {
        self.2 as usize
    }
}

impl Rendezvous {
    pub(crate) fn build(seed: Seed, members: &[Member]) -> Self {
        let mut entrants: Vec<Entrant> = members
            .iter()
            .zip(0..)
            .filter(|(member, _)| member.weight > 0)
            .map(|(Member { name, weight, .. }, ordinal)| Entrant {
                stem: format!("{name}\0"),
                ordinal,
                weight: *weight,
            })
            .collect();
        // The NUL is less than any byte of a name, so stems sort as their names do.
        entrants.sort_unstable_by(|one, other| one.stem.cmp(&other.stem));
        let longest = entrants.iter().map(|entrant| entrant.stem.len()).max().unwrap_or(0);
        Self { entrants, longest, seed }
    }

    /// A key has no position here, only a score with each member. This is the highest one, 0 without members.
    pub(crate) fn locate(&self, key: &[u8]) -> Location {
        let hash = self.best(key).map_or(0, |Rank(score, ..)| score);
        Location { hash, position: hash }
    }

    pub(crate) fn owner(&self, key: &[u8]) -> Option<usize> {
        self.best(key).map(Rank::ordinal)
    }

    pub(crate) fn candidates<'a>(&'a self, key: &'a [u8]) -> Ranking<'a> {
        Ranking::NotBegun { members: self, key }
    }

    pub(crate) fn seed(&self) -> Seed {
        self.seed
    }

    /// How many hashes a key takes.
    pub(crate) fn hashes(&self) -> u64 {
        self.entrants.iter().map(|entrant| u64::from(entrant.weight)).sum()
    }

    pub(crate) fn bytes(&self) -> usize {
        let stems: usize = self.entrants.iter().map(|entrant| entrant.stem.capacity()).sum();
        stems + self.entrants.capacity() * size_of::<Entrant>()
    }

    /// The highest rank.
    fn best(&self, key: &[u8]) -> Option<Rank> {
        let mut best = None;
        self.rank(key, |rank| best = best.max(Some(rank)));
        best
    }

    /// All ranks, the highest on top.
    pub(crate) fn ranks(&self, key: &[u8]) -> BinaryHeap<Rank> {
        let mut ranks = Vec::with_capacity(self.entrants.len());
        self.rank(key, |rank| ranks.push(rank));
        ranks.into()
    }

    /// Passes the rank of each member to `take`. The key is copied once; each stem is put in front of it in turn.
    fn rank(&self, key: &[u8], mut take: impl FnMut(Rank)) {
        let (mut stack, mut heap) = ([0; ROOM], Vec::new());
        let text = match stack.get_mut(..self.longest + key.len()) {
            Some(stack) => stack,
            None => {
                heap.resize(self.longest + key.len(), 0);
                heap.as_mut_slice()
            }
        };
        text[self.longest..].copy_from_slice(key);
        for (place, Entrant { stem, ordinal, weight }) in (0..).zip(&self.entrants) {
            let start = self.longest - stem.len();
            text[start..self.longest].copy_from_slice(stem.as_bytes());
            let draws = (0..*weight).map(|k| self.seed.plus(k).hash(&text[start..]));
            if let Some(score) = draws.max() {
                take(Rank(score, Reverse(place), *ordinal));
            }
        }
    }
}

/// The members by falling score. The first is searched for without sorting; the second call sorts the rest, as far as it is
/// asked for.
#[derive(Clone, Debug)]
pub(crate) enum Ranking<'a> {
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
    use super::*;
    use crate::algorithm::Algorithm;
    use crate::mapping::Mapping;
    use crate::testing::{keys, named, names, order, without};
    use proptest::prelude::*;

    /// Without a seed.
    fn built(members: &[Member]) -> Rendezvous {
        Rendezvous::build(Seed::default(), members)
    }

    fn rendezvous(members: &[Member]) -> Mapping {
        Algorithm::Rendezvous.of(members)
    }

    /// Computed by an independent implementation: Python, `sorted`, the package `xxhash` 4.1.0.
    #[test]
    fn three_servers_own_the_keys_that_an_independent_implementation_gives_them() {
        let cases: [(&[u8], u64, [usize; 3]); 12] = [
            (b"132574", 0xf73d_2fce_2dda_818d, [2, 3, 1]),
            (b"100000", 0xf613_9a93_a4b0_f86e, [1, 2, 3]),
            (b"999999", 0xc0aa_285b_4572_9d82, [1, 2, 3]),
            (b"0", 0xb372_c5c5_138f_2cb7, [2, 3, 1]),
            (b"7", 0xf81c_d11d_5972_87f0, [3, 2, 1]),
            (b"abc", 0xe239_5794_a1eb_136d, [3, 1, 2]),
            (b"alice@example.org", 0xafe8_ef3b_45f6_4ad0, [3, 1, 2]),
            (b"192.0.2.1", 0xaf00_2962_441d_85d2, [2, 3, 1]),
            (b"\x00\xff", 0xbecd_b1b1_0994_0a02, [2, 3, 1]),
            (b"", 0xd5bb_2022_b85f_6990, [1, 2, 3]),
            (b"\xc3\xbc", 0xa0dd_53e6_b30a_78b2, [1, 3, 2]),
            (b"order-42", 0x95ed_7da4_1052_8899, [3, 2, 1]),
        ];
        let mapping = built(&named(["server1", "server2", "server3"]));
        for (key, hash, servers) in cases {
            assert_eq!(mapping.locate(key), Location { hash, position: hash }, "{}", key.escape_ascii());
            let found: Vec<usize> = mapping.candidates(key).map(|ordinal| ordinal + 1).collect();
            assert_eq!(found, servers, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_key_is_located_by_the_score_of_its_owner_and_nowhere_without_members() {
        let mapping = rendezvous(&named(["server1"]));
        let hash = Seed::default().hash(b"server1\x00132574");
        assert_eq!(mapping.locate(b"132574"), Location { hash, position: hash });
        assert_eq!(rendezvous(&[]).locate(b"132574"), Location { hash: 0, position: 0 });
    }

    #[test]
    fn equal_scores_are_ordered_by_name() {
        let ranks =
            [Rank(7, Reverse(1), 0), Rank(9, Reverse(2), 3), Rank(7, Reverse(0), 2), Rank(1, Reverse(3), 1)];
        let mut ranks = BinaryHeap::from(ranks);
        let order: Vec<usize> = std::iter::from_fn(|| ranks.pop()).map(Rank::ordinal).collect();
        assert_eq!(order, [3, 2, 0, 1]);
        let names = named(["b", "a.", "a"]);
        let order: Vec<u32> = built(&names).entrants.into_iter().map(|entrant| entrant.ordinal).collect();
        assert_eq!(order, [2, 1, 0]);
    }

    /// Every score is a draw of its own, so a share is off the mean by chance alone: three standard deviations are
    /// 0.8 % at N = 3 and 1.2 % at N = 6.
    #[test]
    fn the_shares_of_up_to_six_servers_stay_within_two_percent_of_the_mean() {
        const KEYS: u32 = 300_000;
        for servers in 3..=6 {
            let mapping = rendezvous(&named((1..=servers).map(|i| format!("server{i}"))));
            let mut shares = vec![0_u32; servers as usize];
            for id in 100_000..100_000 + KEYS {
                shares[mapping.candidates(id.to_string().as_bytes()).next().unwrap()] += 1;
            }
            let mean = f64::from(KEYS) / f64::from(servers);
            println!("N={servers}: keys {shares:?}, mean {mean:.0}");
            for share in shares {
                assert!((f64::from(share) / mean - 1.0).abs() <= 0.02, "N={servers}: {share}");
            }
        }
    }

    proptest! {
        #[test]
        fn removing_a_member_moves_its_own_keys_to_their_second_candidates_and_no_others(
            names in names(2..8), keys in keys(),
        ) {
            let members = named(names);
            let before = rendezvous(&members);
            for key in &keys {
                let tried = order(&before, &members, key);
                for gone in &tried {
                    let rest = without(&members, gone);
                    let expected: Vec<&str> = tried.iter().copied().filter(|name| name != gone).collect();
                    prop_assert_eq!(order(&rendezvous(&rest), &rest, key), expected);
                }
            }
        }

        #[test]
        fn candidates_come_by_falling_score(names in names(1..8), keys in keys()) {
            let members = named(names);
            for key in &keys {
                let score = |name: &str| Seed::default().hash(&[name.as_bytes(), b"\0", key].concat());
                let scores: Vec<u64> =
                    order(&rendezvous(&members), &members, key).into_iter().map(score).collect();
                prop_assert!(scores.is_sorted_by(|one, next| one >= next));
                prop_assert_eq!(rendezvous(&members).locate(key).hash, scores[0]);
            }
        }
    }
}
