//! `bench load`: counts are exact, answers are checked, failures have names.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Results, measured, program, run};
use crate::servers::{Backend, Server, echo_line, hold};

#[track_caller]
fn all_right(numbers: &Value, requests: u64) {
    assert_eq!(numbers["requests"], requests, "{numbers}");
    assert_eq!(numbers["succeeded"], requests, "{numbers}");
    assert_eq!(numbers["failures"], serde_json::json!({}), "{numbers}");
}

#[test]
fn every_request_is_counted_once_with_the_replica_that_answered() {
    let backend = Backend::start("one");
    for protocol in ["http", "raw"] {
        for keep_open in [&[][..], &["--keep-open"]] {
            let flags = ["load", "--target", &backend.address, "--requests", "500", "--protocol", protocol];
            let (ran, numbers) = measured(&[&flags, keep_open].concat());
            let ran = ran.succeeded();
            all_right(&numbers, 500);
            assert_eq!(numbers["replicas"], serde_json::json!({"one": 500}));
            assert!(ran.stdout.contains("one") && ran.stdout.contains("p99.9"), "{}", ran.stdout);
            assert!(ran.stdout.contains("no failures"), "{}", ran.stdout);
        }
    }
}

#[test]
fn payloads_of_any_size_go_each_way_and_are_checked() {
    let backend = Backend::start("one");
    let cases: [(&[&str], u64, u64); 6] = [
        // More than all buffers on the way hold: a client that reads only after sending would hang.
        (&["--send", "40MiB", "--receive", "40MiB"], 41_943_040, 41_943_040),
        (&["--send", "100KiB", "--receive", "100KiB"], 102_400, 102_400),
        (&["--send", "300KiB"], 307_200, 0),
        (&["--receive", "1MiB"], 0, 1_048_576),
        (&["--send", "5B", "--receive", "70000B"], 5, 70_000),
        (&["--protocol", "raw", "--send", "16KiB"], 16_384, 16_384),
    ];
    for (sizes, sent, received) in cases {
        for keep_open in [&[][..], &["--keep-open"]] {
            let flags = ["load", "--target", &backend.address, "--requests", "10", "--connections", "4"];
            let (ran, numbers) = measured(&[&flags, sizes, keep_open].concat());
            ran.succeeded();
            all_right(&numbers, 10);
            assert_eq!(numbers["received"], 10 * received, "{sizes:?}");
            assert_eq!(numbers["sent"], 10 * sent, "{sizes:?}: {numbers}");
            assert_eq!(numbers["replicas"], serde_json::json!({"one": 10}), "{sizes:?}");
        }
    }
}

#[test]
fn a_fixed_id_goes_where_it_is_sent() {
    let server = Server::start(|stream, _| echo_line(&stream, Duration::ZERO));
    let target = server.address.to_string();
    let flags = ["load", "--target", &target, "--protocol", "raw", "--ids", "fixed:abc", "--requests", "20"];
    let (ran, numbers) = measured(&flags);
    ran.succeeded();
    all_right(&numbers, 20);
    // "abc" and a line feed.
    assert_eq!(numbers["sent"], 80);
    // The first request is not counted.
    assert_eq!(server.accepted(), 21);
}

#[test]
fn an_open_loop_sends_what_it_owes_and_charges_a_stall_to_the_server() {
    // One connection at a time, 20 ms for each answer: of 100 requests a second, half have to wait.
    let server = Server::start(|stream, _| echo_line(&stream, Duration::from_millis(20)));
    let target = server.address.to_string();
    let flags = ["load", "--target", &target, "--protocol", "raw", "--rate", "100", "--requests", "100"];
    let (ran, numbers) =
        measured(&[&flags[..], &["--connections", "1", "--keep-open", "--timeout", "10s"]].concat());
    ran.succeeded();
    all_right(&numbers, 100);
    // The last one was due after 990 ms, and answered after 2000 at the earliest.
    assert!(numbers["latency"]["max"].as_u64().unwrap() >= 1_000_000, "{numbers}");
    assert!(numbers["latency"]["p50"].as_u64().unwrap() >= 500_000, "{numbers}");
}

