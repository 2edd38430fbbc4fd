//! A revision: several changes of a fleet in one step.

use proto::control::{Addition, FixedBackend, Newcomer, Remapping, Removal};
use serde::{Deserialize, Serialize};

/// Several changes of a fleet in one step: all of them, or none.
///
/// New replicas are started first. When all of them are ready, one roster makes the whole change; until then the fleet is as it was.
/// It is refused as its parts would be; where slots come from outside, only the mapping and weights can change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Slots to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<Addition>,
    /// Slots to leave, at the moment when the new ones enter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove: Option<Removal>,
    /// Slots, by name or hostname, that get another replica: index and name of the slot stay, and so do its keys. The old replica serves
    /// until all new ones are ready, and drains then. A server that runs already is named with the address to which its slot moves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replace: Vec<Newcomer>,
    /// Another mapping, and other weights of slots that are there.
    #[serde(default)]
    pub remap: Remapping,
    /// The servers that are known by name from then on; `add` may name them already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backends: Option<Vec<FixedBackend>>,
}
