//! Slots that get more keys than others, and slots that get none.

use serde_json::json;

use super::{Held, explain, owners, set};
use crate::control::{LANGUAGES, calm, http, refused};
use crate::harness::{Lb, Replica, flags};

#[test]
fn a_weight_given_to_add_multiplies_the_share_of_keys() {
    for ask in LANGUAGES {
        let lb = calm(&["--replicas", "2"]);
        ask(&lb, &json!({"cmd": "add", "n": 2, "hostnames": ["big"], "weights": [6]}));
        let owners = owners(&lb, 0..600);
        let big = owners.iter().filter(|owner| *owner == "big").count();
        // Two thirds of 600, give or take five standard deviations.
        assert!((340..460).contains(&big), "{big}");
        assert_eq!(lb.slot(3)["weight"], 6);
        assert!(lb.slot(4).get("weight").is_none(), "the default weight is omitted");
        assert_eq!(lb.done(&json!({"cmd": "mapping"}))["weights"]["big"], 6);
    }
}

#[test]
fn a_slot_of_weight_0_gets_no_new_connections_and_keeps_those_it_has() {
    for mapping in ["ring", "slots", "maglev", "rendezvous"] {
        let lb = calm(&["--mapping", mapping]);
        let before = owners(&lb, 0..60);
        let id = before.iter().position(|owner| owner == "server2").unwrap().to_string();
        let mut held = Held::by(&lb, &id);
        assert_eq!(held.hostname, "server2");
        set(&lb, &json!({"weights": {"server2": 0}}));
        let explanation = explain(&lb, &id);
        let last = explanation["candidates"].as_array().unwrap().last().unwrap();
        assert_eq!(last["name"], "server2", "{mapping}");
        assert_eq!(last["skipped"], "weight 0: it gets no new connections", "{mapping}");
        assert_ne!(lb.route(&id), "server2", "{mapping}");
        assert!(!owners(&lb, 0..60).contains(&"server2".to_owned()), "{mapping}");
        assert_eq!(held.ask("still there"), "server2", "{mapping}");
        set(&lb, &json!({"weights": {"server2": 1}}));
        assert_eq!(owners(&lb, 0..60), before, "{mapping}: every key is back in its slot");
        assert_eq!(held.ask("still there"), "server2", "{mapping}");
    }
}

#[test]
fn no_replica_gets_a_connection_when_all_weights_are_0() {
    let lb = calm(&["--replicas", "1"]);
    set(&lb, &json!({"weights": {"server1": 0}}));
    assert_eq!(explain(&lb, "1")["pick"], json!(null));
    assert_eq!(explain(&lb, "1")["owner"], json!(null));
    assert_eq!(lb.route("1"), "");
    assert!(lb.get("/home?id=1").starts_with("HTTP/1.1 503 "));
    assert_eq!(http(&lb, "GET /healthz", "").status, 503, "a monitor sees it");
}

#[test]
fn a_fixed_backend_keeps_its_configured_weight_when_added_later() {
    let replicas = ["a", "b", "c"].map(Replica::named);
    let weights = [0, 1, 4];
    let backends: Vec<String> = ["a", "b", "c"]
        .iter()
        .zip(&replicas)
        .zip(weights)
        .flat_map(|((name, replica), weight)| {
            ["--backend".to_owned(), format!("{name}={},weight={weight}", replica.address)]
        })
        .collect();
    let lb = Lb::start(&[&["--provider", "fixed", "--replicas", "2"], &flags(&backends)[..]].concat());
    assert!(owners(&lb, 0..30).iter().all(|owner| owner == "b"));
    assert_eq!(lb.exchange(b"7\n"), b"b");
    lb.done(&json!({"cmd": "add", "n": 1}));
    assert_eq!(lb.done(&json!({"cmd": "mapping"}))["weights"], json!({"a": 0, "b": 1, "c": 4}));
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["c"]}));
    lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["c"], "weights": [9]}));
    assert_eq!(lb.done(&json!({"cmd": "mapping"}))["weights"]["c"], 9, "the weight of the command wins");
}

#[test]
fn wrong_weights_are_refused_and_change_nothing() {
    let lb = calm(&["--mapping", "slots", "--slots", "60"]);
    let before = (lb.backends(), lb.done(&json!({"cmd": "mapping"})));
    for (command, message) in [
        (
            json!({"cmd": "add", "n": 1, "weights": [1, 1]}),
            "`weights` has 2 weights for `n` = 1 new replicas",
        ),
        (json!({"cmd": "add", "n": 1, "weights": [101]}), "each a whole number from 0 to 100"),
        (json!({"cmd": "add", "n": 1, "weights": [-1]}), "each a whole number from 0 to 100"),
        (json!({"cmd": "add", "n": 1, "weights": 2}), "`weights`: invalid value `2`: expected a list"),
        (json!({"cmd": "rm", "n": 1, "weights": [1]}), "unknown field `weights`"),
        (
            json!({"cmd": "add", "n": 1, "weights": [4]}),
            "(for each unit of weight; there are 7) do not fit into 60",
        ),
    ] {
        for ask in LANGUAGES {
            let answer = refused(&ask(&lb, &command));
            assert!(answer.contains(message), "{command}: {answer}");
        }
    }
    let unknown = http(&lb, "PUT /mapping", r#"{"weights":{"server9":1}}"#);
    assert_eq!(unknown.status, 400);
    assert!(refused(&unknown.body).contains("hostname server9 is unknown"), "{unknown:?}");
    let too_large = http(&lb, "PUT /mapping", r#"{"weights":{"server1":5}}"#);
    assert!(refused(&too_large.body).contains("there are 7) do not fit"), "{too_large:?}");
    assert_eq!((lb.backends(), lb.done(&json!({"cmd": "mapping"}))), before);
}
