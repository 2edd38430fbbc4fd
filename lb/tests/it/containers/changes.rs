//! `add` and `rm`, and an `lb` that is killed right after it has answered.

use serde_json::{Value, json};

use super::{CALM, Fleet, homes, ids, kill, slots};
use crate::harness::{Lb, eventually, id_for, say, session};

/// The explanation of each of a few ids.
fn explanations(lb: &Lb) -> Vec<Value> {
    ids().map(|id| lb.done(&json!({"cmd": "explain", "id": id}))).collect()
}

#[test]
fn added_replicas_survive_a_kill_of_lb_right_after_the_answer() {
    let Some(fleet) = Fleet::of("added") else { return };
    let lb = fleet.start(&CALM);
    lb.done(&json!({"cmd": "add", "n": 2, "hostnames": ["S5", "S4"], "weights": [3]}));
    lb.done(&json!({"cmd": "mapping", "weights": {"server2": 2}}));
    let before = (slots(&lb), explanations(&lb));
    kill(lb);
    let containers = fleet.containers();
    let lb = fleet.start(&[&CALM[..], &["--replicas", "3"]].concat());
    assert_eq!((slots(&lb), explanations(&lb)), before);
    let named = |(index, name, hostname): &(u64, String, String)| format!("{index} {name} {hostname}");
    let named: Vec<String> = slots(&lb).iter().map(named).collect();
    assert_eq!(named, ["1 server1 server1", "2 server2 server2", "3 server3 server3", "4 S5 S5", "5 S4 S4"]);
    let weights = lb.done(&json!({"cmd": "mapping"}))["weights"].clone();
    assert_eq!(weights, json!({"server1": 1, "server2": 2, "server3": 1, "S5": 3, "S4": 1}));
    fleet.settled(&lb);
    assert_eq!(fleet.containers(), containers, "no container was created or removed");
}

#[test]
fn removed_replicas_stay_removed_after_a_kill_of_lb_right_after_the_answer() {
    let Some(fleet) = Fleet::of("removed") else { return };
    let lb = fleet.start(&[&CALM[..], &["--replicas", "4"]].concat());
    let mut containers = fleet.settled(&lb);
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["server2"]}));
    let before = (slots_in_rotation(&lb), explanations(&lb));
    kill(lb);
    let lb = fleet.start(&[&CALM[..], &["--replicas", "3"]].concat());
    assert_eq!((slots(&lb), explanations(&lb)), before);
    containers.remove("server2");
    assert_eq!(fleet.settled(&lb), containers);
    homes(&lb);
}

/// The slots that are not draining.
fn slots_in_rotation(lb: &Lb) -> Vec<(u64, String, String)> {
    let names = lb.hostnames();
    slots(lb).into_iter().filter(|(_, _, hostname)| names.contains(hostname)).collect()
}

#[test]
fn a_removed_container_finishes_its_sessions_before_it_goes() {
    let Some(fleet) = Fleet::of("drained") else { return };
    let lb = fleet.start(&CALM);
    let mut containers = fleet.settled(&lb);
    let id = id_for(&lb, "server2");
    let (mut client, hostname) = session(&lb, &id);
    assert_eq!(hostname, "server2");
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["server2"]}));
    lb.wait_for_state(2, "draining");
    assert_ne!(lb.route(&id), "server2");
    assert_eq!(say(&mut client, "still there"), "server2 still there\n");
    assert!(fleet.containers().iter().any(|[_, state, name]| name == "server2" && state == "running"));
    drop(client);
    eventually("two slots", || (lb.backends().len() == 2).then_some(()));
    containers.remove("server2");
    assert_eq!(fleet.settled(&lb), containers);
}
