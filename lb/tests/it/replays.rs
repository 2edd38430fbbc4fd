//! `lb replay`: the state of a fleet at any moment, from the file of its journal.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::control::calm;
use crate::harness::{Lb, eventually, signal, text};

fn replay(path: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lb")).arg("replay").arg(path).args(arguments).output().unwrap()
}

/// The state at an entry, or at the end.
fn state(path: &Path, at: Option<u64>) -> Value {
    let at: Vec<String> = at.map(|at| format!("--at={at}")).into_iter().collect();
    let arguments: Vec<&str> = ["--json"].into_iter().chain(at.iter().map(String::as_str)).collect();
    let output = replay(path, &arguments);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The fields of these slots that both `backends` and `replay` tell.
fn slots(all: &Value) -> Vec<Value> {
    let field = |slot: &Value, name| slot[name].clone();
    let slot = |slot: &Value| {
        ["index", "name", "hostname", "state", "restarts"].map(|name| field(slot, name)).to_vec().into()
    };
    all.as_array().unwrap().iter().map(slot).collect()
}

fn told(lb: &Lb) -> Vec<Value> {
    slots(&lb.done(&json!({"cmd": "backends"}))["backends"])
}

/// The entries in the file.
fn entries(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line.get("kind").is_some()).collect()
}

#[test]
fn a_chaotic_life_ends_in_the_same_state_when_it_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let lb = calm(&["--replicas", "3", "--spares", "1", "--journal", path.to_str().unwrap()]);
    (1..=3).for_each(|round| disturb(&lb, round));
    wait_for_the_same_state(&lb, &path, 6);
}

/// Kills a replica, adds two, removes one again and changes the mapping; the first and the third time it is `maglev` then.
fn disturb(lb: &Lb, round: u64) {
    signal(lb.process_of(text(&lb.wait_for_state(round, "up")["hostname"])), "KILL");
    let names = [format!("S{round}")];
    let added = lb.done(&json!({"cmd": "add", "n": 2, "hostnames": names, "weights": [3]}));
    lb.refused(&json!({"cmd": "rm", "n": 1, "hostnames": ["none"]}));
    let newest = added["replicas"].as_array().unwrap().last().unwrap();
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": [newest], "drain": "0s"}));
    let mapping = match round {
        2 => "slots",
        _ if round.is_multiple_of(2) => "rendezvous",
        _ => "maglev",
    };
    lb.done(&json!({"cmd": "mapping", "mapping": mapping}));
}

#[track_caller]
fn wait_for_the_same_state(lb: &Lb, path: &Path, n: usize) {
    eventually("the same state", || {
        let (now, output) = (told(lb), replay(path, &["--json"]));
        // The beginning may have been rotated away just now.
        let state: Value = serde_json::from_slice(&output.stdout).ok()?;
        let same = slots(&state["slots"]) == now && state["mapping"] == "maglev";
        let calm = now.iter().all(|slot| slot[3] == "up") && state["N"] == n;
        (same && calm).then_some(())
    });
}

#[test]
fn a_life_whose_beginning_was_rotated_away_is_replayed_from_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let [oldest, alone] = ["journal.4", "alone"].map(|name| folder.path().join(name));
    let flags = ["--replicas", "3", "--spares", "1", "--journal", path.to_str().unwrap()];
    let lb = calm(&[&flags[..], &["--journal-size", "4KiB"]].concat());
    let is_gone = || fs::read_to_string(&oldest).is_ok_and(|text| !text.contains(r#""began":{"#));
    let mut rounds = 0;
    while !is_gone() || rounds % 2 == 0 {
        rounds += 1;
        assert!(rounds < 30, "the beginning stays");
        disturb(&lb, rounds);
    }
    let n = usize::try_from(3 + rounds).unwrap();
    wait_for_the_same_state(&lb, &path, n);
    // The present file is enough.
    eventually("the same state from one file", || {
        fs::copy(&path, &alone).unwrap();
        let now = told(&lb);
        let output = replay(&alone, &["--json"]);
        let state: Value = serde_json::from_slice(&output.stdout).ok()?;
        (slots(&state["slots"]) == now).then_some(())
    });
    let output = replay(&path, &["--at", "1"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the state is known only after entry "), "{said}");
}

#[test]
fn the_state_when_an_entry_was_recorded_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let lb = calm(&["--replicas", "2", "--journal", path.to_str().unwrap()]);
    signal(lb.process_of("server2"), "KILL");
    let up = eventually("the end of the incident", || {
        entries(&path).into_iter().find(|entry| entry["kind"] == "incident" && entry["slot"] == "server2")
    });
    let all = entries(&path);
    let is_next = |entry: &&Value| entry["kind"] == "replica_starting" && entry["hostname"] != "server2";
    let next = all.iter().filter(|entry| entry["slot"] == "server2").find(is_next).unwrap();
    let at = |entry: &Value| state(&path, entry["seq"].as_u64());
    let (down, up) = (at(next), at(&up));
    assert_eq!(down["time"], next["time"]);
    assert_ne!(down["slots"][1]["state"], "up", "{down}");
    assert!(text(&down["slots"][1]["reason"]).contains("signal: 9"), "{down}");
    assert_eq!(down["slots"][0]["state"], "up", "{down}");
    assert_eq!((&up["slots"][1]["state"], &up["slots"][1]["restarts"]), (&json!("up"), &json!(1)));
    let words = replay(&path, &["--at", &all.last().unwrap()["seq"].to_string()]);
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(words.contains("N=2, mapping ring") && words.contains("server2"), "{words}");
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let refused = |arguments: &[&str]| {
        let output = replay(&path, arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&[]).contains("cannot read"));
    fs::write(&path, "no journal\n").unwrap();
    assert!(refused(&[]).contains("neither the beginning of a fleet nor a checkpoint is in it"));
    fs::remove_file(&path).unwrap();
    let mut lb = calm(&["--replicas", "1", "--journal", path.to_str().unwrap()]);
    lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S5"]}));
    lb.signal("TERM");
    assert!(lb.wait().success());
    let last = entries(&path).last().unwrap()["seq"].as_u64().unwrap();
    let said = refused(&["--at", &(last + 1).to_string()]);
    assert!(
        said.contains(&format!("--at: invalid value `{}`: expected a number from 1 to {last}", last + 1))
    );
    // A step that was lost is noticed.
    let text = fs::read_to_string(&path).unwrap();
    let is_lost = |line: &str| line.starts_with(r#"{"step":3,"#);
    let rest: Vec<&str> = text.lines().filter(|line| !is_lost(line)).collect();
    assert_eq!(rest.len() + 1, text.lines().count());
    fs::write(&path, rest.join("\n")).unwrap();
    assert!(refused(&[]).contains("1 steps are missing after entry"));
}
