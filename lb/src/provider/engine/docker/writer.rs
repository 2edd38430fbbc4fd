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
use crate::provider::engine::call::Trouble;
use crate::provider::engine::claim::{Action, Call, Claim, End, Event, Fate, Orders, Remains, Why};
use crate::provider::engine::identity::{FLEET, fleet_label};
use crate::provider::engine::record::{Entry, Holder};

/// How long a command waits for an entry to be written.
const WRITTEN: Duration = Duration::from_secs(3);

/// Gives orders to a [`Writer`]. Without one, the writer ends and leaves the record as it is.
#[derive(Debug)]
pub(super) struct WriterHandle {
    orders: watch::Sender<Orders>,
    written: watch::Receiver<u64>,
}

impl WriterHandle {
    /// Has these seats written. The fleet asks for it only when they have changed.
    pub(super) fn write(&self, seats: Vec<Seat>) {
        self.orders.send_modify(|orders| (orders.version, orders.seats) = (orders.version + 1, seats));
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

    /// Has the record removed or released, which ends the writer.
    pub(super) fn conclude(self, fate: Fate) {
        self.orders.send_modify(|orders| orders.fate = Some(fate));
    }
}

/// The record of one fleet in the engine.
struct Record {
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
    /// Whether this program still holds the fleet.
    held: watch::Sender<bool>,
}

impl Writer {
    /// Claims a fleet with these `remains`; `beginning` holds the seats for a fleet without a record. Returns the writer, its
    /// handle, and whether the fleet is still held.
    ///
    /// # Errors
    /// Another `lb` holds it, or the engine fails.
    pub(super) async fn claim(
        engine: Engine,
        fleet: String,
        beginning: Vec<Seat>,
        remains: Remains,
    ) -> anyhow::Result<(Self, WriterHandle, watch::Receiver<bool>)> {
        let record = Record { engine, fleet, begun: Instant::now() };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let holder = Holder::new(u64::try_from(since).unwrap_or(u64::MAX), fastrand::u64(..));
        let (mut claim, mut action) = Claim::new(holder, beginning, remains);
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
        if claim.is_contested() {
            info!(fleet = record.fleet, "the lb that held this fleet is gone: it is taken over");
        }
        let orders = Orders { version: claim.version(), seats: claim.seats().to_vec(), fate: None };
        let (told, orders) = watch::channel(orders);
        let (written, seen) = watch::channel(claim.version());
        let (held, is_held) = watch::channel(true);
        let writer = Writer { record, claim, action, orders, written, held };
        Ok((writer, WriterHandle { orders: told, written: seen }, is_held))
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
            let event = match self.action {
                Action::Do(call) => self.record.perform(call).await,
                Action::Rest(limit) => {
                    is_failing = false;
                    self.written.send_replace(self.claim.version());
                    tokio::select! {
                        // Orders first: a check would find that they are not written yet.
                        biased;
                        told = self.orders.changed() => match told {
                            Ok(()) => Event::Told(self.orders.borrow_and_update().clone()),
                            Err(_) => return,
                        },
                        () = doubts.notified() => Event::Doubt,
                        () = sleep(limit) => Event::Doubt,
                    }
                }
                Action::Retry(pause, reason) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!("the record of the fleet cannot be written for now: {reason}");
                    }
                    if let Ok(Err(_)) =
                        timeout(pause, self.orders.wait_for(|orders| orders.fate.is_some())).await
                    {
                        return;
                    }
                    Event::Told(self.orders.borrow_and_update().clone())
                }
                Action::End(end) => return self.record.ended(end, &self.held),
            };
            self.action = self.claim.apply(self.record.begun.elapsed(), event);
        }
    }
}

impl Record {
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

    fn ended(&self, end: End, held: &watch::Sender<bool>) {
        match end {
            End::Held => {
                error!(fleet = self.fleet, "another lb holds this fleet: this one gives way");
                held.send_replace(false);
            }
            End::Failed(reason) => warn!("the record of the fleet cannot be removed or released: {reason}"),
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
