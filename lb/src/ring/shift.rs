//! What moves when one mapping takes the place of another: computed before it does.
//!
//! On rings it is exact over all 2^64 positions, arc by arc; in tables of `maglev` over all entries. Other mappings have no
//! places that keys fall on alike (`slots` has, but its formulas send keys to few of them), so they are asked for the owner
//! of every six-digit id, the request ids of the classic assignment; where an owner takes many hashes to find, of every so
//! many of them.

use std::collections::HashMap;

use super::{Maglev, Mapping, Member, Ring};

/// The first six-digit id.
const FIRST_ID: u32 = 100_000;
/// How many six-digit ids there are.
const IDS: u32 = 900_000;
/// The most hashes that are computed to find owners of ids: some tenths of a second.
const HASHES: u64 = 16_000_000;

/// A mapping and the members that its ordinals mean.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The mapping.
    pub mapping: &'a Mapping,
    /// What it was built from.
    pub members: &'a [Member],
}

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Every position of a ring.
    Positions,
    /// Every entry of a table.
    Entries(u32),
    /// Every six-digit id.
    AllIds,
    /// So many six-digit ids, at equal distances.
    SomeIds(u32),
}

/// Keys that have one owner before and one after: the same, or another. `None` is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<'a> {
    /// Who owns them before.
    pub from: Option<&'a Member>,
    /// Who owns them after.
    pub to: Option<&'a Member>,
    /// How many they are.
    pub keys: u128,
}

impl Flow<'_> {
    /// Whether they get another owner.
    #[must_use]
    pub fn is_move(&self) -> bool {
        self.from.map(|member| &member.name) != self.to.map(|member| &member.name)
    }
}

/// What moves from one mapping to another.
#[derive(Clone, Debug)]
pub struct Shift<'a> {
    /// What was looked at.
    pub keys: Keys,
    before: &'a [Member],
    after: &'a [Member],
    /// How many keys each pair of owners has, those before in rows; nobody is the last in each.
    counts: Vec<u128>,
}

impl<'a> Shift<'a> {
    /// Compares two mappings. It takes up to some tenths of a second.
    #[must_use]
    pub fn between(before: Side<'a>, after: Side<'a>) -> Self {
        let counts = vec![0; (before.members.len() + 1) * (after.members.len() + 1)];
        let mut shift = Shift { keys: Keys::AllIds, before: before.members, after: after.members, counts };
        shift.keys = match (before.mapping, after.mapping) {
            (Mapping::Ring(one), Mapping::Ring(other)) if one.seed() == other.seed() => {
                shift.add_arcs(one, other)
            }
            (Mapping::Maglev(one), Mapping::Maglev(other)) if one.seed() == other.seed() => {
                shift.add_entries(one, other)
            }
            (one, other) => shift.add_ids(one, other),
        };
        shift
    }

    /// How many keys were looked at.
    #[must_use]
    pub fn whole(&self) -> u128 {
        self.counts.iter().sum()
    }

