//! `rm` with a drain time of its own.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};

use crate::control::{LANGUAGES, calm, http};
use crate::harness::{Lb, eventually, group_of, id_for, say, session, text};

fn is_reset(mut client: TcpStream) -> bool {
    client.read_to_end(&mut Vec::new()).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

/// A session on the slot with this index, and the hostname of its replica.
fn session_on(lb: &Lb, index: u64) -> (TcpStream, String) {
    let slot = lb.slot(index);
    session(lb, &id_for(lb, text(&slot["name"])))
}

/// `lb ARGUMENTS`; its exit code and what it wrote to stderr.
fn client(lb: &Lb, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    let output = command.args(arguments).env("LB_CONTROL", lb.control.to_string()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_removal_without_a_drain_time_resets_its_sessions_at_once() {
    let lb = Lb::start(&["--replicas", "6", "--drain-timeout", "10m"]);
    let (mut other, _) = session_on(&lb, 6);
    let none = |lb: &Lb, index: u64, how: &dyn Fn(&str)| {
        let (client, hostname) = session_on(lb, index);
        let process = lb.process_of(&hostname);
        how(&hostname);
        assert!(is_reset(client), "{hostname}: a broken connection must not look complete");
        eventually("the end of the replica", || group_of(process).is_empty().then_some(()));
    };
    for (index, ask) in (1..).zip(LANGUAGES) {
        none(&lb, index, &|hostname| {
            ask(&lb, &json!({"cmd": "rm", "n": 1, "hostnames": [hostname], "drain": "0s"}));
        });
    }
    for (index, flags) in [(3, &["--now"][..]), (4, &["--drain", "0s"]), (5, &["--drain=1ms"])] {
        none(&lb, index, &|hostname| {
            let arguments = [&["rm", "1", hostname], flags].concat();
            assert_eq!(client(&lb, &arguments), (Some(0), String::new()), "{arguments:?}");
        });
    }
    say(&mut other, "the others stay");
}

#[test]
fn a_drain_time_of_its_own_may_be_longer_than_the_usual_one() {
    let lb = Lb::start(&["--replicas", "3", "--drain-timeout", "0s"]);
    let (mut patient, hostname) = session_on(&lb, 1);
    let (usual, other) = session_on(&lb, 2);
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": [hostname], "drain": "10m"}));
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": [other]}));
    assert!(is_reset(usual), "without a time of its own it gets the usual one");
    assert_eq!(say(&mut patient, "still there"), format!("{hostname} still there\n"));
    assert_eq!(lb.slot(1)["state"], "draining");
}

#[test]
fn a_drain_time_that_cannot_be_understood_is_refused_and_changes_nothing() {
    let lb = calm(&["--replicas", "2"]);
    for wrong in [json!("soon"), json!(""), json!("-1s"), json!(5), Value::Null, json!("3years")] {
        let message =
            format!("`drain`: invalid value `{wrong}`: expected a duration, such as 0s, 250ms, 5s or 1m");
        let command = json!({"cmd": "rm", "n": 1, "drain": wrong});
        assert!(lb.refused(&command).contains(&message), "{command}");
        for line in ["DELETE /rm", "POST /rm"] {
            let answer = http(&lb, line, &json!({"n": 1, "drain": wrong}).to_string());
            assert_eq!(answer.status, 400, "{line} {wrong}");
            let refusal: Value = serde_json::from_str(&answer.body).unwrap();
            assert!(text(&refusal["message"]).contains(&message), "{line} {wrong}: {refusal}");
        }
    }
    let added = lb.refused(&json!({"cmd": "add", "n": 1, "drain": "5s"}));
    assert!(added.contains("unknown field `drain`"), "{added}");
    let (code, stderr) = client(&lb, &["rm", "1", "--drain", "soon"]);
    let message = "`drain`: invalid value `soon`: expected a duration, such as 0s, 250ms, 5s or 1m";
    assert!(code == Some(1) && stderr.contains(message), "{code:?} {stderr}");
    assert_eq!(client(&lb, &["rm", "1", "--now", "--drain", "5s"]).0, Some(2));
    assert_eq!(lb.hostnames(), ["server1", "server2"]);
}

#[test]
fn a_plan_keeps_the_drain_time() {
    let lb = calm(&["--replicas", "2"]);
    let plan = lb.done(
        &json!({"cmd": "plan", "change": {"cmd": "rm", "n": 1, "hostnames": ["server2"], "drain": "5s"}}),
    );
    assert_eq!(plan["command"], "lb rm 1 server2 --drain 5s");
}
