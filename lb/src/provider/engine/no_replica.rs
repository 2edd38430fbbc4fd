//! Why there is no replica, or no more: whose fault it is decides when the fleet tries again. It is the same for every engine.

use fleet::ReplicaId;

use super::call::Trouble;
use crate::provider::Report;

/// Why there is no replica, or no more; in words.
#[derive(Debug)]
pub(super) enum NoReplica {
    /// It has ended, or cannot be started.
    Lost(String),
    /// The engine is away or fails.
    Hindered(String),
}

impl NoReplica {
    /// What the fleet is told of it.
    pub(super) fn report(self, id: ReplicaId) -> Report {
        match self {
            NoReplica::Lost(reason) => Report::Lost(id, reason),
            NoReplica::Hindered(reason) => Report::Hindered(id, reason),
        }
    }
}

impl From<Trouble> for NoReplica {
    fn from(trouble: Trouble) -> Self {
        let is_the_engines = trouble.is_the_engines();
        let reason = trouble.to_string();
        if is_the_engines { NoReplica::Hindered(reason) } else { NoReplica::Lost(reason) }
    }
}
