//! Carries out one fault, and notes when it struck, when it was noticed, and when all was as before.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::clients::{self, Met};
use super::plan::{Fault, Remapping, Step};
use super::rule::{Cause, DRAIN, Window};
use super::stage::{Base, Stage, Watch};
use crate::stand::{Stopped, Victim};

/// How the names of added slots begin.
const ADDED: &str = "soak-";

/// What a fault did. Times are since the origin of the stage.
#[derive(Debug, Default)]
pub(super) struct Acted {
    /// In words.
    pub(super) what: String,
    pub(super) struck: Duration,
    /// When the control port first showed it.
    pub(super) noticed: Option<Duration>,
    pub(super) over: Duration,
    /// What it may cost; the number of the fault is not set here.
    pub(super) windows: Vec<Window>,
    /// What undoes it at the end of the round.
    pub(super) undo: Option<Undo>,
    /// Requests of misbehaving clients that were checked.
    pub(super) met: Vec<Met>,
    /// What went wrong, if that is not a request.
    pub(super) error: Option<String>,
}

/// What undoes a change of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Undo {
    /// Removes slots.
    Remove(Vec<String>),
    /// Adds a slot.
    Add(String),
    /// Sets the mapping as it was.
    Remap,
}

/// Waits until the step is due, and carries it out.
pub(super) async fn act(stage: Arc<Stage>, base: Arc<Base>, round: u64, step: Step, due: Instant) -> Acted {
    sleep_until(due).await;
    let mut acted = Acted { struck: stage.now(), ..Acted::default() };
    let actor = Actor { stage: &stage, base: &base, acted: &mut acted };
    if let Err(error) = actor.perform(round, &step).await {
        acted.error = Some(format!("{}: {error:#}", step.fault.kind()));
    }
    if acted.what.is_empty() {
        acted.what = step.fault.kind().to_string();
    }
    acted.over = stage.now();
    acted
}

/// A fault that is being carried out.
struct Actor<'a> {
    stage: &'a Arc<Stage>,
    base: &'a Base,
    acted: &'a mut Acted,
}

impl Actor<'_> {
    async fn perform(mut self, round: u64, step: &Step) -> anyhow::Result<()> {
        match &step.fault {
            Fault::Kill { slot } => self.kill(&self.base.names[*slot..=*slot]).await,
            Fault::Blackout => self.kill(&self.base.names).await,
            Fault::Stop { slot, until_replaced } => {
                let hold = (!until_replaced).then_some(step.hold);
                self.stop(&self.base.names[*slot], hold).await
            }
            Fault::Rm { slot } => {
                let name = self.base.names[*slot].clone();
                self.acted.what = format!("rm {name}");
                self.remove(std::slice::from_ref(&name)).await?;
                self.acted.undo = Some(Undo::Add(name));
                Ok(())
            }
            Fault::Add { replicas } => {
                let names: Vec<String> =
                    (1..=*replicas).map(|place| format!("{ADDED}{round}-{place}")).collect();
                self.acted.what = format!("add {}", names.join(" "));
                let mut control = self.stage.ask().await?;
                control.add(&names).await?;
                self.acted.undo = Some(Undo::Remove(names));
                Ok(())
            }
            Fault::Remap(remapping) => self.remap(remapping).await,
            crowd => {
                self.acted.what = in_words(crowd);
                self.acted.met = clients::run(self.stage, step).await;
                Ok(())
            }
        }
    }

    /// Kills the replicas of these slots at once, and waits until the slots are served again.
    async fn kill(&mut self, names: &[String]) -> anyhow::Result<()> {
        let mut watch = Watch::new(self.stage);
        let mut victims = Vec::new();
        for name in names {
            let slot = watch.until(name, |slot| slot.state == "up").await?;
            victims.push((slot.restarts, self.stage.victim(&slot)?));
        }
        self.acted.what = format!("kill {}", names.join(" "));
        self.acted.struck = self.stage.now();
        let mut dead = Vec::new();
        for (name, (restarts, victim)) in names.iter().zip(victims) {
            let struck = self.stage.now();
            victim.kill()?;
            dead.push(restarts);
            self.costs(Cause::Death, name, struck, self.stage.now());
        }
        for (place, (name, restarts)) in names.iter().zip(dead).enumerate() {
            self.replaced(&mut watch, name, restarts).await?;
            self.acted.windows[place].back = self.stage.now();
        }
        Ok(())
    }

    /// Stops the replica of a slot for a while, or until the slot has another one.
    async fn stop(&mut self, name: &str, hold: Option<Duration>) -> anyhow::Result<()> {
        let mut watch = Watch::new(self.stage);
        let slot = watch.until(name, |slot| slot.state == "up").await?;
        let victim: Victim = self.stage.victim(&slot)?;
        self.acted.struck = self.stage.now();
        let stopped: Stopped = victim.stop()?;
        self.acted.what = match hold {
            Some(hold) => format!("stop {name} for {} ms", hold.as_millis()),
            None => format!("stop {name} until it is replaced"),
        };
        self.costs(Cause::Silence, name, self.acted.struck, Duration::MAX);
        let replaced = self.replaced(&mut watch, name, slot.restarts);
        match hold {
            Some(hold) => {
                let replaced = timeout_at(Instant::now() + hold, replaced).await;
                drop(stopped);
                watch.forget();
                let on = self.stage.now();
                self.acted.windows[0].noticed = self.acted.noticed.map_or(on, |noticed| noticed.min(on));
                replaced.unwrap_or(Ok(()))?;
                watch.until(name, |slot| slot.state == "up").await?;
            }
            None => {
                replaced.await?;
                self.acted.windows[0].noticed = self.acted.noticed.unwrap_or(self.stage.now());
                drop(stopped);
            }
        }
        self.acted.windows[0].back = self.stage.now();
        Ok(())
    }

    /// Waits until a slot has another replica, which is up; notes when the loss of the old one shows.
    async fn replaced(&mut self, watch: &mut Watch, name: &str, restarts: u64) -> anyhow::Result<()> {
        let (stage, noticed) = (self.stage, &mut self.acted.noticed);
        let is_back = |slot: &crate::control::Slot| {
            if slot.restarts != restarts || slot.state != "up" {
                noticed.get_or_insert_with(|| stage.now());
            }
            slot.restarts != restarts && slot.state == "up"
        };
        watch.until(name, is_back).await.map(drop)
    }

    async fn remove(&mut self, names: &[String]) -> anyhow::Result<()> {
        let struck = self.stage.now();
        self.stage.ask().await?.drain(names, DRAIN).await?;
        for name in names {
            self.costs(self.base.removal(), name, struck, self.stage.now());
        }
        Ok(())
    }

    async fn remap(&mut self, remapping: &Remapping) -> anyhow::Result<()> {
        let fields = match remapping {
            Remapping::To(name) => json!({"mapping": name}),
            Remapping::Weight { slot, weight } => {
                json!({"weights": {self.base.names[*slot].as_str(): weight}})
            }
        };
        self.acted.what = format!("mapping {fields}");
        self.acted.undo = Some(Undo::Remap);
        self.stage.ask().await?.set_mapping(&fields).await
    }

    /// Notes that requests on a slot may fail.
    fn costs(&mut self, cause: Cause, slot: &str, struck: Duration, noticed: Duration) {
        let (slot, back) = (slot.to_owned(), Duration::MAX);
        self.acted.windows.push(Window { fault: 0, cause, slot, struck, noticed, back });
    }
}