#[test]
fn requests_that_an_open_loop_could_not_send_are_failures() {
    // Only the first request gets an answer, and it is not counted.
    let server = Server::start(
        |stream, number| if number == 0 { echo_line(&stream, Duration::ZERO) } else { hold(stream) },
    );
    let target = server.address.to_string();
    let flags = ["load", "--target", &target, "--protocol", "raw", "--rate", "50", "--requests", "30"];
    let (ran, numbers) = measured(&[&flags[..], &["--connections", "2", "--timeout", "1s"]].concat());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let failures = &numbers["failures"];
    let count = |kind: &str| failures[kind].as_u64().unwrap_or_default();
    assert_eq!(numbers["requests"], 30, "{numbers}");
    // The run is given up a second after the last right answer, even if requests still wait.
    let waiting = numbers["abandoned"].as_u64().unwrap();
    assert_eq!(count("timeout") + count("not sent in time") + waiting, 30, "{numbers}");
    assert!(waiting <= 2, "{numbers}");
    assert!(count("not sent in time") >= 20, "{numbers}");
}

#[test]
fn a_wrong_target_is_an_error_that_says_what_is_wrong_with_it() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    run(&["load", "--target", &closed]).failed_with(&format!("{closed} does not answer: refused"));
    let silent = Server::start(|stream, _| hold(stream)).address.to_string();
    run(&["load", "--target", &silent, "--timeout", "300ms"]).failed_with("did not answer within 300ms");
    let nonsense = Server::start(|mut stream, _| drop(stream.write_all(b"220 mail.example ESMTP\r\n")))
        .address
        .to_string();
    run(&["load", "--target", &nonsense]).failed_with(r#"it begins with "220 mail.example ESMTP\r\n""#);
    run(&["load", "--target", &nonsense, "--protocol", "raw"]).failed_with("gives a wrong answer");
    let backend = Backend::start("one");
    run(&["load", "--target", &backend.address, "--path", "/other"]).failed_with("HTTP status 400");
}

#[test]
fn a_target_that_dies_ends_the_run_and_its_results_are_kept() {
    let mut backend = Backend::start("one");
    let results = crate::harness::Results::new();
    let (target, file) = (backend.address.clone(), results.file());
    let flags = [
        "load",
        "--target",
        &target,
        "--duration",
        "1h",
        "--warm-up",
        "0s",
        "--timeout",
        "1s",
        "--json",
        &file,
    ];
    let child = crate::harness::bench(&flags).spawn().unwrap();
    // The target is killed when the load has used CPU time, so it is under way.
    crate::harness::until_it_works(&child);
    backend.kill();
    let ran = crate::harness::end_of(child).failed_with("gave no right answer for 1s");
    let numbers = results.json();
    assert!(numbers["succeeded"].as_u64().unwrap() > 0, "{numbers}");
    assert!(numbers["failures"]["refused"].as_u64().unwrap() > 0, "{numbers}");
    assert!(numbers["cut_short"].as_str().unwrap().contains("no right answer"), "{numbers}");
    assert!(ran.stdout.contains("refused"), "{}", ran.stdout);
}

#[test]
fn a_wrong_answer_among_right_ones_is_counted_and_fails_the_run() {
    let server = Server::start(|mut stream, number| {
        if number % 10 == 9 {
            let _ = stream.write_all(b"slow 000000\n");
        } else {
            echo_line(&stream, Duration::ZERO);
        }
    });
    let target = server.address.to_string();
    let flags =
        ["load", "--target", &target, "--protocol", "raw", "--ids", "fixed:123456", "--requests", "99"];
    let (ran, numbers) = measured(&[&flags[..], &["--connections", "1"]].concat());
    ran.failed_with("10 of 99 requests failed");
    assert_eq!(numbers["requests"], 99, "{numbers}");
    let failures = numbers["failures"].as_object().unwrap();
    // Its end is a FIN or, if our line was not read yet, a reset.
    assert_eq!(failures.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), 10, "{numbers}");
}

#[test]
fn wrong_flags_are_refused_before_anything_is_sent() {
    let cases: [(&[&str], &str); 12] = [
        (&["load"], "<ADDR|URL>"),
        (&["load", "--target", "nowhere"], "nowhere"),
        (&["load", "--target", "127.0.0.1:1", "--rate", "0"], "from 0.01"),
        (&["load", "--target", "127.0.0.1:1", "--connections", "0"], "whole number from 1"),
        (&["load", "--target", "127.0.0.1:1", "--ids", "zipf:x"], "from 0 to 10"),
        (&["load", "--target", "127.0.0.1:1", "--duration", "0s"], "a duration above zero"),
        (&["load", "--target", "127.0.0.1:1", "--duration", "1s", "--requests", "5"], "cannot be used with"),
        (&["load", "--target", "127.0.0.1:1", "--protocol", "gopher"], "possible values: http, raw"),
        (&["load", "--target", "127.0.0.1:1", "--protocol", "raw", "--send", "1MiB"], "at most 65536 bytes"),
        (
            &["load", "--target", "127.0.0.1:1", "--protocol", "raw", "--path", "/x"],
            "--path: expected --protocol http",
        ),
        (&["load", "--target", "127.0.0.1:1", "--path", "x y"], "begins with /"),
        (&["a1", "-n", "0"], "1..=56"),
    ];
    for (arguments, words) in cases {
        run(arguments).refused_with(words);
    }
}

