//! Which containers `lb` may touch, and what the next `lb` finds.

use serde_json::{Value, json};

use super::call::{Call, Fault};
use super::engine::{Engine, Seen};
use super::state::new_id;
use super::{
    FLEET, IMAGE, NETWORK, command, error_of, launch, replaced, start, wait_for_a_look, wait_for_containers,
};
use crate::harness::{Lb, eventually, text};

/// The label of a fleet.
const LABEL: &str = "lb.fleet";

/// Index, name and hostname of every slot.
fn seats(lb: &Lb) -> Vec<(Value, Value, Value)> {
    let part = |slot: &Value, name: &str| slot[name].clone();
    lb.backends()
        .iter()
        .map(|slot| (part(slot, "index"), part(slot, "name"), part(slot, "hostname")))
        .collect()
}

/// The slots with their hostnames, all containers, and how many containers have been created so far.
fn as_it_is(engine: &Engine, lb: &Lb) -> (Vec<(Value, Value, Value)>, Vec<Seen>, usize) {
    (seats(lb), engine.containers(), engine.count(&[Call::Create]))
}

/// Checks that no container, volume or network is left in the engine.
#[track_caller]
fn is_bare(engine: &Engine) {
    assert_eq!((engine.containers(), engine.volumes(), engine.networks()), (vec![], vec![], vec![]));
}

/// Ends `lb` with SIGTERM.
#[track_caller]
fn end(lb: &mut Lb) {
    lb.signal("TERM");
    let code = lb.wait().code();
    assert_eq!(code, Some(0), "{:?}", lb.log());
}

/// A fleet with a history: slot 2 has a replacement, slot 1 is gone, and two slots are new.
fn eventful(engine: &Engine, flags: &[&str]) -> Lb {
    let lb = start(engine, flags);
    let before = lb.slot(2);
    engine.kill("server2");
    replaced(&lb, &before);
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["server1"]}));
    lb.done(&json!({"cmd": "add", "n": 2, "hostnames": ["S5", "S4"]}));
    wait_for_containers(engine, 4);
    lb
}

#[test]
fn foreign_containers_are_never_touched() {
    let engine = Engine::start(IMAGE);
    engine.add_network(NETWORK);
    let near = format!("{FLEET}2");
    let mut others = vec![
        engine.run("stranger", NETWORK, &[]),
        engine.run("near", NETWORK, &[(LABEL, near.as_str())]),
        engine.run("far", NETWORK, &[(LABEL, ""), ("lb.hostname", "server1")]),
        engine.run(
            "other",
            NETWORK,
            &[(LABEL, "other"), ("lb.slot.index", "1"), ("lb.slot.name", "server1")],
        ),
    ];
    let mut lb = eventful(&engine, &[]);
    end(&mut lb);
    let touched = |request: &super::call::Request| others.contains(&request.object);
    assert!(!engine.requests().iter().any(touched), "{:?}", engine.requests());
    let mut left: Vec<String> =
        engine.containers().into_iter().filter(|seen| seen.runs).map(|seen| seen.id).collect();
    left.sort();
    others.sort();
    assert_eq!(left, others);
}

#[test]
fn containers_listed_without_the_label_are_never_touched() {
    let engine = Engine::start(IMAGE);
    let entries = [
        json!({"Labels": null, "Names": null}),
        json!({"Names": []}),
        json!({"Names": [""], "Labels": {}, "State": "exited"}),
        json!({"Names": ["/x"], "Labels": {}, "State": "running"}),
        json!({"Names": ["/y"], "Labels": {LABEL: "another", "lb.hostname": "server1"}, "State": "running"}),
        json!({"Names": ["/../../z"], "Labels": {LABEL: ""}, "State": "dead", "NetworkSettings": null}),
    ];
    let ids: Vec<String> = entries
        .into_iter()
        .map(|mut entry| {
            let id = new_id();
            entry["Id"] = json!(id);
            engine.list_strangely(entry);
            id
        })
        .collect();
    let lb = start(&engine, &["--replicas", "2"]);
    let before = lb.slot(1);
    engine.kill("server1");
    replaced(&lb, &before);
    wait_for_containers(&engine, 2);
    wait_for_a_look(&engine);
    let touched: Vec<_> =
        engine.requests().into_iter().filter(|request| ids.contains(&request.object)).collect();
    assert!(touched.is_empty(), "{touched:?}");
}

