//! The record of a fleet: who holds it, and what its slots are. It is kept in the engine, where the fleet is, so that the
//! next `lb` finds both together.
//!
//! The engine has no place for notes that can be changed, so an entry is an empty *volume* with the text in its labels,
//! and a later entry is another one with a higher number. To make a volume whose name is taken gives the one that is
//! there: whoever gets back what it asked for has written the entry, and whoever looks again sees whether it is the last one.
//!
//! That makes it a claim as well. The holder of a fleet answers every entry that is not its own with one of its own. Who finds
//! a holder (or containers, and no record) writes the next entry in its own name, and waits a moment: if it stays the last
//! one, the holder is dead. If two hold it in spite of that (the first was asleep), the older one goes on and the other
//! ends.

mod entry;
mod writer;

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

pub(super) use entry::is_entry;
use entry::{Entry, Holder, name};
pub(super) use writer::{Pen, Writer};

use super::api::{Engine, Trouble};
use super::container::fleet_label;
use crate::fleet::Seat;

/// How long a holder has to answer: long enough for one that hears no events.
const CHALLENGE: Duration = Duration::from_millis(1500);
/// The pause between two looks for its answer.
const LOOK: Duration = Duration::from_millis(50);

/// Why a fleet cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("fleet {0} is held by another lb that runs; stop it, or choose another --fleet")]
    Held(String),
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// What is left of a fleet in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remains {
    /// No container: a record is about nothing then.
    Nothing,
    /// Containers, none of which runs.
    Dead,
    /// Containers that run.
    Alive,
}

/// Takes hold of a fleet of which there are these `remains`; `beginning` is who sits where if no record says it.
///
/// # Errors
/// Another `lb` holds it, or the engine fails.
pub(super) async fn claim(
    engine: Engine,
    fleet: String,
    beginning: Vec<Seat>,
    remains: Remains,
) -> Result<Record, Refusal> {
    let mut record =
        Record { engine, fleet, holder: Holder::new(), number: 0, seats: beginning, is_new: true };
    let mut is_contested = remains == Remains::Alive;
    if let Some(last) = record.last().await? {
        is_contested = last.holder.is_some();
        // Whatever the clocks say, that one was there first.
        let earlier = last.holder.map_or(0, |holder| holder.since.saturating_add(1));
        record.holder.since = record.holder.since.max(earlier);
        (record.number, record.is_new) = (last.number, remains == Remains::Nothing);
        if remains != Remains::Nothing {
            record.seats = last.seats;
        }
    }
    record.append(Some(record.holder.clone()), record.seats.clone()).await?;
    let is_answered = record.is_answered(if is_contested { CHALLENGE } else { Duration::ZERO }).await;
    if !matches!(is_answered, Ok(false)) {
        record.take_back().await;
    }
    if is_answered? {
        return Err(Refusal::Held(record.fleet));
    }
    if is_contested {
        info!(fleet = record.fleet, "the lb that held this fleet is gone: it is taken over");
    }
    record.tidy().await;
    Ok(record)
}

/// What becomes of a record in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing is left of the fleet.
    Erase,
    /// The next holder finds the fleet as it is.
    Release,
}

/// The record of a fleet that is held by this program.
#[derive(Debug)]
pub(super) struct Record {
    engine: Engine,
    fleet: String,
    holder: Holder,
    /// Of the last entry that is known.
    number: u64,
    /// What the last own entry says.
    seats: Vec<Seat>,
    /// Whether there was none before, or one about nothing.
    is_new: bool,
}

impl Record {
    /// Who sits where.
    pub(super) fn seats(&self) -> &[Seat] {
        &self.seats
    }

    async fn entries(&self) -> Result<Vec<Entry>, Trouble> {
        let volumes = self.engine.volumes(&fleet_label(&self.fleet)).await?;
        Ok(volumes.iter().filter_map(Entry::read).collect())
    }

