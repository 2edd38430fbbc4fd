//! The record of a fleet: which `lb` holds it, and which replica has which slot. It is kept in the engine, beside the replicas,
//! so that the next `lb` finds both together.
//!
//! An engine keeps an entry of the record as labels. This module writes and reads them; it never calls an engine. Labels are
//! foreign bytes: anyone with access to the engine can set them, so an entry that makes no fleet is not read at all.

pub(super) mod seats;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use fleet::Seat;
use serde::{Deserialize, Serialize};

const NUMBER: &str = "lb.record";
const HOLDER: &str = "lb.holder";
const SINCE: &str = "lb.since";
/// The seats of a fleet ([`seats`]).
pub(super) const SEATS: &str = "lb.seats";

/// Labels as an engine keeps them: names and values.
pub(crate) type Labels = HashMap<String, String>;

/// One `lb` as the holder of a fleet. The smaller one is older, and takes precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Holder {
    /// When it began, in milliseconds since 1970, or later if it followed a holder with a fast clock.
    pub(super) since: u64,
    /// Distinguishes holders that began in the same millisecond. Never empty.
    nonce: String,
}

impl Holder {
    /// A holder that begins at `since`; `nonce` is a random number.
    pub(super) fn new(since: u64, nonce: u64) -> Self {
        Holder { since, nonce: format!("{nonce:016x}") }
    }
}

/// One entry of the record. The entry with the highest number is the valid one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) number: u64,
    /// `None` if the last holder has released the fleet.
    pub(super) holder: Option<Holder>,
    /// By slot index.
    pub(super) seats: Vec<Seat>,
}

impl Entry {
    /// Reads an entry from labels. `None` if they are not an entry, or if its seats make no fleet: their indices must grow, and
    /// no two seats may share a name.
    pub(super) fn read(labels: &Labels) -> Option<Self> {
        let label = |name| labels.get(name);
        let nonce = label(HOLDER).filter(|nonce| !nonce.is_empty()).cloned();
        let holder = match nonce {
            Some(nonce) => Some(Holder { since: label(SINCE)?.parse().ok()?, nonce }),
            None => None,
        };
        let number = label(NUMBER)?.parse().ok()?;
        let seats = seats::read(label(SEATS)?)?;
        is_fleet(&seats).then_some(Entry { number, holder, seats })
    }

    /// The labels of this entry.
    pub(super) fn labels(&self) -> Labels {
        let (nonce, since) =
            self.holder.clone().map_or_else(Default::default, |holder| (holder.nonce, holder.since));
        [
            (NUMBER, self.number.to_string()),
            (HOLDER, nonce),
            (SINCE, since.to_string()),
            (SEATS, seats::text(&self.seats)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// Reads labels as an entry and writes that entry again; `None` if they are not an entry. For the fuzz target `record`.
#[doc(hidden)]
#[must_use]
pub fn rewritten(labels: &Labels) -> Option<Labels> {
    Entry::read(labels).map(|entry| entry.labels())
}

/// The valid one of these entries.
pub(super) fn last(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().max_by_key(|entry| entry.number)
}

/// Whether a fleet can have these seats.
fn is_fleet(seats: &[Seat]) -> bool {
    let mut names = HashSet::new();
    let mut is_free = |seat: &Seat| {
        let is_one_name = seat.slot.name == seat.hostname;
        names.insert(seat.slot.name.clone()) && (is_one_name || names.insert(seat.hostname.clone()))
    };
    seats.is_sorted_by(|a, b| a.slot.index < b.slot.index) && seats.iter().all(&mut is_free)
}
