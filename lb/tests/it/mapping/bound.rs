//! Bounded loads.

use std::collections::HashMap;
use std::thread;

use serde_json::{Value, json};

use super::{Held, explain, set};
use crate::control::calm;
use crate::harness::{Lb, eventually};

/// The open connections of each slot.
fn open(lb: &Lb) -> HashMap<String, usize> {
    let count = |slot: Value| {
        let open = slot["connections"]["open"].as_u64().unwrap();
        (slot["name"].as_str().unwrap().to_owned(), usize::try_from(open).unwrap())
    };
    lb.backends().into_iter().map(count).collect()
}

/// The bound of each of three replicas with a factor of 1.25: 1.25 / 3 of all connections, rounded up.
fn most(connections: usize) -> usize {
    (5 * connections).div_ceil(12)
}

/// Ids for so many connections, roughly by Zipf's law: the k-th id has a number of connections proportional to 1/k.
fn zipf(connections: usize) -> Vec<String> {
    let ids = (1..).flat_map(|k: usize| vec![k; connections / (2 * k) + 1]);
    ids.take(connections).map(|id| id.to_string()).collect()
}

#[test]
fn no_replica_exceeds_the_bound_and_the_rest_goes_to_the_next_candidate() {
    let lb = calm(&["--balance-factor", "1.25"]);
    let mut held: Vec<Held> = Vec::new();
    let mut overflowed = 0;
    for id in zipf(80) {
        let explanation = explain(&lb, &id);
        held.push(Held::by(&lb, &id));
        let hostname = &held.last().unwrap().hostname;
        assert_eq!(explanation["pick"], **hostname, "explain names the replica that gets the connection");
        if explanation["owner"] != **hostname {
            overflowed += 1;
            let why = explanation["candidates"][0]["skipped"].as_str().unwrap();
            assert!(why.starts_with("over the bound: it has "), "{why}");
            assert!(why.ends_with(" connections, 1.25 times the mean"), "{why}");
        }
        let open = open(&lb);
        assert!(open.values().all(|&open| open <= most(held.len())), "{} in all: {open:?}", held.len());
    }
    assert!(overflowed > 10, "the ids are not uneven enough to prove anything: {overflowed}");
    let explanation = explain(&lb, "1");
    assert_eq!(explanation["balance_factor"], 1.25);
    let owner = explanation["owner"].clone();
    held.clear();
    eventually("no open connection", || open(&lb).values().all(|&open| open == 0).then_some(()));
    assert_eq!(explain(&lb, "1")["pick"], owner, "the key is back in its slot");
}

#[test]
fn the_bound_holds_with_many_workers_at_once() {
    let lb = calm(&["--balance-factor", "1.25", "--workers", "4"]);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..60).map(|_| Held::by(&lb, "132574")).collect::<Vec<_>>()))
            .collect();
        let held: Vec<Held> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        let open = open(&lb);
        assert_eq!(open.values().sum::<usize>(), held.len());
        assert!(open.values().all(|&open| open <= most(held.len())), "{open:?}");
    });
}

#[test]
fn the_bound_can_be_set_and_lifted_while_lb_runs() {
    let lb = calm(&[]);
    let owner = lb.route("7");
    let mut held: Vec<Held> = (0..9).map(|_| Held::by(&lb, "7")).collect();
    assert!(held.iter().all(|held| held.hostname == owner), "without a bound no connection overflows");
    set(&lb, &json!({"balance_factor": "1.25"}));
    held.push(Held::by(&lb, "7"));
    assert_ne!(held[9].hostname, owner);
    assert!(held.iter_mut().all(|held| held.ask("still there") == held.hostname), "no connection moves");
    set(&lb, &json!({"balance_factor": "off"}));
    assert_eq!(lb.route("7"), owner);
}