    /// The keys of every pair of owners that has any, those that stay included.
    pub fn flows(&self) -> impl Iterator<Item = Flow<'a>> {
        let columns = self.after.len() + 1;
        let (before, after) = (self.before, self.after);
        self.counts.iter().enumerate().filter(|(_, keys)| **keys > 0).map(move |(at, &keys)| Flow {
            from: before.get(at / columns),
            to: after.get(at % columns),
            keys,
        })
    }

    /// How many keys get another owner.
    #[must_use]
    pub fn moved(&self) -> u128 {
        self.flows().filter(Flow::is_move).map(|flow| flow.keys).sum()
    }

    /// How many have to move at least, for the members to own as many before and after as they do: what those that get
    /// more get more.
    #[must_use]
    pub fn least(&self) -> u128 {
        let before: HashMap<&str, u128> =
            self.owned_before().into_iter().map(|(member, keys)| (member.name.as_str(), keys)).collect();
        let owned_before = |name: &str| before.get(name).copied().unwrap_or(0);
        let after = self.owned_after().into_iter();
        after.map(|(member, keys)| keys.saturating_sub(owned_before(&member.name))).sum()
    }

    /// How many keys each member owns before.
    #[must_use]
    pub fn owned_before(&self) -> Vec<(&'a Member, u128)> {
        let rows = self.counts.chunks(self.after.len() + 1);
        self.before.iter().zip(rows.map(|row| row.iter().sum())).collect()
    }

    /// How many keys each member owns after.
    #[must_use]
    pub fn owned_after(&self) -> Vec<(&'a Member, u128)> {
        let columns = self.after.len() + 1;
        let column = |at: usize| self.counts.iter().skip(at).step_by(columns).sum();
        self.after.iter().enumerate().map(|(at, member)| (member, column(at))).collect()
    }

    fn add(&mut self, from: Option<usize>, to: Option<usize>, keys: u128) {
        let row = from.unwrap_or(self.before.len());
        let column = to.unwrap_or(self.after.len());
        self.counts[row * (self.after.len() + 1) + column] += keys;
    }

    /// Every position up to a point of either ring belongs to the next point of each.
    fn add_arcs(&mut self, before: &Ring, after: &Ring) -> Keys {
        let (mut one, mut other) = (before.points().peekable(), after.points().peekable());
        let first = |ring: &Ring| ring.points().next().map(|(_, owner)| owner as usize);
        let (first_one, first_other) = (first(before), first(after));
        // The position from which on nothing has been counted.
        let mut begun: u128 = 0;
        loop {
            let next = |(position, owner): &(u64, u32)| (*position, *owner as usize);
            let (at_one, at_other) = (one.peek().map(next), other.peek().map(next));
            let Some(end) = at_one.iter().chain(&at_other).map(|(position, _)| *position).min() else {
                break;
            };
            let keys = u128::from(end) + 1 - begun;
            let owner_one = at_one.map(|(_, owner)| owner).or(first_one);
            let owner_other = at_other.map(|(_, owner)| owner).or(first_other);
            self.add(owner_one, owner_other, keys);
            begun += keys;
            while one.next_if(|(position, _)| *position == end).is_some() {}
            while other.next_if(|(position, _)| *position == end).is_some() {}
        }
        self.add(first_one, first_other, (1 << 64) - begun);
        Keys::Positions
    }

    fn add_entries(&mut self, before: &Maglev, after: &Maglev) -> Keys {
        let owner = |maglev: &Maglev, entry| maglev.entries().get(entry).map(|&owner| owner as usize);
        for entry in 0..Maglev::ENTRIES as usize {
            self.add(owner(before, entry), owner(after, entry), 1);
        }
        Keys::Entries(Maglev::ENTRIES)
    }

    fn add_ids(&mut self, before: &Mapping, after: &Mapping) -> Keys {
        let hashes = u64::from(IDS) * (before.hashes() + after.hashes());
        // Odd, so that the ids do not all fall on every other entry of a table.
        let step = u32::try_from(hashes.div_ceil(HASHES)).unwrap_or(IDS) | 1;
        let mut looked_at = 0;
        for id in (FIRST_ID..FIRST_ID + IDS).step_by(step as usize) {
            let key = digits(id);
            self.add(before.owner(&key), after.owner(&key), 1);
            looked_at += 1;
        }
        if step == 1 { Keys::AllIds } else { Keys::SomeIds(looked_at) }
    }
}

