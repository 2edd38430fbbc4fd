//! Replicas killed one after the other under load, and their recovery.

use serde::{Deserialize, Serialize};

use super::Load;

/// Replicas killed one after the other under load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Drill {
    /// The planned number of kills.
    #[serde(default)]
    pub(crate) wanted: u64,
    /// The kills, in order.
    pub(crate) kills: Vec<Kill>,
    /// Requests over time.
    pub(crate) timeline: Timeline,
    /// Requests shortly before and after a kill, added up over all kills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) around: Option<Around>,
    /// The whole load.
    pub(crate) load: Load,
    /// Ids whose slot was looked up over the data port before the first kill and after the last recovery.
    pub(crate) mapping_asked: u64,
    /// How many of them were in another slot afterwards.
    pub(crate) mapping_moved: u64,
    /// Milliseconds between two answers of the control port (median): the resolution of the phases.
    pub(crate) resolution_ms: f64,
    /// A request counts as begun after a death only if it began this many milliseconds after it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) grace_ms: f64,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

/// One kill and its recovery. Phases are milliseconds after the replica was seen to be dead.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kill {
    /// When, in seconds on the timeline.
    pub(crate) at: f64,
    /// The slot's name.
    pub(crate) slot: String,
    /// The hostname of the replica that was killed.
    pub(crate) victim: String,
    /// The hostname of its replacement.
    pub(crate) heir: String,
    /// The control port no longer shows the victim as up.
    pub(crate) detected: Option<f64>,
    /// `explain` no longer picks the victim for an id of the slot.
    pub(crate) out: Option<f64>,
    /// The replacement has an address.
    pub(crate) started: Option<f64>,
    /// The slot is up again.
    pub(crate) ready: Option<f64>,
    /// `explain` picks the replacement for that id.
    pub(crate) back: Option<f64>,
    /// The task of the replacement runs, as its node in the Swarm says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) running: Option<f64>,
    /// The replacement gave its first answer to a client.
    pub(crate) answered: Option<f64>,
    /// Requests that were begun before the victim was dead, and failed.
    pub(crate) failed_before: u64,
    /// Requests that were begun after it was dead and before the next kill, and failed.
    pub(crate) failed_after: u64,
    /// Requests that were begun after it was dead and before the next kill.
    pub(crate) begun_after: u64,
}

/// Requests over time, by slot.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Timeline {
    /// Seconds for one entry of the series.
    pub(crate) bucket: f64,
    /// Right answers in each bucket by the time of the answer, for each slot, in order.
    pub(crate) slots: Vec<Series>,
    /// Failures in each bucket.
    pub(crate) failures: Vec<u64>,
}

/// Requests around a kill, added up over all kills; time is 0 when the replica was seen to be dead.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Around {
    /// Where the first bucket begins, in milliseconds: before the kill, so negative.
    pub(crate) from: f64,
    /// Milliseconds for one entry of the series.
    pub(crate) bucket: f64,
    /// Kills that were added up.
    pub(crate) kills: u64,
    /// Right answers of the slot whose replica was killed, by the time of the answer.
    pub(crate) slot: Vec<u64>,
    /// Right answers of all other slots.
    pub(crate) others: Vec<u64>,
    /// Failures.
    pub(crate) failures: Vec<u64>,
}

/// Counts over time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Series {
    /// The slot's name.
    pub(crate) name: String,
    /// One count for each bucket.
    pub(crate) counts: Vec<u64>,
}
