//! Managers that crash or hang: connections are served with the last view, and a command changes all or nothing.

use std::time::Instant;

use serde_json::json;

use super::fleet::{CALM, Fleet, choices};
use super::in_time;
use super::nodes::{NODES, Turn};
use crate::containers::homes;
use crate::control::{Response, http, refused};
use crate::harness::{Lb, signal, text};

/// Asks for one more replica; the answer.
#[track_caller]
fn add(lb: &Lb, hostname: &str) -> Response {
    let begun = Instant::now();
    let response = http(lb, "POST /add", &json!({"n": 1, "hostnames": [hostname]}).to_string());
    println!("add: {} after {:?}", response.status, begun.elapsed());
    response
}

/// The number of the roster.
fn epoch(lb: &Lb) -> u64 {
    lb.done(&json!({"cmd": "backends"}))["epoch"].as_u64().unwrap()
}

/// Commands that change the fleet are refused, and change nothing.
#[track_caller]
fn nothing_can_be_changed(lb: &Lb) {
    let (epoch_before, hostnames, chosen) = (epoch(lb), lb.hostnames(), choices(lb));
    for (line, body) in [
        ("POST /add", json!({"n": 1, "hostnames": ["more"]})),
        ("DELETE /rm", json!({"n": 1, "hostnames": [hostnames[0]]})),
        ("PUT /mapping", json!({"mapping": "maglev"})),
    ] {
        let begun = Instant::now();
        let response = http(lb, line, &body.to_string());
        println!("{line}: {} after {:?}: {}", response.status, begun.elapsed(), refused(&response.body));
        assert_eq!(response.status, 502, "{line}: {response:?}");
    }
    assert_eq!((epoch(lb), lb.hostnames(), choices(lb)), (epoch_before, hostnames, chosen));
}

#[test]
#[ignore = "takes minutes on a Swarm: cargo test --workspace --test it swarm -- --ignored"]
fn after_a_crash_of_the_leader_commands_work_again_and_none_was_half_done() {
    let Some(swarm) = Turn::own(NODES) else { return };
    let fleet = Fleet::of(&swarm, "leader");
    let lb = fleet.spread(2, &CALM);
    let begun = Instant::now();
    swarm.script(&["crash", "1"]);
    in_time("an add that succeeds", || {
        let before = lb.hostnames();
        let response = add(&lb, "more");
        if response.status != 200 {
            assert_eq!(response.status, 502, "{response:?}");
            assert_eq!(lb.hostnames(), before);
        }
        assert_ne!(lb.route("100000"), "", "connections are served");
        (response.status == 200).then_some(())
    });
    println!("crash of the leader: an add succeeds after {:?}", begun.elapsed());
    let lost = swarm.name(1);
    in_time("all replicas on the other nodes", || {
        lb.backends().iter().all(|slot| slot["state"] == "up" && slot["node"] != *lost).then_some(())
    });
    println!("crash of the leader: all up after {:?}", begun.elapsed());
    assert_eq!(fleet.settled(&lb).len(), 4);
}

#[test]
#[ignore = "takes minutes on a Swarm: cargo test --workspace --test it swarm -- --ignored"]
fn without_a_quorum_connections_are_served_and_commands_say_what_is_missing() {
    let Some(swarm) = Turn::own(NODES) else { return };
    let fleet = Fleet::of(&swarm, "quorum");
    let lb = fleet.spread(3, &["--health-timeout", "2s"]);
    let (at_home, chosen, left) = (homes(&lb), choices(&lb), swarm.name(3));
    let hostname = lb.backends().iter().find(|slot| slot["node"] == *left).unwrap()["hostname"].clone();
    swarm.script(&["crash", "1"]);
    swarm.script(&["crash", "2"]);
    in_time("the view that only one replica is left", || {
        lb.backends().iter().all(|slot| (slot["state"] == "up") == (slot["node"] == *left)).then_some(())
    });
    nothing_can_be_changed(&lb);
    assert_eq!(lb.route("100000"), text(&hostname), "the one that is left answers all");
    nothing_can_be_changed(&lb);
    let booted = Instant::now();
    swarm.script(&["boot", "1"]);
    swarm.script(&["boot", "2"]);
    fleet.settled(&lb);
    println!("two managers are back: all up after {:?}", booted.elapsed());
    assert_eq!((homes(&lb), choices(&lb)), (at_home, chosen));
    in_time("an add that succeeds", || (add(&lb, "more").status == 200).then_some(()));
    assert_eq!(fleet.settled(&lb).len(), 4);
}

#[test]
#[ignore = "takes minutes on a Swarm: cargo test --workspace --test it swarm -- --ignored"]
fn while_its_engine_hangs_an_lb_serves_on_and_sees_deaths_with_its_own_eyes() {
    let Some(swarm) = Turn::own(NODES) else { return };
    let fleet = Fleet::of(&swarm, "hung-engine");
    let lb = fleet.spread(2, &["--health-timeout", "2s"]);
    let (at_home, chosen, own) = (homes(&lb), choices(&lb), swarm.name(2));
    let engine = swarm.engine_process(2);
    signal(engine, "STOP");
    nothing_can_be_changed(&lb);
    assert_eq!(homes(&lb), at_home);
    let slot = lb.backends().into_iter().find(|slot| slot["node"] != *own).unwrap();
    let (begun, index) = (Instant::now(), slot["index"].as_u64().unwrap());
    signal(fleet.process(&slot), "KILL");
    in_time("a death that it sees", || (lb.slot(index)["state"] != "up").then_some(()));
    println!("engine hung: a death is seen after {:?}", begun.elapsed());
    assert!(homes(&lb).iter().all(|home| home != "()"), "another replica answers");
    signal(engine, "CONT");
    let begun = Instant::now();
    fleet.settled(&lb);
    // The engine has read what it was told while it hung, and may have carried it out.
    println!("the engine goes on: all up after {:?}", begun.elapsed());
    assert_eq!((homes(&lb), choices(&lb)), (at_home, chosen));
    // The add that was refused while the engine hung may have been carried out since. It does not hold the name.
    in_time("an add that succeeds", || {
        let response = add(&lb, "more");
        assert_ne!(response.status, 400, "{response:?}");
        (response.status == 200).then_some(())
    });
    assert_eq!(fleet.settled(&lb).len(), 4);
}
