//! The record of a fleet in Docker: performs what a [`Claim`] decides.
//!
//! Docker keeps no text that can be changed. So an entry is an empty *volume* with the text in its labels, and a later entry is
//! another volume with a higher number in its name. The request for a volume whose name is taken returns the existing one.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{anyhow, bail};
use bollard::models::{Volume, VolumeCreateRequest};
use fleet::Seat;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use super::api::Engine;
use super::site::Standing;
use crate::provider::engine::call::Trouble;
use crate::provider::engine::claim::{Action, Call, Claim, End, Event, Fate, Orders, Remains, Tenure, Why};
use crate::provider::engine::identity::{FLEET, fleet_label};
use crate::provider::engine::record::{Entry, Holder};

/// How long a command waits for an entry to be written.
const WRITTEN: Duration = Duration::from_secs(3);

/// Gives orders to a [`Writer`]. Without one, the writer ends and leaves the record as it is.
#[derive(Debug)]
pub(super) struct WriterHandle {
    orders: watch::Sender<Orders>,
    written: watch::Receiver<u64>,
    is_lent: watch::Sender<bool>,
    standing: watch::Receiver<Standing>,
}

impl WriterHandle {
    /// Has these seats written. The fleet asks for it only when they have changed.
    pub(super) fn write(&self, seats: Vec<Seat>) {
        self.orders.send_modify(|orders| (orders.version, orders.seats) = (orders.version + 1, seats));
    }

    /// Whether this program may touch the fleet.
    pub(super) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Completes when the last seats are written, or after three seconds.
    pub(super) fn written(&self) -> impl Future<Output = ()> + Send + use<> {
        let (wanted, mut written) = (self.orders.borrow().version, self.written.clone());
        async move {
            let is_written = timeout(WRITTEN, written.wait_for(|&version| version >= wanted)).await;
            if !matches!(is_written, Ok(Ok(_))) {
                warn!(
                    "the record of the fleet is not written yet: if lb is killed now, the next one finds the slots as they were"
                );
            }
        }
    }

    /// Leaves the record to a successor as soon as it is written. `None` if that takes longer than three seconds, or if another `lb` holds
    /// the fleet.
    pub(super) fn lend(&self) -> impl Future<Output = Option<Tenure>> + Send + use<> {
        self.is_lent.send_replace(true);
        let mut standing = self.standing.clone();
        async move {
            let decided = standing.wait_for(|standing| *standing != Standing::Holds);
            match &*timeout(WRITTEN, decided).await.ok()?.ok()? {
                Standing::Lends(tenure) => Some(tenure.clone()),
                Standing::Holds | Standing::Lost => None,
            }
        }
    }

    /// The successor has failed: the record is written by this program again.
    pub(super) fn take_back(&self) {
        self.is_lent.send_replace(false);
    }

    /// Has the record removed or released, which ends the writer.
    pub(super) fn conclude(self, fate: Fate) {
        self.orders.send_modify(|orders| orders.fate = Some(fate));
    }
}

/// The record of one fleet in the engine.
pub(super) struct Record {
    engine: Engine,
    fleet: String,
    begun: Instant,
}

/// Keeps the record of a fleet that this program holds.
pub(super) struct Writer {
    record: Record,
    claim: Claim,
    /// What the claim wants next.
    action: Action,
    orders: watch::Receiver<Orders>,
    written: watch::Sender<u64>,
    /// Whether the record is left to a successor.
    is_lent: watch::Receiver<bool>,
    standing: watch::Sender<Standing>,
}

