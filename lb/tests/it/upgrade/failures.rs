//! Successors that fail: the old `lb` goes on, and says why.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use super::load::Load;
use super::{Successor, fleet_of};
use crate::harness::{Lb, eventually, flags, is_alive, signal};

/// A program that does this.
fn program(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("lb");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn the_old_one_goes_on_whatever_is_wrong_with_the_new_one() {
    let (_replicas, backends) = fleet_of(2);
    let lb = Lb::start(&flags(&backends));
    let folder = TempDir::new().unwrap();
    let load = Load::on(lb.data);
    for (script, expected) in [
        ("exit 1", "it has ended"),
        ("exec sleep 1000", "it is not ready in time"),
        ("kill -9 $$", "it has ended"),
        ("echo nonsense >&0; exec sleep 1000", "it cannot be understood"),
        (
            &format!("exec {} serve --listen nowhere", env!("CARGO_BIN_EXE_lb")),
            "the configuration is wrong: --listen",
        ),
    ] {
        let binary = program(folder.path(), script);
        let told = lb.refused(&json!({"cmd": "upgrade", "binary": binary}));
        assert!(told.contains("this lb goes on: ") && told.contains(expected), "{script}: {told}");
        load.wait_for_more(20);
        assert_eq!(lb.hostnames(), ["a", "b"]);
    }
    let told = lb.refused(&json!({"cmd": "upgrade", "binary": "/nowhere/lb"}));
    assert!(told.contains("cannot run /nowhere/lb: No such file"), "{told}");
    assert_eq!(load.end(), Vec::<String>::new());
    let events = lb.log().iter().filter(|line| line.contains("upgrade: this lb goes on")).count();
    assert_eq!(events, 6);
    // It can still be upgraded.
    let _successor = Successor::of(&lb);
}

#[test]
fn an_lb_with_other_replicas_is_no_successor() {
    let (_replicas, backends) = fleet_of(1);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("lb.toml");
    fs::write(&file, "provider = \"process\"\nreplicas = 1\n").unwrap();
    let lb = Lb::start(&["--config", file.to_str().unwrap()]);
    let [.., backend] = &backends[..] else { panic!("{backends:?}") };
    fs::write(&file, format!("provider = \"fixed\"\nbackend = [\"{backend}\"]\n")).unwrap();
    let told = lb.refused(&json!({"cmd": "upgrade"}));
    let expected =
        "the lb before this one has --provider process, and this one --provider fixed: expected the same";
    assert!(told.contains(expected), "{told}");
    assert_eq!(lb.hostnames(), ["server1"]);
}

#[test]
fn an_lb_that_is_told_to_end_takes_a_successor_along_that_does_not_serve_yet() {
    let mut lb = Lb::start(&["--replicas", "1", "--drain-timeout", "1s"]);
    let replica = u32::try_from(lb.slot(1)["pid"].as_u64().unwrap()).unwrap();
    let folder = TempDir::new().unwrap();
    let note = folder.path().join("pid");
    let binary = program(
        folder.path(),
        &format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", note.display()),
    );
    let stream = lb.dial(lb.control);
    let ask = json!({"cmd": "upgrade", "binary": binary});
    std::io::Write::write_all(&mut &stream, format!("{ask}\n").as_bytes()).unwrap();
    let successor = eventually("a successor", || fs::read_to_string(&note).ok()?.trim().parse::<u32>().ok());
    lb.signal("TERM");
    assert!(lb.wait().success());
    assert!(!is_alive(successor) && !is_alive(replica));
}

#[test]
fn a_successor_that_dies_soon_is_as_if_it_had_never_been() {
    let (_replicas, backends) = fleet_of(2);
    let lb = Lb::start(&flags(&backends));
    let successor = Successor::of(&lb);
    signal(successor.0, "KILL");
    lb.wait_for_log("upgrade: the successor has failed, and this lb goes on");
    eventually("the old one serves", || (lb.hostnames() == ["a", "b"]).then_some(()));
    let load = Load::on(lb.data);
    load.wait_for_more(100);
    assert_eq!(load.end(), Vec::<String>::new());
    lb.done(&json!({"cmd": "mapping", "weights": {"b": 7}}));
    assert!(is_alive(lb.pid()));
}
