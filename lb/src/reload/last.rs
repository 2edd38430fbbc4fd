//! What was loaded last, and who has it: one reload or one look at a time, and the file of backends while none of them wants it.

use tokio::sync::{Mutex, MutexGuard, watch};

use crate::config::Applied;

/// What was loaded last.
#[derive(Debug)]
pub(super) struct Last {
    applied: Mutex<Applied>,
    turn: Mutex<()>,
    /// Whether the one that has the turn waits for it.
    claimed: watch::Sender<bool>,
}

/// The turn of a reload, or of a look at what was loaded last.
#[derive(Debug)]
pub(super) struct Turn<'a>(#[expect(dead_code, reason = "it is held")] MutexGuard<'a, ()>);

impl Last {
    pub(super) fn new(applied: Applied) -> Self {
        Last { applied: Mutex::new(applied), turn: Mutex::default(), claimed: watch::Sender::new(false) }
    }

    /// The turn, if it is nothing else's; `None` else.
    pub(super) fn turn_if_free(&self) -> Option<Turn<'_>> {
        self.turn.try_lock().ok().map(Turn)
    }

    /// Waits for the turn.
    pub(super) async fn turn(&self) -> Turn<'_> {
        Turn(self.turn.lock().await)
    }

    /// What was loaded last, for the one that has the turn. The file of backends gives way; a change of it that cannot be undone any more
    /// is published first.
    pub(super) async fn claim(&self, _turn: &Turn<'_>) -> MutexGuard<'_, Applied> {
        self.claimed.send_replace(true);
        let applied = self.applied.lock().await;
        self.claimed.send_replace(false);
        applied
    }

    /// What was loaded last, for the file of backends, which has to give it back when it is [claimed](Self::claimed).
    pub(super) async fn borrow(&self) -> MutexGuard<'_, Applied> {
        self.wait_until_claimed_is(false).await;
        self.applied.lock().await
    }

    /// Waits until it is claimed.
    pub(super) async fn claimed(&self) {
        self.wait_until_claimed_is(true).await;
    }

    async fn wait_until_claimed_is(&self, wanted: bool) {
        // Its sender is this.
        let _ = self.claimed.subscribe().wait_for(|is_claimed| *is_claimed == wanted).await;
    }
}
