//! Which keys move when one mapping replaces another, computed in advance.
//!
//! For two rings the result is exact over all 2^64 positions, arc by arc; for two tables of `maglev`, over all entries.
//! `rendezvous` has no positions, but every draw of a score is equally likely to be the highest: the result is the exact
//! expectation. Between different mappings, and for `slots`, whose formulas send keys to few entries, the owners of all
//! six-digit ids (the request ids of the classic assignment) are compared; of a sample of them where an owner takes many
//! hashes to find.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::maglev::Maglev;
use crate::mapping::Mapping;
use crate::member::{Member, total_weight};
use crate::ring::Ring;

/// The first six-digit id.
const FIRST_ID: u32 = 100_000;
/// How many six-digit ids there are.
const IDS: u32 = 900_000;
/// The most hashes that are computed to find owners of ids: a fifth of a second.
const HASHES: u64 = 16_000_000;

/// A mapping with its members, before or after a change.
///
/// ```
/// use mapping::{Algorithm, Mapping, Shift, Side};
///
/// let mapping = Mapping::build(&Algorithm::Maglev.into(), &[])?;
/// let side = Side { mapping: &mapping, members: &[] };
/// assert_eq!(Shift::between(side, side).moved(), 0);
/// # Ok::<(), mapping::Full>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The mapping.
    pub mapping: &'a Mapping,
    /// The members that it was built from.
    pub members: &'a [Member],
}

/// The keys that a [`Shift`] compares.
///
/// ```
/// use mapping::{Algorithm, Keys, Mapping, Shift, Side};
///
/// let mapping = Mapping::build(&Algorithm::Ring { points: 8 }.into(), &[])?;
/// let side = Side { mapping: &mapping, members: &[] };
/// let shift = Shift::between(side, side);
/// assert_eq!((shift.keys, shift.whole()), (Keys::Positions, 1 << 64));
/// # Ok::<(), mapping::Full>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Every position of a ring.
    Positions,
    /// Every entry of a table.
    Entries(u32),
    /// All possible keys, in expectation.
    Expected,
    /// Every six-digit id.
    AllIds,
    /// A sample of this many six-digit ids, at equal distances.
    SomeIds(u32),
}

/// Keys that have the same owner before and the same owner after. `None` means that no member owns them.
///
/// ```
/// let member = mapping::Member { index: 1, name: "server1".to_owned(), weight: 1 };
/// let lost = mapping::Transfer { from: Some(&member), to: None, keys: 24 };
/// assert!(lost.is_move());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer<'a> {
    /// The owner before.
    pub from: Option<&'a Member>,
    /// The owner after.
    pub to: Option<&'a Member>,
    /// How many keys they are.
    pub keys: u128,
}

impl Transfer<'_> {
    /// Whether the two owners differ.
    #[must_use]
    pub fn is_move(&self) -> bool {
        self.from.map(|member| &member.name) != self.to.map(|member| &member.name)
    }
}

/// What moves from one mapping to another.
///
/// ```
/// use mapping::{Algorithm, Keys, Mapping, Member, Shift, Side};
///
/// let members = [1, 2].map(|index| Member { index, name: format!("server{index}"), weight: 1 });
/// let scheme = Algorithm::Rendezvous.into();
/// let (both, first) = (Mapping::build(&scheme, &members)?, Mapping::build(&scheme, &members[..1])?);
/// let before = Side { mapping: &both, members: &members };
/// let shift = Shift::between(before, Side { mapping: &first, members: &members[..1] });
/// assert_eq!((shift.keys, 2 * shift.moved()), (Keys::Expected, shift.whole()));
/// let transfer = shift.transfers().find(|transfer| transfer.is_move()).unwrap();
/// assert_eq!((transfer.from, transfer.to), (Some(&members[1]), Some(&members[0])));
/// # Ok::<(), mapping::Full>(())
/// ```
#[derive(Clone, Debug)]
pub struct Shift<'a> {
    /// The keys that were compared.
    pub keys: Keys,
    before: &'a [Member],
    after: &'a [Member],
    /// The number of keys of each pair of owners; a row for each owner before. The last row and column are for no owner.
    counts: Vec<u128>,
}

impl<'a> Shift<'a> {
    /// Compares two mappings. This may take some tenths of a second.
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
            (Mapping::Rendezvous(one), Mapping::Rendezvous(other)) if one.seed() == other.seed() => {
                shift.add_draws()
            }
            (one, other) => shift.add_ids(one, other),
        };
        shift
    }

    /// The number of compared keys.
    #[must_use]
    pub fn whole(&self) -> u128 {
        self.counts.iter().sum()
    }

    /// The keys of every pair of owners that has any, those that stay included.
    pub fn transfers(&self) -> impl Iterator<Item = Transfer<'a>> {
        let columns = self.after.len() + 1;
        let (before, after) = (self.before, self.after);
        self.counts.iter().enumerate().filter(|(_, keys)| **keys > 0).map(move |(at, &keys)| Transfer {
            from: before.get(at / columns),
            to: after.get(at % columns),
            keys,
        })
    }

    /// How many keys get another owner.
    #[must_use]
    pub fn moved(&self) -> u128 {
        self.transfers().filter(Transfer::is_move).map(|transfer| transfer.keys).sum()
    }

    /// The smallest number of keys that could move between the same shares before and after: the sum of what members gain.
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

    /// A key belongs to the member with the highest of all draws, and each draw is equally likely to be that. Of the draws of both
    /// mappings together: one that both have decides before and after; one that is only in the first decided before, and
    /// then any of the second does; and the other way round.
    fn add_draws(&mut self) -> Keys {
        let (before, after) = (stakes(self.before), stakes(self.after));
        let sum = |stakes: &[Stake]| stakes.iter().map(|stake| stake.weight).sum::<u128>();
        let (all_before, all_after) = (sum(&before), sum(&after));
        let weights = |stakes: &[Stake<'a>]| -> HashMap<Option<&'a str>, u128> {
            stakes.iter().map(|stake| (stake.name, stake.weight)).collect()
        };
        let (was, will_be) = (weights(&before), weights(&after));
        for from in &before {
            let lost = from.weight.saturating_sub(will_be.get(&from.name).copied().unwrap_or(0));
            for to in &after {
                let gained = to.weight.saturating_sub(was.get(&to.name).copied().unwrap_or(0));
                let kept = if from.name == to.name { from.weight.min(to.weight) } else { 0 };
                let keys = kept * all_before * all_after
                    + lost * to.weight * all_before
                    + gained * from.weight * all_after;
                self.add(from.ordinal, to.ordinal, keys);
            }
        }
        Keys::Expected
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

/// A member's part of all draws.
struct Stake<'a> {
    ordinal: Option<usize>,
    name: Option<&'a str>,
    weight: u128,
}

/// The stakes of all members. If none has a weight, a stake without a member owns all keys.
fn stakes(members: &[Member]) -> Vec<Stake<'_>> {
    let mut stakes: Vec<Stake> = members
        .iter()
        .enumerate()
        .map(|(ordinal, member)| Stake {
            ordinal: Some(ordinal),
            name: Some(&member.name),
            weight: member.weight.into(),
        })
        .collect();
    if total_weight(members) == 0 {
        stakes.push(Stake { ordinal: None, name: None, weight: 1 });
    }
    stakes
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
