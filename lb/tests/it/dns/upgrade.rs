//! A successor goes on with the seats that the answers of the name have led to, one after the other, and with their weights.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::server::NameServer;
use super::{SERVICE, at, launch, owners, replicas, wait_for_slots};
use crate::harness::Lb;
use crate::upgrade::Successor;

/// Where keys belong, and how slots are weighed.
fn mapping(lb: &Lb) -> (BTreeMap<String, String>, Value) {
    (owners(lb), lb.done(&json!({"cmd": "mapping"})))
}

#[test]
fn a_successor_keeps_seats_that_depend_on_what_was_seen_and_their_weights() {
    let (port, _replicas) = replicas(&["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]);
    let server = NameServer::start();
    server.addresses("web.test", 0, &["127.0.0.2", "127.0.0.3", "127.0.0.5"]);
    let lb = launch(&server, &format!("web.test:{port}"), &[]);
    lb.wait_for_log("replicas=3");
    server.addresses("web.test", 0, &["127.0.0.3", "127.0.0.4", "127.0.0.5"]);
    let seats = at(port, &[("server1", "127.0.0.4"), ("server2", "127.0.0.3"), ("server3", "127.0.0.5")]);
    wait_for_slots(&lb, &seats);
    lb.done(&json!({"cmd": "mapping", "weights": {"server1": 0, "server2": 7}}));
    let before = mapping(&lb);

    let _first = Successor::of(&lb);
    wait_for_slots(&lb, &seats);
    assert_eq!(mapping(&lb), before);

    // Who has left gets the old slot back, also from the next one.
    server.addresses("web.test", 0, &["127.0.0.3", "127.0.0.5"]);
    wait_for_slots(&lb, &seats[1..]);
    let _second = Successor::of(&lb);
    wait_for_slots(&lb, &seats[1..]);
    server.addresses("web.test", 0, &["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]);
    wait_for_slots(&lb, &[&seats[..], &at(port, &[("server4", "127.0.0.2")])].concat());
    assert_eq!(lb.done(&json!({"cmd": "mapping"}))["weights"]["server2"], 7);
}

#[test]
fn a_successor_calls_targets_as_they_were_called() {
    let (port, _replicas) = replicas(&["127.0.0.2", "127.0.0.3"]);
    let server = NameServer::start();
    let [a, b] = ["web.a.test", "web.b.test"].map(|host| format!("{host}:{port}"));
    server.addresses("web.a.test", 0, &["127.0.0.2"]);
    server.addresses("web.b.test", 0, &["127.0.0.3"]);
    server.targets(SERVICE, 0, &[&b]);
    let lb = launch(&server, SERVICE, &[]);
    wait_for_slots(&lb, &at(port, &[("web", "127.0.0.3")]));
    server.targets(SERVICE, 0, &[&a, &b]);
    // With both of them in its first answer, lb would call neither `web`.
    let seats = at(port, &[("web", "127.0.0.3"), (&format!("web-{port}"), "127.0.0.2")]);
    wait_for_slots(&lb, &seats);
    lb.done(&json!({"cmd": "mapping", "weights": {"web": 0}}));
    let before = mapping(&lb);
    let _successor = Successor::of(&lb);
    wait_for_slots(&lb, &seats);
    assert_eq!(mapping(&lb), before);
}
