//! How reads of a file that is watched have ended.

use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::control::FileReads;

/// How reads have ended; nothing, until a file is watched.
#[derive(Debug, Default)]
pub(crate) struct Reads(Mutex<Option<FileReads>>);

impl Reads {
    /// A file is watched from now on.
    pub(crate) fn begin(&self) {
        self.held().get_or_insert_default();
    }

    /// What the file says was made.
    pub(crate) fn applied(&self) {
        self.held().get_or_insert_default().applied += 1;
        self.recovered();
    }

    /// What the file says is what was made before.
    pub(crate) fn recovered(&self) {
        if let Some(reads) = &mut *self.held() {
            reads.last_refusal = None;
        }
    }

    /// What the file says was not made. Returns whether the reason is another one than at the last read.
    pub(crate) fn refused(&self, reason: &str) -> bool {
        let mut held = self.held();
        let reads = held.get_or_insert_default();
        reads.refused += 1;
        let is_news = reads.last_refusal.as_deref() != Some(reason);
        reads.last_refusal = Some(reason.to_owned());
        is_news
    }

    /// How all reads have ended, if a file is watched.
    pub(crate) fn totals(&self) -> Option<FileReads> {
        self.held().clone()
    }

    fn held(&self) -> MutexGuard<'_, Option<FileReads>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
