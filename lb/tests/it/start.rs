//! What a first-time user types after the first command of the README.

use std::collections::HashMap;
use std::process::Command;

use serde_json::json;

use crate::harness::Lb;

/// What `lb ARGUMENTS` prints, and its exit code.
fn lb(control: &str, arguments: &[&str]) -> (String, String, Option<i32>) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_lb")).args(arguments).env("LB_CONTROL", control).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn three_replicas_start_and_an_id_always_goes_to_the_same_one() {
    let lb = Lb::start(&[]);
    assert_eq!(lb.hostnames(), ["server1", "server2", "server3"]);
    assert_eq!(lb.children().len(), 3);
    let mut load: HashMap<String, usize> = HashMap::new();
    for id in 0..60 {
        let id = id.to_string();
        let name = lb.route(&id);
        assert_eq!(lb.route(&id), name, "the same id by raw text");
        let http = lb.exchange(
            format!("GET /home?id={id} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        let hello = format!("Hello from Server: {name}\"");
        assert!(String::from_utf8(http).unwrap().contains(&hello), "the same id by HTTP");
        *load.entry(name).or_default() += 1;
    }
    assert_eq!(load.len(), 3, "every replica gets some: {load:?}");
}

#[test]
fn each_client_command_prints_its_answer_for_people() {
    let running = Lb::start(&[]);
    let control = running.control.to_string();
    let ok = |arguments: &[&str]| {
        let (stdout, stderr, code) = lb(&control, arguments);
        assert_eq!((stderr.as_str(), code), ("", Some(0)), "lb {arguments:?}");
        stdout
    };
    assert_eq!(ok(&["rep"]), "3 replicas\n  server1\n  server2\n  server3\n");
    assert_eq!(ok(&["add", "2", "S5", "S4"]), "5 replicas\n  server1\n  server2\n  server3\n  S5\n  S4\n");
    assert!(ok(&["rm", "1"]).starts_with("4 replicas\n"));
    let pick = running.done(&json!({"cmd": "explain", "id": "132574"}))["pick"].clone();
    assert!(ok(&["explain", "132574"]).ends_with(&format!("it goes to {}\n", pick.as_str().unwrap())));
    assert_eq!(running.route("132574"), pick.as_str().unwrap());
    let raw: serde_json::Value = serde_json::from_str(&ok(&["rep", "--json"])).unwrap();
    assert_eq!(raw["message"]["N"], 4);
    assert_eq!(ok(&["backends"]).lines().count(), 5);
}

#[test]
fn a_refused_client_command_exits_with_1_and_its_message_on_stderr() {
    let running = Lb::start(&[]);
    let (stdout, stderr, code) = lb(&running.control.to_string(), &["rm", "4"]);
    assert_eq!((stdout.as_str(), code), ("", Some(1)));
    assert!(stderr.starts_with("<Error> "), "{stderr}");
    let (_, stderr, code) = lb("127.0.0.1:1", &["rep"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("127.0.0.1:1"), "{stderr}");
    let (_, stderr, code) = lb("127.0.0.1:1", &["add", "1.5"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("expected how many"), "{stderr}");
}
