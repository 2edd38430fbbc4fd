//! `add` and `rm` while calls to the engine fail.

use std::thread;

use serde_json::json;

use super::call::{Call, Fault};
use super::engine::Engine;
use super::{IMAGE, NETWORK, refused_add, replaced, start, wait_for_a_look, wait_for_containers};
use crate::control::{http, refused};
use crate::harness::{eventually, id_for, say};

#[test]
fn an_add_whose_container_is_not_created_is_refused_in_time_and_leaves_nothing() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "2"]);
    for (fault, reason) in [
        (Fault::Status(404), "not today (status 404)"),
        (Fault::Status(409), "not today (status 409)"),
        (Fault::Status(500), "not today (status 500)"),
        (Fault::Garbage, "cannot parse the engine's reply"),
        (Fault::Shape, "cannot parse the engine's reply"),
        (Fault::Cut, "POST /containers/create"),
        (Fault::Id("../../x"), "../../x"),
        (Fault::Id(""), "cannot parse the engine's reply"),
        (Fault::Close, "cannot reach the engine for POST /containers/create"),
        (Fault::Hang, "did not reply to POST /containers/create within"),
    ] {
        engine.fail(Call::Create, fault);
        let message = refused_add(&lb, "more");
        assert!(message.contains(reason), "{fault:?}: {message}");
    }
    engine.heal();
    wait_for_containers(&engine, 2);
    assert_eq!(lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["more"]}))["N"], 3);
    wait_for_containers(&engine, 3);
}

#[test]
fn an_add_whose_container_does_not_start_is_refused_in_time_and_leaves_nothing() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "2"]);
    for (call, fault, reason) in [
        (Call::Start, Fault::Status(404), "not today (status 404)"),
        (Call::Start, Fault::Status(500), "not today (status 500)"),
        (Call::Start, Fault::Close, "cannot reach the engine for POST /containers/ID/start"),
        (Call::Start, Fault::Exit, "ended with exit code 3"),
        (Call::Inspect, Fault::Status(500), "not today (status 500)"),
        (Call::Inspect, Fault::Garbage, "cannot parse the engine's reply"),
        (Call::Inspect, Fault::Shape, "cannot parse the engine's reply"),
        (Call::Inspect, Fault::Hang, "did not reply to GET /containers/ID/json within"),
    ] {
        engine.fail(call, fault);
        let message = refused_add(&lb, "more");
        assert!(message.contains(reason), "{call:?} {fault:?}: {message}");
        engine.heal();
        wait_for_containers(&engine, 2);
    }
    assert_eq!(lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["more"]}))["N"], 3);
}

#[test]
fn an_engine_that_hangs_between_create_and_start_does_not_delay_the_answer() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "1"]);
    Call::ALL.iter().filter(|&&call| call != Call::Create).for_each(|&call| engine.fail(call, Fault::Hang));
    let message = refused_add(&lb, "more");
    assert!(message.contains("POST /containers/ID/start"), "{message}");
    engine.heal();
    wait_for_containers(&engine, 1);
}

#[test]
fn a_container_that_is_created_too_late_is_removed() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "1"]);
    engine.fail(Call::Create, Fault::Late);
    refused_add(&lb, "late");
    engine.heal();
    eventually("the removal of the late container", || (engine.count(&[Call::Remove]) > 0).then_some(()));
    wait_for_containers(&engine, 1);
    assert_eq!(lb.hostnames(), ["server1"]);
}

#[test]
fn an_add_is_answered_in_time_although_its_record_is_written_later() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "1"]);
    engine.fail(Call::MakeVolume, Fault::Status(500));
    assert_eq!(lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["more"]}))["N"], 2);
    lb.wait_for_log("the record of the fleet is not written yet");
    engine.heal();
    eventually("the record", || {
        let [label] = &engine.volume_labels("lb.seats")[..] else { return None };
        (label == "1=server1=server1,2=more=more").then_some(())
    });
}

