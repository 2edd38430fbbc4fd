//! `bench soak`: rounds of faults on a good `lb`, and on one that seems to be bad.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;

use serde_json::Value;

use crate::harness::{Results, bench, end_of, eventually, measured, run};
use crate::interruption::signal;
use crate::servers::{Lb, Server};

#[track_caller]
fn all_held(data: &Value) {
    for expectation in data["expectations"].as_array().unwrap() {
        assert_eq!(expectation["passed"], true, "{expectation}\n{}", data["soak"]["rounds"]);
    }
    assert_eq!(data["cut_short"], Value::Null);
}

/// The kinds of the faults of a round.
fn kinds(round: &Value) -> Vec<&str> {
    round["faults"].as_array().unwrap().iter().map(|fault| fault["kind"].as_str().unwrap()).collect()
}

#[test]
fn faults_at_random_leave_the_fleet_as_it_was() {
    let results = Results::new();
    let folder = results.folder();
    let flags = ["soak", "--time", "12s", "--seed", "3", "--faults", "kill,rm,reset,half-close,flood"];
    let (ran, data) = measured(&[&flags[..], &["--out", folder.to_str().unwrap()]].concat());
    let ran = ran.succeeded();
    all_held(&data);
    let soak = &data["soak"];
    let rounds = soak["rounds"].as_array().unwrap();
    assert!(!rounds.is_empty());
    for round in rounds {
        assert!(!kinds(round).is_empty(), "{round}");
        assert!(round["requests"].as_u64().unwrap() > 0, "{round}");
        assert!(round["memory"].as_u64().unwrap() > 0 && round["files"].as_u64().unwrap() > 0, "{round}");
        assert_eq!(round["broken"], serde_json::json!([]), "{round}");
    }
    assert_eq!(soak["ending"]["left"], serde_json::json!([]));
    let report = std::fs::read_to_string(folder.join("report.md")).unwrap();
    assert!(report.contains("## Soak: faults at random") && report.contains("(soak.svg)"), "{report}");
    assert!(folder.join("soak.png").is_file());
    assert!(ran.stdout.contains("Soak: processes of"), "{}", ran.stdout);
}

#[test]
fn a_round_is_repeated_alone() {
    let flags = ["soak", "--seed", "3", "--round", "5", "--faults", "kill,stop,blackout,add,remap"];
    let [first, second] = [(); 2].map(|()| measured(&flags)).map(|(ran, data)| {
        ran.succeeded();
        all_held(&data);
        data
    });
    let of = |data: &Value| {
        let [round] = data["soak"]["rounds"].as_array().unwrap().as_slice() else { panic!("{data}") };
        assert_eq!(round["number"], 5);
        let faults = round["faults"].as_array().unwrap().iter();
        faults.map(|fault| fault["what"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(&first), of(&second));
}

/// Passes all bytes on in both directions.
fn pass_on(client: &TcpStream, target: &str) {
    let server = TcpStream::connect(target).unwrap();
    thread::scope(|scope| {
        for (from, to) in [(client, &server), (&server, client)] {
            scope.spawn(move || {
                let _ = std::io::copy(&mut &*from, &mut &*to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    });
}

#[test]
fn a_wrong_answer_is_found_and_its_round_is_named() {
    let lb = Lb::start(&[]);
    let target = lb.data.clone();
    // Each load begins with a request that has to succeed.
    let bad = Server::start(move |mut client, number| {
        if number > 20 && number % 50 == 0 {
            let _ = client.read(&mut [0; 1024]);
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
        } else {
            pass_on(&client, &target);
        }
    });
    let address = bad.address.to_string();
    let subject = ["--target", &address, "--control", &lb.control];
    let (ran, data) =
        measured(&[&["soak", "--seed", "8", "--round", "2", "--faults", "kill"], &subject[..]].concat());
    let ran = ran.failed_with("Soak: failed requests that no fault explains");
    assert!(ran.stderr.contains("repeat it with --seed 8 --round 2 --faults kill"), "{}", ran.stderr);
    let lost = data["soak"]["rounds"][0]["lost"].as_array().unwrap();
    let unexplained = lost.iter().filter(|lost| lost["fault"].is_null());
    assert!(unexplained.clone().count() > 0, "{data}");
    assert!(ran.stdout.contains("**nothing**"), "{}", ran.stdout);
    // The `lb` itself is well.
    assert!(lb.replicas().contains(r#""N":3"#));
}

#[test]
fn an_id_in_a_wrong_slot_is_found() {
    let (one, other) = (Lb::start(&[]), Lb::start(&["--mapping", "slots"]));
    let (flags, subject) = (["soak", "--round", "1", "--faults", "reset"], ["--target", &one.data]);
    // The control port of another `lb`, which has another mapping.
    let (ran, data) = measured(&[&flags[..], &subject, &["--control", &other.control]].concat());
    let ran = ran.failed_with("Soak: keys");
    assert!(ran.stderr.contains("ids are not in their slots"), "{}", ran.stderr);
    assert_eq!(data["soak"]["rounds"][0]["broken"][0]["invariant"], "keys", "{data}");
}

#[test]
fn a_running_lb_is_as_it_was_afterwards() {
    let lb = Lb::start(&["--mapping", "maglev", "--replicas", "2"]);
    let before = lb.replicas();
    let subject = ["--target", &lb.data, "--control", &lb.control];
    let faults = ["soak", "--round", "1", "--faults", "add,rm,remap"];
    let (ran, data) = measured(&[&faults[..], &subject].concat());
    ran.succeeded();
    all_held(&data);
    assert_eq!(lb.replicas(), before);
    assert_eq!(data["soak"]["ending"], Value::Null);
}

#[test]
fn an_interrupted_soak_leaves_a_running_lb_as_it_was() {
    let lb = Lb::start(&[]);
    let before = lb.replicas();
    let subject = ["--target", &lb.data, "--control", &lb.control, "--time", "1h"];
    let child = bench(&[&["soak", "--faults", "add,rm,remap"], &subject[..]].concat()).spawn().unwrap();
    eventually("a changed fleet", || (lb.replicas() != before).then_some(()));
    signal(child.id(), "INT");
    end_of(child).failed_with("interrupted");
    assert_eq!(lb.replicas(), before);
}

#[test]
fn wrong_flags_of_a_soak_are_refused() {
    let cases: [(&[&str], &str); 5] = [
        (&["--target", "127.0.0.1:1"], "--control"),
        (&["--faults", "kill,gremlins"], "gremlins"),
        (&["--rate", "1"], "from 10 to 5000"),
        (&["--round", "1", "--time", "1s"], "cannot be used with"),
        // Nothing listens there, so there is no process whose replicas can be killed.
        (&["--target", "127.0.0.1:1", "--control", "127.0.0.1:1"], "--faults rm,add,remap"),
    ];
    for (flags, words) in cases {
        run(&[&["soak"], flags].concat()).refused_with(words);
    }
}
