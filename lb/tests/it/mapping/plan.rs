//! Previews of changes (`plan`), and that they come true.

use std::process::Command;

use serde_json::{Map, Value, json};

use super::{Held, owners, set};
use crate::control::{calm, http, refused};
use crate::harness::Lb;

fn plan(lb: &Lb, change: &Value) -> Value {
    lb.done(&json!({"cmd": "plan", "change": change}))
}

fn share(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a share: {value}"))
}

/// Runs the command that a plan recommends.
fn type_in(lb: &Lb, command: &Value) {
    let mut words = command.as_str().unwrap().split(' ');
    assert_eq!(words.next(), Some("lb"));
    let output = Command::new(env!("CARGO_BIN_EXE_lb"))
        .args(words)
        .args(["--control", &lb.control.to_string()])
        .output();
    assert!(output.unwrap().status.success(), "{command}");
}

/// Runs the command of a plan, and checks that the share of ids with a new owner is the predicted one, within five standard
/// deviations of a sample of this size.
#[track_caller]
fn comes_true(lb: &Lb, plan: &Value) {
    const IDS: u32 = 1500;
    let before = owners(lb, 100_000..100_000 + IDS);
    type_in(lb, &plan["command"]);
    let after = owners(lb, 100_000..100_000 + IDS);
    let moved = before.iter().zip(&after).filter(|(was, is)| was != is).count() as f64 / f64::from(IDS);
    let told = share(&plan["moved"]);
    assert!(told > 0.0, "nothing moves: {plan}");
    let deviation = (told * (1.0 - told) / f64::from(IDS)).sqrt();
    assert!(
        (moved - told).abs() <= 5.0 * deviation + 0.001,
        "{moved} moved, but {told} was predicted: {plan}"
    );
    for (was, is) in before.iter().zip(&after).filter(|(was, is)| was != is) {
        let moves = plan["moves"].as_array().unwrap();
        assert!(moves.iter().any(|one| one["from"] == **was && one["to"] == **is), "{was} to {is}: {plan}");
    }
}

#[test]
fn a_previewed_add_comes_true_with_the_previewed_names() {
    for mapping in ["ring", "maglev", "rendezvous"] {
        let lb = calm(&["--mapping", mapping]);
        let told = plan(&lb, &json!({"cmd": "add", "n": 2, "weights": [2]}));
        let newcomers: Vec<String> =
            told["command"].as_str().unwrap().split(' ').skip(3).take(2).map(str::to_owned).collect();
        comes_true(&lb, &told);
        assert_eq!(lb.hostnames()[3..], newcomers, "{mapping}");
        assert_eq!(lb.slot(4)["weight"], 2);
        assert!((share(&told["moved"]) - 0.5).abs() < 0.03, "{mapping}: {told}");
        let excess = share(&told["moved"]) - share(&told["least"]);
        if mapping == "maglev" {
            assert!(excess > 0.0 && excess < 0.01, "{told}");
            assert!(told["warnings"][0].as_str().unwrap().contains("move without need"), "{told}");
        } else {
            assert!(excess == 0.0 && told.get("warnings").is_none(), "{mapping}: {told}");
        }
        let shares = told["after"]["shares"].as_object().unwrap();
        assert_eq!(shares.len(), 5);
        assert!((shares.values().map(share).sum::<f64>() - 1.0).abs() < 1e-9, "{told}");
    }
}

#[test]
fn a_preview_of_the_classic_table_follows_its_arithmetic() {
    let lb = calm(&["--mapping", "slots"]);
    let told = plan(&lb, &json!({"cmd": "add", "n": 1, "hostnames": ["server4"]}));
    assert_eq!((&told["basis"], &told["keys"]), (&json!("ids"), &json!(900_000)));
    let before = &told["before"]["shares"];
    let percent =
        ["server1", "server2", "server3"].map(|name| format!("{:.2}", 100.0 * share(&before[name])));
    assert_eq!(percent, ["84.37", "4.69", "10.94"], "the published shares");
    assert!(told["moves"].as_array().unwrap().iter().all(|one| one["to"] == "server4"), "{told}");
    comes_true(&lb, &told);
}

#[test]
fn previews_of_removals_and_of_other_mappings_come_true() {
    let lb = calm(&["--replicas", "4"]);
    comes_true(&lb, &plan(&lb, &json!({"cmd": "rm", "n": 1})));
    comes_true(&lb, &plan(&lb, &json!({"cmd": "mapping", "mapping": "maglev"})));
    let slots = json!({"cmd": "mapping", "mapping": "slots", "virtual": 20, "slots": 4001});
    let told = plan(&lb, &slots);
    comes_true(&lb, &told);
    assert!(told["warnings"][0].as_str().unwrap().contains("of the keys move, though"), "{told}");
    let weights: Map<String, Value> = lb.hostnames().into_iter().map(|name| (name, json!(0))).collect();
    let none = plan(&lb, &json!({"cmd": "mapping", "weights": weights}));
    assert!(none["warnings"].to_string().contains("no connection could be placed"), "{none}");
    assert_eq!(none["moved"], 1.0, "{none}");
}

