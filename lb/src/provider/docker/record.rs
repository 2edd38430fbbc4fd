//! The record of a fleet: who holds it, and what its slots are. It is kept in the engine, where the fleet is, so that the
//! next `lb` finds both together.
//!
//! The engine has no place for notes that can be changed, so an entry is an empty *volume* with the text in its labels,
//! and a later entry is another one with a higher number. To make a volume whose name is taken gives the one that is
//! there: whoever gets back what it asked for has written the entry, and nobody else has.
//!
//! That makes it a claim as well. The holder of a fleet answers every entry that is not its own with one of its own. Who finds
//! a holder (or containers, and no record) writes the next entry in its own name, and waits a moment: if it stays the last
//! one, the holder is dead. If two hold it in spite of that (the first was asleep), the older one goes on and the other
//! ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::{Volume, VolumeCreateRequest};
use proto::control::Hostname;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use super::container::{FLEET, fleet_label};
use super::engine::{Engine, Trouble};
use crate::provider::{Seat, SlotId};

/// How often a holder looks whether somebody wants its fleet; the engine's events tell it sooner.
const WATCH: Duration = Duration::from_millis(500);
/// How long a holder has to answer: long enough for one that hears no events.
const CHALLENGE: Duration = Duration::from_millis(1500);
/// The pause between two looks for its answer.
const LOOK: Duration = Duration::from_millis(50);
/// The pause before an entry that could not be written is written again.
const RETRY: Duration = Duration::from_millis(500);
/// How long anybody waits for an entry to be written.
const WRITTEN: Duration = Duration::from_secs(3);

const NUMBER: &str = "lb.record";
const HOLDER: &str = "lb.holder";
const SINCE: &str = "lb.since";
const SEATS: &str = "lb.seats";

/// Who holds a fleet, and since when.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    /// Milliseconds since 1970.
    since: u64,
    /// Whatever makes it another than all others.
    nonce: String,
}

impl Holder {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Holder {
            since: u64::try_from(since).unwrap_or(u64::MAX),
            nonce: format!("{:016x}", fastrand::u64(..)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    number: u64,
    /// Nobody, once it has been given up.
    holder: Option<Holder>,
    seats: Vec<Seat>,
}

impl Entry {
    /// What a volume says; `None` if it is none of ours.
    fn read(volume: &Volume) -> Option<Self> {
        let label = |name| volume.labels.get(name);
        let nonce = label(HOLDER).filter(|nonce| !nonce.is_empty()).cloned();
        let holder = match nonce {
            Some(nonce) => Some(Holder { since: label(SINCE)?.parse().ok()?, nonce }),
            None => None,
        };
        let number = label(NUMBER)?.parse().ok()?;
        let seats = label(SEATS)?.split(',').filter(|seat| !seat.is_empty());
        Some(Entry { number, holder, seats: seats.map(seat).collect::<Option<_>>()? })
    }

    fn volume(&self, fleet: &str) -> VolumeCreateRequest {
        let (nonce, since) =
            self.holder.clone().map_or_else(Default::default, |holder| (holder.nonce, holder.since));
        let seats: Vec<String> = self
            .seats
            .iter()
            .map(|Seat { slot, hostname }| format!("{}={}={hostname}", slot.index, slot.name))
            .collect();
        let labels: HashMap<String, String> = [
            (FLEET, fleet.to_owned()),
            (NUMBER, self.number.to_string()),
            (HOLDER, nonce),
            (SINCE, since.to_string()),
            (SEATS, seats.join(",")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        VolumeCreateRequest {
            name: Some(name(fleet, self.number)),
            labels: Some(labels),
            ..VolumeCreateRequest::default()
        }
    }
}

/// `INDEX=NAME=HOSTNAME`.
fn seat(text: &str) -> Option<Seat> {
    let mut parts = text.split('=');
    let index = parts.next()?.parse().ok().filter(|&index| index > 0)?;
    let name = Hostname::try_from(parts.next()?.to_owned()).ok()?;
    let hostname = Hostname::try_from(parts.next()?.to_owned()).ok()?;
    Some(Seat { slot: SlotId { index, name }, hostname })
}

fn name(fleet: &str, number: u64) -> String {
    format!("lb.{fleet}.{number}")
}

/// Whether a volume of this name is an entry about this fleet.
pub(super) fn is_entry(volume: &str, fleet: &str) -> bool {
    let number = volume.strip_prefix("lb.").and_then(|rest| rest.strip_prefix(fleet)?.strip_prefix('.'));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

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
    let is_answered = if is_contested { record.is_answered().await } else { Ok(false) };
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
    async fn is_answered(&self) -> Result<bool, Trouble> {
        let deadline = Instant::now() + CHALLENGE;
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
        for entry in self.entries().await? {
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
}

/// What becomes of a record in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing is left of the fleet.
    Erase,
    /// The next holder finds the fleet as it is.
    Release,
}

/// What has to be written, and a number that says which of two is later.
type Draft = (u64, Vec<Seat>);

/// The one who tells the writer.
#[derive(Debug)]
pub(super) struct Pen {
    draft: watch::Sender<Draft>,
    written: watch::Receiver<u64>,
}

impl Pen {
    /// Has it written who sits where.
    pub(super) fn write(&self, seats: Vec<Seat>) {
        self.draft.send_if_modified(|(number, last)| {
            let is_new = *last != seats;
            if is_new {
                (*number, *last) = (*number + 1, seats);
            }
            is_new
        });
    }

    /// Completes when what was to be written is written, or it has taken too long.
    pub(super) fn written(&self) -> impl Future<Output = ()> + Send + use<> {
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
pub(super) struct Writer {
    record: Record,
    draft: watch::Receiver<Draft>,
    written: watch::Sender<u64>,
    /// Whether the fleet is still ours.
    held: watch::Sender<bool>,
}

impl Writer {
    /// A writer, who tells it, and where it says whether the fleet is still ours.
    pub(super) fn new(record: Record) -> (Self, Pen, watch::Receiver<bool>) {
        let seats = record.seats.clone();
        let (draft, drafts) = watch::channel((0, seats));
        let (written, seen) = watch::channel(0);
        let (held, is_held) = watch::channel(true);
        (Writer { record, draft: drafts, written, held }, Pen { draft, written: seen }, is_held)
    }

    /// Writes what it is told, and looks after the record now and then and whenever there are `doubts`, until nobody tells
    /// it anything any more; the record then.
    pub(super) async fn run(mut self, doubts: Arc<Notify>) -> Record {
        let mut is_failing = false;
        loop {
            let done = tokio::select! {
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

impl Record {
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
