//! What happens to a fleet when one `lb` follows another, or two run at once.

use std::net::TcpStream;

use serde_json::json;

use super::{CALM, Fleet, docker, homes, image, kill, slots, terminate, try_docker};
use crate::harness::{eventually, say, session, text};

#[test]
fn half_created_and_dead_containers_are_removed_at_start_and_foreign_ones_stay() {
    let Some(fleet) = Fleet::of("leftovers") else { return };
    let other = fleet.beside();
    let lb = fleet.start(&CALM);
    let containers = fleet.settled(&lb);
    kill(lb);
    let [ours, others] = [&fleet, &other].map(|fleet| format!("lb.fleet={}", fleet.name));
    // Some of these have names that begin like those of our containers.
    let half_made = docker(&["create", "--name", &format!("{}-half", fleet.name), "--label", &ours, image()]);
    let dead = docker(&["run", "--detach", "--label", &ours, image(), "--version"]);
    let strangers = [
        docker(&["create", "--label", &others, "--label", "lb.hostname=server1", image()]),
        docker(&["run", "--detach", "--label", &others, image()]),
        docker(&["create", "--name", &format!("{}-mine", fleet.name), image()]),
    ];
    let _mine = Unlabelled(strangers[2].clone());
    eventually("the end of the dead container", || {
        fleet.containers().iter().any(|[id, state, _]| *id == dead && state == "exited").then_some(())
    });
    let lb = fleet.start(&CALM);
    assert_eq!(fleet.settled(&lb), containers);
    for gone in [&half_made, &dead] {
        assert!(try_docker(&["inspect", gone]).is_err(), "{gone} is left");
    }
    terminate(lb);
    fleet.is_gone();
    let states = strangers.map(|id| docker(&["inspect", "--format", "{{.State.Status}}", &id]));
    assert_eq!(states, ["created", "running", "created"]);
}

/// A container without a label, removed when this is dropped.
struct Unlabelled(String);

impl Drop for Unlabelled {
    fn drop(&mut self) {
        let _ = try_docker(&["rm", "--force", "--volumes", &self.0]);
    }
}

#[test]
fn a_slot_that_lost_its_container_while_lb_was_away_is_filled_again() {
    let Some(fleet) = Fleet::of("absence") else { return };
    let lb = fleet.start(&CALM);
    let (mut before, at_home) = (fleet.settled(&lb), homes(&lb));
    kill(lb);
    docker(&["kill", &before["server2"]]);
    let lb = fleet.start(&CALM);
    let slot = lb.slot(2);
    assert_eq!(slot["name"], "server2");
    let mut now = fleet.settled(&lb);
    assert_ne!(now.remove(text(&slot["hostname"])), before.remove("server2"));
    assert_eq!(now, before, "the others are the same");
    assert_eq!(homes(&lb), at_home);
}

/// The holder and the seats in the only record of the fleet.
#[track_caller]
fn record(fleet: &Fleet) -> [String; 2] {
    let volumes = eventually("one volume", || Some(fleet.volumes()).filter(|volumes| volumes.len() == 1));
    ["lb.holder", "lb.seats"].map(|label| {
        let format = format!(r#"{{{{index .Labels "{label}"}}}}"#);
        docker(&["volume", "inspect", "--format", &format, &volumes[0]])
    })
}

#[test]
fn a_second_lb_of_the_same_fleet_is_refused_and_one_of_another_is_not() {
    let Some(fleet) = Fleet::of("two") else { return };
    let lb = fleet.start(&CALM);
    let (containers, before) = (fleet.containers(), (slots(&lb), homes(&lb), record(&fleet)));
    let last = fleet.refusal(&["--replicas", "5"]);
    assert!(last.contains(&format!("fleet {} is held by another lb", fleet.name)), "{last}");
    assert_eq!(fleet.containers(), containers);
    assert_eq!((slots(&lb), homes(&lb), record(&fleet)), before);
    let other = fleet.beside();
    let beside = other.start(&[&CALM[..], &["--replicas", "1"]].concat());
    assert_eq!(other.settled(&beside).len(), 1);
    assert_eq!(beside.route("1"), "server1");
    terminate(beside);
    other.is_gone();
    assert_eq!(fleet.containers(), containers);
    assert_eq!((slots(&lb), homes(&lb), record(&fleet)), before);
}

#[test]
fn connections_finish_at_the_end_and_then_nothing_is_left() {
    let Some(fleet) = Fleet::of("end") else { return };
    let mut lb = fleet.start(&[&CALM[..], &["--spares", "1", "--drain-timeout", "2m"]].concat());
    let (mut client, hostname) = session(&lb, "132574");
    lb.signal("TERM");
    eventually("the data port closed", || TcpStream::connect(lb.data).is_err().then_some(()));
    for _ in 0..10 {
        assert_eq!(say(&mut client, "still there"), format!("{hostname} still there\n"));
        assert_eq!(fleet.containers().len(), 4);
    }
    drop(client);
    assert_eq!(lb.wait().code(), Some(0));
    fleet.is_gone();
}

#[test]
fn containers_stay_for_the_next_lb_with_keep() {
    let Some(fleet) = Fleet::of("keep") else { return };
    let flags = [&CALM[..], &["--keep"]].concat();
    let lb = fleet.start(&flags);
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["server2"]}));
    eventually("two slots", || (lb.backends().len() == 2).then_some(()));
    fleet.settled(&lb);
    let (containers, before) = (fleet.containers(), (slots(&lb), homes(&lb)));
    terminate(lb);
    assert_eq!(fleet.containers(), containers);
    assert!(fleet.has_network());
    let lb = fleet.start(&CALM);
    assert_eq!(fleet.containers(), containers);
    assert_eq!((slots(&lb), homes(&lb)), before);
    terminate(lb);
    fleet.is_gone();
}
