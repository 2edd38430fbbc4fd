//! An operator who changes or removes services of a fleet by hand, and `lb`s that are killed.

use std::time::Instant;

use serde_json::Value;

use super::fleet::{CALM, Fleet, choices};
use super::in_time;
use super::nodes::Turn;
use crate::containers::{homes, kill};
use crate::harness::{Lb, eventually, signal, text};

/// Does something to the service of slot 2, and waits until there are as many replicas as before; the slot then.
#[track_caller]
fn mends(fleet: &Fleet<'_>, lb: &Lb, what: &str, by_hand: impl FnOnce(&str)) -> Value {
    let (before, at_home, chosen, slot) = (fleet.settled(lb), homes(lb), choices(lb), lb.slot(2));
    let service = fleet.services()[text(&slot["hostname"])].clone();
    let begun = Instant::now();
    by_hand(&service);
    let after = in_time("a task in slot 2, and as many as before", || {
        let now = fleet.settled(lb);
        (now.len() == before.len()).then(|| lb.slot(2))
    });
    println!("{what}: as it was after {:?}", begun.elapsed());
    assert_eq!(after["name"], slot["name"]);
    assert_eq!(choices(lb), chosen);
    eventually("every key in its slot", || (homes(lb) == at_home).then_some(()));
    after
}

#[test]
fn a_service_that_is_removed_by_hand_is_created_again() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "service-rm");
    let lb = fleet.start(1, &CALM);
    let before = lb.slot(2);
    let after = mends(&fleet, &lb, "docker service rm", |id| drop(swarm.docker(1, &["service", "rm", id])));
    assert_ne!(before["task"], after["task"]);
    lb.wait_for_log("the service was removed by hand");
}

#[test]
#[ignore = "takes minutes on a Swarm: cargo test --workspace --test it swarm -- --ignored"]
fn a_service_that_is_scaled_by_hand_gets_one_task_again() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "service-scale");
    let lb = fleet.start(1, &CALM);
    for replicas in ["0", "3"] {
        mends(&fleet, &lb, &format!("docker service scale {replicas}"), |id| {
            swarm.docker(1, &["service", "scale", "--detach", &format!("{id}={replicas}")]);
            lb.wait_for_log(&format!("replicas={replicas}"));
        });
    }
    lb.wait_for_log("was changed by hand: it gets one task again");
}

#[test]
#[ignore = "takes minutes on a Swarm: cargo test --workspace --test it swarm -- --ignored"]
fn a_service_that_is_updated_by_hand_stays_so_and_its_next_task_takes_the_slot() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "service-update");
    let lb = fleet.start(1, &CALM);
    let before = lb.slot(2);
    let after = mends(&fleet, &lb, "docker service update", |id| {
        swarm.docker(1, &["service", "update", "--detach", "--env-add", "MORE=1", id]);
        in_time("the next task", || (lb.slot(2)["task"] != before["task"]).then_some(()));
    });
    assert_eq!(after["hostname"], before["hostname"]);
    let service = &fleet.services()[text(&after["hostname"])];
    let format = "{{.Spec.TaskTemplate.ContainerSpec.Env}}";
    assert!(swarm.docker(1, &["service", "inspect", "--format", format, service]).contains("MORE=1"));
}

#[test]
fn an_lb_that_is_killed_and_started_again_touches_no_replica() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "killed-lb");
    let lb = fleet.start(1, &CALM);
    let (before, at_home, chosen) = (fleet.settled(&lb), homes(&lb), choices(&lb));
    kill(lb);
    // On another node, and with other wishes: what the fleet has holds.
    let lb = fleet.start(2, &[&CALM[..], &["--replicas", "5", "--mapping", "maglev"]].concat());
    assert_eq!((fleet.settled(&lb), homes(&lb), choices(&lb)), (before, at_home.clone(), chosen.clone()));
    let slot = lb.slot(2);
    let process = fleet.process(&slot);
    kill(lb);
    // What dies while there is no `lb` is Swarm's to replace.
    signal(process, "KILL");
    let lb = fleet.start(1, &CALM);
    let task = fleet.settled(&lb)[text(&slot["hostname"])].clone();
    assert_ne!(task, text(&slot["task"]));
    assert_eq!((homes(&lb), choices(&lb)), (at_home, chosen));
}
