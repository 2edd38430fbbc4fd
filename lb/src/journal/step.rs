//! The steps of a fleet in the journal's file: what it began with, and each event that was applied to it. Where steps may be missing before
//! it, the fleet as it is then ([`What::Checkpoint`]).
//!
//! They stand between the entries, are numbered by themselves, and serve only to see again what happened (`lb replay`).

use std::time::Duration;

use fleet::{Beginning, Checkpoint, Event, Fleet, Input, Time};
use serde::{Deserialize, Serialize};

/// A step, as a line of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Its number. The beginning is 1, and the next one is one more: so a missing one is noticed.
    pub(crate) step: u64,
    /// The number of the newest entry before it. What follows from the step has later numbers.
    pub(crate) seq: u64,
    /// What the step was.
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What a step was.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// The fleet began with this.
    Began(Box<Beginning>),
    /// This was applied to it, so many nanoseconds after it began.
    Happened(u64, Box<Input>),
    /// The fleet is this one, after the steps before.
    Checkpoint(Box<Checkpoint>),
}

impl Step {
    pub(super) fn is_checkpoint(&self) -> bool {
        matches!(self.what, What::Checkpoint(_))
    }
}

impl What {
    /// This is the fleet now.
    pub(crate) fn checkpoint(fleet: &Fleet) -> Self {
        What::Checkpoint(Box::new(Checkpoint::of(fleet)))
    }

    /// This event was applied then.
    pub(crate) fn happened(now: Time, event: &Event) -> Self {
        What::Happened(nanoseconds(now), Box::new(Input::from(event)))
    }
}

/// The time of the fleet as it is written down: enough for five hundred years.
pub(crate) fn nanoseconds(time: Time) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The time of the fleet that was written down.
pub(crate) fn time(nanoseconds: u64) -> Time {
    Duration::from_nanos(nanoseconds)
}
