//! The refusal of more members than a mapping has room for.

use crate::probing::Probing;

/// The most points of a ring. With so many it has 70 MB, and a build takes some tenths of a second.
pub(crate) const LONGEST_RING: u64 = 1 << 22;

/// A mapping has no room for these members with these weights.
///
/// ```
/// use mapping::{Algorithm, Mapping, MappingName, Member};
///
/// let members: Vec<Member> =
///     (1..=57).map(|index| Member { index, name: format!("server{index}"), weight: 1 }).collect();
/// let full = Mapping::build(&Algorithm::named(MappingName::Slots).into(), &members).unwrap_err();
/// assert_eq!(
///     full.to_string(),
///     "57 servers of 9 virtual servers each do not fit into 512 entries (linear probing)"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The table of `slots` is too small, or quadratic probing found no free entry in it.
    #[error(
        "{members} servers of {virtuals} virtual servers each{} do not fit into {entries} entries ({probing} probing)",
        weighted(*.members, *.weight)
    )]
    Slots {
        /// How many members there are.
        members: usize,
        /// The sum of their weights.
        weight: u64,
        /// The entries of a member of weight 1, K.
        virtuals: u32,
        /// The size of the table, M.
        entries: u32,
        /// The probing after a collision.
        probing: Probing,
    },
    /// The ring would be too long.
    #[error(
        "{positions} positions are more than a ring can have, {LONGEST_RING}: expected fewer points, or smaller weights"
    )]
    Ring {
        /// How many positions it would have.
        positions: u64,
    },
}

/// Mentions the weights if there are any.
fn weighted(members: usize, weight: u64) -> String {
    if weight == members as u64 {
        String::new()
    } else {
        format!(" (for each unit of weight; there are {weight})")
    }
}
