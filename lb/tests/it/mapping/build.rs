//! A mapping that takes long to build, or to refuse, delays nothing but the command that asked for it.

use std::io::{ErrorKind, Read as _};

use serde_json::{Value, json};

use super::{explain, owners, set};
use crate::control::{Conversation, calm, refused};
use crate::harness::{Lb, eventually, signal, text};

/// A command that has been sent, and whose answer has not been read.
struct Pending(Conversation);

impl Pending {
    fn send(lb: &Lb, command: &Value) -> Pending {
        let mut conversation = Conversation::with(lb);
        conversation.say(format!("{command}\n"));
        Pending(conversation)
    }

    /// Whether `lb` has not answered yet.
    fn is_open(&mut self) -> bool {
        let stream = self.0.stream();
        stream.set_nonblocking(true).unwrap();
        let nothing = stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
        nothing
    }

    #[track_caller]
    fn done(&mut self) {
        let answer = self.0.line();
        assert!(answer.ends_with(r#""status":"successful"}"#), "{answer}");
    }
}

/// A fleet whose ring has nearly as many points as a ring can have: to build it takes some tenths of a second.
fn large() -> Lb {
    let lb = calm(&["--points", "10000", "--replicas", "4"]);
    let weights: serde_json::Map<_, _> = (1..=4).map(|index| (format!("server{index}"), json!(99))).collect();
    set(&lb, &json!({"weights": weights}));
    lb
}

/// Tries until what is between a command and its answer has been seen while the command was pending: a slow machine may miss it.
fn while_pending(what: &str, mut attempt: impl FnMut() -> bool) {
    let mut tries = 0;
    eventually(what, || {
        tries += 1;
        assert!(tries <= 20, "never seen: {what}");
        attempt().then_some(())
    });
}

#[test]
fn commands_probes_and_exits_do_not_wait_for_a_build() {
    let lb = large();
    let mut weight = 90;
    while_pending("a replacement during a build", || {
        weight += 1;
        let before = lb.slot(2);
        let mut change =
            Pending::send(&lb, &json!({"cmd": "mapping", "weights": {"server1": weight % 9 + 90}}));
        signal(lb.process_of(text(&before["hostname"])), "KILL");
        let is_seen = eventually("the loss of the replica", || {
            let slot = lb.slot(2);
            (slot["restarts"] != before["restarts"]).then(|| change.is_open())
        });
        change.done();
        lb.wait_for_replacement(&before);
        is_seen
    });
}

#[test]
fn a_removed_slot_gets_no_connection_while_the_mapping_without_it_is_built() {
    let lb = large();
    while_pending("another pick during a build", || {
        lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S5"], "weights": [20]}));
        let id = (0..1000).map(|id| id.to_string()).find(|id| explain(&lb, id)["owner"] == "S5").unwrap();
        assert_eq!(lb.route(&id), "S5");
        let mut removal = Pending::send(&lb, &json!({"cmd": "rm", "n": 1, "hostnames": ["S5"]}));
        let is_seen = eventually("another pick", || {
            let pick = explain(&lb, &id)["pick"].clone();
            (pick != "S5").then(|| {
                assert_ne!(lb.route(&id), "S5");
                removal.is_open()
            })
        });
        removal.done();
        is_seen
    });
    assert_eq!(lb.hostnames(), ["server1", "server2", "server3", "server4"]);
}

#[test]
fn the_answer_of_an_add_says_that_all_of_it_is_in_rotation() {
    let lb = large();
    for round in 0..3 {
        let names = [format!("a{round}"), format!("b{round}")];
        // Two commands in a row, and a build under way when they come.
        let mut change = Pending::send(&lb, &json!({"cmd": "mapping", "weights": {"server1": 90 + round}}));
        let mut removal =
            Pending::send(&lb, &json!({"cmd": "rm", "n": 1, "hostnames": [lb.hostnames().pop()]}));
        let mut addition =
            Pending::send(&lb, &json!({"cmd": "add", "n": 2, "hostnames": names, "weights": [10, 10]}));
        addition.done();
        let found = owners(&lb, 0..300);
        assert!(names.iter().all(|name| found.contains(name)), "{names:?}");
        change.done();
        removal.done();
        lb.done(&json!({"cmd": "rm", "n": 2, "hostnames": names}));
        assert!(names.iter().all(|name| !owners(&lb, 0..300).contains(name)));
    }
}

#[test]
fn a_refusal_that_takes_long_delays_no_other_command() {
    let lb = calm(&["--replicas", "1"]);
    while_pending("an answer during a check", || {
        let mut change = Pending::send(
            &lb,
            &json!({
                "cmd": "mapping", "mapping": "slots", "slots": 65521, "virtual": 8190, "probing": "quadratic",
                "server_hash": "j*j*j + 5*j*j + 3*j", "weights": {"server1": 8}
            }),
        );
        let before = lb.hostnames();
        let is_seen = change.is_open();
        assert!(refused(&change.0.line()).contains("do not fit"));
        assert_eq!(lb.hostnames(), before);
        is_seen
    });
    assert_eq!(lb.done(&json!({"cmd": "mapping"}))["mapping"], "ring");
}

#[test]
fn lb_ends_at_once_during_a_build() {
    let mut lb = large();
    let mut changes: Vec<Pending> = (90..99)
        .map(|weight| Pending::send(&lb, &json!({"cmd": "mapping", "weights": {"server1": weight}})))
        .collect();
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    for change in &mut changes {
        let mut answer = String::new();
        // It is done, was refused, or has no answer.
        let _ = change.0.stream().read_to_string(&mut answer);
        assert!(
            answer.is_empty() || answer.contains("successful") || answer.contains("shutting down"),
            "{answer}"
        );
    }
}
