//! What everything that is followed shares: who asks, the rules, and the count of how questions ended.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use proto::control::Resolutions;
use tracing::warn;

use super::asker::Asker;
use super::known::{Answer, Rules};
use super::machine::Machine;
use crate::net::Throttle;

/// The most names that are asked for at once for one service.
pub(super) const AT_ONCE: usize = 16;

/// See the module's documentation.
pub(crate) struct Office {
    pub(super) asker: Asker,
    pub(super) rules: Rules,
    records: AtomicU64,
    nothing: AtomicU64,
    failed: AtomicU64,
    last_failure: Mutex<Option<String>>,
    complaints: Throttle,
}

impl Office {
    pub(super) fn new(machine: Machine, rules: Rules) -> Self {
        Office {
            asker: Asker::new(machine),
            rules,
            records: AtomicU64::new(0),
            nothing: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_failure: Mutex::default(),
            complaints: Throttle::default(),
        }
    }

    /// Counts how the question for a name ended, and logs that it brought no record, once a second at most.
    pub(super) fn note<T>(&self, name: &str, answer: &Answer<T>) {
        let count = match answer {
            Answer::Records(..) => &self.records,
            Answer::Nothing(_) => &self.nothing,
            Answer::Failed(_) => &self.failed,
        };
        count.fetch_add(1, Relaxed);
        let Some(why) = answer.reason() else { return };
        if let Some(times) = self.complaints.ask() {
            warn!(name, times, error = %why, "dns: no record, so what was known before stays in use");
        }
        if matches!(answer, Answer::Failed(_)) {
            *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(format!("{name}: {why}"));
        }
    }

    pub(super) fn resolutions(&self) -> Resolutions {
        Resolutions {
            records: self.records.load(Relaxed),
            nothing: self.nothing.load(Relaxed),
            failed: self.failed.load(Relaxed),
            last_failure: self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Office").field("rules", &self.rules).finish_non_exhaustive()
    }
}
