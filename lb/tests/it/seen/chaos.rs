//! Faults, one after the other, and what was done in them.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{Lb, eventually_within, signal, text};

use super::PATIENCE;

/// What was done to replicas, by their hostnames. Each had been in rotation.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Those that were killed.
    pub(super) killed: BTreeSet<String>,
    /// Those that were stopped until they were replaced.
    pub(super) stopped: BTreeSet<String>,
    /// Slots that were added and removed again.
    pub(super) passing: BTreeSet<String>,
}

/// Does harm until `end`, and waits after each fault until all slots are up.
pub(super) fn until(end: Instant, lb: &Lb) -> Done {
    let (mut done, mut dice, mut number) = (Done::default(), fastrand::Rng::with_seed(1), 0);
    while Instant::now() < end {
        let before = all_up(lb);
        let at = dice.usize(..before.len());
        match number % 8 {
            0 | 3 | 6 => done.kill(lb, &before[at..=at]),
            1 => done.kill(lb, &before),
            2 => done.kill_by_command(lb, &before[at]),
            4 => done.stop(lb, &before[at]),
            5 => done.add_and_remove(lb, number),
            _ => {
                let mapping = ["maglev", "rendezvous", "slots", "ring"][dice.usize(..4)];
                lb.done(&json!({"cmd": "mapping", "mapping": mapping}));
            }
        }
        number += 1;
    }
    all_up(lb);
    done
}

/// The slots when all of them are up.
fn all_up(lb: &Lb) -> Vec<Value> {
    eventually_within(PATIENCE, "all slots up", || {
        Some(lb.backends()).filter(|slots| slots.iter().all(|slot| slot["state"] == "up"))
    })
}

impl Done {
    fn kill(&mut self, lb: &Lb, slots: &[Value]) {
        let processes: Vec<u32> = slots.iter().map(|slot| slot["pid"].as_u64().unwrap() as u32).collect();
        for (slot, process) in slots.iter().zip(processes) {
            signal(process, "KILL");
            self.killed.insert(text(&slot["hostname"]).to_owned());
        }
        slots.iter().for_each(|slot| replaced(lb, slot));
    }

    fn kill_by_command(&mut self, lb: &Lb, slot: &Value) {
        lb.done(&json!({"cmd": "kill", "hostname": slot["hostname"]}));
        self.killed.insert(text(&slot["hostname"]).to_owned());
        replaced(lb, slot);
    }

    fn stop(&mut self, lb: &Lb, slot: &Value) {
        signal(slot["pid"].as_u64().unwrap() as u32, "STOP");
        self.stopped.insert(text(&slot["hostname"]).to_owned());
        replaced(lb, slot);
    }

    fn add_and_remove(&mut self, lb: &Lb, number: usize) {
        let name = format!("passing{number}");
        lb.done(&json!({"cmd": "add", "n": 1, "hostnames": [name]}));
        lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": [name], "drain": "1s"}));
        eventually_within(PATIENCE, "the end of the drain", || {
            lb.backends().iter().all(|slot| slot["name"] != *name).then_some(())
        });
        self.passing.insert(name);
    }
}

/// Waits until the slot has another replica.
fn replaced(lb: &Lb, before: &Value) {
    eventually_within(PATIENCE, "another replica", || {
        let slot = lb.backends().into_iter().find(|slot| slot["name"] == before["name"]).unwrap();
        (slot["restarts"] != before["restarts"] && slot["state"] == "up").then_some(())
    });
}
