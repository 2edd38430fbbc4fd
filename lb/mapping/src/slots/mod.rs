//! The mapping `slots`: the table of the classic teaching assignment.
//!
//! A circular table has M entries. A server takes K of them by a formula, Φ(i, j) mod M for its index i and j = 0 .. K-1, and
//! a request falls on one by another, H(i) mod M. A server of weight w takes w times as many.
//!
//! The mapping is deterministic and easy to check by hand. It is not even: with three servers and the classic formulas,
//! server 1 gets 84 % of all six-digit ids. Unlike `ring`, it can move keys between servers that stay, because an entry that
//! becomes free can be taken by the probing of another server (for instance when server 1 of five leaves).

mod formula;

pub use formula::{RequestHash, ServerHash};

use crate::full::Full;
use crate::hash::{Location, Seed};
use crate::member::{Count, Member, total_weight};
use crate::probing::Probing;
use crate::walk::Walk;

/// The size of the table, how servers fill it, and how requests fall on it.
///
/// ```
/// use mapping::{Probing, SlotsShape};
///
/// let shape = SlotsShape { entries: 1024, probing: Probing::Quadratic, ..SlotsShape::default() };
/// assert_eq!(shape.virtuals, 9);
/// assert_eq!(shape.request_hash.to_string(), "i*i + 2*i + 17");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotsShape {
    /// M, the entries of the table.
    pub entries: u32,
    /// K, the entries that a server of weight 1 takes.
    pub virtuals: u32,
    /// The entries that a server tries when the one it wants is taken.
    pub probing: Probing,
    /// H, where a request falls, before the modulo.
    pub request_hash: RequestHash,
    /// Φ, where a virtual server wants to be, before the modulo.
    pub server_hash: ServerHash,
}

impl Default for SlotsShape {
    /// 512 entries, 9 for each server, linear probing, the classic formulas.
    fn default() -> Self {
        let (request_hash, server_hash) = (RequestHash::default(), ServerHash::default());
        Self { entries: 512, virtuals: 9, probing: Probing::Linear, request_hash, server_hash }
    }
}

impl SlotsShape {
    /// How many members of weight 1 there are entries for, M / K; `None` if K is 0.
    pub(crate) fn capacity(&self) -> Option<usize> {
        self.entries.checked_div(self.virtuals).map(|members| members as usize)
    }

    /// The owner of each entry, as an ordinal; `None` if a member finds no free entry.
    ///
    /// Members choose in the order of their indices, so the order of `members` plays no part.
    fn fill(&self, members: &[Member]) -> Option<Vec<Option<u32>>> {
        if total_weight(members).saturating_mul(self.virtuals.into()) > self.entries.into() {
            return None;
        }
        let mut table = Filling::new(self.entries);
        let mut order: Vec<(&Member, u32)> = members.iter().zip(0..).collect();
        order.sort_by_key(|(member, _)| member.index);
        for (member, ordinal) in order {
            for j in 0..self.virtuals * member.weight {
                let start = self.server_hash.value(member.index.into(), j.into());
                let wanted = start.checked_rem(self.entries.into())?;
                let free = match self.probing {
                    Probing::Linear => table.free_from(wanted as usize)?,
                    Probing::Quadratic => table.free_on(wanted as usize, |step| self.probe(wanted, step))?,
                };
                table.take(free, ordinal);
            }
        }
        Some(table.owners)
    }

    /// The entries that quadratic probing tries from a wanted one, from this step on. It ends at t = M/2, because (M - t)² mod M
    /// is t².
    fn probe(&self, wanted: u64, from: u64) -> impl Iterator<Item = usize> + use<> {
        let entries = u64::from(self.entries);
        (from..=entries / 2).map(move |t| ((wanted + t * t) % entries) as usize)
    }
}

/// A table while it is filled. It keeps the ways past taken entries, so that a formula under which all servers want the same
/// entry costs no more than another: commands and probes wait while a table is filled.
struct Filling {
    owners: Vec<Option<u32>>,
    /// For a free entry itself, for a taken one an entry on the way to the next free one.
    onward: Vec<usize>,
    /// For each entry, how many steps of quadratic probing from it have led to taken ones.
    tried: Vec<u64>,
    free: usize,
}

impl Filling {
    fn new(entries: u32) -> Self {
        let free = entries as usize;
        Self { owners: vec![None; free], onward: (0..free).collect(), tried: vec![0; free], free }
    }

