//! What replicas print and say: it reaches the log, and neither forges a line nor floods anything.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::harness::{Lb, demo_after, eventually, field, id_for, signal, text};

/// How many lines may be logged at once.
const BURST: usize = 1000;

/// The lines of the log that a replica has printed to stdout. (The demo server prints to stderr.)
fn printed(lb: &Lb) -> Vec<String> {
    let is_printed = |line: &String| line.contains("stream=\"stdout\"") && !line.contains(" dropped=");
    lb.log().into_iter().filter(is_printed).collect()
}

/// How many lines were dropped, in each report.
fn dropped(lb: &Lb) -> Vec<usize> {
    lb.log().iter().filter_map(|line| field(line, "dropped=").parse().ok()).collect()
}

#[track_caller]
fn holds_no_control_character(lb: &Lb) {
    let log = lb.log();
    let wrong: Vec<&String> = log.iter().filter(|line| line.chars().any(char::is_control)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn what_a_replica_prints_is_escaped() {
    let prints = r"printf 'bar 50 %%\rbar 99 %%\0 \033[2J\302\233red \342\200\256txet\n' >&2;";
    let lb = Lb::start(&["--replicas", "1", "--command", &demo_after(prints)]);
    lb.wait_for_log(r"bar 50 %\rbar 99 %\0 \u{1b}[2J\u{9b}red \u{202e}txet");
    holds_no_control_character(&lb);
}

#[test]
fn what_a_replica_prints_is_a_string_of_the_json_log() {
    let prints = r"printf 'a\rb\0\033[2J\302\233red\n' >&2;";
    let lb = Lb::start(&["--replicas", "1", "--log-format", "json", "--command", &demo_after(prints)]);
    let line: Value = serde_json::from_str(&lb.wait_for_log("[2J")).unwrap();
    assert_eq!(line["fields"]["message"], "a\rb\0\u{1b}[2J\u{9b}red");
    holds_no_control_character(&lb);
}

#[test]
fn what_a_client_sends_is_escaped() {
    let lb = Lb::start(&["--log", "trace"]);
    for line in [
        "a\u{9b}31mred\u{2028}INFO lb: forged\n",
        "b\x0bc\x1b[2J\n",
        "GET /?id=c\u{9b}\x1b[2J HTTP/1.1\r\n\r\n",
    ] {
        let mut client = lb.connect();
        let peer = client.local_addr().unwrap();
        client.write_all(line.as_bytes()).unwrap();
        drop(client);
        lb.session_of(peer);
    }
    lb.ask(&json!({"cmd": "explain", "id": "\u{1b}[2J"}));
    lb.ask(&json!({"cmd": "\u{1b}[2J"}));
    holds_no_control_character(&lb);
}

#[test]
fn every_dropped_line_is_counted() {
    let prints = demo_after("seq 100001 105000;");
    let lb = Lb::start(&["--replicas", "1", "--command", &prints]);
    eventually("5000 lines, logged or dropped", || {
        (printed(&lb).len() + dropped(&lb).iter().sum::<usize>() == 5000).then_some(())
    });
    assert!(printed(&lb).len() >= BURST, "the first ones are logged");
    assert!(!dropped(&lb).is_empty());
}

#[test]
fn a_replica_that_prints_without_end_delays_nothing() {
    let prints = demo_after("yes flood &");
    let lb = Lb::start(&["--replicas", "2", "--command", &prints]);
    eventually("three reports", || (dropped(&lb).len() >= 3).then_some(()));
    let id = id_for(&lb, "server1");
    let victim = lb.slot(1);
    signal(lb.process_of("server1"), "KILL");
    let next = lb.wait_for_replacement(&victim);
    assert_eq!(lb.route(&id), text(&next["hostname"]));
    let reports: Vec<usize> = dropped(&lb);
    assert!(reports.iter().all(|&dropped| dropped > BURST), "{reports:?}");
    // Each of the three replicas so far has a burst, and then less than that between two reports.
    let (logged, most) = (printed(&lb).len(), BURST * (3 + reports.len()));
    assert!(logged <= most, "{logged} lines, {reports:?}");
}

#[test]
fn the_last_words_of_a_replica_are_logged() {
    let says = demo_after("(trap 'echo over and out >&2; exit' TERM; while :; do sleep 0.02; done) &");
    let mut lb = Lb::start(&["--replicas", "1", "--command", &says]);
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    lb.wait_for_log("over and out");
}

#[test]
fn the_reason_of_a_state_is_clipped() {
    // It names itself in 390 kB.
    let liar = "exec python3 -c '
import socket
listener = socket.create_server((\"127.0.0.1\", {port}))
while True:
    client, _ = listener.accept()
    client.recv(4096)
    client.sendall(b\"HTTP/1.1 200 OK\\r\\nLb-Server-Id: \" + b\"x\" * 390000 + b\"\\r\\nContent-Length: 0\\r\\n\\r\\n\")
    client.close()
'";
    let lb = Lb::launch(&["--replicas", "1", "--command", liar, "--start-timeout", "10s"]);
    let slot = eventually("a slot with a reason", || {
        Some(lb.slot(1)).filter(|slot| slot["reason"].as_str().is_some_and(|reason| reason.contains("xxx")))
    });
    let reason = text(&slot["reason"]);
    assert!(reason.contains("probe: another server answers there"), "{reason}");
    assert!(reason.len() < 1000, "{} bytes", reason.len());
    lb.wait_for_log("is not ready within 10s: probe: another server answers there");
    assert!(lb.log().iter().all(|line| line.len() < 2000));
}
