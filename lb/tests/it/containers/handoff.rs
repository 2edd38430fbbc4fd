//! Containers that take connections over.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::chown;

use super::{CALM, Fleet, docker, homes, kill, terminate};
use crate::harness::{Lb, eventually};

/// The user of the demo image.
const UNPRIVILEGED: u32 = 65532;

fn are_handed_over(lb: &Lb) {
    eventually("hand-off to all", || {
        lb.backends().iter().all(|slot| slot["transport"] == "handoff").then_some(())
    });
}

#[test]
fn containers_are_handed_their_connections_also_by_the_next_lb() {
    let Some(fleet) = Fleet::of("handoff") else { return };
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(UNPRIVILEGED), Some(UNPRIVILEGED)).unwrap();
    let flags = ["--transport", "handoff", "--handoff-dir", folder.path().to_str().unwrap()];
    let flags = [&CALM, flags.as_slice()].concat();
    let lb = fleet.start(&flags);
    are_handed_over(&lb);
    let (containers, at_home) = (fleet.settled(&lb), homes(&lb));

    // One that dies is replaced in its slot, and so are its connections.
    docker(&["kill", &containers["server2"]]);
    eventually("the replacement", || (lb.slot(2)["restarts"] == 1).then_some(()));
    fleet.settled(&lb);
    are_handed_over(&lb);
    assert_eq!(homes(&lb), at_home, "every key is home again");

    // What was handed over outlives lb, and the containers are the next one's.
    let mut session = lb.connect();
    let mut line = |text: &str| {
        session.write_all(text.as_bytes()).unwrap();
        let mut answer = [0; 64];
        let length = session.read(&mut answer).unwrap();
        String::from_utf8(answer[..length].to_vec()).unwrap()
    };
    let answer = line("1\n");
    assert!(answer.ends_with(" 1\n"), "{answer}");
    kill(lb);
    assert_eq!(line("2\n"), answer.replace(" 1\n", " 2\n"));
    let mut lb = fleet.start(&flags);
    are_handed_over(&lb);
    assert_eq!(homes(&lb), at_home);

    // An lb that ends at once leaves the containers, and their sockets.
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
