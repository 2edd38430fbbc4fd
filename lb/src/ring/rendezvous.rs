//! The mapping `rendezvous`: every member has a score for every key, and the highest wins (Thaler and Ravishankar,
//! "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM Transactions on Networking 6(1), 1998).
//!
//! The score of a member is XXH3-64 of its name, one NUL byte and the key's bytes; the candidates are the members by
//! falling score, equal ones by name. A pure function of the set of names: the order of the members, their indices and
//! their addresses play no part. When a member leaves, only its own keys move, and they spread over all that stay;
//! when one joins, keys move only to it.
//!
//! It keeps no table, so it never has to be filled. The price is paid for each key: one hash and 16 bytes a member.

use std::cmp::Reverse;

use super::{Candidates, Location, Member, Rank, hash};

/// The names of the members. It holds nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendezvous {
    /// Each name with its NUL and the member's ordinal, by name.
    stems: Vec<(String, u32)>,
}

impl Rendezvous {
    pub(super) fn build(members: &[Member]) -> Self {
        // The NUL is less than any byte of a name, so stems sort as their names do.
        let stem = |(member, ordinal): (&Member, u32)| (format!("{}\0", member.name), ordinal);
        let mut stems: Vec<(String, u32)> = members.iter().zip(0..).map(stem).collect();
        stems.sort_unstable();
        Self { stems }
    }

    /// No key has a place of its own here, only a score with each member: this is the highest, 0 without members.
    pub(super) fn locate(&self, key: &[u8]) -> Location {
        let hash = self.ranks(key).max().map_or(0, |(score, _, _)| score);
        Location { hash, position: hash }
    }

    pub(super) fn candidates(&self, key: &[u8]) -> Candidates<'_> {
        Candidates::ranked(self.ranks(key))
    }

    fn ranks(&self, key: &[u8]) -> impl Iterator<Item = Rank> {
        let mut text = Vec::new();
        self.stems.iter().zip(0..).map(move |((stem, ordinal), place)| {
            text.clear();
            text.extend_from_slice(stem.as_bytes());
            text.extend_from_slice(key);
            (hash::xxh3(&text), Reverse(place), *ordinal)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{keys, named, names, order, without};
    use super::super::{Algorithm, Mapping};
    use super::*;
    use proptest::prelude::*;

    fn rendezvous(members: &[Member]) -> Mapping {
        Mapping::build(&Algorithm::Rendezvous, members).unwrap()
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
        let mapping = Rendezvous::build(&named(["server1", "server2", "server3"]));
        for (key, hash, servers) in cases {
            assert_eq!(mapping.locate(key), Location { hash, position: hash }, "{}", key.escape_ascii());
            let found: Vec<usize> = mapping.candidates(key).map(|ordinal| ordinal + 1).collect();
            assert_eq!(found, servers, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_key_is_located_by_the_score_of_its_owner_and_nowhere_without_members() {
        let mapping = rendezvous(&named(["server1"]));
        let hash = hash::xxh3(b"server1\x00132574");
        assert_eq!(mapping.locate(b"132574"), Location { hash, position: hash });
        assert_eq!(rendezvous(&[]).locate(b"132574"), Location { hash: 0, position: 0 });
    }

    #[test]
    fn equal_scores_are_ordered_by_name() {
        let ranks = [(7, Reverse(1), 0), (9, Reverse(2), 3), (7, Reverse(0), 2), (1, Reverse(3), 1)];
        assert!(Candidates::ranked(ranks.into_iter()).eq([3, 2, 0, 1]));
        let names = named(["b", "a.", "a"]);
        let order: Vec<u32> =
            Rendezvous::build(&names).stems.into_iter().map(|(_, ordinal)| ordinal).collect();
        assert_eq!(order, [2, 1, 0]);
    }

    /// Every score is a draw of its own, so a share is off the mean by chance alone: three standard deviations are
    /// 1.3 % at N = 3 and 2.1 % at N = 6.
    #[test]
    fn the_shares_of_up_to_six_servers_stay_within_three_percent_of_the_mean() {
        const KEYS: u32 = 100_000;
        for servers in 3..=6 {
            let mapping = rendezvous(&named((1..=servers).map(|i| format!("server{i}"))));
            let mut shares = vec![0_u32; servers as usize];
            for id in 100_000..100_000 + KEYS {
                shares[mapping.candidates(id.to_string().as_bytes()).next().unwrap()] += 1;
            }
            let mean = f64::from(KEYS) / f64::from(servers);
            println!("N={servers}: keys {shares:?}, mean {mean:.0}");
            for share in shares {
                assert!((f64::from(share) / mean - 1.0).abs() <= 0.03, "N={servers}: {share}");
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
                let score = |name: &str| hash::xxh3(&[name.as_bytes(), b"\0", key].concat());
                let scores: Vec<u64> =
                    order(&rendezvous(&members), &members, key).into_iter().map(score).collect();
                prop_assert!(scores.is_sorted_by(|one, next| one >= next));
                prop_assert_eq!(rendezvous(&members).locate(key).hash, scores[0]);
            }
        }
    }
}