#[test]
fn containers_with_hostile_labels_get_no_slot_and_are_removed() {
    let engine = Engine::start(IMAGE);
    engine.add_network(NETWORK);
    for (index, name, hostname) in [
        ("0", "server1", "server1"),
        ("-1", "a", "a"),
        ("4294967296", "b", "b"),
        ("1e3", "c", "c"),
        ("2", "../../x", "d"),
        ("2", "", "e"),
        ("3", "f", "../../x"),
        ("3", "g=h,4=i", "g\r\nh"),
        ("\u{661}", "j", "\u{0}"),
    ] {
        let labels =
            [(LABEL, FLEET), ("lb.slot.index", index), ("lb.slot.name", name), ("lb.hostname", hostname)];
        engine.run(&format!("hostile{}", engine.containers().len()), NETWORK, &labels);
    }
    let lb = start(&engine, &[]);
    assert_eq!(lb.hostnames(), ["server1", "server2", "server3"]);
    wait_for_containers(&engine, 3);
}

#[test]
fn malformed_ids_get_into_no_request() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "1"]);
    let labels = json!({LABEL: FLEET});
    engine.list_strangely(json!({"Id": "../../x", "Names": ["/x"], "Labels": labels, "State": "exited"}));
    lb.wait_for_log("cannot parse the engine's reply to GET /containers/json: id Some(\"../../x\")");
    assert_eq!(lb.done(&json!({"cmd": "add", "n": 1}))["N"], 2);
    // When the engine is dropped, it fails the test if `lb` asked for anything strange.
}

#[test]
fn a_held_fleet_is_left_alone_and_another_fleet_runs_beside_it() {
    let engine = Engine::start(IMAGE);
    let first = start(&engine, &["--replicas", "2"]);
    let changes = engine.count(&Call::CHANGES);
    let error = error_of(launch(&engine, &["--replicas", "5"]));
    assert!(error.contains(&format!("fleet {FLEET} is held by another lb")), "{error}");
    assert_eq!(engine.count(&Call::CHANGES), changes, "no container was touched");
    let mut other =
        Lb::launch_as(command(&engine.host(), engine.port(), &["--fleet", "other", "--replicas", "1"]));
    other.wait_for_log("ready data=");
    assert_eq!(engine.containers().len(), 3);
    end(&mut other);
    wait_for_containers(&engine, 2);
    assert_eq!(engine.containers().len(), 2);
    assert_eq!(engine.networks(), [NETWORK], "the first one still uses it");
    let before = first.slot(2);
    engine.kill("server2");
    replaced(&first, &before);
    wait_for_containers(&engine, 2);
}

#[test]
fn one_of_several_rivals_gets_the_fleet() {
    let engine = Engine::start(IMAGE);
    let rivals: Vec<Lb> = (0..4).map(|_| launch(&engine, &["--replicas", "2"])).collect();
    let says =
        |part: &str| rivals.iter().filter(|lb| lb.log().iter().any(|line| line.contains(part))).count();
    eventually("one winner", || {
        (says("ready data=") == 1 && says("is held by another lb that runs") == 3).then_some(())
    });
    wait_for_a_look(&engine);
    wait_for_containers(&engine, 2);
    assert_eq!(engine.count(&[Call::Create]), 2);
}

