//! `explain`: the key, hash, position, candidates and pick, and that the data port agrees with them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::control::{LANGUAGES, by_line, calm, http, listing, refused};
use crate::harness::{Lb, Replica, eventually, fixed, flags, signal};

fn explain(lb: &Lb, id: &str) -> Value {
    lb.done(&json!({"cmd": "explain", "id": id}))
}

/// This field of every candidate, in order.
fn column(explanation: &Value, field: &str) -> Vec<String> {
    let candidates = explanation["candidates"].as_array().unwrap();
    candidates.iter().map(|candidate| candidate[field].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn an_explanation_says_everything_in_both_languages() {
    let lb = calm(&[]);
    for ask in LANGUAGES {
        let answer: Value =
            serde_json::from_str(&ask(&lb, &json!({"cmd": "explain", "id": "132574"}))).unwrap();
        let explanation = &answer["message"];
        assert_eq!(answer["status"], "successful");
        let said = ["id", "key", "mapping"].map(|field| explanation[field].as_str().unwrap());
        assert_eq!(said, ["132574", "132574", "ring"]);
        assert!(explanation["hash"].is_u64());
        assert_eq!(explanation["position"], explanation["hash"], "the position on a ring is the hash");
        for candidate in explanation["candidates"].as_array().unwrap() {
            let index = candidate["index"].as_u64().unwrap();
            let expected = json!({"index": index, "name": format!("server{index}"),
                "hostname": format!("server{index}"), "state": "up", "skipped": null});
            assert_eq!(*candidate, expected);
        }
        assert_eq!(column(explanation, "name").into_iter().collect::<BTreeSet<_>>().len(), 3, "each once");
    }
}

#[test]
fn numbers_of_64_bits_stand_beside_as_text() {
    for mapping in ["ring", "slots", "maglev", "rendezvous"] {
        let lb = calm(&["--mapping", mapping]);
        for id in ["132574", "abc"] {
            let explanation = explain(&lb, id);
            for field in ["hash", "position"] {
                let text = &explanation[format!("{field}_text")];
                assert_eq!(text.as_str().unwrap(), explanation[field].to_string(), "{explanation}");
            }
            let (position, percent) = (&explanation["position"], &explanation["position_percent"]);
            let positions: u128 = match mapping {
                "slots" => 512,
                "maglev" => 65_537,
                _ => 1 << 64,
            };
            let expected = u128::from(position.as_u64().unwrap()) * 100 / positions;
            assert_eq!(u128::from(percent.as_u64().unwrap()), expected, "{explanation}");
        }
    }
}

/// XXH3 of one to three bytes is invertible: the seed could be computed from one hash.
#[test]
fn under_a_seed_no_answer_holds_a_hash() {
    for mapping in ["ring", "slots", "maglev", "rendezvous"] {
        let lb = calm(&["--mapping", mapping, "--hash-seed", "7"]);
        for id in ["7", "132574", "a-key-of-more-than-sixteen-bytes"] {
            let explanation = explain(&lb, id);
            for field in ["hash", "hash_text", "position", "position_text"] {
                assert!(explanation[field].is_null(), "{field}: {explanation}");
            }
            assert!(explanation["position_percent"].as_u64().unwrap() < 100, "{explanation}");
            assert_eq!(explanation["pick"], *lb.route(id), "{explanation}");
        }
        let plan = json!({"cmd": "plan", "change": {"cmd": "rm", "n": 1}});
        for command in [
            json!({"cmd": "explain", "id": "7"}),
            json!({"cmd": "mapping"}),
            json!({"cmd": "backends"}),
            plan,
        ] {
            let answer = by_line(&lb, &command);
            assert_eq!(long_numbers(&answer), [""; 0], "{answer}");
        }
    }
}

/// The whole numbers of more than eight digits in a text: a hash has more, with a probability of nearly one.
fn long_numbers(text: &str) -> Vec<&str> {
    let numbers = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.');
    numbers.filter(|word| word.len() > 8 && word.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

#[test]
fn an_id_is_taken_from_the_query_as_it_stands() {
    let lb = calm(&["--replicas", "1"]);
    for (target, expected) in [
        ("/explain?id=a%20b", "a%20b"),
        ("/explain?x=1&id=2&id=3", "2"),
        ("/explain?id=%C3%A4+b", "%C3%A4+b"),
        ("http://lb/explain?id=7", "7"),
    ] {
        let answer: Value = serde_json::from_str(&http(&lb, &format!("GET {target}"), "").body).unwrap();
        assert_eq!(answer["message"]["id"], expected, "{target}");
    }
    for target in ["/explain", "/explain?", "/explain?id", "/explain?id=", "/explain?ids=1"] {
        let response = http(&lb, &format!("GET {target}"), "");
        assert_eq!(response.status, 400, "{target}");
        assert!(refused(&response.body).contains("`id` is missing or empty"), "{response:?}");
    }
}

#[test]
fn the_pick_is_where_the_data_port_goes() {
    for mapping in ["ring", "slots", "maglev", "rendezvous"] {
        let lb = calm(&["--mapping", mapping]);
        let picks: BTreeSet<String> = (0..50)
            .map(|number| {
                let id = if number % 2 == 0 { (number * 7919).to_string() } else { format!("user-{number}") };
                let explanation = explain(&lb, &id);
                let pick = explanation["pick"].as_str().unwrap().to_owned();
                assert_eq!(column(&explanation, "hostname")[0], pick);
                assert_eq!(lb.route(&id), pick, "{mapping}: {id}");
                pick
            })
            .collect();
        assert_eq!(picks.len(), 3, "{mapping}");
    }
}

#[test]
fn known_ids_fall_where_an_independent_implementation_puts_them() {
    let cases = [
        ("maglev", "132574", "45868", ["server2", "server1", "server3"]),
        ("maglev", "abc", "38663", ["server3", "server2", "server1"]),
        ("rendezvous", "132574", "17815448263526613389", ["server2", "server3", "server1"]),
        ("rendezvous", "abc", "16301156622127534957", ["server3", "server1", "server2"]),
    ];
    for mapping in ["maglev", "rendezvous"] {
        let lb = calm(&["--mapping", mapping]);
        for (_, id, position, names) in cases.iter().filter(|case| case.0 == mapping) {
            let explanation = explain(&lb, id);
            assert_eq!(explanation["mapping"], mapping);
            assert_eq!(explanation["position"].to_string(), *position, "{mapping}: {id}");
            assert_eq!(column(&explanation, "name"), names, "{mapping}: {id}");
            assert_eq!(lb.route(id), names[0], "{mapping}: {id}");
        }
    }
}

#[test]
fn a_slot_that_is_removed_moves_only_its_own_keys_and_gets_them_back() {
    for mapping in ["ring", "maglev", "rendezvous"] {
        let lb = calm(&["--mapping", mapping]);
        let all = || -> Vec<Value> { (0..100).map(|id| explain(&lb, &id.to_string())).collect() };
        let before = all();
        by_line(&lb, &json!({"cmd": "rm", "n": 1, "hostnames": ["server2"]}));
        for (old, new) in before.iter().zip(all()) {
            assert!(new["pick"] == old["pick"] || old["pick"] == "server2", "{old}: {new}");
            assert_ne!(new["pick"], "server2");
        }
        by_line(&lb, &json!({"cmd": "add", "n": 1, "hostnames": ["server2"]}));
        assert_eq!(all(), before, "{mapping}");
    }
}

#[test]
fn the_mapping_slots_has_its_check_values_again_after_a_fourth_server_came_and_went() {
    let lb = calm(&["--mapping", "slots"]);
    let check = |fourth: bool| {
        for (id, position, server) in
            [("132574", 81, "server3"), ("100000", 337, "server1"), ("999999", 16, "server1")]
        {
            let explanation = explain(&lb, id);
            assert_eq!(explanation["mapping"], "slots");
            assert_eq!(explanation["position"], position, "{id}");
            let candidates: BTreeSet<String> = column(&explanation, "hostname").into_iter().collect();
            assert_eq!(candidates.len(), if fourth { 4 } else { 3 }, "each once");
            if !fourth {
                assert_eq!(explanation["pick"], server, "{id}");
            }
        }
    };
    let all = || -> Vec<Value> { (0..100).map(|id| explain(&lb, &id.to_string())).collect() };
    check(false);
    let before = all();
    by_line(&lb, &json!({"cmd": "add", "n": 1, "hostnames": ["server4"]}));
    check(true);
    for (old, new) in before.iter().zip(all()) {
        assert!(new["pick"] == old["pick"] || new["pick"] == "server4", "{new}");
    }
    by_line(&lb, &json!({"cmd": "rm", "n": 1, "hostnames": ["server4"]}));
    check(false);
    assert_eq!(all(), before);
}

#[test]
fn custom_formulas_decide_where_requests_and_servers_fall() {
    let flags = ["--mapping", "slots", "--slots", "10", "--virtual", "1"];
    let lb = calm(&[&flags[..], &["--request-hash", "i^3 % 7", "--server-hash", "2*i + j"]].concat());
    // The servers sit on 2, 4 and 6.
    for (id, hash, server) in
        [("0", 0, "server1"), ("4", 1, "server1"), ("3", 6, "server3"), ("5", 6, "server3")]
    {
        let explanation = explain(&lb, id);
        assert_eq!((&explanation["hash"], &explanation["position"]), (&json!(hash), &json!(hash)), "{id}");
        assert_eq!(explanation["pick"], server, "{id}");
        assert_eq!(lb.route(id), server, "{id}");
    }
    let turned =
        calm(&[&flags[..], &["--request-hash", "i << 64 | 7", "--server-hash", "9 - i / 0"]].concat());
    assert_eq!(explain(&turned, "1")["position"], 7);
    assert_eq!(turned.route("1"), "server1", "all servers want entry 9, and the first gets it");
}

#[test]
fn a_server_that_does_not_fit_is_refused_and_changes_nothing() {
    let lb = calm(&["--mapping", "slots", "--slots", "36", "--virtual", "9"]);
    assert_eq!(
        by_line(&lb, &json!({"cmd": "add", "n": 1, "hostnames": ["server4"]})),
        listing(&["server1", "server2", "server3", "server4"])
    );
    let (before, map) = (lb.backends(), explain(&lb, "132574"));
    for ask in LANGUAGES {
        let answer = ask(&lb, &json!({"cmd": "add", "n": 1}));
        assert!(refused(&answer).contains("the fleet has 4 slots and can have 4"), "{answer}");
    }
    assert_eq!(http(&lb, "POST /add", r#"{"n":1}"#).status, 400);
    assert_eq!(lb.backends(), before);
    assert_eq!(explain(&lb, "132574"), map);
}

#[test]
fn a_candidate_that_fails_its_probes_is_skipped_with_the_reason() {
    let replicas = ["a", "b", "c"].map(Replica::named);
    let addresses = replicas.each_ref().map(|replica| replica.address);
    let probes = ["--health-interval", "50ms", "--health-timeout", "30s"];
    let lb = Lb::start(&[&flags(&fixed(&addresses))[..], &probes].concat());
    let order = column(&explain(&lb, "1"), "name");
    let sick = |name: &str, is: bool| {
        let at = ["a", "b", "c"].iter().position(|replica| *replica == name).unwrap();
        replicas[at].healthy.store(!is, Ordering::Relaxed);
        lb.wait_for_state(at as u64 + 1, if is { "down" } else { "up" });
    };
    for ill in 0..3 {
        sick(&order[ill], true);
        let explanation = explain(&lb, "1");
        assert_eq!(column(&explanation, "name"), order, "the order is the mapping's");
        let pick = if ill < 2 { &order[ill + 1] } else { &order[0] };
        assert_eq!(explanation["pick"], **pick, "{explanation}");
        assert_eq!(String::from_utf8(lb.exchange(b"1\n")).unwrap(), **pick);
        let skipped = column(&explanation, "skipped");
        for (at, reason) in skipped.iter().enumerate() {
            let expected = if at <= ill && order[at] != **pick { "fails its probes" } else { "" };
            assert!(reason.contains(expected) && reason.is_empty() == expected.is_empty(), "{explanation}");
            assert!(reason.is_empty() || reason.contains("500"), "the reason of the probe: {reason}");
        }
    }
    sick(&order[1], false);
    assert_eq!(explain(&lb, "1")["pick"], *order[1]);
}

#[test]
fn a_stopped_replica_is_skipped_with_the_reason() {
    let probes = ["--health-interval", "50ms", "--health-timeout", "1s", "--replace-after", "10m"];
    let lb = Lb::start(&[&["--replicas", "2"], &probes[..]].concat());
    let order = column(&explain(&lb, "1"), "name");
    signal(lb.process_of(&order[0]), "STOP");
    eventually("the other replica", || {
        let explanation = explain(&lb, "1");
        let first = &explanation["candidates"][0];
        let why = first["skipped"].as_str().unwrap_or_default();
        let is_skipped = first["state"] == "down" && why.contains("no answer within 1s");
        (is_skipped && explanation["pick"] == *order[1] && lb.route("1") == order[1]).then_some(())
    });
    signal(lb.process_of(&order[0]), "CONT");
    eventually("its return", || (explain(&lb, "1")["pick"] == *order[0]).then_some(()));
}
