//! Replicas that die or hang: the fleet heals by itself, and every key returns to its slot.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    Gate, Lb, PATIENCE, Replica, Stage, demo_after, eventually, fixed, flags, group_of, id_for, is_alive,
    patient, say, session, signal, text,
};
use crate::load::Load;

fn ids() -> Vec<String> {
    (0..200).map(|id| (100_000 + 4_321 * id).to_string()).collect()
}

/// The order of the slots for each id.
fn mapping(lb: &Lb) -> Vec<Vec<String>> {
    ids().iter().map(|id| lb.order(id)).collect()
}

fn kill(lb: &Lb, slot: &Value) {
    signal(lb.process_of(text(&slot["hostname"])), "KILL");
}

/// Waits until the address of a slot refuses connections; the moment when it does.
fn gone(slot: &Value) -> Instant {
    let address: SocketAddr = text(&slot["address"]).parse().unwrap();
    eventually("the port closed", || TcpStream::connect(address).is_err().then(Instant::now))
}

#[test]
fn a_killed_replica_costs_only_the_connections_in_flight_on_it() {
    for (respawn_name, keeps_name) in [("random", false), ("same", true)] {
        let lb = Lb::start(&["--respawn-name", respawn_name]);
        let (before, mapped) = (lb.slot(2), mapping(&lb));
        let load = Load::begin(&lb, &ids(), 4);
        load.go_on(100);
        kill(&lb, &before);
        let gone = gone(&before);
        let after = lb.wait_for_restarts(2, 1);
        load.go_on(400);
        for call in load.end().1 {
            assert!(call.begun < gone, "failed, although it began after the exit: {call:?}");
            assert_eq!(lb.order(&call.id)[0], "server2", "failed on a live replica: {call:?}");
        }
        assert_eq!(after["name"], before["name"]);
        assert_eq!(after["hostname"] == before["hostname"], keeps_name, "{after}");
        assert_eq!(lb.hostnames().len(), 3);
        assert_eq!(lb.children().len(), 3);
        assert!(mapping(&lb) == mapped, "every key is back in its slot");
    }
}

#[test]
fn a_replica_that_is_killed_again_and_again_is_replaced_each_time() {
    for spares in [0, 1] {
        let lb = Lb::start(&["--spares", &spares.to_string()]);
        for kills in 0..10 {
            lb.wait_until_all_up();
            eventually("all spares up", || {
                let states = lb.spares().into_iter().map(|spare| spare["state"].clone());
                states.eq(vec![json!("up"); spares]).then_some(())
            });
            let index = kills % 3 + 1;
            let before = lb.slot(index);
            kill(&lb, &before);
            let after = lb.wait_for_replacement(&before);
            assert_eq!(after["restarts"].as_u64(), before["restarts"].as_u64().map(|restarts| restarts + 1));
        }
    }
}

#[test]
fn clients_get_503_while_all_replicas_are_dead() {
    let gate = Gate::new();
    gate.open();
    let lb = Lb::start(&["--command", &gate.command()]);
    gate.close();
    let before = lb.backends();
    for slot in &before {
        kill(&lb, slot);
        gone(slot);
    }
    eventually("no replica in rotation", || {
        (lb.ask(&json!({"cmd": "health"}))["status"] == "failure").then_some(())
    });
    let answer = lb.get("/home");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.ends_with("{\"message\":\"<Error> no server replica is available\",\"status\":\"failure\"}")
    );
    gate.open();
    lb.wait_until_all_up();
    assert!(lb.get("/home").starts_with("HTTP/1.1 200 "));
    for (old, new) in before.iter().zip(lb.backends()) {
        assert_eq!((&old["index"], &old["name"]), (&new["index"], &new["name"]));
        assert_eq!(new["restarts"], 1);
    }
}

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

#[test]
fn a_backend_that_stays_away_is_probed_at_the_interval() {
    let [healthy, failing] = [(); 2].map(|()| ProbeCounter::start());
    let backends = [&healthy, &failing].map(|backend| backend.address);
    let fleet = fixed(&backends);
    let limits = ["--fall", "1", "--replace-after", "100ms", "--health-interval", "100ms"];
    // A backend that has never passed is probed more often.
    let lb = Lb::start(&[&flags(&fleet)[..], &limits].concat());
    failing.fails.store(true, Ordering::Relaxed);
    lb.wait_for_state(2, "down");
    let before = failing.probes();
    let enough = healthy.probes() + 20;
    eventually("20 more probes of the healthy backend", || (healthy.probes() >= enough).then_some(()));
    // Twice as many allow for a machine that delays one of the two; a loop without a pause makes thousands.
    let probes = failing.probes() - before;
    assert!((1..=40).contains(&probes), "{probes} probes of the failing backend");
}

/// A backend that passes its probes until it is told to fail them, and counts them.
struct ProbeCounter {
    address: SocketAddr,
    fails: Arc<AtomicBool>,
    probes: Arc<AtomicUsize>,
}

