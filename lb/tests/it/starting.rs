//! Replicas that start late, badly or never, and what they print.

use std::fs::read_to_string;
use std::sync::atomic::Ordering;
use std::thread;

use serde_json::json;
use tempfile::TempDir;

use rustix::process::geteuid;
use rustix::thread::set_thread_uid;

use crate::harness::{Gate, Lb, Replica, Stage, demo_after, eventually, text};
use crate::metrics::wait_for;

#[test]
fn a_command_that_exits_at_once_is_tried_with_pauses_and_then_quarantined() {
    let folder = TempDir::new().unwrap();
    let starts = folder.path().join("starts");
    let command = format!("echo $SERVER_ID >> {}; exit 7", starts.display());
    let lb = Lb::launch(&["--replicas", "1", "--command", &command]);
    let slot = lb.wait_for_state(1, "quarantined");
    assert!(text(&slot["reason"]).contains("exit status: 7"), "{slot}");
    assert_eq!(read_to_string(&starts).unwrap().lines().count(), 6, "tries before the quarantine");
    assert!(lb.get("/home").starts_with("HTTP/1.1 503 "));
    assert_eq!(lb.hostnames().len(), 1);
    let refusal = lb.refused(&json!({"cmd": "add", "n": 1}));
    assert!(refusal.contains("exit status: 7"), "{refusal}");
    assert_eq!(lb.done(&json!({"cmd": "rm", "n": 1}))["N"], 0);
}

#[test]
fn a_command_that_never_listens_is_stopped_and_quarantined() {
    let fleet = ["--replicas", "1", "--command", "exec sleep 1000", "--start-timeout", "500ms"];
    let lb = Lb::launch(&fleet);
    let slot = lb.wait_for_state(1, "quarantined");
    assert!(text(&slot["reason"]).contains("not ready within 500ms"), "{slot}");
    assert_eq!(slot["restarts"], 5);
    let page = wait_for(&lb, "lb_restarts_total", "slot=server1,cause=start_failed", 5.0);
    assert_eq!(page.value("lb_slots", "state=quarantined"), 1.0);
    eventually("the end of the command", || lb.children().is_empty().then_some(()));
}

#[test]
fn a_command_that_fails_at_first_enters_rotation_once_it_works() {
    let gate = Gate::new();
    let works = demo_after(&format!("test -e {} || exit 1;", gate.file().display()));
    let lb = Lb::launch(&["--replicas", "1", "--command", &works]);
    eventually("the second try", || lb.slot(1)["restarts"].as_u64().filter(|&restarts| restarts >= 2));
    gate.open();
    let slot = lb.wait_for_state(1, "up");
    assert_eq!(lb.route("132574"), text(&slot["hostname"]));
}

#[test]
fn a_replica_that_answers_under_another_name_gets_no_connection() {
    let lb = Lb::launch(&["--replicas", "1", "--command", &demo_after("SERVER_ID=stranger;")]);
    let reason = "probe: another server answers there: \"stranger\"";
    eventually("a probe that notices the wrong name", || (lb.slot(1)["reason"] == reason).then_some(()));
    assert_eq!(lb.slot(1)["state"], "starting");
    assert!(lb.get("/home").starts_with("HTTP/1.1 503 "));
}

