//! What a file says and cannot be made is in nothing's way: its server may be what a reload or a successor is asked for.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{line, put, slots};
use crate::control::http;
use crate::harness::{Lb, Replica, eventually};
use crate::upgrade::Successor;

/// An `lb` with a configuration file and a file of backends, and three servers. One of them does not answer.
struct Case {
    folder: TempDir,
    lb: Lb,
    first: Replica,
    dead: Replica,
    third: Replica,
}

impl Case {
    /// One whose file names the first server.
    fn start() -> Case {
        let [first, dead, third] = ["first", "dead", "third"].map(Replica::named);
        dead.healthy.store(false, Ordering::SeqCst);
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("lb.toml");
        fs::write(&config, text(&folder.path().join("one"))).unwrap();
        fs::write(folder.path().join("one"), line("a", first.address)).unwrap();
        let lb = Lb::start(&["--log", "lb=debug", "--config", config.to_str().unwrap()]);
        Case { folder, lb, first, dead, third }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of backends with the server that does not answer, and one more.
    fn put(&self, name: &str, more: (&str, &Replica)) {
        put(&self.path(name), &[line(more.0, more.1.address), line("b", self.dead.address)].concat());
    }

    /// Has the configuration name this file.
    fn name(&self, file: &str) {
        fs::write(self.path("lb.toml"), text(&self.path(file))).unwrap();
    }

    /// Waits until it is under way to add the server that does not answer.
    fn wait_for_a_try(&self) {
        eventually("the slot that comes", || self.lb.backends().iter().find_map(is_new));
    }
}

fn is_new(slot: &Value) -> Option<()> {
    (slot["name"] == "b" && slot["state"] == "starting").then_some(())
}

fn text(file: &std::path::Path) -> String {
    let file = file.display();
    format!(
        "provider = \"fixed\"\nbackends-file = \"{file}\"\nstart-timeout = \"10m\"\nhealth-interval = \"1m\"\n"
    )
}

#[test]
fn a_reload_and_a_look_at_what_runs_go_before_a_server_that_does_not_answer() {
    let case = Case::start();
    case.put("one", ("a", &case.first));
    case.wait_for_a_try();
    let shown = case.lb.done(&json!({"cmd": "reload", "dry_run": true}));
    assert_eq!(shown["slots"], json!([{"slot": "b", "change": "added", "by": "file"}]));
    // It is tried again at once.
    case.wait_for_a_try();
    let written = http(&case.lb, "GET /config", "").body;
    assert!(written.contains(&format!("# a={}", case.first.address)), "{written}");
    case.wait_for_a_try();
    fs::write(case.path("two"), line("c", case.third.address)).unwrap();
    case.name("two");
    case.lb.done(&json!({"cmd": "reload"}));
    assert_eq!(slots(&case.lb), [format!("c={}", case.third.address)]);
}

#[test]
fn a_hangup_is_kept_until_what_is_under_way_is_done() {
    let case = Case::start();
    case.put("one", ("a", &case.first));
    case.wait_for_a_try();
    // The file gives way.
    fs::write(case.path("two"), line("c", case.third.address)).unwrap();
    case.name("two");
    case.lb.signal("HUP");
    eventually("the file that is named now", || (case.lb.hostnames() == ["c"]).then_some(()));
    // A reload does not, but the signal is not lost.
    case.put("three", ("c", &case.third));
    case.name("three");
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| case.lb.done(&json!({"cmd": "reload"})));
        case.wait_for_a_try();
        fs::write(case.path("four"), line("d", case.first.address)).unwrap();
        case.name("four");
        case.lb.signal("HUP");
        let said = case.lb.refused(&json!({"cmd": "reload"}));
        assert!(said.contains("another reload is under way; try again when it is done"), "{said}");
        case.dead.healthy.store(true, Ordering::SeqCst);
        assert_eq!(reload.join().unwrap()["slots"][0]["slot"], "b");
    });
    eventually("the file that was named last", || (case.lb.hostnames() == ["d"]).then_some(()));
}

#[test]
fn a_successor_goes_before_a_server_that_does_not_answer() {
    let case = Case::start();
    case.put("one", ("a", &case.first));
    case.wait_for_a_try();
    let _successor = Successor::of(&case.lb);
    eventually("what the successor has read", || (case.lb.hostnames() == ["a", "b"]).then_some(()));
}

#[test]
fn a_command_stays_in_the_way_of_a_successor_and_is_named() {
    let case = Case::start();
    let added = format!("b={}", case.dead.address);
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| case.lb.done(&json!({"cmd": "add", "n": 1, "hostnames": [added]})));
        case.wait_for_a_try();
        let said = case.lb.refused(&json!({"cmd": "upgrade"}));
        assert!(said.contains("a command is under way; try again when it is done"), "{said}");
        case.dead.healthy.store(true, Ordering::SeqCst);
        adding.join().unwrap();
    });
}