    async fn last(&self) -> Result<Option<Entry>, Trouble> {
        Ok(self.entries().await?.into_iter().max_by_key(|entry| entry.number))
    }

    /// Whether there was no record of anything before this program began one.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether somebody answers the own entry in time. What decides is a look that began when the time was over.
    async fn is_answered(&self, time: Duration) -> Result<bool, Trouble> {
        let deadline = Instant::now() + time;
        loop {
            let is_over = Instant::now() >= deadline;
            let is_mine = self.last().await?.is_some_and(|last| last.holder.as_ref() == Some(&self.holder));
            if is_over || !is_mine {
                return Ok(!is_mine);
            }
            sleep(LOOK).await;
        }
    }

    /// Writes the next entry, and removes those before it.
    async fn write(&mut self, seats: Vec<Seat>) -> Result<(), Refusal> {
        self.append(Some(self.holder.clone()), seats).await?;
        self.tidy().await;
        Ok(())
    }

    /// Removes the entries before the last one. Those that stay are passed over.
    async fn tidy(&self) {
        for old in self.entries().await.unwrap_or_default().iter().filter(|old| old.number < self.number) {
            let _ = self.engine.remove_volume(&name(&self.fleet, old.number)).await;
        }
    }

    async fn append(&mut self, holder: Option<Holder>, seats: Vec<Seat>) -> Result<(), Refusal> {
        let entry = Entry { number: self.number + 1, holder, seats };
        let volume = self.engine.create_volume(entry.volume(&self.fleet)).await?;
        self.number = entry.number;
        if Entry::read(&volume).as_ref() != Some(&entry) {
            return Err(Refusal::Held(self.fleet.clone()));
        }
        self.seats = entry.seats;
        Ok(())
    }

    /// Removes the own entry.
    async fn take_back(&self) {
        // It is not the last one any more, so it does no harm.
        let _ = self.engine.remove_volume(&name(&self.fleet, self.number)).await;
    }

    /// Looks whether the last entry is still the own one and says who sits where, and answers it if it does not.
    async fn defend(&mut self, seats: Vec<Seat>) -> Result<(), Refusal> {
        loop {
            match self.last().await? {
                Some(last) if last.holder.as_ref() == Some(&self.holder) && last.seats == seats => {
                    return Ok(());
                }
                Some(Entry { holder: Some(other), .. }) if other < self.holder => {
                    return Err(Refusal::Held(self.fleet.clone()));
                }
                Some(last) if last.holder.as_ref() == Some(&self.holder) => {
                    self.number = self.number.max(last.number);
                }
                Some(other) => {
                    info!(
                        fleet = self.fleet,
                        "somebody else has written into the record of the fleet, and is answered"
                    );
                    self.number = self.number.max(other.number);
                }
                None => warn!(
                    fleet = self.fleet,
                    "somebody has removed the record of the fleet: it is written again"
                ),
            }
            match self.write(seats.clone()).await {
                // Somebody else was faster with this number. Whether that one goes first shows now.
                Err(Refusal::Held(_)) => {}
                written => return written,
            }
        }
    }

    /// Removes every entry: there is nothing left that it could be about.
    async fn erase(&self) -> Result<(), Trouble> {
        // A later one is somebody's who waits for an answer, and gets none.
        for entry in self.entries().await?.iter().filter(|entry| entry.number <= self.number) {
            self.engine.remove_volume(&name(&self.fleet, entry.number)).await?;
        }
        Ok(())
    }

    /// Leaves it to the next holder.
    async fn release(&mut self) -> Result<(), Refusal> {
        self.append(None, self.seats.clone()).await?;
        self.tidy().await;
        Ok(())
    }

    /// Puts the record away.
    pub(super) async fn conclude(mut self, fate: Fate) {
        let concluded = match fate {
            Fate::Erase => self.erase().await.map_err(Refusal::from),
            Fate::Release => self.release().await,
        };
        if let Err(refusal) = concluded {
            warn!("the record of the fleet cannot be put away: {refusal}");
        }
    }
}
