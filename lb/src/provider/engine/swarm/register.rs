//! The config object of the fleet, as this `lb` follows and changes it.
//!
//! One lock is held from a read or a change until its result is told. So whatever this `lb` learns, from events, polls and its own
//! proposals, is told in the order of the epochs, and a proposal of its own is never told as if another `lb` had made it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fleet::{Epoch, Rejection, Roster};
use mapping::Seed;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};

use super::api::{ConfigObject, Manager, is_stale};
use super::config::{self, News, Record, compare};
use crate::provider::engine::call::Trouble;
use crate::provider::{Report, Reports};

/// How long a change may take: a command has to be answered within five seconds.
const CHANGE: Duration = Duration::from_millis(4000);
/// How long it may then take to find out what became of a change without an answer.
const SETTLE: Duration = Duration::from_millis(700);
/// How many reads in a row have to show that the object is gone, or older, before that is believed.
const BELIEVED: u32 = 3;

/// The most changes without an answer that are remembered. They are few: each takes a command and some seconds.
const MOST_GIVEN_UP: usize = 64;

/// The config object of a fleet.
pub(super) struct Register {
    manager: Manager,
    fleet: String,
    seed: Seed,
    known: Mutex<Known>,
    record: watch::Sender<Arc<Record>>,
    /// Why the fleet is over for this `lb`.
    over: watch::Sender<Option<String>>,
    reports: OnceLock<Reports>,
}

/// What was last read.
struct Known {
    object: ConfigObject,
    /// Whether the version of the object is not known, because this `lb` has changed it since.
    is_changed: bool,
    /// How many reads in a row were worse than what is known.
    worse: u32,
    /// Changes that have failed for those who asked for them. The Swarm may still carry out one that it did not answer.
    given_up: Vec<String>,
}

impl Register {
    /// Follows the config object of this fleet. If there is none, creates one that says `beginning`. Returns whether it did.
    ///
    /// # Errors
    /// Swarm cannot be asked, or the object is not one that this `lb` can follow.
    pub(super) async fn open(
        manager: Manager,
        fleet: &str,
        beginning: Roster,
    ) -> anyhow::Result<(Self, bool)> {
        let (name, seed) = (config::name(fleet), beginning.mapping.scheme.seed);
        let labels = Record::of_a_new_fleet(beginning).labels(fleet);
        let mut is_new = false;
        let object = loop {
            if let Some(object) = manager.config(&name).await? {
                break object;
            }
            match manager.create_config(&name, labels.clone()).await {
                Ok(()) => is_new = true,
                // Another `lb` was faster.
                Err(trouble) if trouble.is(409) => {}
                Err(trouble) => return Err(trouble.into()),
            }
        };
        let record = Record::read(&object.labels, fleet, seed)
            .map_err(|unusable| anyhow::anyhow!("the config object {name}: {unusable}"))?;
        let register = Register {
            manager,
            fleet: fleet.to_owned(),
            seed,
            known: Mutex::new(Known { object, is_changed: false, worse: 0, given_up: Vec::new() }),
            record: watch::Sender::new(Arc::new(record)),
            over: watch::Sender::new(None),
            reports: OnceLock::new(),
        };
        Ok((register, is_new))
    }

    /// Tells changes of the roster here from now on.
    pub(super) fn tell(&self, reports: Reports) {
        // It is called once.
        let _ = self.reports.set(reports);
    }

