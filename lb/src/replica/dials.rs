//! How attempts to connect to a replica went, counted. Nothing here connects.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proto::control::FailedConnects;

/// How an attempt to connect to a replica went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialled {
    /// There is a connection.
    Ok,
    /// The replica refused.
    Refused,
    /// It did not answer in time.
    Timeout,
    /// It failed for a reason of this machine.
    Local,
    /// It failed in any other way.
    Other,
}

/// How many attempts went how.
#[derive(Debug, Default)]
pub(super) struct Dials([AtomicU64; 5]);

impl Dials {
    /// Counts an attempt.
    pub(super) fn count(&self, how: Dialled) {
        self.0[how as usize].fetch_add(1, Relaxed);
    }

    /// Those that failed.
    pub(super) fn failed(&self) -> FailedConnects {
        let [refused, timeout, local, other] =
            [Dialled::Refused, Dialled::Timeout, Dialled::Local, Dialled::Other].map(|how| self.of(how));
        FailedConnects { refused, timeout, local, other }
    }

    pub(super) fn of(&self, how: Dialled) -> u64 {
        self.0[how as usize].load(Relaxed)
    }
}