impl Writer {
    /// Claims a fleet with these `remains`; `beginning` holds the seats for a fleet without a record. Returns the writer and its
    /// handle.
    ///
    /// # Errors
    /// Another `lb` holds it, or the engine fails.
    pub(super) async fn claim(
        record: Record,
        beginning: Vec<Seat>,
        remains: Remains,
    ) -> anyhow::Result<(Self, WriterHandle)> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let holder = Holder::new(u64::try_from(since).unwrap_or(u64::MAX), fastrand::u64(..));
        let begun = Writer::begin(record, Claim::new(holder, beginning, remains)).await?;
        if begun.0.claim.is_contested() {
            info!(fleet = begun.0.record.fleet, "the lb that held this fleet is gone: it is taken over");
        }
        Ok(begun)
    }

    /// Goes on where the writer of another process rests, which has lent it the record with this tenure and these seats.
    ///
    /// # Errors
    /// As for [`Writer::claim`].
    pub(super) async fn succeed(
        record: Record,
        tenure: Tenure,
        seats: Vec<Seat>,
    ) -> anyhow::Result<(Self, WriterHandle)> {
        Writer::begin(record, Claim::succeed(tenure, seats)).await
    }

    async fn begin(
        record: Record,
        (mut claim, mut action): (Claim, Action),
    ) -> anyhow::Result<(Self, WriterHandle)> {
        loop {
            action = match action {
                Action::Do(call) => claim.apply(record.begun.elapsed(), record.perform(call).await),
                Action::Rest(_) => break,
                Action::End(End::Failed(reason)) | Action::Retry(_, reason) => return Err(anyhow!(reason)),
                Action::End(End::Held | End::Concluded) => bail!(
                    "fleet {} is held by another lb that runs; stop it, or choose another --fleet",
                    record.fleet
                ),
            };
        }
        let orders = Orders { version: claim.version(), seats: claim.seats().to_vec(), fate: None };
        let (told, orders) = watch::channel(orders);
        let (written, seen) = watch::channel(claim.version());
        let (lent, is_lent) = watch::channel(false);
        let standing = watch::Sender::new(Standing::Holds);
        let handle =
            WriterHandle { orders: told, written: seen, is_lent: lent, standing: standing.subscribe() };
        Ok((Writer { record, claim, action, orders, written, is_lent, standing }, handle))
    }

    /// The seats in the record.
    pub(super) fn seats(&self) -> &[Seat] {
        self.claim.seats()
    }

    /// Whether there was no record before, or only one of a fleet that was gone.
    pub(super) fn is_new(&self) -> bool {
        self.claim.is_new()
    }

    /// Writes the orders of its handle, and checks the record periodically and whenever there are `doubts`. Ends when the record is
    /// removed or released, when the handle is dropped, or when another `lb` holds the fleet.
    pub(super) async fn run(mut self, doubts: Arc<Notify>) {
        let mut is_failing = false;
        loop {
            let event = match self.action.clone() {
                Action::Do(call) => Some(self.record.perform(call).await),
                Action::Rest(limit) => {
                    is_failing = false;
                    self.written.send_replace(self.claim.version());
                    self.rest(limit, &doubts).await
                }
                Action::Retry(pause, reason) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!(error = %reason, "the record of the fleet cannot be written for now");
                    }
                    self.retry(pause).await
                }
                Action::End(end) => return self.record.ended(end, &self.standing),
            };
            let Some(event) = event else { return };
            self.action = self.claim.apply(self.record.begun.elapsed(), event);
        }
    }

    /// Waits for orders or doubts, at most for so long. `None` if the handle is gone.
    async fn rest(&mut self, limit: Duration, doubts: &Notify) -> Option<Event> {
        tokio::select! {
            // Orders first: a check would find that they are not written yet.
            biased;
            told = self.orders.changed() => {
                told.ok().map(|()| Event::Told(self.orders.borrow_and_update().clone()))
            }
            is_lent = is(&mut self.is_lent, true) => {
                is_lent?;
                self.standing.send_replace(Standing::Lends(self.claim.tenure()));
                is(&mut self.is_lent, false).await?;
                self.standing.send_replace(Standing::Holds);
                // The successor may have written what it has changed.
                Some(Event::Doubt)
            }
            () = doubts.notified() => Some(Event::Doubt),
            () = sleep(limit) => Some(Event::Doubt),
        }
    }

    /// Waits before the next attempt, but not at the end of `lb`. `None` if the handle is gone.
    async fn retry(&mut self, pause: Duration) -> Option<Event> {
        if let Ok(Err(_)) = timeout(pause, self.orders.wait_for(|orders| orders.fate.is_some())).await {
            return None;
        }
        Some(Event::Told(self.orders.borrow_and_update().clone()))
    }
}