    /// What the object said when it was last read.
    pub(super) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record.borrow())
    }

    /// Completes when the fleet is over for this `lb`; why.
    pub(super) async fn over(&self) -> String {
        let mut over = self.over.subscribe();
        let reason = over.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            // The sender lives as long as this.
            None => std::future::pending().await,
        }
    }

    /// Reads the object, and tells what has changed.
    pub(super) async fn read(&self) -> Result<(), Trouble> {
        let mut known = self.known.lock().await;
        self.read_into(&mut known).await
    }

    async fn read_into(&self, known: &mut Known) -> Result<(), Trouble> {
        let found = self.manager.config(&config::name(&self.fleet)).await?;
        let record = found.as_ref().map(|object| Record::read(&object.labels, &self.fleet, self.seed));
        let news = compare(&self.record(), record);
        if !matches!(news, News::Worse(_)) {
            known.worse = 0;
        }
        if let (News::None | News::Later(_), Some(object)) = (&news, &found) {
            (known.object, known.is_changed) = (object.clone(), false);
        }
        match news {
            News::None => {}
            News::Later(record) if known.given_up.contains(&record.change) => {
                self.take_back(known, *record).await?;
            }
            News::Later(record) => {
                // A change of an earlier version is refused from now on.
                known.given_up.clear();
                self.adopt(*record).await;
            }
            News::Over(reason) => drop(self.over.send_replace(Some(reason))),
            News::Worse(what) => {
                known.worse += 1;
                warn!(
                    fleet = self.fleet,
                    error = %what, "the config object of the fleet cannot be followed, and the last view holds"
                );
                if known.worse >= BELIEVED {
                    self.restore(found.as_ref()).await?;
                }
            }
        }
        Ok(())
    }

    /// Writes the last view again over a change that the Swarm has carried out after this `lb` had said that it failed.
    async fn take_back(&self, known: &mut Known, late: Record) -> Result<(), Trouble> {
        let next = late.followed_by(self.record().roster.clone());
        let (name, labels) = (config::name(&self.fleet), next.labels(&self.fleet));
        known.is_changed = true;
        match self.manager.update_config(&name, &known.object, labels).await {
            Ok(()) => {
                warn!(epoch = late.epoch.0, "a change that had failed came true too late, and is taken back");
                known.given_up.clear();
                self.adopt(next).await;
                Ok(())
            }
            // Another `lb` has changed the fleet since: the late change is part of what holds now.
            Err(trouble) if is_stale(&trouble) => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }

    async fn adopt(&self, record: Record) {
        let (epoch, roster) = (record.epoch, record.roster.clone());
        self.record.send_replace(Arc::new(record));
        if let Some(reports) = self.reports.get() {
            // It fails only while `lb` ends.
            let _ = reports.send(Report::Adopted(epoch, roster)).await;
        }
    }

    /// Writes the last view again: the object was removed by hand, or the Swarm was restored from a backup.
    async fn restore(&self, found: Option<&ConfigObject>) -> Result<(), Trouble> {
        let (name, labels) = (config::name(&self.fleet), self.record().labels(&self.fleet));
        let restored = match found {
            None => self.manager.create_config(&name, labels).await,
            // What is no record of this fleet is left alone.
            Some(object) if Record::read(&object.labels, &self.fleet, self.seed).is_err() => return Ok(()),
            Some(object) => self.manager.update_config(&name, object, labels).await,
        };
        match restored {
            Ok(()) => info!(fleet = self.fleet, "the config object of the fleet is restored"),
            // Another `lb` has restored it.
            Err(trouble) if trouble.is(409) || is_stale(&trouble) => {}
            Err(trouble) => return Err(trouble),
        }
        Ok(())
    }

    /// Replaces the roster of this epoch by another one, all of it or nothing, and reports what became of it within five seconds.
    pub(super) async fn propose(&self, epoch: Epoch, roster: Roster, reports: &Reports) {
        let begun = Instant::now();
        let mut known = timeout_at(begun + CHANGE, self.known.lock()).await.map_err(|_| late());
        let outcome = match &mut known {
            Ok(known) => self.change(known, begun, epoch, roster).await,
            Err(late) => Err(late.clone()),
        };
        // It fails only while `lb` ends.
        let _ = reports.send(Report::Proposed(outcome)).await;
    }

    async fn change(
        &self,
        known: &mut Known,
        begun: Instant,
        epoch: Epoch,
        roster: Roster,
    ) -> Result<Epoch, Rejection> {
        // Once more if the object has another version, but the same epoch: a label was changed by hand.
        for _ in 0..2 {
            if known.is_changed {
                let read = timeout_at(begun + CHANGE, self.read_into(known)).await;
                read.map_err(|_| late())?.map_err(|trouble| failed(trouble.to_string()))?;
            }
            if self.record().epoch != epoch {
                return Err(Rejection::Stale);
            }
            let next = self.record().followed_by(roster.clone());
            let (name, labels) = (config::name(&self.fleet), next.labels(&self.fleet));
            let changed =
                timeout_at(begun + CHANGE, self.manager.update_config(&name, &known.object, labels)).await;
            known.is_changed = true;
            let failure = match changed {
                Ok(Ok(())) => {
                    known.given_up.clear();
                    return Ok(self.written(next));
                }
                Ok(Err(trouble)) if is_stale(&trouble) => continue,
                Ok(Err(Trouble::Refused { message, .. })) => failed(format!("the Swarm refused: {message}")),
                Ok(Err(trouble)) => failed(trouble.to_string()),
                Err(_) => late(),
            };
            let change = next.change.clone();
            let settled = self.settle(next, failure).await;
            if settled.is_err() {
                if known.given_up.len() == MOST_GIVEN_UP {
                    known.given_up.remove(0);
                }
                known.given_up.push(change);
            }
            return settled;
        }
        Err(Rejection::Stale)
    }

    /// Finds out what became of a change that has failed: the Swarm may have carried it out.
    async fn settle(&self, next: Record, failure: Rejection) -> Result<Epoch, Rejection> {
        let found = timeout(SETTLE, self.manager.config(&config::name(&self.fleet))).await;
        let Ok(Ok(Some(object))) = found else { return Err(failure) };
        match Record::read(&object.labels, &self.fleet, self.seed) {
            Ok(record) if record.change == next.change => Ok(self.written(next)),
            _ => Err(failure),
        }
    }

    fn written(&self, record: Record) -> Epoch {
        let epoch = record.epoch;
        self.record.send_replace(Arc::new(record));
        epoch
    }
}

fn late() -> Rejection {
    failed(format!("the Swarm did not reply within {CHANGE:?}: it may have lost its managers"))
}

fn failed(reason: String) -> Rejection {
    Rejection::Failed(reason)
}
