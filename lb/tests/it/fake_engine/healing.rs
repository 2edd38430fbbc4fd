//! Containers that die: how `lb` notices, and what replaces them.

use std::collections::HashSet;

use serde_json::json;

use super::call::{Call, Fault};
use super::engine::Engine;
use super::{FLEET, IMAGE, replaced, running, start, wait_for_a_look, wait_for_containers};
use crate::harness::eventually;

#[test]
fn containers_enter_rotation_and_a_dead_one_is_replaced_in_its_slot() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &[]);
    assert_eq!(lb.hostnames(), ["server1", "server2", "server3"]);
    let served: HashSet<String> = (0..60).map(|id| lb.route(&id.to_string())).collect();
    assert_eq!(served, HashSet::from(["server1", "server2", "server3"].map(str::to_owned)));
    let before = lb.slot(2);
    engine.kill("server2");
    let hostname = replaced(&lb, &before);
    wait_for_containers(&engine, 3);
    let seats = [("server1", "server1"), ("server2", hostname.as_str()), ("server3", "server3")];
    assert_eq!(running(&engine), seats.map(|(slot, name)| (slot.to_owned(), name.to_owned())));
    lb.wait_for_log("container ended with exit code 137");
}

#[test]
fn a_replacement_that_does_not_start_is_tried_again_with_growing_pauses() {
    for (call, fault) in
        [(Call::Start, Fault::Status(500)), (Call::Start, Fault::Exit), (Call::Create, Fault::Garbage)]
    {
        let engine = Engine::start(IMAGE);
        let lb = start(&engine, &["--replicas", "2"]);
        let (before, created) = (lb.slot(2), engine.count(&[Call::Create]));
        engine.fail(call, fault);
        engine.kill("server2");
        eventually("four tries", || (engine.count(&[Call::Create]) >= created + 4).then_some(()));
        // The ledger's unit tests check how long the pauses are. Without pauses there would be hundreds of tries by now.
        assert!(engine.count(&[Call::Create]) <= created + 5, "{fault:?}");
        engine.heal();
        replaced(&lb, &before);
        wait_for_containers(&engine, 2);
    }
}

#[test]
fn a_slot_is_not_quarantined_for_a_fault_of_the_engine() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "2"]);
    let (before, created) = (lb.slot(2), engine.count(&[Call::Create]));
    engine.fail(Call::Create, Fault::Close);
    engine.kill("server2");
    // A container that itself fails to start gets six tries.
    eventually("seven tries", || (engine.count(&[Call::Create]) >= created + 7).then_some(()));
    assert_ne!(lb.slot(2)["state"], "quarantined");
    engine.heal();
    replaced(&lb, &before);
    wait_for_containers(&engine, 2);
}

#[test]
fn a_replacement_of_the_same_name_is_left_alone() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "1", "--respawn-name", "same"]);
    for _ in 0..3 {
        let before = lb.slot(1);
        engine.kill("server1");
        assert_eq!(replaced(&lb, &before), "server1");
        wait_for_containers(&engine, 1);
        let (slot, containers) = (lb.slot(1), engine.containers());
        wait_for_a_look(&engine);
        assert_eq!(engine.containers(), containers);
        assert_eq!(lb.slot(1)["restarts"], slot["restarts"]);
    }
}

/// One way in which the events of an engine can end.
type End = fn(&Engine);

#[test]
fn lb_notices_a_death_without_events_and_subscribes_again() {
    let ends: [End; 5] = [
        |engine| engine.end_events(true),
        |engine| engine.end_events(false),
        |engine| engine.say("this is no event\n"),
        |engine| engine.say("{\"Type\": 7}\n"),
        |engine| engine.say("[[[[\n"),
    ];
    for end in ends {
        let engine = Engine::start(IMAGE);
        let lb = start(&engine, &["--replicas", "2"]);
        engine.wait_for_listeners(1);
        engine.fail(Call::Events, Fault::Status(500));
        end(&engine);
        lb.wait_for_log("the engine sends no events");
        engine.wait_for_listeners(0);
        let before = lb.slot(2);
        engine.kill("server2");
        let hostname = replaced(&lb, &before);
        engine.heal();
        engine.wait_for_listeners(1);
        // From here on, `lb` can learn of a death from events alone.
        engine.fail(Call::Containers, Fault::Hang);
        let before = lb.slot(2);
        engine.kill(&hostname);
        replaced(&lb, &before);
        engine.heal();
        wait_for_containers(&engine, 2);
    }
}

#[test]
fn lb_notices_a_death_when_events_fall_silent() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "2"]);
    engine.fail(Call::Events, Fault::Mute);
    let before = lb.slot(1);
    engine.kill("server1");
    replaced(&lb, &before);
    wait_for_containers(&engine, 2);
}

#[test]
fn a_container_that_was_removed_or_restarted_by_hand_is_replaced() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "2"]);
    // Without events, only the list of containers shows what has changed.
    engine.fail(Call::Events, Fault::Mute);
    let (removed, restarted) = (lb.slot(1), lb.slot(2));
    engine.remove("server1");
    engine.kill("server2");
    engine.start_again("server2");
    replaced(&lb, &removed);
    replaced(&lb, &restarted);
    wait_for_containers(&engine, 2);
}

#[test]
fn an_out_of_memory_kill_is_named_as_the_reason() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "1"]);
    engine.wait_for_listeners(1);
    let id = &engine.containers()[0].id;
    let event = |kind: &str, fleet: &str| {
        let actor = json!({"ID": id, "Attributes": {"lb.fleet": fleet}});
        engine.say(&format!("{}\n", json!({"Type": "container", "Action": kind, "Actor": actor})));
    };
    // Events of other fleets do not count, whatever the ids are.
    event("die", "another");
    event("oom", FLEET);
    engine.kill("server1");
    lb.wait_for_log("ended with exit code 137 (it ran out of memory)");
}