    /// The first free entry at or after this one; after the last comes the first. A way gets shorter when it is used (a
    /// disjoint-set forest with path halving: Tarjan and van Leeuwen, JACM 31(2), 1984).
    fn free_from(&mut self, mut entry: usize) -> Option<usize> {
        if self.free == 0 {
            return None;
        }
        while self.onward[entry] != entry {
            self.onward[entry] = self.onward[self.onward[entry]];
            entry = self.onward[entry];
        }
        Some(entry)
    }

    /// The first free entry on this way from a wanted one. Taken entries stay taken, so the next search from the same entry
    /// continues where the last one ended.
    fn free_on<W: Iterator<Item = usize>>(&mut self, wanted: usize, way: impl Fn(u64) -> W) -> Option<usize> {
        let tried = self.tried[wanted];
        let (step, entry) = (tried..).zip(way(tried)).find(|&(_, entry)| self.owners[entry].is_none())?;
        self.tried[wanted] = step;
        Some(entry)
    }

    fn take(&mut self, entry: usize, ordinal: u32) {
        self.owners[entry] = Some(ordinal);
        self.onward[entry] = (entry + 1) % self.onward.len();
        self.free -= 1;
    }
}

/// The table of the classic teaching assignment, filled.
///
/// ```
/// use mapping::{Algorithm, Mapping, MappingName, Member};
///
/// let members = [1, 2, 3].map(|index| Member { index, name: format!("server{index}"), weight: 1 });
/// let slots = Mapping::build(&Algorithm::named(MappingName::Slots).into(), &members)?;
/// assert_eq!(slots.locate(b"132574").position, 81);
/// assert_eq!(slots.owner(b"132574"), Some(2));
/// # Ok::<(), mapping::Full>(())
/// ```
///
/// It is arranged for lookup in constant time. It takes 4 bytes for each entry, and 4 more for each taken one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    /// For each of the M entries, how many before it are taken: the place in `owners` of the first taken one at or after it.
    taken_before: Vec<u32>,
    /// The ordinals of the members in the taken entries, clockwise.
    owners: Vec<u32>,
    request_hash: RequestHash,
    seed: Seed,
    count: Count,
}

impl Slots {
    pub(crate) fn seed(&self) -> Seed {
        self.seed
    }

    pub(crate) fn build(shape: &SlotsShape, seed: Seed, members: &[Member]) -> Result<Self, Full> {
        let full = || Full::Slots {
            members: members.len(),
            weight: total_weight(members),
            virtuals: shape.virtuals,
            entries: shape.entries,
            probing: shape.probing,
        };
        let table = shape.fill(members).ok_or_else(full)?;
        let taken_before = table
            .iter()
            .scan(0, |taken, entry| {
                let before = *taken;
                *taken += u32::from(entry.is_some());
                Some(before)
            })
            .collect();
        let (owners, request_hash) = (table.into_iter().flatten().collect(), shape.request_hash.clone());
        let present = if shape.virtuals == 0 { 0 } else { Count::of(members).present };
        let count = Count { members: members.len(), present };
        Ok(Self { taken_before, owners, request_hash, seed, count })
    }

    pub(crate) fn locate(&self, key: &[u8]) -> Location {
        let hash = self.request_hash.value(self.seed.number(key));
        Location { hash, position: remainder(hash, self.entries() as u64) }
    }

    /// How many entries the table has.
    pub(crate) fn entries(&self) -> usize {
        self.taken_before.len()
    }

    pub(crate) fn candidates(&self, key: &[u8]) -> Walk<'_, u32> {
        self.candidates_from(self.locate(key).position as usize)
    }

    /// The candidates of a key at this entry.
    pub(crate) fn candidates_from(&self, entry: usize) -> Walk<'_, u32> {
        let start = self.taken_before.get(entry).map_or(0, |&taken| taken as usize);
        Walk::clockwise(&self.owners, start, self.count)
    }

    pub(crate) fn owner(&self, key: &[u8]) -> Option<usize> {
        let start = *self.taken_before.get(self.locate(key).position as usize)?;
        self.owners.get(start as usize).or_else(|| self.owners.first()).map(|&owner| owner as usize)
    }

    /// How many entries a member holds.
    #[cfg(test)]
    pub(crate) fn entries_of(&self, member: u32) -> usize {
        self.owners.iter().filter(|&&owner| owner == member).count()
    }

    pub(crate) fn bytes(&self) -> usize {
        (self.taken_before.capacity() + self.owners.capacity()) * size_of::<u32>()
    }
}

