//! Whether a replica is suspect, because a connect or a probe has failed, and since when.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// While a replica is suspect, each session checks its connection before it forwards a byte.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    is_suspect: AtomicBool,
    since: Mutex<Option<Instant>>,
}

impl Suspicion {
    /// A connect or a probe has failed.
    pub(crate) fn raise(&self) {
        if !self.is_suspect.swap(true, Relaxed) {
            self.set_since(Some(Instant::now()));
        }
    }

    /// A probe has passed, or a connection that was checked.
    pub(crate) fn clear(&self) {
        if self.is_suspect.swap(false, Relaxed) {
            self.set_since(None);
        }
    }

    #[must_use]
    pub(crate) fn is_raised(&self) -> bool {
        self.is_suspect.load(Relaxed)
    }

    /// When the first connect or probe of this suspicion failed; `None` if there is none.
    #[must_use]
    pub(crate) fn since(&self) -> Option<Instant> {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_since(&self, since: Option<Instant>) {
        // No code panics while it holds the lock.
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}