impl ProbeCounter {
    fn start() -> ProbeCounter {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, fails, probes) = (listener.local_addr().unwrap(), Arc::default(), Arc::default());
        let backend = ProbeCounter { address, fails, probes };
        let (fails, probes) = (Arc::clone(&backend.fails), Arc::clone(&backend.probes));
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok).map(patient) {
                let _ = stream.read(&mut [0; 1024]);
                probes.fetch_add(1, Ordering::Relaxed);
                let status = if fails.load(Ordering::Relaxed) { 500 } else { 200 };
                let _ = stream.write_all(format!("HTTP/1.1 {status} Status\r\n\r\n").as_bytes());
            }
        });
        backend
    }

    fn probes(&self) -> usize {
        self.probes.load(Ordering::Relaxed)
    }
}

#[test]
fn a_spare_takes_over_the_slot_of_a_killed_replica() {
    let lb = Lb::start(&["--spares", "1"]);
    let spare = |other_than: &Value| {
        eventually("a spare", || {
            lb.spares().into_iter().find(|spare| spare["state"] == "up" && spare["hostname"] != *other_than)
        })
    };
    let (first, mapped) = (spare(&Value::Null), mapping(&lb));
    assert!(!lb.hostnames().contains(&text(&first["hostname"]).to_owned()), "a spare is out of rotation");
    assert!(first.get("index").is_none() && first.get("name").is_none(), "{first}");
    kill(&lb, &lb.slot(2));
    let slot = eventually("the takeover", || Some(lb.slot(2)).filter(|slot| slot["restarts"] == 1));
    assert_eq!((&slot["hostname"], &slot["state"]), (&first["hostname"], &json!("up")));
    assert!(slot.get("reason").is_none(), "a slot that is up has no reason: {slot}");
    assert!(mapping(&lb) == mapped, "every key is back in its slot");
    let second = spare(&first["hostname"]);
    let slots = lb.hostnames();
    kill(&lb, &second);
    spare(&second["hostname"]);
    assert_eq!(lb.hostnames(), slots, "the death of a spare changes no slot");
}

#[test]
fn losses_are_warnings_and_recoveries_are_not() {
    let gate = Gate::new();
    gate.open();
    let fails = format!("test -e {} || exit 3;", gate.file().display());
    let lb = Lb::start(&["--replicas", "1", "--spares", "1", "--command", &demo_after(&fails)]);
    eventually("the spare", || (lb.spares()[0]["state"] == "up").then_some(()));
    gate.close();
    let level = |part: &str| lb.wait_for_log(part).split_whitespace().nth(1).unwrap().to_owned();
    // The spare hides the loss, which is a warning all the same.
    kill(&lb, &lb.slot(1));
    assert_eq!(level("process ended with signal: 9"), "WARN");
    lb.wait_for_restarts(1, 1);
    kill(&lb, &lb.slot(1));
    assert_eq!(level("no replica is in rotation"), "ERROR");
    assert_eq!(level("replica up slot=server1"), "INFO");
    gate.open();
    assert_eq!(level("replicas are in rotation again"), "INFO");
}

#[test]
fn a_slot_in_quarantine_needs_a_person() {
    let gate = Gate::new();
    gate.open();
    let fails = format!("test -e {} || exit 3;", gate.file().display());
    let lb = Lb::start(&["--replicas", "1", "--command", &demo_after(&fails)]);
    gate.close();
    kill(&lb, &lb.slot(1));
    let line = lb.wait_for_log("replica quarantined slot=server1");
    assert_eq!(line.split_whitespace().nth(1), Some("ERROR"));
}

#[test]
fn replicas_that_die_during_an_add_are_healed_or_fail_it() {
    let gate = Gate::new();
    let late = format!(
        "case $SERVER_ID in late*) until test -e {}; do sleep 0.02; done;; esac;",
        gate.file().display()
    );
    let lb = Lb::start(&["--command", &demo_after(&late)]);
    let add = |name: &'static str| {
        thread::scope(|scope| {
            let adding = scope.spawn(|| lb.ask(&json!({"cmd": "add", "n": 1, "hostnames": [name]})));
            let slot = lb.wait_for_state(4, "starting");
            let other = lb.slot(2);
            kill(&lb, &other);
            lb.wait_for_replacement(&other);
            if name == "late1" {
                gate.open();
            } else {
                kill(&lb, &slot);
            }
            adding.join().unwrap()
        })
    };
    let failure = add("late0");
    assert_eq!(failure["status"], "failure");
    assert!(text(&failure["message"]).contains("signal: 9"), "{failure}");
    assert_eq!(lb.hostnames().len(), 3);
    let done = add("late1");
    assert_eq!(done["message"]["N"], 4, "{done}");
    assert_eq!(lb.slot(4)["hostname"], "late1");
    assert_eq!(lb.slot(2)["restarts"], 2);
}

#[test]
fn child_processes_of_a_replica_end_with_it() {
    let mut lb = Lb::start(&["--command", &demo_after("sleep 1000 &")]);
    let [killed, removed] = [1, 2].map(|index| lb.slot(index));
    for (slot, goes) in [(killed, "KILL"), (removed, "rm")] {
        let process = lb.process_of(text(&slot["hostname"]));
        assert_eq!(group_of(process).len(), 2, "the replica and its child");
        if goes == "KILL" {
            signal(process, "KILL");
        } else {
            lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": [slot["hostname"]]}));
        }
        eventually("the end of both processes", || group_of(process).is_empty().then_some(()));
    }
    let left = lb.children();
    lb.signal("TERM");
    lb.wait();
    eventually("the end of all processes", || {
        left.iter().all(|&process| group_of(process).is_empty()).then_some(())
    });
}
