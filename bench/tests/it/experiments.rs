//! and the suite, end to end at a small size.

use serde_json::Value;

use crate::harness::{Results, bench, end_of, measured, run};

/// Small loads, with enough requests to tell the replicas apart.
const SMALL: [&str; 2] = ["--requests", "600"];

fn with<'a>(command: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    [&[command], &SMALL[..], flags].concat()
}

fn counts(balance: &Value) -> Vec<u64> {
    let replicas = balance["replicas"].as_array().unwrap();
    replicas.iter().map(|share| share["requests"].as_u64().unwrap()).collect()
}

#[track_caller]
fn all_came_true(data: &Value) {
    for expectation in data["expectations"].as_array().unwrap() {
        assert_eq!(expectation["passed"], true, "{expectation}");
    }
    assert_eq!(data["cut_short"], Value::Null);
}

#[test]
fn a1_counts_the_requests_of_each_replica() {
    let (ran, data) = measured(&with("a1", &[]));
    ran.succeeded();
    all_came_true(&data);
    let [slots, ring] = data["a1"].as_array().unwrap().as_slice() else { panic!("{data}") };
    assert_eq!((&slots["variant"]["name"], &ring["variant"]["name"]), (&"slots".into(), &"ring".into()));
    for balance in [slots, ring] {
        assert_eq!(counts(balance).iter().sum::<u64>(), 600, "{balance}");
        assert_eq!(balance["load"]["succeeded"], 600);
    }
    // The formulas of the assignment give one of three replicas 84 %.
    assert!(counts(slots)[0] > 450 && counts(slots)[1] < 100, "{slots}");
    assert!(counts(ring).iter().all(|&count| count > 130), "{ring}");
}

