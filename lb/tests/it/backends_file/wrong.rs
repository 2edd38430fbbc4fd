//! Files of backends that change nothing.

use std::fs;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::{Case, line};
use crate::flags::{command, end};
use crate::harness::{Replica, eventually, text};

#[test]
fn a_wrong_file_changes_nothing_and_all_that_is_wrong_is_told() {
    let replica = Replica::named("all");
    let a = line("a", replica.address);
    let case = Case::start(&a, &[]);
    case.put(&format!("{a}b=nowhere\n  a=h:2\nc={},weight=900\nd=h:2\n", replica.address));
    case.wait_for("refused", 1);
    let name = case.file().display().to_string();
    for told in [
        "2:3: invalid value `b=nowhere`: expected NAME=HOST:PORT".to_owned(),
        "3:3: the name a is in line 1 already".to_owned(),
        "expected as weight a whole number from 0 to 100".to_owned(),
    ] {
        let said = case.lb.wait_for_log(&told);
        assert!(said.contains("WARN") && said.contains("is not taken, and nothing is changed"), "{said}");
    }
    let shown = case.lb.done(&json!({"cmd": "backends"}))["backends_file"].clone();
    assert!(text(&shown["last_refusal"]).starts_with(&format!("{name}:2:3: ")), "{shown}");
    let (_, table, _) = end(command(&["backends", "--control", &case.lb.control.to_string()], &[]));
    assert!(table.contains(&format!("the file of backends is not taken: {name}:2:3")), "{table}");
    assert_eq!(case.lb.hostnames(), ["a"]);
    let refused = case.lb.refused(&json!({"cmd": "reload"}));
    assert!(refused.contains(&format!("--backends-file: {name}:2:3: invalid value")), "{refused}");
    // Back to what it said: nothing has changed, and nothing is refused any more.
    case.put(&a);
    eventually("the refusal to be over", || {
        let shown = case.lb.done(&json!({"cmd": "backends"}))["backends_file"].clone();
        (shown == json!({"applied": 0, "refused": 1})).then_some(())
    });
}

#[test]
fn an_empty_file_and_one_that_is_gone_remove_nothing() {
    let (first, second) = (Replica::named("first"), Replica::named("second"));
    let case = Case::start(&line("a", first.address), &[]);
    case.put("# nothing\n");
    case.lb.wait_for_log("names no backend: expected at least one NAME=HOST:PORT or NAME=unix:/PATH");
    fs::write(case.file(), "").unwrap();
    fs::remove_file(case.file()).unwrap();
    case.lb.wait_for_log("cannot be read: No such file");
    assert_eq!(case.lb.hostnames(), ["a"]);
    case.put(&line("b", second.address));
    eventually("the file that is there again", || (case.lb.hostnames() == ["b"]).then_some(()));
    // So it is when its folder goes and comes.
    let elsewhere = case.folder.path().with_extension("away");
    fs::rename(case.folder.path(), &elsewhere).unwrap();
    eventually("that is noticed", || {
        let shown = case.lb.done(&json!({"cmd": "backends"}))["backends_file"].clone();
        shown.get("last_refusal").map(drop)
    });
    fs::rename(&elsewhere, case.folder.path()).unwrap();
    case.put(&line("c", second.address));
    eventually("the folder that is there again", || (case.lb.hostnames() == ["c"]).then_some(()));
}

#[test]
fn a_server_that_does_not_answer_refuses_all_of_it_until_it_does() {
    let (first, second) = (Replica::named("first"), Replica::named("second"));
    second.healthy.store(false, Ordering::SeqCst);
    let case = Case::start(&line("a", first.address), &["--start-timeout", "300ms"]);
    case.put(&line("b", second.address));
    case.lb.wait_for_log("b is not ready within 300ms");
    assert_eq!(case.lb.hostnames(), ["a"]);
    second.healthy.store(true, Ordering::SeqCst);
    eventually("the server that answers now", || (case.lb.hostnames() == ["b"]).then_some(()));
    case.wait_for("applied", 1);
}

#[test]
fn flags_that_contradict_the_file_and_a_wrong_file_are_refused_before_anything_is_bound() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backends");
    fs::write(&file, "a=h:1\nb\n").unwrap();
    let name = file.to_str().unwrap();
    let wrong = format!("--backends-file: {name}:2:1: invalid value `b`: expected NAME=HOST:PORT");
    for (flags, expected) in [
        (&["--provider", "fixed"][..], wrong.as_str()),
        (&["--provider", "fixed", "--backend", "a=h:1"], "--backends-file: it names all backends"),
        (&["--provider", "fixed", "--replicas", "1"], "--replicas: with --backends-file, the file decides"),
        (&["--provider", "process"], "--backends-file: it goes with --provider fixed only"),
    ] {
        for subject in ["serve", "check"] {
            let words = [&[subject, "--backends-file", name], flags].concat();
            let (code, _, stderr) = end(command(&words, &[]));
            assert_eq!(code, Some(2), "{stderr}");
            assert!(stderr.lines().any(|line| line.starts_with(expected)), "{expected}: {stderr}");
        }
    }
    fs::write(&file, "\n").unwrap();
    let (code, _, stderr) = end(command(&["check", "--provider", "fixed"], &[("LB_BACKENDS_FILE", name)]));
    assert_eq!(code, Some(2));
    assert!(stderr.contains(&format!("LB_BACKENDS_FILE: {name} names no backend")), "{stderr}");
    fs::write(&file, "a=h:1\n").unwrap();
    let right = end(command(&["check", "--provider", "fixed", "--backends-file", name], &[]));
    assert_eq!(right, (Some(0), "the configuration is right\n".to_owned(), String::new()));
}