#[test]
fn the_younger_of_two_holders_gives_way() {
    let engine = Engine::start(IMAGE);
    let older = start(&engine, &["--replicas", "2"]);
    let (containers, created) = (engine.containers(), engine.count(&[Call::Create]));
    // The holder is stopped, so it does not answer that the fleet is held.
    older.signal("STOP");
    let mut younger = start(&engine, &["--replicas", "2"]);
    older.signal("CONT");
    assert_eq!(younger.wait().code(), Some(1));
    younger.wait_for_log("error: another lb has taken the fleet over");
    assert_eq!(engine.containers(), containers);
    let before = older.slot(1);
    engine.kill("server1");
    replaced(&older, &before);
    wait_for_a_look(&engine);
    assert_eq!(engine.count(&[Call::Create]), created + 1);
    wait_for_containers(&engine, 2);
}

#[test]
fn a_holder_without_events_keeps_its_fleet_until_its_last_container_is_gone() {
    let engine = Engine::start(IMAGE);
    let mut holder = start(&engine, &["--replicas", "2"]);
    engine.fail(Call::Events, Fault::Mute);
    refused(&engine);
    // The holder cannot end while its calls to stop containers hang.
    engine.fail(Call::Stop, Fault::Hang);
    holder.signal("TERM");
    eventually("a container that is to be stopped", || (engine.count(&[Call::Stop]) > 0).then_some(()));
    refused(&engine);
    engine.heal();
    assert!(holder.wait().success());
    assert_eq!((engine.containers(), engine.volumes()), (vec![], vec![]));
}

#[test]
fn containers_without_a_record_may_belong_to_another_lb() {
    let engine = Engine::start(IMAGE);
    let holder = start(&engine, &["--replicas", "2"]);
    // The newcomer looks before the holder has written its record again.
    holder.signal("STOP");
    engine.remove_volumes();
    let mut newcomer = launch(&engine, &[]);
    eventually("a record by the newcomer", || (!engine.volumes().is_empty()).then_some(()));
    holder.signal("CONT");
    newcomer.wait_for_log("is held by another lb that runs");
    assert_eq!(newcomer.wait().code(), Some(1));
    assert_eq!(holder.hostnames(), ["server1", "server2"]);
    wait_for_containers(&engine, 2);
}

/// Starts another `lb`, which must be refused because the fleet is held.
fn refused(engine: &Engine) {
    let mut newcomer = launch(engine, &[]);
    newcomer.wait_for_log("is held by another lb that runs");
    assert_eq!(newcomer.wait().code(), Some(1));
}

#[test]
fn the_next_lb_takes_over_running_containers_after_sigkill_and_leaves_nothing() {
    let engine = Engine::start(IMAGE);
    let mut first = eventful(&engine, &[]);
    let before = as_it_is(&engine, &first);
    first.signal("KILL");
    first.wait();
    let mut second = start(&engine, &[]);
    assert_eq!(as_it_is(&engine, &second), before);
    end(&mut second);
    is_bare(&engine);
}

#[test]
fn a_container_that_died_while_no_lb_ran_is_replaced_in_its_slot() {
    let engine = Engine::start(IMAGE);
    let mut first = eventful(&engine, &[]);
    let before = seats(&first);
    first.signal("KILL");
    first.wait();
    engine.kill(text(&before[1].2));
    let second = start(&engine, &[]);
    let after = seats(&second);
    assert_eq!(after.len(), 4);
    for (old, new) in before.iter().zip(&after) {
        assert_eq!((&old.0, &old.1), (&new.0, &new.1));
    }
    wait_for_containers(&engine, 4);
}

#[test]
fn kept_containers_keep_running_and_are_taken_over() {
    let engine = Engine::start(IMAGE);
    let mut first = eventful(&engine, &["--keep"]);
    let before = as_it_is(&engine, &first);
    end(&mut first);
    assert_eq!(engine.containers(), before.1);
    let mut second = start(&engine, &[]);
    assert_eq!(as_it_is(&engine, &second), before);
    end(&mut second);
    is_bare(&engine);
}

