//! Incidents: each loss of a replica, until its slot is in rotation again.

use serde::{Deserialize, Serialize};

/// A loss of a replica, and what became of its slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// The name of the slot.
    pub slot: String,
    /// The hostname of the replica that was lost.
    pub hostname: String,
    /// When the first sign was seen: a connect or a probe that failed, or the end of the replica. RFC 3339, UTC.
    pub began: String,
    /// Why the replica left the rotation.
    pub cause: String,
    /// How long each phase took. Those that have not ended, or were not needed, are left out.
    pub phases: Phases,
    /// The hostname of the replica that is in rotation there now; left out until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
    /// How many replicas were started there meanwhile.
    pub starts: u32,
    /// Whether the slot was removed before it was in rotation again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// Connections that were open at the replica when it ended, or when they were reset because it was out of rotation.
    pub cut: u64,
    /// Clients that got no replica at all meanwhile, whatever slot was theirs.
    pub refused: u64,
    /// Attempts to connect to the replica that failed, since it was last well. Another replica was tried then.
    pub retried: u64,
}

/// The phases of an [`Incident`], in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phases {
    /// From the first sign until the replica was out of rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<f64>,
    /// From then until the replica that is in rotation now was running. Left out if none was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<f64>,
    /// From then until the slot was in rotation again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<f64>,
    /// From the first sign until the slot was in rotation again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
}