/// Undoes the changes of a round: first what was added goes, then what was removed comes back, in the place that it had. Returns
/// what the removals may cost, by the number of the fault.
///
/// # Errors
/// A command was refused.
pub(super) async fn undo(
    stage: &Arc<Stage>,
    base: &Base,
    undos: &[(usize, Undo)],
) -> anyhow::Result<Vec<Window>> {
    let mut windows = Vec::new();
    let mut control = stage.ask().await?;
    for (fault, undo) in undos {
        if let Undo::Remove(names) = undo {
            let struck = stage.now();
            control.drain(names, DRAIN).await?;
            let window = |slot: &String| Window {
                fault: *fault,
                cause: base.removal(),
                slot: slot.clone(),
                struck,
                noticed: stage.now(),
                back: Duration::MAX,
            };
            windows.extend(names.iter().map(window));
        }
    }
    for (_, undo) in undos {
        if let Undo::Add(name) = undo {
            control.add(std::slice::from_ref(name)).await?;
        }
    }
    if !undos.is_empty() && is_different(&control.mapping().await?, &base.mapping) {
        control.set_mapping(&base.mapping).await?;
    }
    Ok(windows)
}

/// Brings the fleet back after an interruption, whatever of the round was done: what was added goes, what was removed comes
/// back, and the mapping is as it was.
///
/// # Errors
/// A command was refused.
pub(super) async fn restore(stage: &Arc<Stage>, base: &Base) -> anyhow::Result<()> {
    let slots = Watch::new(stage).slots().await?;
    let names: Vec<String> = slots.into_iter().map(|slot| slot.name).collect();
    let added: Vec<String> =
        names.iter().filter(|name| name.starts_with(ADDED) && !base.names.contains(name)).cloned().collect();
    let removed = base.names.iter().filter(|name| !names.contains(name));
    let mut undos: Vec<(usize, Undo)> = removed.map(|name| (0, Undo::Add(name.clone()))).collect();
    undos.push((0, if added.is_empty() { Undo::Remap } else { Undo::Remove(added) }));
    undo(stage, base, &undos).await.map(drop)
}

/// Whether a field of `base` has another value in `now`.
fn is_different(now: &Value, base: &Value) -> bool {
    base.as_object().into_iter().flatten().any(|(name, value)| now[name] != *value)
}

fn in_words(fault: &Fault) -> String {
    match fault {
        Fault::Reset { clients } => format!("{clients} clients that reset"),
        Fault::Slow { readers, writers } => format!("{readers} slow readers and {writers} slow first lines"),
        Fault::Flood { data, control } => {
            format!("{data} silent connections, and {control} with nonsense at the control port")
        }
        Fault::Garbage { clients } => format!("{clients} clients of no protocol"),
        Fault::HalfClose { clients } => format!("{clients} clients that close their side"),
        other => other.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_differs_in_the_fields_that_the_base_has() {
        let base = json!({"mapping": "ring", "points": 1000, "weights": {"a": 1}});
        assert!(!is_different(
            &json!({"mapping": "ring", "points": 1000, "weights": {"a": 1}, "seeded": false}),
            &base
        ));
        assert!(is_different(&json!({"mapping": "maglev", "weights": {"a": 1}}), &base));
        assert!(is_different(&json!({"mapping": "ring", "points": 1000, "weights": {"a": 2}}), &base));
    }
}
