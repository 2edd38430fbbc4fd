//! The mapping `ring`: consistent hashing with many points per member (Karger et al., "Consistent Hashing and Random
//! Trees", STOC 1997).
//!
//! A ring is a pure function of the set of names and weights: the order of the members, their indices and their addresses
//! play no part. When a member leaves, only its own keys move; when one joins, keys move only to it. A member of weight w has
//! w times as many points, and the first of them are those of weight 1: a growing weight only draws keys to its member.
//!
//! Points are hashes, so they are spread evenly. This makes a build and a pick fast: a point is sorted into the bucket of its
//! top bits, which holds one or two others on average, and the same buckets lead a key to its point.

use crate::full::{Full, LONGEST_RING};
use crate::hash::{self, Location, Seed};
use crate::member::{Count, Member, total_weight};
use crate::walk::{Owner, Walk};

/// How many points are looked at together: most keys find theirs among them.
const FEW: usize = 4;

/// Consistent hashing: the points of all members, clockwise. It takes 14 to 16 bytes for each point and keeps no names.
///
/// ```
/// use mapping::{Algorithm, Mapping, Member};
///
/// let members = [1, 2, 3].map(|index| Member { index, name: format!("server{index}"), weight: 1 });
/// let Mapping::Ring(ring) = Mapping::build(&Algorithm::Ring { points: 1000 }.into(), &members)? else { panic!() };
/// assert_eq!(ring.points().count(), 3000);
/// # Ok::<(), mapping::Full>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// By position, ascending.
    points: Vec<Point>,
    buckets: Buckets,
    seed: Seed,
    count: Count,
}

/// A position on the ring and its owner. They are adjacent because a long ring is in slow memory: a pick that has found its
/// point has the owner in the same cache line. The halves of the position leave no gap of four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    /// The lower half and the upper one.
    position: [u32; 2],
    /// The ordinal of a member.
    owner: u32,
}

impl Point {
    fn new(position: u64, owner: u32) -> Self {
        Self { position: [position as u32, (position >> 32) as u32], owner }
    }

    fn position(self) -> u64 {
        let [lower, upper] = self.position.map(u64::from);
        upper << 32 | lower
    }
}

impl Owner for Point {
    fn owner(self) -> usize {
        self.owner as usize
    }
}

/// The ring in equal parts, a power of two of them: each begins where the top bits of a position change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Buckets {
    /// The right shift that leaves the top bits.
    shift: u32,
    /// For each bucket, the place of the first point in it or after it.
    starts: Vec<u32>,
}

impl Buckets {
    /// One bucket for one to two of `points` points; at least two buckets, or `shift` would be 64.
    fn of(points: usize) -> Self {
        let bits = points.max(2).ilog2();
        Self { shift: u64::BITS - bits, starts: vec![0; 1 << bits] }
    }

    fn number(&self, position: u64) -> usize {
        (position >> self.shift) as usize
    }

    fn start(&self, position: u64) -> usize {
        self.starts.get(self.number(position)).map_or(0, |&start| start as usize)
    }
}

impl Ring {
    pub(crate) fn build(points: u32, seed: Seed, members: &[Member]) -> Result<Self, Full> {
        let positions = Self::check(points, members)?;
        // In the order of their names: of two points at the same position the one with the lesser name comes first.
        let mut order: Vec<(&Member, u32)> = members.iter().zip(0..).collect();
        order.sort_unstable_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        let mut all = Vec::with_capacity(positions);
        for (Member { name, weight, .. }, ordinal) in order {
            all.extend(hash::points(name, points * weight).map(|position| (position, ordinal)));
        }
        let present = if points == 0 { 0 } else { Count::of(members).present };
        Ok(Self::sorted(&all, seed, Count { members: members.len(), present }))
    }

    /// How many points there will be.
    pub(crate) fn check(points: u32, members: &[Member]) -> Result<usize, Full> {
        let positions = total_weight(members).saturating_mul(points.into());
        if positions > LONGEST_RING { Err(Full::Ring { positions }) } else { Ok(positions as usize) }
    }

    /// Of two points at the same position the one that was given first comes first.
    fn sorted(points: &[(u64, u32)], seed: Seed, count: Count) -> Self {
        let mut buckets = Buckets::of(points.len());
        for &(position, _) in points {
            let number = buckets.number(position);
            buckets.starts[number] += 1;
        }
        let mut ends = 0;
        for start in &mut buckets.starts {
            ends += *start;
            *start = ends;
        }
        // From the last to the first, each to the end of what is left of its bucket: what was an end becomes a start.
        let mut sorted = vec![Point::default(); points.len()];
        for &(position, owner) in points.iter().rev() {
            let number = buckets.number(position);
            buckets.starts[number] -= 1;
            sorted[buckets.starts[number] as usize] = Point::new(position, owner);
        }
        sink(&mut sorted);
        Self { points: sorted, buckets, seed, count }
    }

    pub(crate) fn locate(&self, key: &[u8]) -> Location {
        let hash = self.seed.hash(key);
        Location { hash, position: hash }
    }

    pub(crate) fn owner(&self, key: &[u8]) -> Option<usize> {
        let at = self.first_from(self.seed.hash(key));
        self.points.get(at).or_else(|| self.points.first()).map(|point| point.owner())
    }

