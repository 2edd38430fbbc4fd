//! Replicas that die or hang: the fleet heals by itself, and every key returns to its slot.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{Gate, Lb, demo_after, eventually, fixed, flags, group_of, patient, signal, text};
use crate::load::Load;

pub(crate) fn ids() -> Vec<String> {
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
