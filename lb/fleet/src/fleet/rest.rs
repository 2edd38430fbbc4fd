//! What is left of a revision to be done when its new replicas are ready.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::control::{FixedBackend, Hostname, Remapping, Weight};
use serde::{Deserialize, Serialize};

use crate::room::Room;

/// What a revision does when its new replicas are ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Rest {
    /// The names of the slots that leave.
    pub(super) gone: BTreeSet<Hostname>,
    /// The names of the slots that get another replica.
    pub(super) replaced: BTreeSet<Hostname>,
    pub(super) drain: Duration,
    pub(super) remap: Remapping,
    /// The new weights, by slot name.
    pub(super) weights: BTreeMap<Hostname, Weight>,
    pub(super) backends: Option<Vec<FixedBackend>>,
    /// The room that was found last for the roster in the end.
    pub(super) room: Option<Room>,
}
