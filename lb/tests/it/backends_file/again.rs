//! What a file says and could not be made, or read, at once.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::Command;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::{Case, line, loads};
use crate::harness::{Replica, eventually};
use crate::programs::skipped;

/// How often the file was refused so far.
fn refusals(case: &Case) -> u64 {
    case.lb.done(&json!({"cmd": "backends"}))["backends_file"]["refused"].as_u64().unwrap()
}

#[test]
fn what_could_not_be_made_is_tried_again_without_a_look_at_a_file_that_is_being_written() {
    let [first, second, third] = ["first", "second", "third"].map(Replica::named);
    second.healthy.store(false, Ordering::SeqCst);
    let case = Case::start(&line("a", first.address), &["--start-timeout", "300ms"]);
    case.put(&format!("{}{}", line("a", first.address), line("b", second.address)));
    case.lb.wait_for_log("b is not ready within 300ms");
    // It is written in place, and slowly.
    let mut writing = File::create(case.file()).unwrap();
    writing.write_all(line("c", third.address).as_bytes()).unwrap();
    fs::write(case.folder.path().join("other"), "").unwrap();
    case.lb.wait_for_log("a file that is watched is being written");
    let before = refusals(&case);
    eventually("the next try", || (refusals(&case) > before).then_some(()));
    assert_eq!(case.slots(), [format!("a={}", first.address)], "half of a file is not believed");
    writing.write_all(line("a", first.address).as_bytes()).unwrap();
    drop(writing);
    case.wait_for("applied", 1);
    assert_eq!(case.slots(), [format!("a={}", first.address), format!("c={}", third.address)]);
    assert_eq!(loads(&case.lb), [json!(["slot c: added (the file has changed)"])]);
}

#[test]
fn what_a_reload_has_read_since_is_not_undone_by_another_try() {
    let [first, second, third] = ["first", "second", "third"].map(Replica::named);
    second.healthy.store(false, Ordering::SeqCst);
    let case = Case::start(&line("a", first.address), &["--start-timeout", "300ms"]);
    case.put(&line("b", second.address));
    case.lb.wait_for_log("b is not ready within 300ms");
    // A reload reads the file as it is, whether it is closed or not.
    let mut writing = File::create(case.file()).unwrap();
    writing.write_all(line("c", third.address).as_bytes()).unwrap();
    case.lb.done(&json!({"cmd": "reload"}));
    second.healthy.store(true, Ordering::SeqCst);
    case.lb.wait_for_log("the file of backends has been loaded since it was read here");
    assert_eq!(case.slots(), [format!("c={}", third.address)]);
    drop(writing);
    case.put(&line("b", second.address));
    case.wait_for("applied", 1);
    assert_eq!(case.slots(), [format!("b={}", second.address)]);
}

#[test]
fn what_a_command_stands_in_the_way_of_is_made_when_it_is_done() {
    let [first, second, third] = ["first", "second", "third"].map(Replica::named);
    second.healthy.store(false, Ordering::SeqCst);
    let case = Case::start(&line("a", first.address), &[]);
    let added = format!("b={}", second.address);
    std::thread::scope(|scope| {
        let adding =
            scope.spawn(|| case.lb.done(&json!({"cmd": "add", "n": 1, "hostnames": [added.clone()]})));
        eventually("the slot that comes", || (case.lb.backends().len() == 2).then_some(()));
        case.put(&[("b", &second), ("c", &third)].map(|(name, at)| line(name, at.address)).concat());
        // Whether the file is read before the command is done or after, the end is the same.
        second.healthy.store(true, Ordering::SeqCst);
        adding.join().unwrap();
    });
    // The file stays as it is: what else it says is made, too.
    case.wait_for("applied", 1);
    assert_eq!(case.slots(), [added, format!("c={}", third.address)]);
}

#[test]
fn a_mapping_that_has_room_later_takes_the_file_then() {
    let replicas = ["first", "second", "third"].map(Replica::named);
    let text = |n: usize| -> String {
        ["a", "b", "c"].iter().zip(&replicas).take(n).map(|(name, at)| line(name, at.address)).collect()
    };
    let case = Case::start(&text(2), &["--mapping", "slots", "--slots", "2", "--virtual", "1"]);
    case.put(&text(3));
    case.wait_for("refused", 1);
    assert_eq!(case.lb.hostnames(), ["a", "b"]);
    case.lb.done(&json!({"cmd": "mapping", "slots": 512}));
    case.wait_for("applied", 1);
    assert_eq!(case.lb.hostnames(), ["a", "b", "c"]);
}

#[test]
fn a_file_that_could_not_be_read_once_is_read_again() {
    let (first, second) = (Replica::named("first"), Replica::named("second"));
    let case = Case::start(&line("a", first.address), &[]);
    let limit = |most: &str| {
        let (pid, most) = (case.lb.pid().to_string(), format!("--nofile={most}:"));
        let done = Command::new("prlimit").args(["--pid", &pid, &most]).output();
        done.is_ok_and(|done| done.status.success())
    };
    // No file can be opened any more.
    if !limit("1") {
        return skipped("there is no prlimit (util-linux)");
    }
    case.put(&line("b", second.address));
    case.lb.wait_for_log("cannot be read: Too many open files");
    assert!(limit("1000"));
    case.wait_for("applied", 1);
    assert_eq!(case.lb.hostnames(), ["b"]);
}
