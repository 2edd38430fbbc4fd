//! Replicas that hang, are busy, or are stopped: when they are replaced, and what becomes of their sessions.

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Lb, PATIENCE, Replica, Stage, demo_after, eventually, fixed, flags, group_of, id_for, is_alive, say,
    session, signal, text,
};
use crate::healing::ids;
use crate::load::Load;
use crate::metrics::wait_for;

#[test]
fn a_replica_that_hangs_is_replaced_and_the_others_are_left_alone() {
    let lb = Lb::start(&["--replace-after", "1s", "--health-timeout", "1s"]);
    let before = lb.backends();
    let hung = lb.process_of(text(&before[1]["hostname"]));
    let others: Vec<String> = ids().into_iter().filter(|id| lb.order(id)[0] != "server2").collect();
    let load = Load::begin(&lb, &others, 4);
    signal(hung, "STOP");
    let down = lb.wait_for_log("replica down slot=server2");
    assert!(down.contains(" WARN "), "{down}");
    lb.wait_for_restarts(2, 1);
    load.go_on(100);
    let (_, failed) = load.end();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(!is_alive(hung));
    let page = wait_for(&lb, "lb_restarts_total", "slot=server2,cause=unresponsive", 1.0);
    assert_eq!(page.value("lb_restarts_total", "slot=server2,cause=exit"), 0.0);
    let after = lb.backends();
    for index in [0, 2] {
        assert_eq!(after[index]["hostname"], before[index]["hostname"]);
        assert_eq!(after[index]["restarts"], 0);
    }
}

#[test]
fn a_replica_that_recovers_in_time_is_not_replaced() {
    let lb = Lb::start(&["--replace-after", "10m", "--health-interval", "50ms", "--health-timeout", "200ms"]);
    let before = lb.slot(2);
    let process = lb.process_of(text(&before["hostname"]));
    signal(process, "STOP");
    let down = lb.wait_for_state(2, "down");
    assert!(text(&down["reason"]).contains("probe"), "{down}");
    signal(process, "CONT");
    let after = lb.wait_for_state(2, "up");
    assert_eq!((&after["hostname"], &after["restarts"]), (&before["hostname"], &json!(0)));
    assert!(after.get("reason").is_none(), "{after}");
    assert_eq!(lb.process_of(text(&after["hostname"])), process);
}

/// Sends each session a byte every 20 ms until the client writes again.
fn busy_replica(address: &str) -> Replica {
    Replica::start_at(address, |mut stream, _| {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        while stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            let _ = stream.write_all(b".");
        }
        thread::park_timeout(10 * PATIENCE);
    })
}

#[test]
fn a_busy_replica_is_replaced_only_when_it_falls_silent() {
    let folder = tempfile::tempdir().unwrap();
    let port = folder.path().join("port");
    // The first process only waits: the test serves its port. The next process is a demo replica.
    let first = format!("set -C; if echo $PORT > {}; then exec sleep 3600; fi;", port.display());
    let fleet = ["--replicas", "1", "--command", &demo_after(&first)];
    let limits = ["--replace-after", "1s", "--replace-busy-after", "1s", "--health-interval", "100ms"];
    let lb = Lb::launch(&[&fleet[..], &limits].concat());
    let port = eventually("the port of the replica", || {
        std::fs::read_to_string(&port).ok()?.strip_suffix('\n').map(str::to_owned)
    });
    let replica = busy_replica(&format!("127.0.0.1:{port}"));
    lb.wait_for_state(1, "up");
    let before = lb.slot(1);
    let mut client = lb.connect();
    client.write_all(b"work\n").unwrap();
    client.read_exact(&mut [0]).unwrap();
    replica.healthy.store(false, Ordering::Relaxed);
    lb.wait_for_state(1, "down");
    // Three times as long as it may be silent.
    client.read_exact(&mut [0; 150]).unwrap();
    let busy = lb.slot(1);
    assert_eq!((&busy["state"], &busy["hostname"]), (&json!("down"), &before["hostname"]));
    client.write_all(b"hush").unwrap();
    lb.wait_for_restarts(1, 1);
}

