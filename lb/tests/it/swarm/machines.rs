//! A node that crashes or is cut off, and an `lb` that is: what ran there comes back elsewhere, and what serves well is left alone.

use std::time::Instant;

use super::fleet::{CALM, Fleet, choices};
use super::in_time;
use super::nodes::Turn;
use crate::containers::homes;
use crate::harness::{Lb, eventually, id_for, is_alive, signal, text};

/// Waits until every slot is up on a node that `is_fine`. Until then, every id gets an answer.
#[track_caller]
fn served_until_up(lb: &Lb, is_fine: impl Fn(&str) -> bool) {
    in_time("all replicas up where they can be", || {
        let unanswered = homes(lb).iter().filter(|home| *home == "()").count();
        assert_eq!(unanswered, 0, "another replica answers");
        let is_well =
            |slot: &serde_json::Value| slot["state"] == "up" && slot["node"].as_str().is_some_and(&is_fine);
        lb.backends().iter().all(is_well).then_some(())
    });
}

#[test]
fn the_replicas_of_a_node_that_crashes_come_back_on_other_nodes() {
    let Some(swarm) = Turn::own(1) else { return };
    let fleet = Fleet::of(&swarm, "crash");
    let lb = fleet.spread(1, &CALM);
    let (before, at_home, chosen) = (fleet.settled(&lb), homes(&lb), choices(&lb));
    let (lost, begun) = (swarm.name(2), Instant::now());
    swarm.script(&["crash", "2"]);
    served_until_up(&lb, |node| node != lost);
    println!("node crash: all up after {:?}", begun.elapsed());
    let now = fleet.settled(&lb);
    assert_eq!(before.keys().collect::<Vec<_>>(), now.keys().collect::<Vec<_>>());
    assert_eq!((homes(&lb), choices(&lb)), (at_home, chosen));
}

#[test]
#[ignore = "takes minutes on a Swarm: cargo test --workspace --test it swarm -- --ignored"]
fn all_nodes_but_one_may_crash() {
    let Some(swarm) = Turn::own(1) else { return };
    let fleet = Fleet::of(&swarm, "one-left");
    let lb = fleet.spread(1, &["--health-timeout", "2s"]);
    let (at_home, chosen, left, begun) = (homes(&lb), choices(&lb), swarm.name(1), Instant::now());
    swarm.script(&["crash", "2"]);
    swarm.script(&["crash", "3"]);
    served_until_up(&lb, |node| node == left);
    println!("two of three nodes crash: all up after {:?}", begun.elapsed());
    fleet.settled(&lb);
    assert_eq!((homes(&lb), choices(&lb)), (at_home, chosen));
}

#[test]
#[ignore = "takes minutes on a Swarm: cargo test --workspace --test it swarm -- --ignored"]
fn after_a_cable_was_cut_and_healed_only_the_replica_of_the_newest_task_is_used() {
    let Some(swarm) = Turn::own(1) else { return };
    let fleet = Fleet::of(&swarm, "cable");
    let lb = fleet.spread(1, &["--health-timeout", "2s"]);
    let slots = lb.backends();
    let slot = slots.iter().find(|slot| slot["node"] != *swarm.name(1)).unwrap();
    let (index, lost, old) = (slot["index"].as_u64().unwrap(), text(&slot["node"]), fleet.process(slot));
    let (number, id) = (swarm.number(lost).to_string(), id_for(&lb, text(&slot["name"])));
    let begun = Instant::now();
    swarm.script(&["cut", &number]);
    served_until_up(&lb, |node| node != lost);
    println!("cable cut: all up after {:?}", begun.elapsed());
    assert!(is_alive(old), "its node goes on");
    // From here on the old replica would not reply, if it were asked.
    signal(old, "STOP");
    let (healed, task) = (Instant::now(), lb.slot(index)["task"].clone());
    swarm.script(&["heal", &number]);
    in_time("the end of the old replica", || {
        // While the network settles, a connection may be tried elsewhere.
        assert_ne!(lb.route(&id), "", "a replica that can reply gets it");
        (!is_alive(old)).then_some(())
    });
    println!("cable healed: the old replica has ended after {:?}", healed.elapsed());
    fleet.settled(&lb);
    assert_eq!(lb.slot(index)["task"], task);
    eventually("its keys in their slot", || {
        (lb.route(&id) == text(&lb.slot(index)["hostname"])).then_some(())
    });
}

#[test]
#[ignore = "takes minutes on a Swarm: cargo test --workspace --test it swarm -- --ignored"]
fn an_lb_that_is_cut_off_suspects_itself_and_replaces_nothing() {
    let Some(swarm) = Turn::own(1) else { return };
    let fleet = Fleet::of(&swarm, "cut-off");
    let elsewhere = format!("node.hostname!={}", swarm.name(3));
    // The engine's socket is a file, so this `lb` can have replaced what it wants, and must not want it.
    let lb = fleet.launch_with(&swarm.engine(1), 3, &["--health-timeout", "2s", "--constraint", &elsewhere]);
    let (before, at_home) = (fleet.settled(&lb), homes(&lb));
    let begun = Instant::now();
    swarm.script(&["cut", "3"]);
    lb.wait_for_log("this lb may be cut off, and replaces nothing");
    println!("cut off: it suspects itself after {:?}", begun.elapsed());
    eventually("all replicas silent", || {
        lb.backends().iter().all(|slot| slot["state"] == "down").then_some(())
    });
    let healed = Instant::now();
    swarm.script(&["heal", "3"]);
    eventually("all replicas heard", || lb.backends().iter().all(|slot| slot["state"] == "up").then_some(()));
    println!("healed: all up after {:?}", healed.elapsed());
    assert_eq!(fleet.settled(&lb), before, "no task was replaced");
    assert_eq!(homes(&lb), at_home);
}
