//! Containers that take connections over.

use std::os::unix::fs::chown;

use super::{CALM, Fleet, docker, homes, kill, terminate};
use crate::harness::{Lb, eventually, say};

/// The user of the demo image.
const UNPRIVILEGED: u32 = 65532;

fn are_handed_over(lb: &Lb) {
    eventually("hand-off to all replicas", || {
        lb.backends().iter().all(|slot| slot["transport"] == "handoff").then_some(())
    });
}

#[test]
fn the_next_lb_hands_connections_over_to_the_same_containers() {
    let Some(fleet) = Fleet::of("handoff") else { return };
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(UNPRIVILEGED), Some(UNPRIVILEGED)).unwrap();
    let flags = ["--transport", "handoff", "--handoff-dir", folder.path().to_str().unwrap()];
    let flags = [&CALM, flags.as_slice()].concat();
    let lb = fleet.start(&flags);
    are_handed_over(&lb);
    let (containers, at_home) = (fleet.settled(&lb), homes(&lb));

    // A dead container is replaced in its slot, and its connections are handed over again.
    docker(&["kill", &containers["server2"]]);
    lb.wait_for_restarts(2, 1);
    fleet.settled(&lb);
    are_handed_over(&lb);
    assert_eq!(homes(&lb), at_home, "every key is back in its slot");

    // Handed-over connections outlive lb, and the next lb takes the containers over.
    let mut client = lb.connect();
    let answer = say(&mut client, "1");
    assert!(answer.ends_with(" 1\n"), "{answer}");
    kill(lb);
    assert_eq!(say(&mut client, "2"), answer.replace(" 1\n", " 2\n"));
    let mut lb = fleet.start(&flags);
    are_handed_over(&lb);
    assert_eq!(homes(&lb), at_home);

    // An lb that a second signal ends leaves the containers and their sockets.
    let _open = lb.connect();
    lb.signal("TERM");
    lb.wait_for_log("stopping");
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    let lb = fleet.start(&flags);
    are_handed_over(&lb);
    terminate(lb);
    fleet.is_gone();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no socket is left");
}