#[test]
fn a2_is_made_of_fleets_of_exactly_two_to_six() {
    let (ran, data) = measured(&with("a2", &["--mapping", "ring"]));
    ran.succeeded();
    all_came_true(&data);
    let points = data["a2"][0]["points"].as_array().unwrap();
    assert_eq!(points.iter().map(|point| counts(point).len()).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    for point in points {
        assert_eq!(counts(point).iter().sum::<u64>(), 600, "{point}");
        assert!(point["load"]["latency"]["p99"].as_u64().unwrap() > 0);
    }
}

#[test]
fn a3_asks_everything_and_nothing_fails_after_a_kill() {
    let (ran, data) = measured(&with("a3", &["--kills", "4", "--rate", "300"]));
    ran.succeeded();
    all_came_true(&data);
    let checks = data["a3"]["checks"].as_array().unwrap();
    assert!(checks.len() > 50, "{}", checks.len());
    let drill = &data["a3"]["drill"];
    let kills = drill["kills"].as_array().unwrap();
    assert_eq!(kills.len(), 4);
    for kill in kills {
        assert_ne!(kill["victim"], kill["heir"], "{kill}");
        for phase in ["detected", "out", "started", "ready", "back", "answered"] {
            assert!(kill[phase].as_f64().unwrap() > 0.0, "{phase}: {kill}");
        }
        assert!(kill["begun_after"].as_u64().unwrap() > 0, "{kill}");
        assert_eq!(kill["failed_after"], 0, "{kill}");
    }
    assert_eq!((&drill["mapping_asked"], &drill["mapping_moved"]), (&600.into(), &0.into()));
    let timeline = drill["timeline"]["slots"].as_array().unwrap();
    let served = timeline
        .iter()
        .flat_map(|slot| slot["counts"].as_array().unwrap())
        .map(|count| count.as_u64().unwrap());
    assert_eq!(drill["load"]["succeeded"], served.sum::<u64>());
}

#[test]
fn a_replacement_may_have_the_name_of_its_predecessor() {
    let lb = crate::servers::Lb::start(&["--respawn-name", "same"]);
    let target = ["--target", &lb.data, "--control", &lb.control, "--kills", "2", "--rate", "300"];
    let (ran, data) = measured(&with("a3", &target));
    ran.succeeded();
    for kill in data["a3"]["drill"]["kills"].as_array().unwrap() {
        assert_eq!(kill["victim"], kill["heir"], "{kill}");
        assert!(kill["ready"].as_f64().unwrap() > 0.0 && kill["failed_after"] == 0, "{kill}");
    }
}

#[test]
fn a4_puts_mappings_side_by_side() {
    let (ran, data) = measured(&with("a4", &[]));
    ran.succeeded();
    all_came_true(&data);
    let names = |part: &str| -> Vec<String> {
        let found = data["a4"][part].as_array().unwrap().iter();
        found.map(|one| one["variant"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = ["assignment", "even steps", "scattered", "ring", "maglev", "rendezvous"];
    assert_eq!(
        (names("a1"), names("a2")),
        (all.map(str::to_owned).to_vec(), all.map(str::to_owned).to_vec())
    );
    assert_eq!(data["a4"]["refused"], Value::Null);
}

#[test]
fn a_running_load_balancer_is_measured_as_it_is() {
    let lb = crate::servers::Lb::start(&["--replicas", "2"]);
    let (ran, data) = measured(&with("a1", &["--target", &lb.data, "--control", &lb.control]));
    ran.succeeded();
    all_came_true(&data);
    assert_eq!(counts(&data["a1"][0]).len(), 2);
    // With only a data port it may be any load balancer.
    let (ran, data) = measured(&with("a1", &["--target", &lb.data]));
    ran.succeeded();
    assert_eq!((counts(&data["a1"][0]).len(), &data["a1"][0]["replicas"][0]["expected"]), (2, &Value::Null));
    // A-2 changes the size of its fleet, and afterwards the fleet is as before.
    let before = lb.replicas();
    let (ran, data) = measured(&with("a2", &["--target", &lb.data, "--control", &lb.control]));
    ran.succeeded();
    let sizes: Vec<usize> =
        data["a2"][0]["points"].as_array().unwrap().iter().map(|point| counts(point).len()).collect();
    assert_eq!(sizes, [2, 3, 4, 5, 6]);
    assert_eq!(lb.replicas(), before);
    let (ran, data) =
        measured(&with("a3", &["--target", &lb.data, "--control", &lb.control, "--kills", "2"]));
    ran.succeeded();
    all_came_true(&data);
    assert_eq!(data["a3"]["drill"]["kills"].as_array().unwrap().len(), 2);
    run(&with("a2", &["--target", &lb.data])).refused_with("--control ADDR");
    run(&with("a3", &["--target", &lb.data])).refused_with("--control ADDR");
    run(&with("a4", &["--target", &lb.data])).refused_with("cannot measure a running one");
}

#[test]
fn the_suite_writes_a_report_with_all_its_pictures() {
    let results = Results::new();
    let folder = results.folder();
    let out = folder.to_str().unwrap();
    let ran =
        run(&with("suite", &["--kills", "2", "--rate", "300", "--no-compare", "--out", out])).succeeded();
    let names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in ["report.md", "report.html", "data.json"] {
        assert!(names.iter().any(|other| other == name), "{name} is not in {names:?}");
    }
    let report = std::fs::read_to_string(folder.join("report.md")).unwrap();
    for heading in ["A-1", "A-2", "A-3", "A-4"] {
        assert!(report.contains(heading), "{heading} is not in the report");
    }
    let pictures: Vec<&String> = names.iter().filter(|name| name.ends_with(".svg")).collect();
    assert!(pictures.len() >= 6, "{names:?}");
    for picture in pictures {
        assert!(report.contains(picture.as_str()), "{picture} is not in the report");
        assert!(names.contains(&picture.replace(".svg", ".png")), "{picture} is not there as PNG: {names:?}");
    }
    assert!(ran.stdout.contains("A-1"), "{}", ran.stdout);
    // `bench report` makes an identical report from the numbers.
    let again = results.folder().with_file_name("again");
    run(&["report", folder.join("data.json").to_str().unwrap(), "--out", again.to_str().unwrap()])
        .succeeded();
    for name in names {
        let (one, two) =
            (std::fs::read(folder.join(&name)).unwrap(), std::fs::read(again.join(&name)).unwrap());
        assert!(one == two, "{name} differs");
    }
}

#[test]
fn results_before_a_failure_are_reported() {
    let (ran, data) = measured(&with("a1", &["--mapping", "ring,none-such"]));
    let ran = ran.failed_with("none-such");
    assert_eq!(counts(&data["a1"][0]).iter().sum::<u64>(), 600);
    assert!(data["cut_short"].as_str().unwrap().contains("none-such"), "{data}");
    assert!(ran.stdout.contains("ring"), "{}", ran.stdout);
}

#[test]
fn variables_for_another_lb_change_nothing() {
    let results = Results::new();
    let flags = ["a1", "--requests", "600", "--mapping", "ring", "--json", &results.file()];
    let child = bench(&flags).env("LB_KEY", "source").env("LB_CONTROL_TOKEN", "secret").spawn().unwrap();
    end_of(child).succeeded();
    let data = results.json();
    assert!(counts(&data["a1"][0]).iter().all(|&count| count > 100), "{data}");
}

#[test]
fn a_token_is_not_written_down() {
    let lb = crate::servers::Lb::start(&["--control-token", "s3cr3t"]);
    let target = ["--target", &lb.data, "--control", &lb.control];
    for token in [&["--control-token", "s3cr3t"][..], &["--control-token=s3cr3t"]] {
        let (ran, data) = measured(&with("a1", &[&target, token].concat()));
        ran.succeeded();
        assert!(data["a1"][0]["replicas"][0]["expected"].is_number(), "{data}");
        assert!(!data.to_string().contains("s3cr3t"), "{data}");
    }
    run(&with("a1", &target)).failed_with("token");
}

#[test]
fn nothing_is_measured_if_the_results_cannot_be_written() {
    for flags in [["--json", "/nowhere/numbers.json"], ["--out", "/dev/null/out"]] {
        let ran = run(&with("a1", &flags)).failed_with("cannot write");
        assert_eq!(ran.stdout, "");
    }
}
