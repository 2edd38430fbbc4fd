//! An engine that is away or hangs for a while.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::call::{Call, Fault};
use super::engine::Engine;
use super::{IMAGE, launch, refused_add, replaced, running, start, wait_for_containers};
use crate::harness::{Lb, PATIENCE, eventually};

/// Connects again and again until the flag is set: how many answers came from these hostnames, and all other answers.
fn ask_until(over: &AtomicBool, lb: &Lb, hostnames: &[&str]) -> (usize, Vec<String>) {
    let (mut served, mut strange, end) = (0, Vec::new(), Instant::now() + 2 * PATIENCE);
    while !over.load(Ordering::Relaxed) && Instant::now() < end {
        match lb.route(&served.to_string()) {
            answer if hostnames.contains(&answer.as_str()) => served += 1,
            answer => strange.push(answer),
        }
        thread::park_timeout(Duration::from_millis(2));
    }
    (served, strange)
}

#[test]
fn only_commands_that_need_the_engine_are_refused_while_it_is_away() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "4"]);
    let hostnames = ["server1", "server2", "server3", "server4"];
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = scope.spawn(|| ask_until(&over, &lb, &hostnames));
        engine.go_away();
        assert!(lb.wait_for_log("the engine is away").contains(" WARN "));
        assert_eq!(lb.backends().len(), 4);
        let message = refused_add(&lb, "more");
        assert!(message.contains("the engine is away"), "{message}");
        lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["server4"]}));
        assert_eq!(lb.hostnames(), hostnames[..3]);
        over.store(true, Ordering::Relaxed);
        let (served, strange) = clients.join().unwrap();
        assert!(served > 0 && strange.is_empty(), "{strange:?}");
    });
    let before = lb.slot(2);
    engine.kill("server2");
    engine.come_back();
    lb.wait_for_log("the engine is back");
    let hostname = replaced(&lb, &before);
    wait_for_containers(&engine, 3);
    let slots: Vec<String> = running(&engine).into_iter().map(|(slot, _)| slot).collect();
    assert_eq!(slots, ["server1", "server2", "server3"]);
    assert_eq!(lb.hostnames(), ["server1", hostname.as_str(), "server3"]);
}

#[test]
fn a_hung_engine_delays_neither_clients_nor_commands() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--respawn-name", "same"]);
    Call::ALL.iter().for_each(|&call| engine.fail(call, Fault::Hang));
    engine.kill("server2");
    // Five adds at once, while other calls to the engine hang as well.
    thread::scope(|scope| {
        let adds: Vec<_> =
            ["a", "b", "c", "d", "e"].map(|name| scope.spawn(|| refused_add(&lb, name))).into();
        let mut answers = 0;
        while adds.iter().all(|add| !add.is_finished()) {
            assert_eq!(lb.hostnames().len(), 3);
            assert_ne!(lb.route("1"), "");
            answers += 1;
        }
        // If answers waited for the engine, none would come before the first `add` has failed.
        assert!(answers >= 3, "{answers}");
        adds.into_iter().for_each(|add| drop(add.join().unwrap()));
    });
    let before = lb.slot(2);
    engine.heal();
    if before["state"] != "up" || before["restarts"] == 0 {
        replaced(&lb, &before);
    }
    wait_for_containers(&engine, 3);
}

#[test]
fn an_add_does_not_wait_for_replacements_that_hang() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "10"]);
    engine.fail(Call::Create, Fault::Hang);
    (1..10).for_each(|index| engine.kill(&format!("server{index}")));
    let are_under_way = || (engine.count(&[Call::Create]) >= 10 + 8).then_some(());
    eventually("as many replacements as are made at a time", are_under_way);
    Call::ALL.iter().for_each(|&call| engine.fail(call, Fault::Hang));
    refused_add(&lb, "more");
    engine.heal();
    lb.wait_until_all_up();
    wait_for_containers(&engine, 10);
}

#[test]
fn lb_waits_for_a_busy_engine_as_long_as_it_answers() {
    let engine = Engine::start(IMAGE);
    engine.fail(Call::Start, Fault::Late);
    let lb = launch(&engine, &["--replicas", "9"]);
    // Eight start at a time. The ninth waits for longer than the 10 s that `lb` waits for an engine that is away:
    // `lb` lists the containers every 3 s.
    let lists = engine.count(&[Call::Containers]);
    eventually("five more lists", || (engine.count(&[Call::Containers]) >= lists + 5).then_some(()));
    engine.heal();
    lb.wait_until_all_up();
    assert_eq!(lb.hostnames(), (1..=9).map(|index| format!("server{index}")).collect::<Vec<_>>());
    assert!(lb.backends().iter().all(|slot| slot["restarts"] == 0));
}