#[test]
fn spares_are_taken_over_and_a_spare_that_has_moved_stays_in_its_slot() {
    let flags = ["--replicas", "2", "--spares", "1"];
    let engine = Engine::start(IMAGE);
    let mut first = start(&engine, &flags);
    let spare = || eventually("a spare", || first.spares().into_iter().find(|spare| spare["state"] == "up"));
    let (moving, before) = (spare(), first.slot(2));
    engine.kill("server2");
    assert_eq!(replaced(&first, &before), text(&moving["hostname"]));
    let next = spare();
    wait_for_containers(&engine, 3);
    let record = format!("1=server1=server1,2=server2={}", text(&moving["hostname"]));
    eventually("the record", || (engine.volume_labels("lb.seats") == [record.as_str()]).then_some(()));
    let before = as_it_is(&engine, &first);
    first.signal("KILL");
    first.wait();
    let second = start(&engine, &flags);
    assert_eq!(second.spares()[0]["hostname"], next["hostname"]);
    wait_for_a_look(&engine);
    assert_eq!(as_it_is(&engine, &second), before);
}

#[test]
fn a_record_that_was_removed_by_hand_is_written_again() {
    let engine = Engine::start(IMAGE);
    let _lb = start(&engine, &["--replicas", "2"]);
    engine.remove_volumes();
    let record = ["1=server1=server1,2=server2=server2"];
    eventually("the record", || (engine.volume_labels("lb.seats") == record).then_some(()));
}

#[test]
fn a_fleet_without_containers_begins_anew() {
    let engine = Engine::start(IMAGE);
    let mut first = start(&engine, &["--replicas", "2"]);
    assert_eq!(first.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S5"]}))["N"], 3);
    first.signal("KILL");
    first.wait();
    for hostname in ["server1", "server2", "S5"] {
        engine.remove(hostname);
    }
    let second = start(&engine, &["--replicas", "1"]);
    assert_eq!(second.hostnames(), ["server1"]);
    wait_for_containers(&engine, 1);
}

#[test]
fn labels_give_the_slots_when_the_record_is_missing() {
    let engine = Engine::start(IMAGE);
    let mut first = eventful(&engine, &[]);
    let before = as_it_is(&engine, &first);
    first.signal("KILL");
    first.wait();
    engine.remove_volumes();
    let second = start(&engine, &["--replicas", "1"]);
    assert_eq!(as_it_is(&engine, &second), before);
}

#[test]
fn lb_ends_although_containers_cannot_be_removed() {
    let engine = Engine::start(IMAGE);
    let mut lb = start(&engine, &["--replicas", "2"]);
    engine.fail(Call::Remove, Fault::Status(500));
    end(&mut lb);
    lb.wait_for_log("containers may be left");
    assert_eq!(engine.containers().len(), 2);
}

#[test]
fn the_next_lb_replaces_containers_that_could_not_be_removed() {
    let engine = Engine::start(IMAGE);
    let mut first = start(&engine, &["--replicas", "2"]);
    engine.fail(Call::Remove, Fault::Status(500));
    end(&mut first);
    engine.heal();
    let mut second = start(&engine, &["--replicas", "2"]);
    assert_eq!(second.hostnames(), ["server1", "server2"]);
    wait_for_containers(&engine, 2);
    end(&mut second);
    is_bare(&engine);
}

#[test]
fn an_engine_that_is_gone_at_the_end_does_not_delay_the_exit() {
    let engine = Engine::start(IMAGE);
    let mut first = start(&engine, &["--replicas", "2"]);
    let containers = engine.containers();
    engine.go_away();
    end(&mut first);
    first.wait_for_log("containers may be left");
    engine.come_back();
    let second = start(&engine, &["--replicas", "2"]);
    assert_eq!(second.hostnames(), ["server1", "server2"]);
    assert_eq!(engine.containers(), containers, "the containers still run");
}

#[test]
fn a_second_signal_ends_lb_at_once_although_the_engine_hangs() {
    let engine = Engine::start(IMAGE);
    let mut lb = start(&engine, &["--replicas", "2"]);
    Call::ALL.iter().for_each(|&call| engine.fail(call, Fault::Hang));
    lb.signal("TERM");
    lb.wait_for_log("stopping: ");
    eventually("the first stop", || (engine.count(&[Call::Stop]) > 0).then_some(()));
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    lb.wait_for_log("stopped at once by a second signal");
}
