//! Another mapping while connections are open.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::{Held, explain, owners, set};
use crate::control::{by_line, calm, http, refused};
use crate::harness::Lb;

#[test]
fn the_mapping_can_be_read_in_both_languages() {
    let lb = calm(&["--replicas", "2"]);
    let expected = r#"{"message":{"mapping":"ring","points":1000,"balance_factor":null,"seeded":false,"weights":{"server1":1,"server2":1}},"status":"successful"}"#;
    assert_eq!(by_line(&lb, &json!({"cmd": "mapping"})), expected);
    assert_eq!(http(&lb, "GET /mapping", "").body, expected);
    let flags =
        ["--mapping", "slots", "--virtual", "5", "--request-hash", "i * 7", "--balance-factor", "1.5"];
    let other = calm(&[&["--replicas", "1", "--hash-seed", "9"], &flags[..]].concat());
    let said = by_line(&other, &json!({"cmd": "mapping"}));
    let expected = json!({"mapping": "slots", "slots": 512, "virtual": 5, "probing": "linear", "request_hash": "i * 7",
        "server_hash": "i*i + j*j + 2*j + 25", "balance_factor": 1.5, "seeded": true, "weights": {"server1": 1}});
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["message"], expected);
    assert!(!other.log().join("\n").contains("hash-seed"), "the seed is a secret");
}

#[test]
fn every_mapping_can_take_the_place_of_every_other_and_open_connections_stay() {
    let lb = calm(&[]);
    let mut held: Vec<Held> = (0..20).map(|id| Held::by(&lb, &id.to_string())).collect();
    let ring = owners(&lb, 0..60);
    for (change, mapping) in [
        (json!({"mapping": "maglev"}), "maglev"),
        (json!({"algorithm": "slots"}), "slots"),
        (json!({"request_hash": "i*31 + 7", "virtual": 3, "probing": "quadratic"}), "slots"),
        (json!({"mapping": "rendezvous", "balance_factor": 2}), "rendezvous"),
        (json!({"mapping": "ring", "points": 50}), "ring"),
    ] {
        let said = set(&lb, &change);
        assert_eq!(said["mapping"], mapping, "{change}: {said}");
        let moved = owners(&lb, 0..60).iter().zip(&ring).filter(|(is, was)| is != was).count();
        assert!(moved > 0, "{change}: the same owners as before");
        for id in (0..20).map(|id| id.to_string()) {
            let explanation = explain(&lb, &id);
            assert_eq!(explanation["mapping"], mapping, "{change}");
            assert_eq!(lb.route(&id), explanation["pick"].as_str().unwrap(), "{change}: {id}");
        }
        for held in &mut held {
            assert_eq!(held.ask("still there"), held.hostname, "{change}");
        }
    }
    set(&lb, &json!({"points": 1000, "balance_factor": null}));
    assert_eq!(owners(&lb, 0..60), ring, "no history plays a part");
}

#[test]
fn no_connection_fails_while_mappings_change() {
    let (lb, is_over) = (calm(&[]), AtomicBool::new(false));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (lb, is_over) = (&lb, &is_over);
                scope.spawn(move || {
                    let mut served = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        assert!(lb.route(&format!("{client}-{served}")).starts_with("server"));
                        served += 1;
                    }
                    served
                })
            })
            .collect();
        for mapping in ["maglev", "slots", "rendezvous", "ring"].repeat(10) {
            set(&lb, &json!({"mapping": mapping, "weights": {"server1": 2}}));
            set(&lb, &json!({"weights": {"server1": 0}}));
        }
        is_over.store(true, Ordering::Relaxed);
        let served: Vec<usize> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        assert!(served.iter().all(|&served| served > 0), "{served:?}");
    });
}

#[test]
fn an_added_replica_enters_the_current_mapping() {
    let lb = calm(&[]);
    set(&lb, &json!({"mapping": "rendezvous"}));
    lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["server4"]}));
    let fresh = calm(&["--mapping", "rendezvous", "--replicas", "4"]);
    assert_eq!(owners(&lb, 0..100), owners(&fresh, 0..100));
}

#[test]
fn an_invalid_change_is_refused_and_changes_nothing() {
    let lb = calm(&[]);
    let state = |lb: &Lb| (lb.done(&json!({"cmd": "mapping"})), owners(lb, 0..30));
    let before = state(&lb);
    for (fields, message) in [
        (r#"{"mapping":"karger"}"#, "invalid value `karger`: expected ring, slots, maglev or rendezvous"),
        (r#"{"points":0}"#, "`points`: invalid value `0`: expected a whole number from 1 to 10000"),
        (r#"{"points":1.5}"#, "`points`: invalid value `1.5`"),
        (r#"{"mapping":"maglev","points":10}"#, "`points` goes with the mapping ring only, not with maglev"),
        (r#"{"virtual":3}"#, "`virtual` goes with the mapping slots only, not with ring"),
        (r#"{"mapping":"slots","request_hash":"i + k"}"#, "`request_hash`: column 5: expected"),
        (
            r#"{"mapping":"slots","slots":20}"#,
            "3 servers of 9 virtual servers each do not fit into 20 entries",
        ),
        (
            r#"{"balance_factor":0.5}"#,
            "`balance_factor`: invalid value `0.5`: expected a number from 1 to 100",
        ),
        (r#"{"points":["1"]}"#, "`points`: invalid value `[\"1\"]`: expected a whole number"),
        (r#"{"points":null}"#, "`points`: invalid value `null`: expected a whole number"),
        (r#"{"weights":{"server1":1,"server1":2}}"#, "duplicate field `server1`"),
        (r#"{"hash_seed":1}"#, "unknown field `hash_seed`"),
        ("{}", "there is nothing to change: expected one or more of mapping, points, "),
    ] {
        let response = http(&lb, "PUT /mapping", fields);
        assert_eq!(response.status, 400, "{fields}");
        assert!(refused(&response.body).contains(message), "{fields}: {response:?}");
    }
    assert_eq!(http(&lb, "POST /mapping", "{}").header("allow"), Some("GET, PUT"));
    assert_eq!(state(&lb), before);
}
