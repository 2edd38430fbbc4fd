//! Tasks for which there is no room, no image or no address of their own.

use std::os::unix::fs::symlink;
use std::time::Instant;

use serde_json::json;

use super::fleet::{CALM, Fleet};
use super::in_time;
use super::nodes::{IMAGE, NETWORK, Turn};
use crate::containers::backend;
use crate::harness::{Lb, id_for, signal, text};

/// Memory of which each node has room for one replica, and not for two: a node tells Swarm how much the machine has.
pub(super) fn room_for_one() -> String {
    let all = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kib: u64 = all.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    format!("{}", kib * 1024 * 6 / 10)
}

/// The reasons why slots are not up.
fn reasons(lb: &Lb) -> Vec<String> {
    let down = lb.backends().into_iter().filter(|slot| slot["state"] != "up");
    down.map(|slot| slot["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
#[ignore = "takes minutes on a Swarm: cargo test --workspace --test it swarm -- --ignored"]
fn replicas_for_which_there_is_no_room_say_so() {
    let Some(swarm) = Turn::own(1) else { return };
    let fleet = Fleet::of(&swarm, "room");
    let begun = Instant::now();
    let lb = fleet.launch(1, &[&CALM[..], &["--replicas", "53", "--memory", &room_for_one()]].concat());
    in_time("50 replicas that say why they wait", || {
        let reasons = reasons(&lb);
        let wait = reasons.iter().filter(|reason| reason.contains("insufficient resources")).count();
        (reasons.len() == 50 && wait == 50).then_some(())
    });
    println!("no room: 50 say so after {:?}: {:?}", begun.elapsed(), reasons(&lb)[0]);
    assert!((100_000..100_030).all(|id| !lb.route(&id.to_string()).is_empty()), "three replicas serve all");
    let waiting = lb.backends().into_iter().filter(|slot| slot["state"] != "up");
    let waiting: Vec<_> = waiting.map(|slot| slot["hostname"].clone()).collect();
    lb.done(&json!({"cmd": "rm", "n": 50, "hostnames": waiting}));
    fleet.settled(&lb);
}

#[test]
fn a_task_that_hangs_where_there_is_no_room_for_another_makes_room_for_the_next() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "full");
    let lb = fleet.start(1, &["--health-timeout", "2s", "--memory", &room_for_one()]);
    let mut before = fleet.settled(&lb);
    let slot = lb.slot(2);
    signal(fleet.process(&slot), "STOP");
    let begun = Instant::now();
    in_time("the next task in slot 2", || {
        Some(lb.slot(2)).filter(|now| now["state"] == "up" && now["task"] != slot["task"])
    });
    println!("hung on a full cluster: up after {:?}", begun.elapsed());
    lb.wait_for_log("there is no room");
    let (mut now, hostname) = (fleet.settled(&lb), text(&slot["hostname"]));
    assert_ne!(before.remove(hostname), now.remove(hostname));
    assert_eq!(before, now, "the others are left alone");
}

#[test]
#[ignore = "takes minutes on a Swarm: cargo test --workspace --test it swarm -- --ignored"]
fn an_image_that_is_missing_on_a_node_is_the_reason_until_it_is_there() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "image");
    let (image, node) = ("lb-backend:scarce", format!("node.hostname=={}", swarm.name(2)));
    swarm.image(image, backend());
    swarm.docker(2, &["rmi", image]);
    let lb = fleet.launch(1, &[&CALM[..], &["--image", image, "--constraint", &node]].concat());
    let begun = Instant::now();
    in_time("three replicas that say which image is missing", || {
        let reasons = reasons(&lb);
        let say = reasons.iter().filter(|reason| reason.contains("No such image: lb-backend:scarce"));
        (say.count() == 3).then_some(())
    });
    println!("image missing: said after {:?}: {:?}", begun.elapsed(), reasons(&lb)[0]);
    swarm.docker(2, &["tag", IMAGE, image]);
    let begun = Instant::now();
    fleet.settled(&lb);
    println!("the image is there: all up after {:?}", begun.elapsed());
}

#[test]
#[ignore = "takes minutes on a Swarm: cargo test --workspace --test it swarm -- --ignored"]
fn a_foreign_container_with_the_address_of_a_replica_gets_none_once_a_probe_has_seen_it() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "foreign");
    let folder = tempfile::TempDir::new().unwrap();
    let (engine, socket) = (swarm.engine(1), folder.path().join("engine.sock"));
    let link = || symlink(engine.strip_prefix("unix://").unwrap(), &socket).unwrap();
    link();
    let lb = fleet.launch_with(&format!("unix://{}", socket.display()), 1, &["--health-timeout", "2s"]);
    fleet.settled(&lb);
    let (slot, process) = (lb.slot(2), fleet.process(&lb.slot(2)));
    let id = id_for(&lb, text(&slot["name"]));
    // Without its engine, this `lb` does not learn that the replica has another address now.
    std::fs::remove_file(&socket).unwrap();
    lb.wait_for_log("the Swarm's API is away");
    signal(process, "KILL");
    let address = text(&slot["address"]).strip_suffix(":5000").unwrap();
    in_time("a foreign container with the address", || {
        let run = ["run", "--detach", "--label", &fleet.seat_label(), "--network", NETWORK, "--ip", address];
        swarm.try_docker(1, &[&run[..], &["--env", "SERVER_ID=foreign", IMAGE]].concat()).ok()
    });
    let begun = Instant::now();
    // Until a probe has seen it, a connection can reach it.
    in_time("that the answer of another server is seen", || {
        let is_seen = |reason: &str| reason.contains(r#"another server answers there: "foreign""#);
        let slot = lb.slot(2);
        (slot["state"] == "down" && slot["reason"].as_str().is_some_and(is_seen)).then_some(())
    });
    (0..50).for_each(|_| assert_ne!(lb.route(&id), "foreign"));
    println!("foreign container: seen after {:?}: {}", begun.elapsed(), lb.slot(2)["reason"]);
    link();
    let begun = Instant::now();
    fleet.settled(&lb);
    println!("the API is back: all up after {:?}", begun.elapsed());
    assert_ne!(lb.slot(2)["address"], slot["address"]);
    assert_eq!(lb.route(&id), text(&slot["hostname"]));
}
