//! A-3 on a Docker Swarm: its flags, how its figures are judged, and, where that is asked for, the whole of it.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Results, measured, run};

#[test]
fn only_a3_measures_a_swarm_and_only_one_whose_nodes_it_knows() {
    for command in ["a1", "a2", "a4", "suite"] {
        run(&[command, "--provider", "swarm"]).refused_with("only a3 measures a Docker Swarm");
    }
    let target = ["a3", "--provider", "swarm", "--target", "127.0.0.1:1", "--control", "127.0.0.1:2"];
    run(&target).refused_with("--target: expected no --target with --provider swarm");
    run(&["a3", "--provider", "swarm", "--balancers", "0"]).refused_with("--balancers");
}

#[test]
fn what_is_missing_is_named_before_anything_is_built() {
    let swarm = ["a3", "--provider", "swarm"];
    run(&[&swarm[..], &["--nodes", "/nowhere/nodes.sh"]].concat()).failed_with("--nodes");
    let (nodes, replica) = (program_of_the_nodes(), "/nowhere/backend");
    run(&[&swarm[..], &["--nodes", &nodes, "--replica", replica]].concat())
        .failed_with("--replica: there is no /nowhere/backend");
}

/// The numbers of a run with two kills, in which everything is right and each bar is just reached.
fn recorded() -> Value {
    let drill = |answered: [f64; 2]| {
        let kill = |answered: f64| {
            json!({"at": 1.0, "slot": "s", "victim": "a", "heir": "a", "back": 1.0, "running": 1400.0,
                "answered": answered, "failed_before": 0, "failed_after": 0, "begun_after": 100})
        };
        json!({"wanted": 2, "kills": answered.map(kill), "mapping_asked": 10, "mapping_moved": 0, "resolution_ms": 1.0,
            "timeline": {"bucket": 1.0, "slots": [], "failures": []}, "load": load()})
    };
    let crash = json!({"node": "n3", "slots": ["s"], "took_ms": 10.0, "failed_before": 2, "connect_timeout_ms": 1000.0,
        "failed_soon": 1, "failed_later": 0, "begun_later": 500, "slowest_ms": 1010.0, "up_again_ms": 15_000.0, "load": load()});
    json!({
        "environment": {"date": "2026-01-01", "cores": 2, "processor": "p", "memory": 1, "kernel": "k", "versions": {}, "commit": "",
            "seed": 1, "replicas": "services of a Docker Swarm", "own_network": false, "arguments": []},
        "a3": {"checks": [], "drill": drill([1500.0, 1450.0]), "swarm": {
            "nodes": 4, "balancers": 3, "spare": drill([50.0, 40.0]), "crash": crash,
            "quiet": [{"seconds": 60.0, "calls": {"GET /services": 13, "GET /tasks": 13}}],
            "agreement": {"followed_ms": [8.0, 100.0], "asked": 100_000, "different": 0},
        }},
    })
}

fn load() -> Value {
    let latency = json!({"p50": 1, "p90": 1, "p99": 1, "p999": 1, "max": 1, "mean": 1.0});
    json!({"requests": 1, "succeeded": 1, "failures": {}, "seconds": 1.0, "latency": latency, "received": 0, "sent": 0,
        "replicas": {}})
}

/// The report of these numbers, and the numbers as they are judged.
fn report_of(data: &Value) -> String {
    let results = Results::new();
    std::fs::write(results.file(), data.to_string()).unwrap();
    let folder = results.folder();
    run(&["report", &results.file(), "--out", folder.to_str().unwrap()]).succeeded();
    std::fs::read_to_string(folder.join("report.md")).unwrap()
}

#[test]
fn every_figure_is_judged_in_the_report() {
    let good = report_of(&recorded());
    assert!(good.contains("5 of 5 bars are reached") && good.contains("expectations hold."), "{good}");
    assert!(good.contains("Docker Swarm of 4 nodes with 3 lbs"), "{good}");
    let worse = |place: &str, value: Value| {
        let mut data = recorded();
        *data.pointer_mut(place).unwrap_or_else(|| panic!("{place} is not there")) = value;
        report_of(&data)
    };
    for (place, value) in [
        ("/a3/drill/kills/0/answered", json!(1501.0)),
        ("/a3/swarm/spare/kills/0/answered", json!(61.0)),
        ("/a3/swarm/agreement/followed_ms/1", json!(101.0)),
        ("/a3/swarm/quiet/0/calls/GET ~1services", json!(14)),
    ] {
        let report = worse(place, value);
        assert!(report.contains("4 of 5 bars are reached"), "{place}: {report}");
        assert!(report.contains("expectations hold."), "{place}: {report}");
    }
    for (place, value) in [
        ("/a3/drill/kills/1/failed_after", json!(1)),
        ("/a3/swarm/spare/kills/1/failed_after", json!(1)),
        ("/a3/swarm/agreement/different", json!(1)),
        ("/a3/swarm/crash/failed_later", json!(1)),
        ("/a3/swarm/crash/up_again_ms", Value::Null),
    ] {
        let report = worse(place, value);
        assert!(report.contains("expectations do not hold"), "{place}: {report}");
    }
}

fn program_of_the_nodes() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("lb/tests/it/swarm/nodes.sh").to_str().unwrap().to_owned()
}

#[test]
#[ignore = "it takes minutes, needs root and the static program of .docker/prebuild"]
fn a_swarm_is_built_measured_and_removed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (nodes, replica) = (program_of_the_nodes(), root.join("target/static/backend"));
    let flags = ["--nodes", &nodes, "--replica", replica.to_str().unwrap(), "--requests", "500"];
    let amount = ["--kills", "2", "--rate", "100", "--balancers", "2"];
    let (ran, data) = measured(&[&["a3", "--provider", "swarm"], &flags[..], &amount].concat());
    ran.succeeded();
    assert_eq!(data["a3"]["swarm"]["agreement"]["different"], 0);
    assert_eq!(data["a3"]["drill"]["kills"].as_array().unwrap().len(), 2);
}
