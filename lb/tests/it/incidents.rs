//! Incidents: the story of each loss of a replica.

use std::process::Command;

use serde_json::{Value, json};

use crate::control::{by_line, http};
use crate::harness::{Gate, Lb, eventually, id_for, session, signal, text};

fn incidents(lb: &Lb) -> Vec<Value> {
    serde_json::from_str(&by_line(lb, &json!({"cmd": "incidents"}))).unwrap()
}

fn over(lb: &Lb) -> Vec<Value> {
    incidents(lb).into_iter().filter(|incident| incident["phases"]["total"].is_f64()).collect()
}

fn seconds(incident: &Value, phase: &str) -> f64 {
    incident["phases"][phase].as_f64().unwrap_or_else(|| panic!("{phase}: {incident}"))
}

#[test]
fn a_kill_is_told_with_its_phases_and_what_was_cut() {
    let lb = Lb::start(&["--replicas", "3"]);
    assert_eq!(incidents(&lb), Vec::<Value>::new());
    let hostname = "server2";
    let _open = session(&lb, &id_for(&lb, hostname));
    signal(lb.process_of(hostname), "KILL");
    let all = eventually("the end of the incident", || Some(over(&lb)).filter(|all| !all.is_empty()));
    let [incident] = &all[..] else { panic!("{all:?}") };
    assert_eq!((text(&incident["slot"]), text(&incident["hostname"])), (hostname, hostname));
    assert!(text(&incident["cause"]).contains("signal: 9"), "{incident}");
    assert_eq!(incident["replaced_by"], lb.slot(2)["hostname"]);
    assert_eq!((&incident["cut"], &incident["starts"]), (&json!(1), &json!(1)));
    let sum: f64 = ["notice", "start", "ready"].map(|phase| seconds(incident, phase)).iter().sum();
    assert!((sum - seconds(incident, "total")).abs() < 1e-6, "{incident}");
    // Over HTTP it is the same, and as an event.
    let response = http(&lb, "GET /incidents", "");
    assert_eq!(response.status, 200);
    assert_eq!(serde_json::from_str::<Vec<Value>>(&response.body).unwrap(), all);
    let client = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
        command.args(flags).env("LB_CONTROL", lb.control.to_string());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(client(&["events", "--json"]).contains(r#""kind":"incident""#));
    assert!(client(&["incidents"]).contains("1 cut, "), "{}", client(&["incidents"]));
    assert_eq!(serde_json::from_str::<Value>(&client(&["incidents", "--json"])).unwrap(), json!(all));
}

#[test]
fn a_replica_that_hangs_is_noticed_after_its_first_failed_probe() {
    let flags = [
        "--replicas",
        "2",
        "--health-interval",
        "100ms",
        "--health-timeout",
        "300ms",
        "--replace-after",
        "200ms",
    ];
    let lb = Lb::start(&flags);
    signal(lb.process_of("server1"), "STOP");
    let all = eventually("the end of the incident", || Some(over(&lb)).filter(|all| !all.is_empty()));
    let incident = &all[0];
    assert!(seconds(incident, "notice") > 0.0, "{incident}");
    assert!(seconds(incident, "start") > 0.0 && seconds(incident, "ready") > 0.0, "{incident}");
    assert_eq!(incident["slot"], "server1");
}

#[test]
fn an_incident_that_is_not_over_is_shown_and_ends_with_its_slot() {
    let gate = Gate::new();
    gate.open();
    let lb = Lb::start(&["--replicas", "2", "--command", &gate.command()]);
    gate.close();
    signal(lb.process_of("server1"), "KILL");
    let open = eventually("the incident", || incidents(&lb).pop());
    assert_eq!((&open["phases"]["total"], &open["replaced_by"]), (&Value::Null, &Value::Null));
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["server1"]}));
    let removed = eventually("the end of the incident", || {
        incidents(&lb).pop().filter(|incident| incident["removed"] == true)
    });
    assert_eq!(removed["slot"], "server1");
}