/// `hash` mod M, and 0 if M is 0. A power of two, the usual case, needs no division, the slowest step of a pick.
fn remainder(hash: u64, entries: u64) -> u64 {
    if entries.is_power_of_two() { hash & (entries - 1) } else { hash.checked_rem(entries).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;
    use crate::algorithm::Algorithm;
    use crate::testing::{keys, named, names};
    use proptest::prelude::*;

    fn classic() -> SlotsShape {
        SlotsShape::default()
    }

    /// Without a seed.
    fn built(shape: &SlotsShape, members: &[Member]) -> Result<Slots, Full> {
        Slots::build(shape, Seed::default(), members)
    }

    /// Members whose ordinal is their index - 1.
    fn servers(count: u32) -> Vec<Member> {
        (1..=count).map(|index| Member { index, name: format!("server{index}"), weight: 1 }).collect()
    }

    /// The index of the server that owns each slot.
    fn owners(members: &[Member]) -> Vec<u32> {
        let slots = built(&classic(), members).unwrap();
        (0..512).map(|slot| members[slots.candidates_from(slot).next().unwrap()].index).collect()
    }

    #[test]
    fn servers_1_2_and_3_hold_the_published_entries() {
        let table = classic().fill(&servers(3)).unwrap();
        let held =
            |ordinal| -> Vec<usize> { (0..512).filter(|&slot| table[slot] == Some(ordinal)).collect() };
        assert_eq!(held(0), [26, 29, 34, 41, 50, 61, 74, 89, 106]);
        assert_eq!(held(1), [30, 32, 37, 44, 53, 64, 77, 92, 109]);
        assert_eq!(held(2), [35, 38, 42, 49, 58, 69, 82, 97, 114]);
    }

    #[test]
    fn known_ids_fall_on_the_published_entries_and_servers() {
        let members = servers(3);
        let slots = built(&classic(), &members).unwrap();
        for (id, position, server) in [("132574", 81, 3), ("100000", 337, 1), ("999999", 16, 1)] {
            assert_eq!(slots.locate(id.as_bytes()).position, position, "{id}");
            assert_eq!(members[slots.candidates(id.as_bytes()).next().unwrap()].index, server, "{id}");
        }
    }

    #[test]
    fn the_hash_is_known_before_the_modulo_and_arithmetic_wraps() {
        let slots = built(&classic(), &[]).unwrap();
        assert_eq!(slots.locate(b"132574").hash, 132_574 * 132_574 + 2 * 132_574 + 17);
        assert_eq!(slots.locate(b"18446744073709551615"), Location { hash: 16, position: 16 });
        let i = u128::from(Seed::default().hash(b"abc"));
        assert_eq!(u128::from(slots.locate(b"abc").hash), (i * i + 2 * i + 17) & u128::from(u64::MAX));
    }

    #[test]
    fn adding_server_4_moves_24_entries_all_to_it_and_removing_it_restores_the_map() {
        let (three, four) = (owners(&servers(3)), owners(&servers(4)));
        let moved: Vec<u32> =
            three.iter().zip(&four).filter(|(was, is)| was != is).map(|(_, &is)| is).collect();
        assert_eq!(moved, [4; 24]);
        let removed: Vec<Member> = servers(4).into_iter().filter(|member| member.index != 4).collect();
        assert_eq!(owners(&removed), three);
    }

    #[test]
    fn removing_server_1_of_five_moves_entries_between_those_that_stay() {
        let (five, four) = (owners(&servers(5)), owners(&servers(5)[1..]));
        assert!(five.iter().zip(&four).any(|(&was, &is)| was != 1 && was != is));
    }

    #[test]
    fn fifty_six_servers_fit_and_the_fifty_seventh_is_refused() {
        assert_eq!(classic().capacity(), Some(56));
        assert!(built(&classic(), &servers(56)).is_ok());
        let refused = built(&classic(), &servers(57)).unwrap_err();
        let message = "57 servers of 9 virtual servers each do not fit into 512 entries (linear probing)";
        assert_eq!(refused.to_string(), message);
    }

    #[test]
    fn the_shares_of_three_servers_over_all_six_digit_ids_are_the_published_ones() {
        let slots = built(&classic(), &servers(3)).unwrap();
        let mut shares = [0_u32; 3];
        for id in 100_000..=999_999 {
            shares[slots.candidates(id.to_string().as_bytes()).next().unwrap()] += 1;
        }
        let percent = shares.map(|keys| format!("{:.2}", f64::from(keys) / 9000.0));
        println!("N=3: server1, server2, server3 get {percent:?} % of 900,000 ids");
        assert_eq!(percent, ["84.37", "4.69", "10.94"]);
    }

    #[test]
    fn quadratic_probing_goes_t_squared_further_and_gives_up_when_it_would_come_around() {
        let shape = SlotsShape { entries: 8, virtuals: 1, probing: Probing::Quadratic, ..classic() };
        let tried: Vec<usize> = shape.probe(6, 0).collect();
        assert_eq!(tried, [6, 7, 2, 7, 6]);
        // Indices 1, 9, 17, ... all want slot 2 of 8, and from there only 2, 3 and 6 are ever tried.
        let rivals = |count| -> Vec<Member> {
            (0..count).map(|i| Member { index: 8 * i + 1, name: format!("server{i}"), weight: 1 }).collect()
        };
        assert_eq!(shape.fill(&rivals(3)).unwrap()[2..7], [Some(0), Some(1), None, None, Some(2)]);
        assert!(built(&shape, &rivals(4)).is_err());
        let linear = SlotsShape { probing: Probing::Linear, ..shape };
        assert!(built(&linear, &rivals(8)).is_ok());
    }

    #[test]
    fn quadratic_probing_fits_39_of_56_servers_into_the_classic_table() {
        let quadratic = SlotsShape { probing: Probing::Quadratic, ..classic() };
        assert!(built(&quadratic, &servers(39)).is_ok());
        assert!(built(&quadratic, &servers(40)).is_err());
    }

    #[test]
    fn a_table_of_no_entries_or_no_virtual_servers_has_no_candidates_and_never_panics() {
        for probing in [Probing::Linear, Probing::Quadratic] {
            let no_slots = SlotsShape { entries: 0, probing, ..classic() };
            assert!(built(&no_slots, &servers(1)).is_err());
            let empty = built(&no_slots, &[]).unwrap();
            assert_eq!(empty.locate(b"1"), Location { hash: 20, position: 0 });
            assert_eq!(empty.candidates(b"1").next(), None);
            let no_virtuals = SlotsShape { virtuals: 0, probing, ..classic() };
            assert_eq!(no_virtuals.capacity(), None);
            assert_eq!(built(&no_virtuals, &servers(3)).unwrap().candidates(b"1").next(), None);
        }
    }

    /// A server that comes to a taken entry looks at the next on its way, one by one.
    fn filled_step_by_step(shape: &SlotsShape, members: &[Member]) -> Option<Vec<Option<u32>>> {
        let mut table = vec![None; shape.entries as usize];
        for (ordinal, member) in (0..).zip(members) {
            for j in 0..shape.virtuals {
                let wanted =
                    shape.server_hash.value(member.index.into(), j.into()) % u64::from(shape.entries);
                let (steps, power) = match shape.probing {
                    Probing::Linear => (0..u64::from(shape.entries), 1),
                    Probing::Quadratic => (0..u64::from(shape.entries / 2) + 1, 2),
                };
                let mut tried = steps.map(|t| (wanted + t.pow(power)) as usize % table.len());
                let free = tried.find(|&slot| table[slot].is_none())?;
                table[free] = Some(ordinal);
            }
        }
        Some(table)
    }

    proptest! {
        #[test]
        fn a_position_is_the_remainder_whether_there_is_a_division_or_not(hash in any::<u64>(), slots in 0..70_u64) {
            prop_assert_eq!(remainder(hash, slots), hash.checked_rem(slots).unwrap_or(0));
        }

        #[test]
        fn probing_takes_the_next_free_entry_on_its_way_whatever_the_formula(
            entries in 1..80_u32, virtuals in 1..6_u32, count in 0..12_u32,
            formula in proptest::sample::select(&["25", "i*i + j*j + 2*j + 25", "i + j", "i << 4", "0 - i*j", "i^j"][..]),
        ) {
            let server_hash = ServerHash::from_str(formula).unwrap();
            for probing in [Probing::Linear, Probing::Quadratic] {
                let shape = SlotsShape { entries, virtuals, probing, server_hash: server_hash.clone(), ..classic() };
                prop_assert_eq!(shape.fill(&servers(count)), filled_step_by_step(&shape, &servers(count)));
            }
        }

        #[test]
        fn the_owner_is_the_holder_of_the_first_taken_slot_at_or_after_the_position(
            names in names(1..20), keys in keys(), entries in 180_u32..600,
        ) {
            let members = named(names);
            let shape = SlotsShape { entries, ..classic() };
            let table = shape.fill(&members).unwrap();
            prop_assert_eq!(table.iter().flatten().count(), 9 * members.len());
            let mapping = Algorithm::Slots(shape).of(&members);
            for key in &keys {
                let position = mapping.locate(key).position as usize;
                let (before, after) = table.split_at(position);
                let owner = after.iter().chain(before).find_map(|slot| *slot).unwrap();
                prop_assert_eq!(mapping.candidates(key).next(), Some(owner as usize));
            }
        }
    }
}