#[test]
fn a_record_that_is_written_late_is_replaced_by_the_newest() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "1"]);
    engine.fail(Call::MakeVolume, Fault::Late);
    thread::scope(|scope| {
        let written = engine.count(&[Call::MakeVolume]);
        let add = |name: &'static str| lb.done(&json!({"cmd": "add", "n": 1, "hostnames": [name]}));
        scope.spawn(move || add("a"));
        eventually("the record with a", || (engine.count(&[Call::MakeVolume]) > written).then_some(()));
        scope.spawn(move || add("b"));
        // The record with a and without b is created after `lb` has given up waiting for it.
        lb.wait_for_log("the engine did not reply to POST /volumes/create within");
        engine.heal();
    });
    eventually("the record with both", || {
        let seats = engine.volume_labels("lb.seats");
        (seats == ["1=server1=server1,2=a=a,3=b=b"]).then_some(())
    });
}

#[test]
fn a_container_that_cannot_be_removed_is_removed_later() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "2"]);
    engine.fail(Call::Remove, Fault::Status(500));
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["server2"]}));
    lb.wait_for_log("the engine refused DELETE /containers/ID: not today (status 500)");
    assert_eq!(lb.hostnames(), ["server1"]);
    assert_eq!(engine.containers().len(), 2);
    engine.heal();
    wait_for_containers(&engine, 1);
}

#[test]
fn a_network_that_was_removed_by_hand_is_created_again() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "1"]);
    engine.remove_network(NETWORK);
    assert_eq!(lb.done(&json!({"cmd": "add", "n": 1}))["N"], 2);
    assert_eq!(engine.networks(), [NETWORK]);
    wait_for_containers(&engine, 2);
}

#[test]
fn a_draining_container_is_left_alone_although_another_gets_its_name() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "2"]);
    let id = id_for(&lb, "server2");
    let mut client = lb.connect();
    assert_eq!(say(&mut client, &id), format!("server2 {id}\n"));
    let command = |cmd: &str| json!({"cmd": cmd, "n": 1, "hostnames": ["server2"]});
    lb.done(&command("rm"));
    lb.done(&command("add"));
    wait_for_containers(&engine, 3);
    wait_for_a_look(&engine);
    assert_eq!(say(&mut client, "still there?"), "still there?\n");
    wait_for_containers(&engine, 3);
    drop(client);
    wait_for_containers(&engine, 2);
}

#[test]
fn a_kill_that_the_engine_does_not_do_is_a_failure_and_one_that_it_does_is_healed() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "2"]);
    let kill = |hostname: &str| http(&lb, "POST /kill", &json!({ "hostname": hostname }).to_string());
    let before = lb.slot(2);
    for (fault, reason) in [
        (Fault::Status(500), "<Error> server2 was not killed: "),
        (Fault::Hang, "the engine did not reply to POST /containers/ID/kill within 4s"),
    ] {
        engine.fail(Call::Kill, fault);
        let response = kill("server2");
        assert_eq!(response.status, 502, "{fault:?}: {response:?}");
        assert!(refused(&response.body).contains(reason), "{fault:?}: {response:?}");
    }
    engine.heal();
    wait_for_a_look(&engine);
    assert_eq!(lb.slot(2)["hostname"], before["hostname"], "it lives");
    // The next one is not created while this lasts, so nothing runs in the slot.
    engine.fail(Call::Create, Fault::Hang);
    assert_eq!(kill("server2").status, 200);
    eventually("an empty slot", || (lb.slot(2)["state"] != "up").then_some(()));
    let response = kill("server2");
    assert_eq!(response.status, 400, "{response:?}");
    assert!(refused(&response.body).ends_with(" does not run: expected a replica that runs"), "{response:?}");
    engine.heal();
    replaced(&lb, &before);
    assert_eq!(lb.slot(1)["restarts"], 0);
}
