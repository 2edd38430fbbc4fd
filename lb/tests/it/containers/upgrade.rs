//! Containers go along with an upgrade: they keep running, and the fleet is held all the time.

use serde_json::json;

use super::{CALM, Fleet, docker, homes, slots};
use crate::harness::{Lb, eventually, say, session, signal};
use crate::upgrade::Successor;
use crate::upgrade::load::Load;

#[test]
fn containers_run_on_under_load_and_heal_afterwards() {
    let Some(fleet) = Fleet::of("upgrade") else { return };
    let mut lb = fleet.start(&[&CALM[..], &["--spares", "1", "--drain-timeout", "5s"]].concat());
    lb.done(&json!({"cmd": "mapping", "weights": {"server2": 3}}));
    let (mut open, served_by) = session(&lb, "1");
    let (containers, before) = (fleet.settled(&lb), (slots(&lb), homes(&lb)));
    let load = Load::on(lb.data);
    let mut last = None;
    for _ in 0..2 {
        let successor = Successor::of(&lb);
        load.wait_for_more(50);
        assert_eq!(fleet.settled(&lb), containers);
        assert_eq!((slots(&lb), homes(&lb)), before);
        assert!(lb.backends().iter().all(|slot| slot["restarts"] == 0));
        assert!(fleet.refusal(&[]).contains("is held by another lb"));
        drop(last.replace(successor));
    }
    assert_eq!(load.end(), Vec::<String>::new());
    assert_eq!(
        say(&mut open, "the old one still serves it"),
        format!("{served_by} the old one still serves it\n")
    );
    drop(open);
    assert!(lb.wait().success(), "it ends with its last session");
    assert_eq!(fleet.settled(&lb), containers, "and leaves all to its successor");
    docker(&["kill", &containers["server1"]]);
    lb.wait_for_restarts(1, 1);
    fleet.settled(&lb);
    let last = last.unwrap();
    signal(last.0, "TERM");
    last.wait();
    fleet.is_gone();
}

#[test]
fn the_old_one_takes_the_fleet_back_from_a_successor_that_dies() {
    let Some(fleet) = Fleet::of("upgrade-back") else { return };
    let lb = fleet.start(&CALM);
    let (containers, before) = (fleet.settled(&lb), slots(&lb));
    let successor = Successor::of(&lb);
    // What it has changed in the record is not what the old one knows.
    lb.done(&json!({"cmd": "mapping", "weights": {"server2": 3}}));
    signal(successor.0, "KILL");
    lb.wait_for_log("upgrade: the successor has failed, and this lb goes on");
    eventually("the slots as they were", || (slots(&lb) == before).then_some(()));
    assert_eq!(fleet.settled(&lb), containers);
    assert!(fleet.refusal(&[]).contains("is held by another lb"));
    docker(&["kill", &containers["server1"]]);
    lb.wait_for_restarts(1, 1);
    let now = fleet.settled(&lb);
    let _again = Successor::of(&lb);
    assert_eq!(fleet.settled(&lb), now);
    super::terminate(lb);
}

#[test]
fn a_container_that_drains_is_stopped_by_the_lb_that_serves_it() {
    let Some(fleet) = Fleet::of("upgrade-drain") else { return };
    let mut lb = fleet.start(&[&CALM[..], &["--drain-timeout", "2m"]].concat());
    let (mut open, served_by) = session(&lb, "1");
    let id = fleet.id_of(&served_by);
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": [served_by]}));
    let successor = Successor::of(&lb);
    lb.wait_for_log("upgrade: the successor has settled");
    // Its sweeps find what waits for nothing else.
    lb.done(&json!({"cmd": "add", "n": 1}));
    assert_eq!(say(&mut open, "still there"), format!("{served_by} still there\n"));
    assert_eq!(fleet.id_of(&served_by), id);
    drop(open);
    assert!(lb.wait().success());
    eventually("the end of the container", || {
        fleet.containers().iter().all(|[other, _, _]| *other != id).then_some(())
    });
    assert!(!has_swept(&lb), "the successor has left it alone");
    signal(successor.0, "TERM");
    successor.wait();
    fleet.is_gone();
}

fn has_swept(lb: &Lb) -> bool {
    lb.log().iter().any(|line| line.contains("has no slot (any more)"))
}
