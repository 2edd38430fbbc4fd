//! The `lb` that is soaked, and the questions that faults and invariants ask it. Everything here is seen from outside: both ports,
//! and `/proc` for its process and those of its replicas.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::time::sleep;

use super::rule::Cause;
use crate::control::{Control, Slot};
use crate::stand::Victim;
use crate::stand::processes::{self, Holdings, Processes};

/// How long the fleet may take until it is as it should be: replacement of a stopped replica takes seconds, and the machine may
/// be slow.
const PATIENCE: Duration = Duration::from_secs(90);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// How long sessions may stay open without a client.
const GONE: Duration = Duration::from_secs(30);

/// Where the `lb` is. Cheap to share; faults run at the same time.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) data: SocketAddr,
    pub(super) control: SocketAddr,
    pub(super) token: Option<String>,
    /// Its process, if it runs on this host and this user may see it.
    pub(super) process: Option<u32>,
    /// The zero of all times.
    pub(super) origin: Instant,
}

/// The fleet before the first round. After each round it has to be the same.
#[derive(Debug)]
pub(super) struct Base {
    /// The names of the slots, by index.
    pub(super) names: Vec<String>,
    /// How keys are mapped, as the fields of a change of the mapping.
    pub(super) mapping: Value,
    /// Whether connections are handed over to replicas.
    pub(super) hands_over: bool,
}

impl Base {
    /// How the removal of a slot ends its sessions.
    pub(super) fn removal(&self) -> Cause {
        if self.hands_over { Cause::Retirement } else { Cause::Removal }
    }
}

impl Stage {
    /// The time since the origin.
    pub(super) fn now(&self) -> Duration {
        self.since(Instant::now())
    }

    pub(super) fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.origin)
    }

    /// A new connection to the control port.
    pub(super) async fn ask(&self) -> anyhow::Result<Control> {
        Control::connect(self.control, self.token.clone()).await
    }

    /// The fleet when all its slots are up.
    pub(super) async fn base(self: &Arc<Self>) -> anyhow::Result<Base> {
        let slots = Watch::new(self).until_all_up(None).await?;
        ensure!(!slots.is_empty(), "the fleet has no slot");
        let mut mapping = self.ask().await?.mapping().await?;
        if let Some(fields) = mapping.as_object_mut() {
            // The seed is a secret, and stays as it is.
            fields.remove("seeded");
        }
        let hands_over = slots.iter().any(|slot| slot.transport == "handoff");
        Ok(Base { names: slots.into_iter().map(|slot| slot.name).collect(), mapping, hands_over })
    }

    /// The process of the replica in a slot, which has to be a child of the `lb`.
    ///
    /// # Errors
    /// It does not run on this host, or not as a child of the `lb`.
    pub(super) fn victim(&self, slot: &Slot) -> anyhow::Result<Victim> {
        let address = slot.address.as_deref().and_then(|address| address.parse().ok());
        let address = address.with_context(|| format!("{} has no address", slot.hostname))?;
        let victim = Victim::find(&slot.hostname, address)?;
        let lb = self.process.context("the process of the lb is not known")?;
        let is_child = Processes::of(lb).is_ok_and(|family| family.pids().contains(&victim.pid()));
        ensure!(is_child, "{} is no child process of the lb", slot.hostname);
        Ok(victim)
    }

    /// What the process of the `lb` holds; nothing if it is not known.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn holdings(&self) -> anyhow::Result<Holdings> {
        self.process.map_or(Ok(Holdings::default()), processes::holdings)
    }
}

/// Looks at the fleet again and again, on one connection that is made anew when it breaks.
#[derive(Debug)]
pub(super) struct Watch {
    stage: Arc<Stage>,
    control: Option<Control>,
}

impl Watch {
    pub(super) fn new(stage: &Arc<Stage>) -> Self {
        Watch { stage: Arc::clone(stage), control: None }
    }

    /// The slots of the fleet. Those that drain have left it already.
    ///
    /// # Errors
    /// The control port does not answer.
    pub(super) async fn slots(&mut self) -> anyhow::Result<Vec<Slot>> {
        let mut slots = self.all().await?;
        slots.retain(|slot| slot.state != "draining");
        Ok(slots)
    }

    /// All slots. A connection that broke, for instance because a flood took its place, is made again once.
    async fn all(&mut self) -> anyhow::Result<Vec<Slot>> {
        if let Some(control) = &mut self.control
            && let Ok(slots) = control.slots().await
        {
            return Ok(slots);
        }
        self.control = None;
        let mut control = self.stage.ask().await?;
        let slots = control.slots().await?;
        self.control = Some(control);
        Ok(slots)
    }

    /// Gives up the connection: a question that was cut off may still be answered on it.
    pub(super) fn forget(&mut self) {
        self.control = None;
    }

    /// Waits until the fleet has exactly these slots (`None`: those that it has) and all are up.
    ///
    /// # Errors
    /// It does not come to that, or the control port does not answer.
    pub(super) async fn until_all_up(&mut self, names: Option<&[String]>) -> anyhow::Result<Vec<Slot>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let slots = self.slots().await?;
            let are_those = names.is_none_or(|names| names.iter().eq(slots.iter().map(|slot| &slot.name)));
            if are_those && slots.iter().all(|slot| slot.state == "up") {
                return Ok(slots);
            }
            if Instant::now() > deadline {
                let found: Vec<_> =
                    slots.iter().map(|slot| format!("{} is {}", slot.name, slot.state)).collect();
                bail!("after {PATIENCE:?} {}", found.join(", "));
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until a condition holds for the slot called `name`; returns the slot.
    ///
    /// # Errors
    /// It does not come to that, the slot is gone, or the control port does not answer.
    pub(super) async fn until(
        &mut self,
        name: &str,
        mut holds: impl FnMut(&Slot) -> bool,
    ) -> anyhow::Result<Slot> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let slot = self.slots().await?.into_iter().find(|slot| slot.name == name);
            let slot = slot.with_context(|| format!("slot {name} is gone"))?;
            if holds(&slot) {
                return Ok(slot);
            }
            if Instant::now() > deadline {
                bail!("slot {name} is still {} after {PATIENCE:?}", slot.state);
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until no session is open.
    ///
    /// # Errors
    /// Some stay open, or the control port does not answer.
    pub(super) async fn until_no_session(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + GONE;
        loop {
            let open: u64 = self.all().await?.iter().map(|slot| slot.connections.open).sum();
            if open == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{open} sessions are still open {GONE:?} after the last client has left");
            }
            sleep(LOOK).await;
        }
    }
}

/// The name of the slot of each hostname.
pub(super) fn slots_by_hostname(slots: &[Slot]) -> HashMap<&str, &str> {
    slots.iter().map(|slot| (slot.hostname.as_str(), slot.name.as_str())).collect()
}