/// Answers a client when it sends its second line. Its threads block meanwhile.
fn blocking_replica(address: &str) -> Replica {
    Replica::start_at(address, |mut stream, _| {
        if matches!(stream.read(&mut [0; 100]), Ok(1..)) {
            let _ = stream.write_all(b"done\n");
        }
    })
}

const IMPATIENT: [&str; 6] =
    ["--replace-after", "300ms", "--replace-busy-after", "1h", "--health-interval", "50ms"];

#[test]
fn a_replica_that_blocks_on_its_sessions_is_replaced_only_when_they_have_ended() {
    let stage = Stage::new();
    let lb = Lb::launch(
        &[&["--replicas", "2", "--command", &stage.command("exec sleep 3600")], &IMPATIENT[..]].concat(),
    );
    let [busy, idle] = ["server1", "server2"].map(|name| blocking_replica(&stage.address_of(name)));
    lb.wait_until_all_up();
    let mut client = lb.connect();
    writeln!(client, "{}", id_for(&lb, "server1")).unwrap();
    eventually("the session", || (busy.sessions.load(Ordering::Relaxed) == 1).then_some(()));
    busy.healthy.store(false, Ordering::Relaxed);
    lb.wait_for_state(1, "down");
    // It fails later, and it is replaced: so the other one has been silent for as long.
    idle.healthy.store(false, Ordering::Relaxed);
    eventually("the end of the idle one", || (lb.slot(2)["restarts"] == 1).then_some(()));
    let slot = lb.slot(1);
    assert_eq!((&slot["state"], &slot["restarts"]), (&json!("down"), &json!(0)), "{slot}");
    assert_eq!(say(&mut client, "go on"), "done\n", "its session goes on");
    drop(client);
    eventually("the end of the one without sessions", || (lb.slot(1)["restarts"] == 1).then_some(()));
}

#[test]
fn sessions_of_a_replica_that_goes_down_stay_or_are_reset() {
    for (on_down, stays) in [("keep", true), ("reset", false)] {
        let (a, b) = (Replica::echo(), Replica::echo());
        let fleet = fixed(&[a.address, b.address]);
        let more = ["--on-down", on_down, "--health-interval", "50ms"];
        let lb = Lb::start(&[&flags(&fleet)[..], &more].concat());
        let (down, up) = (id_for(&lb, "a"), id_for(&lb, "b"));
        let (mut client, mut other) = (lb.connect(), lb.connect());
        say(&mut client, &down);
        say(&mut other, &up);
        a.healthy.store(false, Ordering::Relaxed);
        lb.wait_for_state(1, "down");
        if stays {
            assert_eq!(say(&mut client, "on and on"), "on and on\n");
        } else {
            let ending = client.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(ending, Err(ErrorKind::ConnectionReset));
        }
        assert_eq!(say(&mut other, "still"), "still\n", "the other replica is well");
        // It is the last candidate, and what it gets now is for as long as it can serve it.
        b.leave();
        let mut late = lb.connect();
        assert_eq!(say(&mut late, &up), format!("{up}\n"));
        a.healthy.store(true, Ordering::Relaxed);
        lb.wait_for_state(1, "up");
        assert_eq!(say(&mut late, "back"), "back\n");
    }
}

#[test]
fn a_stopped_replica_is_replaced_whatever_its_sessions() {
    // In the second case the child is a shell that waits for the server.
    let below_a_shell = format!("{} replica --parent $$; true", env!("CARGO_BIN_EXE_lb"));
    for command in [demo_after(""), below_a_shell] {
        let lb = Lb::start(&[&["--replicas", "1", "--command", &command], &IMPATIENT[..]].concat());
        let hostname = lb.hostnames().remove(0);
        let (mut client, _) = session(&lb, "132574");
        let is_lb = |pid: &u32| {
            let executable = std::fs::read_link(format!("/proc/{pid}/exe"));
            executable.is_ok_and(|file| file.ends_with("lb"))
        };
        let server = group_of(lb.process_of(&hostname)).into_iter().find(is_lb).unwrap();
        signal(server, "STOP");
        lb.wait_for_restarts(1, 1);
        assert!(!is_alive(server));
        let _ = client.read(&mut [0]);
    }
}
