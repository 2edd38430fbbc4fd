//! Ctrl-C during a run: `bench` shows what it has measured, and every program that it started ends.

use std::process::Command;

use crate::harness::{Ran, Results, bench, end_of, eventually, until_it_works};
use crate::servers::Backend;

/// Sends a signal to a process that the test started.
pub(crate) fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

/// Processes with this entry in their environment, without zombies.
fn marked(mark: &str) -> Vec<String> {
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_marked = |pid: &String| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes())
    };
    processes.filter(is_marked).collect()
}

#[test]
fn a_load_shows_what_it_has_counted() {
    let backend = Backend::start("one");
    let results = Results::new();
    let flags = [
        "load",
        "--target",
        &backend.address,
        "--duration",
        "1h",
        "--warm-up",
        "0s",
        "--json",
        &results.file(),
    ];
    let child = bench(&flags).spawn().unwrap();
    until_it_works(&child);
    signal(child.id(), "INT");
    let ran = end_of(child).failed_with("interrupted");
    assert!(ran.stdout.contains("right answers") && ran.stdout.contains("p99"), "{}", ran.stdout);
    let numbers = results.json();
    assert!(numbers["succeeded"].as_u64().unwrap() > 0, "{numbers}");
    assert_eq!(
        (&numbers["failures"], &numbers["cut_short"]),
        (&serde_json::json!({}), &"interrupted".into())
    );
}

/// Every process that an experiment starts inherits the mark in its environment.
fn interrupted(arguments: &[&str], when: &str, signals: &[&str]) -> Ran {
    let mark = format!("BENCH_TEST={}-{}-{}", arguments[0], signals.join("-"), std::process::id());
    let (name, value) = mark.split_once('=').unwrap();
    let child = bench(arguments).env(name, value).spawn().unwrap();
    eventually(when, || {
        let commands = marked(&mark)
            .into_iter()
            .map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default());
        commands.into_iter().any(|command| command.contains(when)).then_some(())
    });
    signals.iter().for_each(|name| signal(child.id(), name));
    let ran = end_of(child);
    eventually("the end of all that was started", || marked(&mark).is_empty().then_some(()));
    ran
}

#[test]
fn an_experiment_leaves_no_process_behind() {
    for (name, command) in [("INT", "a1"), ("TERM", "a3")] {
        let ran = interrupted(&[command, "--requests", "50000000"], "lb-replica", &[name]);
        ran.failed_with("interrupted");
    }
    interrupted(&["soak", "--time", "1h"], "lb-replica", &["INT"]).failed_with("interrupted");
}

#[test]
fn a_killed_experiment_leaves_no_process_behind() {
    interrupted(&["a2", "--requests", "50000000"], "lb-replica", &["KILL"]);
    let ran = interrupted(&["a3", "--requests", "50000000"], "lb-replica", &["INT", "INT"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
}
