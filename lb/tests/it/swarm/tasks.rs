//! A task that ends, is removed or hangs: its slot gets the next one, and nothing else changes.

use std::time::Instant;

use serde_json::json;

use super::fleet::{CALM, Fleet, choices};
use super::nodes::Turn;
use crate::containers::homes;
use crate::harness::{Lb, eventually, signal, text};

/// Does something to the replica of slot 2, and checks that its slot gets the next task, and nothing else changes.
#[track_caller]
fn heals_after(fleet: &Fleet<'_>, lb: &Lb, what: &str, fault: impl FnOnce(&serde_json::Value)) {
    let (mut before, at_home, chosen) = (fleet.settled(lb), homes(lb), choices(lb));
    let slot = lb.slot(2);
    fault(&slot);
    let begun = Instant::now();
    let after = super::in_time("the next task in slot 2", || {
        Some(lb.slot(2)).filter(|now| now["state"] == "up" && now["task"] != slot["task"])
    });
    println!("{what}: up after {:?}", begun.elapsed());
    assert_eq!((&after["name"], &after["hostname"]), (&slot["name"], &slot["hostname"]));
    assert_ne!(after["address"], slot["address"], "every task has an address of its own");
    let mut now = fleet.settled(lb);
    eventually("every key in its slot", || (homes(lb) == at_home).then_some(()));
    assert_eq!(choices(lb), chosen);
    let hostname = text(&slot["hostname"]);
    assert_ne!(before.remove(hostname), now.remove(hostname));
    assert_eq!(before, now, "the others are left alone");
}

#[test]
fn a_task_that_is_killed_is_followed_by_the_next_one_in_its_slot() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "killed");
    let lb = fleet.start(1, &CALM);
    // No `lb` has a way to a container on another node.
    let kill = json!({"cmd": "kill", "hostname": lb.hostnames()[0]});
    let refused = lb.refused(&kill);
    assert!(refused.ends_with("docker kill its container there"), "{refused}");
    heals_after(&fleet, &lb, "a task is killed", |slot| signal(fleet.process(slot), "KILL"));
}

#[test]
fn a_task_that_hangs_is_followed_by_the_next_one_in_its_slot() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "hangs");
    let lb = fleet.start(1, &["--health-timeout", "2s"]);
    heals_after(&fleet, &lb, "a task hangs", |slot| signal(fleet.process(slot), "STOP"));
    lb.wait_for_log("the task does not respond: Swarm is told to replace it");
}

#[test]
fn a_container_that_is_removed_by_hand_is_followed_by_the_next_one_in_its_slot() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "removed");
    let lb = fleet.start(1, &CALM);
    heals_after(&fleet, &lb, "a task is removed", |slot| {
        let (node, container) = fleet.container(slot);
        swarm.docker(node, &["rm", "--force", &container]);
    });
}