/// A six-digit id as text.
fn digits(mut id: u32) -> [u8; 6] {
    let mut text = [b'0'; 6];
    for digit in text.iter_mut().rev() {
        *digit += (id % 10) as u8;
        id /= 10;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing::{named, names, weighing, without};
    use super::super::{Algorithm, Seed, SlotsShape};
    use super::*;
    use proptest::prelude::*;

    fn shift<'a>(before: (&'a Mapping, &'a [Member]), after: (&'a Mapping, &'a [Member])) -> Shift<'a> {
        let side = |(mapping, members)| Side { mapping, members };
        Shift::between(side(before), side(after))
    }

    /// From one algorithm to another, or from some members to others.
    fn moved(one: (&Algorithm, &[Member]), other: (&Algorithm, &[Member])) -> (Keys, u128, u128, u128) {
        let (before, after) = (one.0.of(one.1), other.0.of(other.1));
        let shift = shift((&before, one.1), (&after, other.1));
        (shift.keys, shift.whole(), shift.moved(), shift.least())
    }

    #[test]
    fn on_a_ring_a_newcomer_gets_exactly_what_moves_and_nothing_else_does() {
        let (three, four) = (named(["a", "b", "c"]), named(["a", "b", "c", "d"]));
        let ring = Algorithm::Ring { points: 1000 };
        let (keys, whole, moved, least) = moved((&ring, &three), (&ring, &four));
        assert_eq!((keys, whole, moved), (Keys::Positions, 1 << 64, least));
        let share = moved as f64 / whole as f64;
        assert!((share - 0.25).abs() < 0.02, "{share}");
    }

    #[test]
    fn adding_the_fourth_server_of_the_classic_table_moves_the_published_slots_and_no_more() {
        let (three, four) = (named(["s1", "s2", "s3"]), named(["s1", "s2", "s3", "s4"]));
        let slots = Algorithm::Slots(SlotsShape::default());
        let (keys, whole, moved, least) = moved((&slots, &three), (&slots, &four));
        assert_eq!((keys, whole), (Keys::AllIds, 900_000));
        assert_eq!(moved, least);
        // Counted one by one: the ids that fall into the 24 slots that are known to move.
        let (before, after) = (slots.of(&three), slots.of(&four));
        let owner = |mapping: &Mapping, id: u32| mapping.owner(id.to_string().as_bytes());
        let expected = (100_000..=999_999).filter(|&id| owner(&before, id) != owner(&after, id)).count();
        assert_eq!(moved, expected as u128);
    }

    #[test]
    fn maglev_moves_more_than_it_has_to_and_says_so() {
        let members = named((1..=6).map(|index| format!("server{index}")));
        let rest = without(&members, "server3");
        let (keys, whole, moved, least) = moved((&Algorithm::Maglev, &members), (&Algorithm::Maglev, &rest));
        assert_eq!((keys, whole), (Keys::Entries(65_537), 65_537));
        assert!(moved > least && (moved - least) * 100 < whole, "{moved} of {least}");
        assert!(least.abs_diff(65_537 / 6) <= 1, "{least}");
    }

    #[test]
    fn who_owns_what_is_the_same_by_arcs_and_by_ids() {
        let members = weighing(named(["a", "b", "c"]), &[1, 2, 0]);
        let ring = Algorithm::Ring { points: 1000 }.of(&members);
        let rendezvous = Algorithm::Rendezvous.of(&members);
        let arcs = shift((&ring, &members), (&ring, &members));
        let ids = shift((&ring, &members), (&rendezvous, &members));
        assert_eq!((arcs.moved(), ids.keys), (0, Keys::AllIds));
        let owned = |shift: &Shift| {
            shift.owned_before().iter().map(|own| own.1 as f64 / shift.whole() as f64).collect()
        };
        let (arcs, ids): (Vec<f64>, Vec<f64>) = (owned(&arcs), owned(&ids));
        for (arc, id) in arcs.iter().zip(&ids) {
            assert!((arc - id).abs() < 0.003, "{arcs:?} {ids:?}");
        }
        assert_eq!(arcs[2], 0.0);
    }

    #[test]
    fn where_an_owner_takes_many_hashes_fewer_ids_are_looked_at() {
        let members = named((0..200).map(|index| format!("server{index}")));
        let rest = without(&members, "server7");
        let (keys, whole, moved, least) =
            moved((&Algorithm::Rendezvous, &members), (&Algorithm::Rendezvous, &rest));
        assert_eq!(keys, Keys::SomeIds(u32::try_from(whole).unwrap()));
        assert!((30_000..50_000).contains(&whole), "{whole}");
        assert_eq!(moved, least);
    }

    #[test]
    fn an_empty_fleet_and_a_ring_under_another_seed_are_no_exceptions() {
        let (members, ring) = (named(["a"]), Algorithm::Ring { points: 3 });
        let (empty, one) = (ring.of(&[]), ring.of(&members));
        let first = shift((&empty, &[]), (&one, &members));
        let flows: Vec<Flow> = first.flows().collect();
        assert_eq!(flows, [Flow { from: None, to: Some(&members[0]), keys: 1 << 64 }]);
        assert_eq!((first.moved(), first.least()), (1 << 64, 1 << 64));
        let nothing = shift((&empty, &[]), (&empty, &[]));
        assert_eq!((nothing.whole(), nothing.moved()), (1 << 64, 0));
        let seeded = super::super::Scheme { algorithm: ring, seed: Seed(1) };
        let seeded = Mapping::build(&seeded, &members).unwrap();
        assert_eq!(shift((&one, &members), (&seeded, &members)).keys, Keys::AllIds);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn arcs_agree_with_the_owners_of_keys(names in names(2..6), points in 1..30_u32) {
            let members = named(names);
            let rest = without(&members, &members[0].name);
            let ring = Algorithm::Ring { points };
            let (before, after) = (ring.of(&members), ring.of(&rest));
            let shift = shift((&before, &members), (&after, &rest));
            prop_assert_eq!(shift.whole(), 1 << 64);
            prop_assert_eq!(shift.moved(), shift.least());
            let gone = shift.owned_before()[0].1 as f64 / shift.whole() as f64;
            let ids = (0..20_000_u32).filter(|id| before.owner(&id.to_le_bytes()) == Some(0)).count();
            prop_assert!((gone - ids as f64 / 20_000.0).abs() < 0.02, "{} {}", gone, ids);
            prop_assert_eq!(shift.moved(), shift.owned_before()[0].1);
        }
    }
}
