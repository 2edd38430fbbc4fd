//! Upgrade without a lost connection: a successor takes over the listening sockets, the journal and the fleet.
//!
//! ```text
//! old lb                                          successor
//! controller frozen ── start ([`launch`]) ──────► reads its configuration
//!    │ Begin, Sockets, Fleet, Entries, End ─────► binds what is new, starts its controller; its ports make a pause
//!    │ ◄──────────────────────────── Serving ──── every slot is in rotation that was; its ports are open
//! ports make a pause                                 │
//!    │ ◄──────────────────────────── Settled ──── ten seconds after its start, or when it is told to end or to upgrade
//! drains and ends
//! ```
//!
//! The sockets are the very same: connections in their queues are served by one of both. Until `Settled`, the old `lb` goes on as if
//! nothing had been if its successor fails. It never stops a replica that the successor has.

mod handing;
mod launch;
mod message;
mod predecessor;
mod successor;
mod wire;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::control::Upgrade;
use crate::journal::Journal;
use crate::provider::process::kindred::Bequest;
use crate::snapshot::Cell;

pub use launch::launch;
pub(crate) use message::Estate;
use predecessor::Probation;
pub use predecessor::{Predecessor, take};
pub(crate) use successor::{Ports, Upgrader};

/// How long a successor may take from its start until it serves.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How much longer than its drain a predecessor may take: it stands by first, and stops what is left in the end.
const PARTING: Duration = Duration::from_secs(40);
/// How long the end of an upgrade that is given up may take.
const END: Duration = Duration::from_secs(5);
/// How long its predecessor stands by, from the successor's start on.
const PROBATION: Duration = Duration::from_secs(10);

/// A process that may get a successor, and may have a predecessor.
pub(crate) struct Upgrading {
    heir: Arc<AtomicU32>,
    over: CancellationToken,
    probation: Arc<OnceLock<Arc<Probation>>>,
    task: AbortOnDropHandle<()>,
}

impl Upgrading {
    /// Ends it: a successor that does not serve yet is killed. The process that has taken over, if one has.
    pub(crate) async fn end(self) -> Option<u32> {
        self.over.cancel();
        // It fails if the task has panicked, or takes too long.
        let _ = timeout(END, self.task).await;
        Some(self.heir.load(Relaxed)).filter(|&pid| pid != 0)
    }

    /// This process is told to end, and its predecessor must not go on.
    pub(crate) fn settle(&self) {
        if let Some(probation) = self.probation.get() {
            probation.settle();
        }
    }
}

/// What the predecessor has left, if there is one: its fleet, whose replicas have to be of this `origin`, and its children. The journal goes
/// on behind its entries.
///
/// # Errors
/// The replicas are others. The predecessor has been told.
pub(crate) fn left_by(
    before: Option<&mut Predecessor>,
    origin: &str,
    journal: &Journal,
) -> anyhow::Result<(Option<Estate>, Bequest)> {
    let Some(before) = before else { return Ok((None, Bequest::default())) };
    before.estate.check(origin).inspect_err(|error| before.refuse(&error.to_string()))?;
    journal.go_on_after(&before.entries);
    Ok((Some(before.estate.clone()), std::mem::take(&mut before.bequest)))
}

/// What was assembled for the fleet of the predecessor, if there is one. It is told of an error.
///
/// # Errors
/// Those of `assembled`.
pub(crate) fn told<T>(before: Option<&Predecessor>, assembled: anyhow::Result<T>) -> anyhow::Result<T> {
    assembled.inspect_err(|error| before.into_iter().for_each(|before| before.refuse(&format!("{error:#}"))))
}

/// Opens the ports when all is taken over from a predecessor, if there is one, and carries upgrades out from then on.
pub(crate) fn begin(
    upgrader: Upgrader,
    predecessor: Option<Predecessor>,
    cell: Arc<Cell>,
    wishes: mpsc::Receiver<Upgrade>,
    signal: Arc<Notify>,
) -> Upgrading {
    let probation = Arc::new(OnceLock::new());
    let shown = Arc::clone(&probation);
    let (heir, kindred) = (Arc::clone(&upgrader.heir), Arc::clone(&upgrader.kindred));
    let over = upgrader.over.clone();
    let task = tokio::spawn(async move {
        let Some(before) = predecessor else { return upgrader.run(None, wishes, signal).await };
        if upgrader.over.run_until_cancelled(before.all_up(&cell)).await.is_none() {
            return;
        }
        upgrader.open();
        let probation = shown.get_or_init(|| before.serves(kindred));
        let passing = tokio::spawn(Arc::clone(probation).pass());
        upgrader.run(Some(probation), wishes, signal).await;
        passing.abort();
    });
    Upgrading { heir, over, probation, task: AbortOnDropHandle::new(task) }
}
