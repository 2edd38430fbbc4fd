//! Connections that are not served: counted by reason, and logged once a second at most for each reason.
//!
//! The data plane counts, and the control plane shows the totals. Nothing here refuses a connection.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proto::control::Refused;
use tracing::{info, warn};

use crate::net::Tally;

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No replica can be had.
    NoReplica,
    /// All places are taken. The connection waits, and is served later.
    MaxConnections,
    /// Its source has as many connections as it may.
    PerSource,
    /// Its source makes connections faster than it may.
    Rate,
    /// Its address is not let in.
    Denied,
    /// The client left before its first line was complete.
    LeftEarly,
}

impl Reason {
    /// How many reasons there are.
    const COUNT: usize = 6;

    /// Logs how many connections were not served in the last second. (The others are logged where they happen.)
    fn report(self) -> Option<fn(u64)> {
        match self {
            Reason::NoReplica => {
                Some(|clients| warn!(clients, "no replica is available: clients were turned away"))
            }
            Reason::PerSource => {
                Some(|connections| warn!(connections, "reset: over --max-connections-per-source"))
            }
            Reason::Rate => Some(|connections| warn!(connections, "reset: over --rate-per-source")),
            Reason::Denied => Some(|connections| info!(connections, "reset: refused by --deny or --allow")),
            Reason::MaxConnections | Reason::LeftEarly => None,
        }
    }
}

/// The connections that were not served since `lb` started.
#[derive(Debug, Default)]
pub(crate) struct Refusals([Count; Reason::COUNT]);

#[derive(Debug, Default)]
struct Count {
    total: AtomicU64,
    tally: Tally,
}

impl Refusals {
    /// Counts a connection. Call it on a runtime.
    pub(crate) fn count(&self, reason: Reason) {
        let count = &self.0[reason as usize];
        count.total.fetch_add(1, Relaxed);
        if let Some(report) = reason.report() {
            count.tally.count(report);
        }
    }

    /// The totals.
    #[must_use]
    pub(crate) fn totals(&self) -> Refused {
        let total = |reason: Reason| self.0[reason as usize].total.load(Relaxed);
        Refused {
            no_replica: total(Reason::NoReplica),
            max_connections: total(Reason::MaxConnections),
            per_source: total(Reason::PerSource),
            rate: total(Reason::Rate),
            denied: total(Reason::Denied),
            left_early: total(Reason::LeftEarly),
        }
    }
}