/// Waits until this is so. `None` if it never will be.
async fn is(state: &mut watch::Receiver<bool>, wanted: bool) -> Option<()> {
    state.wait_for(|&now| now == wanted).await.ok().map(drop)
}

impl Record {
    /// The record of this fleet.
    pub(super) fn new(engine: Engine, fleet: String) -> Self {
        Record { engine, fleet, begun: Instant::now() }
    }

    async fn perform(&self, call: Call) -> Event {
        let done = match call {
            Call::Look => self.entries().await.map(Event::Seen),
            Call::Append(why, entry) => self.append(why, &entry).await.map(Event::Appended),
            Call::Remove(number) => self.remove(number).await.map(|()| Event::Removed),
            Call::Pause(pause) => {
                sleep(pause).await;
                Ok(Event::Paused)
            }
        };
        done.unwrap_or_else(|trouble| Event::Failed(trouble.to_string()))
    }

    async fn entries(&self) -> Result<Vec<Entry>, Trouble> {
        let volumes = self.engine.volumes(&fleet_label(&self.fleet)).await?;
        Ok(volumes.iter().filter_map(|volume| self.read(volume)).collect())
    }

    /// Reads the entry in a volume. `None` if there is none, or if the volume has the name of another entry.
    fn read(&self, volume: &Volume) -> Option<Entry> {
        Entry::read(&volume.labels).filter(|entry| volume.name == name(&self.fleet, entry.number))
    }

    async fn append(&self, why: Why, entry: &Entry) -> Result<Option<Entry>, Trouble> {
        let fleet = &self.fleet;
        match why {
            Why::Answer => {
                info!(fleet, "another lb has written into the record of the fleet, and is answered");
            }
            Why::Restore => warn!(fleet, "the record of the fleet was removed: it is written again"),
            Why::Claim | Why::Change | Why::Release => {}
        }
        let mut labels = entry.labels();
        labels.insert(FLEET.to_owned(), fleet.clone());
        let request = VolumeCreateRequest {
            name: Some(name(fleet, entry.number)),
            labels: Some(labels),
            ..VolumeCreateRequest::default()
        };
        let volume = self.engine.create_volume(request).await?;
        Ok(self.read(&volume))
    }

    async fn remove(&self, number: u64) -> Result<(), Trouble> {
        match self.engine.remove_volume(&name(&self.fleet, number)).await {
            Err(trouble) if trouble.is(404) => Ok(()),
            removed => removed,
        }
    }

    fn ended(&self, end: End, standing: &watch::Sender<Standing>) {
        match end {
            End::Held => {
                error!(fleet = self.fleet, "another lb holds this fleet: this one gives way");
                standing.send_replace(Standing::Lost);
            }
            End::Failed(reason) => {
                warn!(error = %reason, "the record of the fleet cannot be removed or released");
            }
            End::Concluded => {}
        }
    }
}

/// The name of the volume that holds an entry.
fn name(fleet: &str, number: u64) -> String {
    format!("lb.{fleet}.{number}")
}

/// Whether a volume of this name can be an entry of the record of this fleet.
pub(super) fn is_entry(volume: &str, fleet: &str) -> bool {
    let number = volume.strip_prefix("lb.").and_then(|rest| rest.strip_prefix(fleet)?.strip_prefix('.'));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_name_of_its_fleet_and_its_number() {
        assert!(is_entry(&name("a.b", 7), "a.b") && is_entry("lb.a.0", "a"));
        for volume in ["lb.a.", "lb.a.x", "lb.a.-1", "lb.a.1.2", "lb.ab.1", "lb.1", "a.1", "lb..1"] {
            assert!(!is_entry(volume, "a"), "{volume}");
        }
    }
}
