//! `bench compare`: the same load on lb, on peers and on no proxy. A peer that is not installed is left out; with `CI=true`
//! the test fails.

use serde_json::Value;

use crate::harness::{measured, run};

/// One short round of every mode.
const SHORT: [&str; 5] = ["compare", "--rounds", "1", "--time", "200ms"];

fn is_installed(name: &str) -> bool {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .any(|folder| std::path::Path::new(folder).join(name).is_file());
    assert!(found || std::env::var_os("CI").is_none(), "{name} is not installed");
    found
}

fn names(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_contender_does_every_work_in_every_round() {
    let peers: Vec<&str> = ["haproxy", "nginx"].into_iter().filter(|peer| is_installed(peer)).collect();
    let (ran, data) = measured(&SHORT);
    ran.succeeded();
    assert_eq!(data["cut_short"], Value::Null);
    let comparison = &data["comparison"];
    assert_eq!(names(&comparison["contenders"]), [&["lb", "lb handoff"], &peers[..], &["direct"]].concat());
    assert_eq!(names(&comparison["modes"]), ["short", "tail", "rtt64", "rtt16k", "down", "up", "idle"]);
    for mode in comparison["modes"].as_array().unwrap() {
        let [round] = mode["rounds"].as_array().unwrap().as_slice() else { panic!("{mode}") };
        for (place, reading) in round.as_array().unwrap().iter().enumerate() {
            let is_direct = place == peers.len() + 2;
            if mode["name"] == "idle" {
                assert_eq!(reading["memory"].is_number(), !is_direct, "{mode}");
            } else {
                assert!(reading["operations"].as_f64().unwrap() > 0.0, "{mode}");
                assert_eq!(reading["cpu_ns"].is_number(), !is_direct, "{mode}");
                assert!(reading["replicas_cpu_ns"].as_u64().unwrap() > 0, "{mode}");
            }
            assert_eq!(reading["failures"], 0, "{mode}");
        }
    }
    if is_installed("wrk") {
        assert_eq!(names(&comparison["generators"]), ["bench", "wrk"]);
        for reading in comparison["generator"]["rounds"][0].as_array().unwrap() {
            assert!(
                reading["operations"].as_f64().unwrap() > 0.0 && reading["cpu_ns"].as_u64().unwrap() > 0,
                "{reading}"
            );
        }
    }
}

#[test]
fn lb_can_be_compared_with_no_proxy_alone() {
    let (ran, data) = measured(&[&SHORT[..], &["--peers", "", "--modes", "short,up"]].concat());
    ran.succeeded();
    assert_eq!(names(&data["comparison"]["contenders"]), ["lb", "lb handoff", "direct"]);
    assert_eq!(names(&data["comparison"]["modes"]), ["short", "up"]);
}

#[test]
fn lb_is_compared_with_itself_while_it_is_watched() {
    let watch = ["--peers", "", "--modes", "short", "--watch", "again,text,journal,everything"];
    let (ran, data) = measured(&[&SHORT[..], &watch].concat());
    let ran = ran.succeeded();
    let names = names(&data["comparison"]["contenders"]);
    let watched = ["lb again", "lb text log", "lb journal", "lb everything"];
    assert_eq!(names, [&["lb"], &watched[..], &["lb handoff", "direct"]].concat());
    for reading in &data["comparison"]["modes"][0]["rounds"][0].as_array().unwrap()[..=watched.len()] {
        assert!(reading["cpu_ns"].as_u64().unwrap() > 0 && reading["failures"] == 0, "{reading}");
    }
    for name in watched {
        assert!(ran.stdout.contains(&format!("{name}, as a ratio to")), "{}", ran.stdout);
    }
    run(&[&SHORT[..], &["--watch", "nothing"]].concat()).refused_with("everything");
}

#[test]
fn bars_for_speed_are_shown_and_count_only_when_they_are_held() {
    let short = ["compare", "--rounds", "3", "--time", "50ms", "--peers", "", "--modes", "short"];
    let (ran, data) = measured(&short);
    let ran = ran.succeeded();
    let [bar] = data["bars"].as_array().unwrap().as_slice() else { panic!("{data}") };
    assert_eq!(bar["bar"], "at least 0.95");
    assert!(ran.stdout.contains("## Correctness") && ran.stdout.contains("## Performance"), "{}", ran.stdout);
    let (ran, data) = measured(&[&short[..], &["--hold-bars"]].concat());
    if data["bars"][0]["reached"] == true {
        ran.succeeded();
    } else {
        ran.failed_with("bars are not reached: lb handoff");
    }
    run(&[&SHORT[..], &["--hold-bars"]].concat()).refused_with("expected 3 or more with --hold-bars");
    run(&["suite", "--no-compare", "--hold-bars"]).refused_with("--hold-bars");
}

#[test]
fn unknown_peers_and_modes_are_refused_with_what_is_allowed() {
    for (flags, words) in [(["--peers", "envoy"], "haproxy"), (["--modes", "sideways"], "rtt16k")] {
        let ran = run(&[&SHORT[..], &flags].concat());
        assert!(ran.stderr.contains(flags[1]), "{}", ran.stderr);
        ran.refused_with(words);
    }
}
