//! The mapping `ring`: consistent hashing with many points per member (Karger et al., "Consistent Hashing and Random
//! Trees", STOC 1997).
//!
//! A pure function of the set of names: the order of the members, their indices and their addresses play no part.
//! When a member leaves, only its own keys move; when one joins, keys move only to it.

use super::{Candidates, Location, Member, hash};

/// All points of all members, clockwise. It holds 12 bytes a point, and no names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Ascending.
    positions: Vec<u64>,
    /// The ordinal of the member at each position.
    owners: Vec<u32>,
    members: usize,
}

impl Ring {
    pub(super) fn build(points: u32, members: &[Member]) -> Self {
        let all = members.iter().zip(0..).flat_map(|(member, ordinal)| {
            hash::points(&member.name, points).map(move |position| (position, member.name.as_str(), ordinal))
        });
        Self::sorted(all.collect(), members.len())
    }

    /// Of two points at the same position the one with the lesser name comes first.
    fn sorted(mut points: Vec<(u64, &str, u32)>, members: usize) -> Self {
        points.sort_unstable();
        let (positions, owners) = points.into_iter().map(|(position, _, owner)| (position, owner)).unzip();
        Self { positions, owners, members }
    }

    pub(super) fn locate(&self, key: &[u8]) -> Location {
        let hash = hash::xxh3(key);
        Location { hash, position: hash }
    }

    pub(super) fn candidates(&self, key: &[u8]) -> Candidates<'_> {
        let Location { position, .. } = self.locate(key);
        let start = self.positions.partition_point(|&point| point < position);
        Candidates::clockwise(&self.owners, start, self.members)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{keys, named, names, order, without};
    use super::super::{Algorithm, Mapping};
    use super::*;
    use proptest::prelude::*;

    fn ring(members: &[Member]) -> Mapping {
        Mapping::build(&Algorithm::Ring { points: 40 }, members).unwrap()
    }

    /// Computed by an independent implementation: Python, `bisect` over sorted pairs, the package `xxhash` 4.1.0.
    #[test]
    fn three_servers_own_the_keys_that_an_independent_implementation_gives_them() {
        let cases: [(&[u8], [usize; 3]); 12] = [
            (b"132574", [2, 1, 3]),
            (b"100000", [1, 2, 3]),
            (b"999999", [1, 2, 3]),
            (b"0", [2, 1, 3]),
            (b"7", [3, 1, 2]),
            (b"abc", [2, 3, 1]),
            (b"alice@example.org", [2, 3, 1]),
            (b"192.0.2.1", [3, 1, 2]),
            (b"\x00\xff", [1, 3, 2]),
            (b"", [1, 3, 2]),
            (b"\xc3\xbc", [3, 1, 2]),
            (b"order-42", [3, 2, 1]),
        ];
        let members = named(["server1", "server2", "server3"]);
        let ring = Ring::build(1000, &members);
        assert_eq!(ring.positions.first(), Some(&0x0005_f8a3_de8c_2f75));
        assert_eq!(ring.positions.last(), Some(&0xffef_fb7f_12b7_4ddc));
        for (key, servers) in cases {
            let found: Vec<usize> = ring.candidates(key).map(|ordinal| ordinal + 1).collect();
            assert_eq!(found, servers, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_keys_position_is_the_hash_of_its_bytes_numeric_or_not() {
        let ring = Ring::build(1, &[]);
        let hash = 0x4eae_f2ca_3a53_4963;
        assert_eq!(ring.locate(b"132574"), Location { hash, position: hash });
    }

    #[test]
    fn the_first_point_at_or_after_a_position_owns_it_and_the_last_is_followed_by_the_first() {
        let position = hash::xxh3(b"key");
        let owner = |points: [u64; 2]| {
            Ring::sorted(vec![(points[0], "a", 0), (points[1], "b", 1)], 2).candidates(b"key").next()
        };
        assert_eq!(owner([position, position + 1]), Some(0));
        assert_eq!(owner([position - 1, position + 1]), Some(1));
        assert_eq!(owner([position - 2, position - 1]), Some(0));
    }

    #[test]
    fn two_points_at_one_position_are_ordered_by_name() {
        for points in [vec![(7, "b", 0), (7, "a", 1)], vec![(7, "a", 1), (7, "b", 0)]] {
            assert_eq!(Ring::sorted(points, 2).owners, [1, 0]);
        }
    }

    #[test]
    fn the_shares_of_up_to_six_servers_stay_within_ten_percent_of_the_mean() {
        const KEYS: u32 = 100_000;
        for servers in 2..=6 {
            let members = named((1..=servers).map(|i| format!("server{i}")));
            let ring = Ring::build(1000, &members);
            let mut shares = vec![0_u32; members.len()];
            for id in 100_000..100_000 + KEYS {
                shares[ring.candidates(id.to_string().as_bytes()).next().unwrap()] += 1;
            }
            let peak = f64::from(*shares.iter().max().unwrap()) / (f64::from(KEYS) / f64::from(servers));
            println!("N={servers}: max/mean {peak:.4}, keys {shares:?}");
            assert!(peak <= 1.10, "N={servers}: {peak}");
        }
    }

    proptest! {
        #[test]
        fn removing_a_member_moves_its_own_keys_to_their_second_candidates_and_no_others(
            names in names(2..8), keys in keys(),
        ) {
            let members = named(names);
            let before = ring(&members);
            for key in &keys {
                let tried = order(&before, &members, key);
                for gone in &tried {
                    let rest = without(&members, gone);
                    let expected: Vec<&str> = tried.iter().copied().filter(|name| name != gone).collect();
                    prop_assert_eq!(order(&ring(&rest), &rest, key), expected);
                }
            }
        }

        #[test]
        fn adding_a_member_moves_keys_only_to_the_newcomer(
            names in names(2..8), keys in keys(),
        ) {
            let members = named(names);
            let newcomer = members[0].name.as_str();
            let old = without(&members, newcomer);
            let (before, after) = (ring(&old), ring(&members));
            for key in &keys {
                let (was, is) = (order(&before, &old, key)[0], order(&after, &members, key)[0]);
                prop_assert!(is == was || is == newcomer, "from {} to {}", was, is);
            }
        }

        #[test]
        fn indices_play_no_part(names in names(1..8), shift in any::<u32>(), keys in keys()) {
            let members = named(names);
            let renumbered: Vec<Member> = members
                .iter()
                .map(|member| Member { index: member.index.wrapping_mul(7).wrapping_add(shift), ..member.clone() })
                .collect();
            for key in &keys {
                prop_assert!(ring(&members).candidates(key).eq(ring(&renumbered).candidates(key)));
            }
        }
    }
}
