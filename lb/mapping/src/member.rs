//! The members of a mapping.

/// The most members that a fleet may have. No mapping needs the limit; builds and moves are quick enough up to here.
pub const MOST_SLOTS: usize = 1000;

/// A member of a mapping: it owns a share of the keys. Indices and names are unique among the members.
///
/// ```
/// let member = mapping::Member { index: 1, name: "server1".to_owned(), weight: 2 };
/// assert_eq!(member.weight, 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number, from 1 on; the mapping `slots` hashes it.
    pub index: u32,
    /// Its stable name; the other mappings hash it.
    pub name: String,
    /// Its share of the keys in relation to the others: 2 is twice as much as 1. A member of weight 0 owns no key.
    pub weight: u32,
}

/// How many members there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// All of them; every ordinal is below this.
    pub(crate) members: usize,
    /// Those that own keys.
    pub(crate) present: usize,
}

impl Count {
    pub(crate) fn of(members: &[Member]) -> Self {
        Self { members: members.len(), present: members.iter().filter(|member| member.weight > 0).count() }
    }
}

/// The sum of all weights.
pub(crate) fn total_weight(members: &[Member]) -> u64 {
    members.iter().map(|member| u64::from(member.weight)).sum()
}