    pub(crate) fn candidates(&self, key: &[u8]) -> Walk<'_, Point> {
        self.candidates_from(self.seed.hash(key))
    }

    /// The candidates of a key at this position.
    pub(crate) fn candidates_from(&self, position: u64) -> Walk<'_, Point> {
        Walk::clockwise(&self.points, self.first_from(position), self.count)
    }

    /// The place of the first point at or after a position; past the last where there is none.
    ///
    /// It counts those of the next few points that are before the position, instead of stopping at the first that is not: a
    /// processor cannot predict where that is, and a wrong prediction costs more time than a look at all of them.
    fn first_from(&self, position: u64) -> usize {
        let is_before = |point: &&Point| point.position() < position;
        let mut at = self.buckets.start(position);
        while let Some(few) = self.points[at..].first_chunk::<FEW>() {
            let before = few.iter().filter(is_before).count();
            at += before;
            if before < FEW {
                return at;
            }
        }
        at + self.points[at..].iter().filter(is_before).count()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.points.capacity() * size_of::<Point>() + self.buckets.starts.capacity() * size_of::<u32>()
    }

    pub(crate) fn seed(&self) -> Seed {
        self.seed
    }

    /// Each position with the ordinal of its member, clockwise.
    pub fn points(&self) -> impl Iterator<Item = (u64, u32)> {
        self.points.iter().map(|point| (point.position(), point.owner))
    }
}

/// Sorts points that are almost in order: each sinks past the greater ones before it. Equal ones keep their order.
fn sink(points: &mut [Point]) {
    for end in 1..points.len() {
        let mut at = end;
        while at > 0 && points[at - 1].position() > points[at].position() {
            points.swap(at - 1, at);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Algorithm;
    use crate::mapping::Mapping;
    use crate::testing::{keys, named, names, order, weighing, without};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn ring(members: &[Member]) -> Mapping {
        Algorithm::Ring { points: 40 }.of(members)
    }

    /// Without a seed.
    fn built(points: u32, members: &[Member]) -> Ring {
        Ring::build(points, Seed::default(), members).unwrap()
    }

    fn sorted(points: &[(u64, u32)], members: usize) -> Ring {
        Ring::sorted(points, Seed::default(), Count { members, present: members })
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
        let ring = built(1000, &members);
        assert_eq!(ring.points.first().unwrap().position(), 0x0005_f8a3_de8c_2f75);
        assert_eq!(ring.points.last().unwrap().position(), 0xffef_fb7f_12b7_4ddc);
        for (key, servers) in cases {
            let found: Vec<usize> = ring.candidates(key).map(|ordinal| ordinal + 1).collect();
            assert_eq!(found, servers, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_keys_position_is_the_hash_of_its_bytes_numeric_or_not() {
        let ring = built(1, &[]);
        let hash = 0x4eae_f2ca_3a53_4963;
        assert_eq!(ring.locate(b"132574"), Location { hash, position: hash });
    }

    #[test]
    fn the_first_point_at_or_after_a_position_owns_it_and_the_last_is_followed_by_the_first() {
        let position = Seed::default().hash(b"key");
        let owner = |points: [u64; 2]| {
            let ring = sorted(&[(points[0], 0), (points[1], 1)], 2);
            assert_eq!(ring.owner(b"key"), ring.candidates(b"key").next());
            ring.owner(b"key")
        };
        assert_eq!(owner([position, position + 1]), Some(0));
        assert_eq!(owner([position - 1, position + 1]), Some(1));
        assert_eq!(owner([position - 2, position - 1]), Some(0));
    }

    #[test]
    fn two_points_at_one_position_are_ordered_by_name() {
        // The one thing that a hash of 64 bits does not let a test provoke: what comes first stays first.
        let ring = sorted(&[(7, 1), (7, 0), (3, 2), (7, 3)], 4);
        assert!(ring.points().map(|(_, owner)| owner).eq([2, 1, 0, 3]));
    }

    #[test]
    fn points_are_sorted_wherever_they_lie() {
        let crowds: [&[u64]; 4] = [&[], &[5], &[u64::MAX, 0, 1, 1 << 63], &[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]];
        for crowd in crowds {
            let points: Vec<(u64, u32)> = crowd.iter().copied().zip(0..).collect();
            let mut expected = points.clone();
            expected.sort_unstable();
            assert!(sorted(&points, 10).points().eq(expected));
        }
    }

    #[test]
    fn a_ring_that_would_be_too_long_is_refused() {
        let members = weighing(named(["a", "b"]), &[100, 68]);
        let refused = Ring::build(25_000, Seed::default(), &members).unwrap_err();
        assert_eq!(refused, Full::Ring { positions: 4_200_000 });
        let endless = weighing(named(["a", "b"]), &[u32::MAX; 2]);
        let refused = Ring::build(u32::MAX, Seed::default(), &endless).unwrap_err();
        assert_eq!(refused, Full::Ring { positions: u64::MAX });
        assert!(Ring::build(1000, Seed::default(), &members).is_ok());
    }

    #[test]
    fn the_shares_of_up_to_six_servers_stay_within_ten_percent_of_the_mean() {
        const KEYS: u32 = 100_000;
        for servers in 2..=6 {
            let members = named((1..=servers).map(|i| format!("server{i}")));
            let ring = built(1000, &members);
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
        fn the_first_point_is_found_as_a_binary_search_finds_it(
            points in vec(any::<u64>(), 0..200), position in any::<u64>(),
        ) {
            let ring = sorted(&points.into_iter().zip(0..).collect::<Vec<_>>(), 200);
            let close = ring.points().flat_map(|(at, _)| [at.wrapping_sub(1), at, at.wrapping_add(1)]);
            for position in close.chain([position]) {
                let expected = ring.points.partition_point(|point| point.position() < position);
                prop_assert_eq!(ring.first_from(position), expected);
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
