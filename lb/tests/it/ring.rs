//! `ring`: the picture of the mapping.

use serde_json::{Value, json};

use crate::control::{calm, http};
use crate::harness::{Gate, Lb, eventually, signal, text};

const MAPPINGS: [&str; 4] = ["ring", "maglev", "rendezvous", "slots"];

fn ring(lb: &Lb) -> Value {
    lb.done(&json!({"cmd": "ring"}))
}

fn list<'a>(ring: &'a Value, field: &str) -> &'a Vec<Value> {
    ring[field].as_array().unwrap()
}

fn share(moves: &[&Value]) -> f64 {
    moves.iter().map(|one| one["share"].as_f64().unwrap()).sum()
}

/// Every part is in one arc, and arcs come in order.
fn parts_are_whole(ring: &Value) {
    let ends = list(ring, "arcs").iter().fold(0, |end, arc| {
        assert_eq!(arc["at"], end, "{arc}");
        end + arc["parts"].as_u64().unwrap()
    });
    assert_eq!(ring["parts"], ends);
}

#[test]
fn shares_are_those_of_a_plan_and_every_part_has_an_owner() {
    for mapping in MAPPINGS {
        let lb = calm(&["--mapping", mapping]);
        let ring = ring(&lb);
        assert_eq!(ring["mapping"], mapping);
        let plan = lb.done(&json!({"cmd": "plan", "change": {"cmd": "rm", "n": 1}}));
        for slot in list(&ring, "slots") {
            assert_eq!(slot["share"], plan["before"]["shares"][text(&slot["name"])], "{mapping}: {slot}");
            assert_eq!((&slot["state"], &slot["weight"]), (&json!("up"), &json!(1)));
        }
        assert_eq!(ring["parts"], if mapping == "rendezvous" { 0 } else { 720 });
        parts_are_whole(&ring);
        assert!(list(&ring, "arcs").iter().all(|arc| arc["owner"] == arc["serving"]), "{ring}");
        assert_eq!((list(&ring, "meanwhile").len(), &ring["sampled"]), (0, &json!(0)));
        // Over HTTP it is the same.
        let answer: Value = serde_json::from_str(&http(&lb, "GET /ring", "").body).unwrap();
        assert_eq!(answer["message"], ring);
    }
}

#[test]
fn the_keys_of_a_lost_replica_go_to_others_until_it_is_back() {
    for mapping in MAPPINGS {
        let gate = Gate::new();
        gate.open();
        let lb = Lb::start(&["--mapping", mapping, "--command", &gate.command()]);
        let before = ring(&lb);
        gate.close();
        signal(lb.process_of("server2"), "KILL");
        let during = eventually("keys that go elsewhere", || {
            Some(ring(&lb)).filter(|ring| !list(ring, "meanwhile").is_empty())
        });
        let moves: Vec<&Value> = list(&during, "meanwhile").iter().collect();
        assert!(moves.iter().all(|one| one["from"] == "server2" && one["to"] != "server2"), "{moves:?}");
        let lost = during["slots"][1]["share"].as_f64().unwrap();
        // A sample of tens of thousands.
        assert!((share(&moves) - lost).abs() < 0.02, "{mapping}: {moves:?} of {lost}");
        for arc in list(&during, "arcs") {
            assert_eq!(arc["owner"] == "server2", arc["serving"] != arc["owner"], "{arc}");
        }
        parts_are_whole(&during);
        gate.open();
        lb.wait_until_all_up();
        let after = eventually("keys that have come home", || {
            Some(ring(&lb)).filter(|ring| list(ring, "meanwhile").is_empty())
        });
        assert_eq!(after["arcs"], before["arcs"]);
    }
}

#[test]
fn a_plan_tells_the_parts_that_would_move() {
    for mapping in ["ring", "maglev", "slots"] {
        let lb = calm(&["--mapping", mapping]);
        let owners = |ring: &Value| -> Vec<String> {
            let arcs = list(ring, "arcs").iter();
            let parts = arcs.flat_map(|arc| {
                vec![text(&arc["owner"]).to_owned(); arc["parts"].as_u64().unwrap() as usize]
            });
            parts.collect()
        };
        let mut expected = owners(&ring(&lb));
        let plan = lb.done(&json!({"cmd": "plan", "change": {"cmd": "add", "n": 1, "hostnames": ["S4"]}}));
        let arcs = list(&plan, "arcs");
        assert!(!arcs.is_empty());
        for arc in arcs {
            let (at, parts) = (arc["at"].as_u64().unwrap() as usize, arc["parts"].as_u64().unwrap() as usize);
            for owner in &mut expected[at..at + parts] {
                assert_eq!(arc["from"], *owner);
                text(&arc["to"]).clone_into(owner);
            }
        }
        lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S4"]}));
        assert_eq!(owners(&ring(&lb)), expected, "{mapping}");
        // Positions of another mapping are other ones.
        let other = json!({"cmd": "plan", "change": {"cmd": "mapping", "mapping": "rendezvous"}});
        assert_eq!(lb.done(&other).get("arcs"), None);
    }
}

#[test]
fn the_answer_for_the_largest_fleet_is_bounded() {
    // Nothing listens there; probes are patient.
    let backends: Vec<String> = (1..=1000).map(|n| format!("s{n}=127.0.0.1:1")).collect();
    let mut flags = vec!["--provider", "fixed", "--health-interval", "1m"];
    backends.iter().for_each(|backend| flags.extend(["--backend", backend]));
    let lb = Lb::launch(&flags);
    let ring =
        eventually("the mapping of all", || Some(ring(&lb)).filter(|ring| list(ring, "slots").len() == 1000));
    parts_are_whole(&ring);
    assert!(list(&ring, "meanwhile").len() <= 1000);
    assert!(ring.to_string().len() < 300_000, "{}", ring.to_string().len());
}