#[test]
fn more_connections_than_files_are_reported_before_anything_is_sent() {
    let backend = Backend::start("one");
    let ran = run(&["load", "--target", &backend.address, "--connections", "1000000"]);
    ran.failed_with("1000000 connections are too many");
}

#[test]
fn a_rate_that_is_too_high_still_sends_as_much_as_possible() {
    let backend = Backend::start("one");
    let flags = ["load", "--target", &backend.address, "--rate", "1000000", "--duration", "500ms"];
    let (ran, numbers) = measured(&[&flags[..], &["--warm-up", "0s", "--timeout", "1s"]].concat());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(numbers["requests"], 500_000, "{numbers}");
    assert!(numbers["succeeded"].as_u64().unwrap() > 0, "{numbers}");
    assert!(numbers["failures"]["not sent in time"].as_u64().unwrap() > 0, "{numbers}");
}

#[test]
fn failures_in_the_warm_up_are_reported() {
    let server = Server::start(|stream, number| {
        // The first request is a try, and its answer must be right.
        if number != 1 {
            echo_line(&stream, Duration::ZERO);
        }
    });
    let target = server.address.to_string();
    let flags = ["load", "--target", &target, "--protocol", "raw", "--requests", "20", "--warm-up", "1s"];
    let (ran, numbers) = measured(&flags);
    ran.failed_with("1 of 20 requests failed");
    assert_eq!((&numbers["warm_up_failures"], &numbers["succeeded"]), (&1.into(), &20.into()));
}

/// Runs in a network namespace whose addresses have 100 ports, each in use for a minute after its connection.
const FEW_PORTS: &str = r#"set -e
ip link set lo up
echo 40000 40099 >/proc/sys/net/ipv4/ip_local_port_range
echo 0 >/proc/sys/net/ipv4/tcp_tw_reuse
"$0" --listen 127.0.0.1:7001 --id one & server=$!
trap 'kill $server' EXIT
ask() { "$1" load --target 127.0.0.1:7001 --protocol raw --requests 1 >/dev/null 2>&1; }
until ask "$1"; do kill -0 $server; done
"$1" load --target 127.0.0.1:7001 --protocol raw --requests 1000 --connections 8 --json "$2""#;

#[test]
fn a_loopback_address_without_ports_is_followed_by_the_next() {
    let results = Results::new();
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", FEW_PORTS]);
    command.arg(program("backend")).arg(env!("CARGO_BIN_EXE_bench")).arg(results.file());
    let output = command.output().unwrap();
    if output.status.code() == Some(1) && String::from_utf8_lossy(&output.stderr).contains("unshare failed") {
        assert!(std::env::var_os("CI").is_none(), "no network namespace can be made: {output:?}");
        eprintln!("skipped: no network namespace can be made here (it takes root)");
        return;
    }
    assert!(output.status.success(), "{output:?}");
    all_right(&results.json(), 1000);
}

#[test]
fn a_load_in_the_habit_of_other_generators_prints_its_numbers() {
    let backend = Backend::start("one");
    let url = format!("http://{}/home", backend.address);
    let ran = run(&["load", &url, "-n", "50", "-c", "4", "--json", "-"]).succeeded();
    let numbers: Value = serde_json::from_str(&ran.stdout).unwrap();
    all_right(&numbers, 50);
    assert_eq!(numbers["replicas"], serde_json::json!({"one": 50}));
    assert!(numbers["latency"]["p9999"].as_u64() >= numbers["latency"]["p50"].as_u64(), "{numbers}");
    let ran = run(&["load", &backend.address, "-n", "50"]).succeeded();
    assert!(ran.stdout.contains("p99.99"), "{}", ran.stdout);
    for wrong in [&[][..], &[&url, "--path", "/x"], &[&url, "--target", &backend.address]] {
        let ran = run(&[&["load"], wrong].concat());
        assert_eq!(ran.code, Some(2), "{wrong:?}");
    }
}

#[test]
fn a_terminal_shows_a_load_while_it_runs() {
    let server = Server::start(|stream, _| echo_line(&stream, Duration::from_millis(5)));
    let load = format!("{} load {} --protocol raw -c 1 -n 300", program("bench").display(), server.address);
    // script(1) runs it on a terminal of its own.
    let output = Command::new("script").args(["-qec", &load, "/dev/null"]).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    for part in ["of 300", "right answers per second, 0 failed", "< 8.2 ms", "█"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