#[test]
fn a_replica_gets_connections_only_once_it_listens() {
    let gate = Gate::new();
    // With such a long interval, only a starting replica is probed more than once.
    let lb =
        Lb::launch(&["--health-interval", "10m", "--start-timeout", "10m", "--command", &gate.command()]);
    assert!(lb.get("/home").starts_with("HTTP/1.1 503 "));
    eventually("a failed probe", || lb.slot(1).get("reason").cloned());
    assert!(lb.backends().iter().all(|slot| slot["state"] == "starting"));
    gate.open();
    lb.wait_until_all_up();
    assert!(lb.get("/home").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_listening_replica_gets_no_connection_before_it_passes_its_probes() {
    let gate = Gate::new();
    let fleet = ["--replicas", "1", "--start-timeout", "10m", "--command", &gate.command()];
    let lb = Lb::launch(&[&fleet[..], &["--health", "http:/nothing-here"]].concat());
    let fails_with = |why: &str| {
        eventually(why, || lb.slot(1)["reason"].as_str()?.contains(why).then_some(()));
        assert!(lb.get("/home").starts_with("HTTP/1.1 503 "));
    };
    fails_with("refused");
    gate.open();
    fails_with("status 400");
}

/// A replica of another user (nobody) that is in time where another one should listen.
fn stranger_at(address: &str) -> Replica {
    let listen = || {
        set_thread_uid(rustix::fs::Uid::from_raw(65_534)).unwrap();
        Replica::named_at(address, "stranger")
    };
    thread::scope(|scope| scope.spawn(listen).join().unwrap())
}

#[test]
fn another_user_who_takes_the_port_of_a_replica_gets_no_connection() {
    if !geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "it takes root to act as another user");
        eprintln!("skipped: it takes root to act as another user");
        return;
    }
    let (stage, gate) = (Stage::new(), Gate::new());
    let command = stage.command(&gate.command());
    let lb = Lb::launch(&["--replicas", "1", "--start-timeout", "10m", "--command", &command]);
    let first = stranger_at(&stage.address_of("server1"));
    let reason = "a process of another user (uid 65534) listens at port";
    eventually("the reason", || lb.slot(1)["reason"].as_str()?.contains(reason).then_some(()));
    // The next replica gets another port.
    gate.open();
    let slot = lb.wait_for_state(1, "up");
    assert_ne!(text(&slot["address"]), first.address.to_string());
    assert_eq!(lb.route("132574"), text(&slot["hostname"]));

    gate.close();
    let second = thread::scope(|scope| {
        let adding = scope.spawn(|| lb.refused(&json!({"cmd": "add", "n": 1, "hostnames": ["late"]})));
        let second = stranger_at(&stage.address_of("late"));
        let refusal = adding.join().unwrap();
        assert!(refusal.contains(reason), "{refusal}");
        second
    });
    assert_eq!(lb.hostnames().len(), 1);
    let sessions = [first, second].map(|stranger| stranger.sessions.load(Ordering::Relaxed));
    assert_eq!(sessions, [0, 0]);
}

#[test]
fn a_slot_that_waits_for_its_next_try_can_be_removed() {
    let command = demo_after("test $SERVER_ID != server2 || exit 7;");
    let lb = Lb::launch(&["--respawn-name", "same", "--command", &command]);
    eventually("slot 2 down between two tries", || Some(lb.slot(2)).filter(|slot| slot["state"] == "down"));
    let left = lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["server2"]}));
    assert_eq!(left["replicas"], json!(["server1", "server3"]));
    assert_eq!(lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["new"]}))["N"], 3);
    assert_eq!(lb.slot(2)["name"], "new");
    assert!(!lb.order("132574").contains(&"server2".to_owned()));
    lb.wait_until_all_up();
}

#[test]
fn output_of_replicas_is_logged_line_by_line_with_their_name() {
    let prints = r"printf 'one\ntwo '; sleep 0.1; printf 'halves\n'; printf 'bad \377\376 bytes\n' >&2;
        head -c 1048576 /dev/zero | tr '\0' X >&2; printf '\nlast words' >&2; exit 3";
    let lb = Lb::launch(&["--replicas", "1", "--command", prints]);
    for (printed, stream) in [
        ("one", "stdout"),
        ("two halves", "stdout"),
        ("bad \u{fffd}\u{fffd} bytes", "stderr"),
        ("last words", "stderr"),
    ] {
        lb.wait_for_log(&format!(": {printed} hostname=server1 stream=\"{stream}\""));
    }
    let pieces = lb.log().into_iter().filter(|line| line.ends_with(" hostname=server1 stream=\"stderr\""));
    let printed: usize = pieces.map(|piece| piece.matches('X').count()).sum();
    assert_eq!(printed, 1024 * 1024);
}

#[test]
fn a_replica_that_prints_without_end_delays_no_client() {
    let flood = demo_after("yes '' >&2 & yes '' &");
    let lb = Lb::launch_unread(Lb::command(&["--replicas", "2", "--command", &flood]));
    lb.wait_until_all_up();
    for id in 0..200 {
        assert_ne!(lb.route(&id.to_string()), "");
        assert_eq!(lb.hostnames(), ["server1", "server2"], "no replica is replaced");
    }
}
