//! The command `kill`: one replica that `lb` has started is killed, and its slot heals as after any other death.

use std::io::Read as _;
use std::process::Command;

use serde_json::{Value, json};

use crate::control::{LANGUAGES, calm, http, refused};
use crate::harness::{Lb, Replica, demo_after, eventually, fixed, flags, group_of, id_for, session, text};

/// Stdout, stderr and exit code of `lb ARGUMENTS`.
fn client(lb: &Lb, arguments: &[&str]) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    let output = command.args(arguments).env("LB_CONTROL", lb.control.to_string()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

fn killed(hostname: &str, slot: &str) -> String {
    format!(r#"{{"message":{{"killed":"{hostname}","slot":"{slot}"}},"status":"successful"}}"#)
}

#[test]
fn a_killed_replica_ends_at_once_and_its_slot_heals() {
    let lb = calm(&["--replicas", "3"]);
    for (index, ask) in (1..).zip(LANGUAGES) {
        let before = lb.slot(index);
        let hostname = text(&before["hostname"]);
        let (process, mut session) = (lb.process_of(hostname), session(&lb, &id_for(&lb, hostname)).0);
        let answer = ask(&lb, &json!({"cmd": "kill", "hostname": hostname}));
        assert_eq!(answer, killed(hostname, hostname));
        // The kernel may end it with FIN or with a reset.
        let _ = session.read_to_end(&mut Vec::new());
        eventually("the end of the process", || group_of(process).is_empty().then_some(()));
        let after = lb.wait_for_restarts(index, 1);
        assert_ne!(after["hostname"], before["hostname"]);
    }
    // A slot is found by its name, too.
    let before = lb.slot(1);
    let said = format!("{} in slot server1 is killed\n", text(&before["hostname"]));
    assert_eq!(client(&lb, &["kill", "server1"]), (said, String::new(), Some(0)));
    lb.wait_for_restarts(1, 2);
    assert_eq!(client(&lb, &["kill", "server3"]).0, "server3 is killed\n");
    lb.wait_for_restarts(3, 1);
    // It is an incident like any other, and the command is in the journal.
    let incidents: Vec<Value> = serde_json::from_str(&client(&lb, &["incidents", "--json"]).0).unwrap();
    assert_eq!(incidents.len(), 4, "{incidents:?}");
    assert!(incidents.iter().all(|incident| text(&incident["cause"]).contains("signal: 9")), "{incidents:?}");
    let events = client(&lb, &["events"]).0;
    assert!(events.contains(r#"command {"cmd":"kill","hostname":"server3"} by "#), "{events}");
    lb.wait_for_log(r#"command={"cmd":"kill","hostname":"server3"} result="done""#);
}

#[test]
fn a_command_is_killed_with_everything_that_it_has_started() {
    let lb = calm(&["--replicas", "1", "--command", &demo_after("sleep 1000 &")]);
    let before = lb.slot(1);
    let process = lb.process_of("server1");
    assert_eq!(group_of(process).len(), 2, "the replica and its child");
    lb.done(&json!({"cmd": "kill", "hostname": "server1"}));
    eventually("the end of both processes", || group_of(process).is_empty().then_some(()));
    lb.wait_for_replacement(&before);
}

#[test]
fn a_spare_and_a_draining_replica_can_be_killed() {
    let lb = calm(&["--replicas", "2", "--spares", "1", "--drain-timeout", "10m"]);
    let spare = |other_than: &Value| {
        eventually("a spare", || {
            lb.spares().into_iter().find(|spare| spare["state"] == "up" && spare["hostname"] != *other_than)
        })
    };
    let first = spare(&Value::Null)["hostname"].clone();
    let answer = lb.done(&json!({"cmd": "kill", "hostname": first}));
    assert_eq!(answer, json!({ "killed": first }));
    spare(&first);
    assert_eq!(lb.hostnames(), ["server1", "server2"], "no slot has changed");
    let (_session, hostname) = session(&lb, &id_for(&lb, "server2"));
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": [hostname]}));
    let draining = || lb.backends().into_iter().find(|slot| slot["name"] == "server2");
    assert_eq!(draining().unwrap()["state"], "draining");
    lb.done(&json!({"cmd": "kill", "hostname": "server2"}));
    eventually("the end of the drain", || draining().is_none().then_some(()));
    assert_eq!(lb.hostnames(), ["server1"]);
}

#[test]
fn a_kill_that_cannot_be_is_refused_and_changes_nothing() {
    let lb = calm(&["--replicas", "1"]);
    let children = lb.children();
    let unknown = "<Error> hostname stranger is unknown; `rep` lists the hostnames that there are";
    for ask in LANGUAGES {
        assert_eq!(refused(&ask(&lb, &json!({"cmd": "kill", "hostname": "stranger"}))), unknown);
    }
    assert_eq!(client(&lb, &["kill", "stranger"]), (String::new(), format!("{unknown}\n"), Some(1)));
    for (body, message) in [
        ("", "malformed JSON"),
        ("{}", "missing field `hostname`"),
        (
            r#"{"hostname":["server1"]}"#,
            "`hostname`: invalid value `[\"server1\"]`: expected a name in quotes",
        ),
        (r#"{"hostname":"../x"}"#, "`hostname`: invalid value `../x`: expected a hostname of the form ["),
        (r#"{"hostname":"server1","n":1}"#, "unknown field `n`"),
    ] {
        let response = http(&lb, "POST /kill", body);
        assert_eq!(response.status, 400, "{body}");
        assert!(refused(&response.body).contains(message), "{body}: {response:?}");
    }
    for method in ["GET", "PUT", "DELETE"] {
        let response = http(&lb, &format!("{method} /kill"), r#"{"hostname":"server1"}"#);
        assert_eq!((response.status, response.header("allow")), (405, Some("POST")), "{method}");
    }
    assert_eq!(client(&lb, &["kill", ""]).2, Some(1));
    assert_eq!(client(&lb, &["kill"]).2, Some(2));
    assert_eq!((lb.children(), lb.slot(1)["restarts"].clone()), (children, json!(0)));
}

#[test]
fn what_lb_has_not_started_it_does_not_kill() {
    let replica = Replica::named("a");
    let lb = Lb::start(&flags(&fixed(&[replica.address])));
    let response = http(&lb, "POST /kill", r#"{"hostname":"a"}"#);
    assert_eq!(response.status, 400, "{response:?}");
    assert_eq!(refused(&response.body), "<Error> a was not started by lb: end it where it runs");
    assert_eq!(lb.route("1"), "a");
}