#[test]
fn a_plan_changes_nothing_and_is_refused_if_the_change_would_be() {
    let lb = calm(&["--mapping", "slots", "--slots", "36"]);
    let state = || (lb.backends(), owners(&lb, 0..50), lb.done(&json!({"cmd": "mapping"})));
    let before = state();
    for change in [
        json!({"cmd": "add", "n": 1}),
        json!({"cmd": "rm", "n": 2}),
        json!({"cmd": "mapping", "mapping": "ring"}),
    ] {
        plan(&lb, &change);
        assert_eq!(http(&lb, "POST /plan", &change.to_string()).status, 200, "{change}");
    }
    for (change, message) in [
        (json!({"cmd": "add", "n": 2}), "the fleet has 3 slots and can have 4"),
        (json!({"cmd": "rm", "n": 1, "hostnames": ["stranger"]}), "hostname stranger is unknown"),
        (json!({"cmd": "mapping", "points": 5}), "`points` goes with the mapping ring only"),
        (json!({"cmd": "mapping"}), "there is nothing to change: expected one or more of mapping, points, "),
        (json!({"cmd": "rep"}), "unknown variant `rep`"),
        (
            json!({"cmd": "add", "n": 1, "hostnames": ["a", "b"]}),
            "Length of hostname list is more than newly added",
        ),
    ] {
        let response = http(&lb, "POST /plan", &change.to_string());
        assert_eq!(response.status, 400, "{change}");
        assert!(refused(&response.body).contains(message), "{change}: {response:?}");
    }
    assert_eq!(http(&lb, "GET /plan", "").header("allow"), Some("POST"));
    assert_eq!(state(), before);
}

#[test]
fn a_preview_lists_the_largest_moves_and_counts_the_others() {
    let backends: Vec<String> = (1..=40).map(|port| format!("s{port}=127.0.0.1:{port}")).collect();
    let lb =
        Lb::launch(&["--provider", "fixed", "--health-interval", "1h", "--backend", &backends.join(",")]);
    let told = plan(&lb, &json!({"cmd": "mapping", "mapping": "maglev"}));
    let moves = told["moves"].as_array().unwrap();
    assert_eq!((moves.len(), &told["omitted"]["moves"]), (1000, &json!(40 * 39 - 1000)));
    let sum = moves.iter().map(|one| share(&one["share"])).sum::<f64>() + share(&told["omitted"]["share"]);
    assert!((sum - share(&told["moved"])).abs() < 1e-9, "{sum}: {}", told["moved"]);
}

#[test]
fn a_preview_of_rendezvous_is_exact_in_the_largest_fleet() {
    let backends: Vec<String> =
        (1..=1000).map(|port| format!("s{port}=127.0.0.1:{port},weight=100")).collect();
    let flags = ["--mapping", "rendezvous", "--provider", "fixed", "--health-interval", "1h", "--backend"];
    let lb = Lb::launch(&[&flags[..], &[&backends.join(",")]].concat());
    let told = plan(&lb, &json!({"cmd": "rm", "n": 1, "hostnames": ["s5"]}));
    assert_eq!(
        (&told["basis"], &told["moved"], &told["least"]),
        (&json!("expected"), &json!(0.001), &json!(0.001))
    );
    for side in ["before", "after"] {
        assert!((share(&told[side]["max_over_mean"]) - 1.0).abs() < 1e-9, "{told}");
    }
    let ring = plan(&lb, &json!({"cmd": "mapping", "mapping": "ring", "points": 10}));
    assert!((share(&ring["before"]["max_over_mean"]) - 1.0).abs() < 1e-9, "{ring}");
    assert!(ring["warnings"].to_string().contains("give or take"), "{ring}");
}

#[test]
fn open_connections_that_would_be_out_of_place_are_counted() {
    let lb = calm(&[]);
    let held: Vec<Held> = (0..30).map(|id| Held::by(&lb, &id.to_string())).collect();
    let long = Held::by(&lb, &"x".repeat(40));
    let on_server2 = held.iter().filter(|held| held.hostname == "server2").count();
    let told = plan(&lb, &json!({"cmd": "rm", "n": 1, "hostnames": ["server2"]}));
    let expected = json!({"open": 31, "out_of_place_now": 0, "out_of_place_then": on_server2, "unknown": 1});
    assert_eq!(told["connections"], expected);
    set(&lb, &json!({"weights": {"server2": 0}}));
    let told = plan(&lb, &json!({"cmd": "mapping", "weights": {"server2": 1}}));
    let expected = json!({"open": 31, "out_of_place_now": on_server2, "out_of_place_then": 0, "unknown": 1});
    assert_eq!(told["connections"], expected);
    assert!(on_server2 > 0);
    drop((held, long));
}
