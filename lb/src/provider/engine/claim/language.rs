//! What a [claim](super) and its driver tell each other. These are values; nothing here decides.

use std::time::Duration;

use fleet::Seat;
use serde::{Deserialize, Serialize};

use crate::provider::engine::record::{Entry, Holder};

/// What a new `lb` finds of a fleet in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider::engine) enum Remains {
    /// No replica: the seats of a record, if there is one, are out of date.
    Nothing,
    /// Only replicas that do not run.
    Dead,
    /// Replicas that run.
    Alive,
}

/// What happens to the record when its holder ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider::engine) enum Fate {
    /// It is removed: nothing is left of the fleet.
    Erase,
    /// It stays without a holder, for the next `lb`.
    Release,
}

/// What the record has to say, as told by the holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::provider::engine) struct Orders {
    /// Grows with every change.
    pub(in crate::provider::engine) version: u64,
    /// The seats that the record has to hold.
    pub(in crate::provider::engine) seats: Vec<Seat>,
    /// Set when the holder ends.
    pub(in crate::provider::engine) fate: Option<Fate>,
}

/// What has happened.
#[derive(Clone, Debug)]
pub(in crate::provider::engine) enum Event {
    /// The answer to [`Call::Look`]: all readable entries, in any order.
    Seen(Vec<Entry>),
    /// The answer to [`Call::Append`]: the entry that has the number now. `None` if it cannot be read.
    Appended(Option<Entry>),
    /// The answer to [`Call::Remove`]: there is no such entry any more.
    Removed,
    /// The answer to [`Call::Pause`].
    Paused,
    /// Any call failed, with the reason. The engine may carry it out all the same, now or later.
    Failed(String),
    /// The answer to [`Action::Rest`] or [`Action::Retry`]: there are orders.
    Told(Orders),
    /// The answer to [`Action::Rest`]: the time is over, or the engine tells of a change of the record.
    Doubt,
}

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::provider::engine) enum Action {
    /// Make this call, and come back with the answer or with [`Event::Failed`].
    Do(Call),
    /// The fleet is held and the record is up to date. Wait for orders or doubts, at most for this time.
    Rest(Duration),
    /// The fleet is held, but the record cannot be written for this reason. Wait for this time, or until the orders set a
    /// fate, and come back with the orders.
    Retry(Duration, String),
    /// It is over. No further event is expected.
    End(End),
}

/// A call that has one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::provider::engine) enum Call {
    /// List the entries of the fleet.
    Look,
    /// Create this entry, unless there is one with its number.
    Append(Why, Entry),
    /// Remove the entry with this number.
    Remove(u64),
    /// Wait for this time.
    Pause(Duration),
}

/// Why an entry is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider::engine) enum Why {
    /// To take hold of the fleet.
    Claim,
    /// The seats have changed.
    Change,
    /// Another `lb` has written an entry.
    Answer,
    /// The record is gone.
    Restore,
    /// To let the fleet go.
    Release,
}

/// How a claim ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::provider::engine) enum End {
    /// Another `lb` holds the fleet: nothing of it may be touched.
    Held,
    /// The record is removed or released.
    Concluded,
    /// The fleet cannot be claimed, or its record cannot be removed or released, for this reason.
    Failed(String),
}

/// What the successor of a program needs to hold a fleet in its place, under its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tenure {
    pub(super) holder: Holder,
    /// The highest number that is known to be taken.
    pub(super) number: u64,
}
