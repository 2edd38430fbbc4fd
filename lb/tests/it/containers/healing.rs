//! Containers that end, hang or are removed: `lb` notices, and fills the slot again.

use std::io::Write as _;
use std::process::Command;

use serde_json::json;

use super::{CALM, Fleet, OwnImage, build, docker, homes, kill, slots, try_docker};
use crate::harness::{Lb, eventually, id_for, session, text};

/// Runs each `docker` command on the container of the next slot, and checks that its slot gets another container and nothing
/// else changes.
#[track_caller]
fn heals_after(fleet: &Fleet, lb: &Lb, does: &[&[&str]]) {
    let mut before = fleet.settled(lb);
    let at_home = homes(lb);
    for (index, arguments) in (0..3).cycle().zip(does) {
        let slot = lb.slot(index + 1);
        let old = text(&slot["hostname"]);
        // What ended is removed later, so the command succeeds. (`docker rm` may find that `lb` is faster.)
        let done = try_docker(&[arguments, &[&*before[old]][..]].concat());
        assert!(done.is_ok() || arguments[0] == "rm", "{arguments:?}: {done:?}");
        let after = lb.wait_for_replacement(&slot);
        assert_ne!(after["hostname"], slot["hostname"], "{arguments:?}");
        let mut now = fleet.settled(lb);
        eventually("every key in its slot", || (homes(lb) == at_home).then_some(()));
        before.remove(old);
        now.remove(text(&after["hostname"]));
        assert_eq!(before, now, "{arguments:?} leaves the others alone");
        before = fleet.settled(lb);
    }
}

#[test]
fn a_container_that_ends_in_any_way_is_replaced_in_its_slot() {
    let Some(fleet) = Fleet::of("ends") else { return };
    let lb = fleet.start(&CALM);
    heals_after(
        &fleet,
        &lb,
        &[&["kill"], &["stop"], &["rm", "--force"], &["restart"], &["kill", "--signal", "TERM"]],
    );
    for (part, ways) in [("exit code 137", "kill"), ("exit code 0", "stop")] {
        let line = lb.wait_for_log(&format!(": container ended with {part}"));
        assert!(!line.contains("memory"), "{ways}: {line}");
    }
}

#[test]
fn a_container_that_lb_is_told_to_kill_is_replaced_in_its_slot() {
    let Some(fleet) = Fleet::of("told") else { return };
    let lb = fleet.start(&CALM);
    let mut before = fleet.settled(&lb);
    let slot = lb.slot(2);
    assert_eq!(text(&slot["container"]), before["server2"], "an operator finds its container");
    let answer = lb.done(&json!({"cmd": "kill", "hostname": "server2"}));
    assert_eq!(answer, json!({"killed": "server2", "slot": "server2"}));
    let after = lb.wait_for_replacement(&slot);
    let mut now = fleet.settled(&lb);
    assert!(before.remove("server2") != now.remove(text(&after["hostname"])));
    assert_eq!(before, now, "the others are left alone");
    lb.wait_for_log("container ended with exit code 137 hostname=server2");
}

#[test]
fn a_container_that_hangs_is_replaced_in_its_slot() {
    let Some(fleet) = Fleet::of("hangs") else { return };
    let lb = fleet.start(&[]);
    heals_after(&fleet, &lb, &[&["pause"], &["kill", "--signal", "STOP"]]);
}

#[test]
fn a_container_that_is_paused_or_stopped_is_replaced_whatever_its_sessions() {
    let Some(fleet) = Fleet::of("stopped") else { return };
    let lb = fleet.start(&["--replace-after", "500ms", "--replace-busy-after", "1h"]);
    for (name, stops) in [("server1", &["pause"][..]), ("server2", &["kill", "--signal", "STOP"])] {
        let (_client, hostname) = session(&lb, &id_for(&lb, name));
        let slot = lb.backends().into_iter().find(|slot| slot["name"] == name).unwrap();
        docker(&[stops, &[&*fleet.id_of(&hostname)]].concat());
        lb.wait_for_replacement(&slot);
    }
}

/// A server that allocates a gigabyte as soon as it receives a byte. It does so at once: a process that reaches its limit
/// slowly can thrash for minutes, because the kernel evicts its code and reads it again.
const GREEDY: &str = r#"
fn main() {
    for client in std::net::TcpListener::bind("0.0.0.0:5000").unwrap().incoming().flatten() {
        if std::io::Read::read(&mut &client, &mut [0]).is_ok_and(|count| count > 0) {
            std::hint::black_box(vec![1u8; 1 << 30]);
        }
    }
}
"#;

#[test]
fn a_container_that_takes_too_much_memory_is_replaced_and_the_log_says_so() {
    let Some(fleet) = Fleet::of("memory") else { return };
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("greedy.rs"), GREEDY).unwrap();
    let flags = ["-C", "opt-level=3", "-C", "target-feature=+crt-static", "greedy.rs"];
    build(Command::new("rustc").args(flags).current_dir(folder.path()));
    let file = "FROM scratch\nCOPY greedy /\nENTRYPOINT [\"/greedy\"]\n";
    let own = OwnImage::build(&fleet, folder.path(), file);
    let lb = fleet.start(&[&CALM[..], &["--image", &own.0, "--health", "tcp", "--memory", "16MiB"]].concat());
    let (slot, mut before) = (lb.slot(2), fleet.settled(&lb));
    lb.connect().write_all(format!("{}\n", id_for(&lb, "server2")).as_bytes()).unwrap();
    let after = lb.wait_for_replacement(&slot);
    let line = lb.wait_for_log("(it ran out of memory)");
    assert!(line.contains("server2"), "{line}");
    let mut now = fleet.settled(&lb);
    assert_ne!(now.remove(text(&after["hostname"])), before.remove("server2"));
    assert_eq!(now, before, "the others are left alone");
}

#[test]
fn a_replacement_keeps_the_name_with_respawn_name_same() {
    let Some(fleet) = Fleet::of("same-name") else { return };
    let lb = fleet.start(&[&CALM[..], &["--respawn-name", "same"]].concat());
    let (before, containers, at_home) = (slots(&lb), fleet.settled(&lb), homes(&lb));
    for round in 0..2 {
        let slot = lb.slot(2);
        docker(&["kill", &fleet.id_of("server2")]);
        lb.wait_for_replacement(&slot);
        let now = fleet.settled(&lb);
        assert_ne!(now["server2"], containers["server2"], "round {round}");
    }
    assert_eq!(slots(&lb), before);
    assert_eq!(homes(&lb), at_home);
}

#[test]
fn a_spare_moves_into_a_slot_and_the_next_lb_finds_it_there() {
    let Some(fleet) = Fleet::of("spare") else { return };
    let flags = [&CALM[..], &["--spares", "1"]].concat();
    let lb = fleet.start(&flags);
    let at_home = homes(&lb);
    // The second death takes the spare that replaced the first one.
    for index in [2, 3] {
        let spare = eventually("a spare", || lb.spares().into_iter().find(|spare| spare["state"] == "up"));
        let slot = lb.slot(index);
        docker(&["kill", &fleet.id_of(text(&slot["hostname"]))]);
        let after = lb.wait_for_replacement(&slot);
        assert_eq!(after["hostname"], spare["hostname"]);
        assert_eq!(homes(&lb), at_home);
    }
    let (seated, containers) = (slots(&lb), fleet.settled(&lb));
    kill(lb);
    let lb = fleet.start(&flags);
    assert_eq!(slots(&lb), seated);
    assert_eq!(fleet.settled(&lb), containers, "the spare is the same container too");
    assert_eq!(homes(&lb), at_home);
}
