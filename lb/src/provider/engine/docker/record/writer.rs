//! Who keeps the record up to date, and looks that nobody else does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

use super::{Record, Refusal};
use crate::fleet::Seat;

/// How often a holder looks whether somebody wants its fleet; the engine's events tell it sooner.
const WATCH: Duration = Duration::from_millis(500);
/// The pause before an entry that could not be written is written again.
const RETRY: Duration = Duration::from_millis(500);
/// How long anybody waits for an entry to be written.
const WRITTEN: Duration = Duration::from_secs(3);

/// What has to be written, and a number that says which of two is later.
type Draft = (u64, Vec<Seat>);

/// The one who tells the writer.
#[derive(Debug)]
pub(in crate::provider::engine::docker) struct Pen {
    draft: watch::Sender<Draft>,
    written: watch::Receiver<u64>,
}

impl Pen {
    /// Has it written who sits where.
    pub(in crate::provider::engine::docker) fn write(&self, seats: Vec<Seat>) {
        self.draft.send_if_modified(|(number, last)| {
            let is_new = *last != seats;
            if is_new {
                (*number, *last) = (*number + 1, seats);
            }
            is_new
        });
    }

    /// Completes when what was to be written is written, or it has taken too long.
    pub(in crate::provider::engine::docker) fn written(&self) -> impl Future<Output = ()> + Send + use<> {
        let (wanted, mut written) = (self.draft.borrow().0, self.written.clone());
        async move {
            let is_written = timeout(WRITTEN, written.wait_for(|&number| number >= wanted)).await;
            if !matches!(is_written, Ok(Ok(_))) {
                warn!(
                    "the record of the fleet is not written yet: if lb is killed now, the next one finds the slots as they were"
                );
            }
        }
    }
}

/// Keeps the record up to date.
pub(in crate::provider::engine::docker) struct Writer {
    record: Record,
    draft: watch::Receiver<Draft>,
    written: watch::Sender<u64>,
    /// Whether the fleet is still ours.
    held: watch::Sender<bool>,
}

impl Writer {
    /// A writer, who tells it, and where it says whether the fleet is still ours.
    pub(in crate::provider::engine::docker) fn new(record: Record) -> (Self, Pen, watch::Receiver<bool>) {
        let seats = record.seats.clone();
        let (draft, drafts) = watch::channel((0, seats));
        let (written, seen) = watch::channel(0);
        let (held, is_held) = watch::channel(true);
        (Writer { record, draft: drafts, written, held }, Pen { draft, written: seen }, is_held)
    }

    /// Writes what it is told, and looks after the record now and then and whenever there are `doubts`, until nobody tells
    /// it anything any more; the record then.
    pub(in crate::provider::engine::docker) async fn run(mut self, doubts: Arc<Notify>) -> Record {
        let mut is_failing = false;
        loop {
            let done = tokio::select! {
                // What is to be written first: a look would find it missing.
                biased;
                changed = self.draft.changed() => match changed {
                    Ok(()) => self.write().await,
                    Err(_) => return self.record,
                },
                () = doubts.notified() => self.defend().await,
                () = sleep(WATCH) => self.defend().await,
            };
            match done {
                Ok(()) => is_failing = false,
                Err(Refusal::Held(_)) => {
                    error!(fleet = self.record.fleet, "another lb holds this fleet: this one gives way");
                    self.held.send_replace(false);
                    return self.record;
                }
                Err(Refusal::Trouble(trouble)) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!("the record of the fleet cannot be written for now: {trouble}");
                    }
                    if self.draft.has_changed().is_err() {
                        return self.record;
                    }
                    self.draft.mark_changed();
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn write(&mut self) -> Result<(), Refusal> {
        let (number, seats) = self.draft.borrow_and_update().clone();
        match self.record.write(seats.clone()).await {
            // The number was taken by a challenger in the meantime, who has to be answered.
            Err(Refusal::Held(_)) => self.record.defend(seats).await?,
            written => written?,
        }
        self.written.send_replace(number);
        Ok(())
    }

    async fn defend(&mut self) -> Result<(), Refusal> {
        let seats = self.draft.borrow().1.clone();
        self.record.defend(seats).await
    }
}
