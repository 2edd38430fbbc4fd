//! Which containers and networks are the fleet's own: those that `lb` has made, by id, whatever names and labels others have.

use serde_json::json;

use super::call::{Call, Request};
use super::engine::Engine;
use super::{FLEET, IMAGE, NETWORK, replaced, start, wait_for_a_look, wait_for_containers};
use crate::harness::{Lb, eventually, text};

/// What is said of a container that has the label of the fleet from its image.
const FOREIGN: &str = "has the label of this fleet from its image";

/// The requests about this container or network, but not those that only ask.
fn changes(engine: &Engine, id: &str) -> Vec<Request> {
    let asks = [Call::Inspect, Call::Network, Call::Image];
    let is_change = |request: &Request| request.object == id && !asks.contains(&request.call);
    engine.requests().into_iter().filter(is_change).collect()
}

/// The ids of the containers of the fleet, by hostname.
fn ids(engine: &Engine) -> Vec<(String, String)> {
    let mut ids: Vec<_> = engine.containers().into_iter().map(|seen| (seen.hostname, seen.id)).collect();
    ids.sort();
    ids
}

/// Waits until `lb` has removed everything that it may remove.
fn wait_for_sweeps(engine: &Engine, lb: &Lb) {
    // A container without a keeper that is really the fleet's own: when it is gone, the others have had their turn, too.
    engine.run(&format!("leftover{}", fastrand::u32(..)), NETWORK, &[("lb.fleet", FLEET)]);
    lb.wait_for_log("container=\"leftover");
    eventually("the removal of the leftover", || {
        engine.containers().iter().all(|seen| !seen.name.starts_with("leftover")).then_some(())
    });
    wait_for_a_look(engine);
}

#[test]
fn a_container_that_is_renamed_stays_in_its_slot() {
    let engine = Engine::start(IMAGE);
    let mut first = start(&engine, &["--replicas", "3"]);
    let before = ids(&engine);
    engine.rename("server1", "precious");
    engine.rename("server2", "moved");
    // The name of another container of the fleet.
    engine.rename("server3", &format!("{FLEET}-server2"));
    wait_for_sweeps(&engine, &first);
    assert_eq!(ids(&engine), before);
    assert!(first.backends().iter().all(|slot| slot["restarts"] == 0 && slot["state"] == "up"));

    first.signal("KILL");
    first.wait();
    engine.rename("server1", &format!("{FLEET}-server3"));
    let second = start(&engine, &["--replicas", "3"]);
    wait_for_sweeps(&engine, &second);
    assert_eq!(ids(&engine), before, "they are taken over under any name");
    // The name of the dead one belongs to another container meanwhile.
    let slot = second.slot(2);
    engine.kill("server2");
    replaced(&second, &slot);
    wait_for_containers(&engine, 3);
}

#[test]
fn a_container_that_inherits_its_labels_is_not_of_the_fleet() {
    let engine = Engine::start(IMAGE);
    engine.add_network(NETWORK);
    engine.add_image("vendor", &[("lb.fleet", FLEET)]);
    let replica = [("lb.hostname", "server1"), ("lb.slot.index", "1"), ("lb.slot.name", "server1")];
    engine.add_image("clone", &[&[("lb.fleet", FLEET)], &replica[..]].concat());
    let early = [
        engine.run_from("vendor", "early", NETWORK, &[]),
        engine.run_from("clone", "clone", NETWORK, &[]),
        engine.run_from("vendor", "named", NETWORK, &[("lb.hostname", "server2")]),
    ];
    let mut lb = start(&engine, &["--replicas", "2"]);
    assert!((0..20).all(|id| ["server1", "server2"].contains(&lb.route(&id.to_string()).as_str())));

    // An image made of a running replica has all its labels.
    let labels = engine.labels("server2");
    let labels: Vec<(&str, &str)> =
        labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    engine.add_image("committed", &labels);
    let late =
        ["vendor", "committed"].map(|image| engine.run_from(image, &format!("late-{image}"), NETWORK, &[]));
    let slot = lb.slot(2);
    engine.kill("server2");
    replaced(&lb, &slot);
    eventually("a word about each", || {
        let lines: Vec<String> = lb.log().into_iter().filter(|line| line.contains(FOREIGN)).collect();
        let named = |name: &str| lines.iter().filter(|line| line.contains(&format!("\"{name}\""))).count();
        let counts = ["early", "clone", "named", "late-vendor", "late-committed"].map(named);
        assert!(counts.iter().all(|&count| count <= 1), "{lines:?}");
        (counts == [1; 5]).then_some(())
    });
    wait_for_sweeps(&engine, &lb);
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    for id in early.iter().chain(&late) {
        assert!(changes(&engine, id).is_empty(), "{:?}", changes(&engine, id));
    }
    assert_eq!(
        (engine.containers().len(), engine.volumes()),
        (5, vec![]),
        "only they are left, and no record"
    );
    // They are no reason to think that the fleet is held or alive.
    let next = start(&engine, &["--replicas", "1"]);
    assert_eq!(next.hostnames(), ["server1"]);
}

#[test]
fn a_replica_whose_image_has_the_label_of_the_fleet_is_of_the_fleet() {
    let engine = Engine::start("another");
    let labels = [("lb.fleet", FLEET), ("lb.hostname", "x"), ("lb.slot.index", "7"), ("lb.slot.name", "x")];
    engine.add_image(IMAGE, &labels);
    let mut first = start(&engine, &["--replicas", "2", "--spares", "1"]);
    eventually("a spare", || first.spares().into_iter().find(|spare| spare["state"] == "up"));
    wait_for_containers(&engine, 3);
    let before = ids(&engine);
    first.signal("KILL");
    first.wait();
    let mut second = start(&engine, &["--replicas", "2", "--spares", "1"]);
    wait_for_a_look(&engine);
    assert_eq!(ids(&engine), before, "the spare, too");
    assert!(second.slot(1)["hostname"] == "server1" && second.backends().len() == 2);
    second.signal("TERM");
    assert_eq!(second.wait().code(), Some(0));
    assert_eq!((engine.containers(), engine.volumes()), (vec![], vec![]));
}

#[test]
fn containers_of_an_earlier_version_are_taken_over() {
    let engine = Engine::start(IMAGE);
    engine.add_network(NETWORK);
    let labels = |index, name| {
        [("lb.fleet", FLEET), ("lb.hostname", name), ("lb.slot.index", index), ("lb.slot.name", name)]
    };
    engine.run("server1", NETWORK, &labels("1", "server1"));
    engine.run("server2", NETWORK, &labels("2", "server2"));
    let before = ids(&engine);
    let lb = start(&engine, &["--replicas", "2"]);
    wait_for_sweeps(&engine, &lb);
    assert_eq!(ids(&engine), before);
    let slot = lb.slot(1);
    engine.kill("server1");
    replaced(&lb, &slot);
    wait_for_containers(&engine, 2);
}

/// `lb` with its replicas in this network.
fn in_network(engine: &Engine, network: &str) -> Lb {
    let port = engine.port().to_string();
    let mut command = Lb::command(&[
        "--provider",
        "docker",
        "--image",
        IMAGE,
        "--network",
        network,
        "--backend-port",
        &port,
        "--fleet",
        FLEET,
        "--health-interval",
        "1m",
        "--health-timeout",
        "30s",
        "--start-timeout",
        "50s",
        "--replicas",
        "2",
    ]);
    command.env("DOCKER_HOST", engine.host());
    let lb = Lb::launch_as(command);
    lb.wait_for_log("ready data=");
    lb
}

#[test]
fn a_network_whose_id_begins_with_the_name_is_another_network() {
    for others in [1, 2] {
        let engine = Engine::start(IMAGE);
        let name = loop {
            (0..others).for_each(|which| engine.add_network(&format!("other{which}")));
            let ids: Vec<String> =
                (0..others).map(|which| engine.network_id(&format!("other{which}"))).collect();
            // Two networks whose ids begin alike are found after a few tries.
            if ids.iter().all(|id| id[..1] == ids[0][..1]) {
                break ids[0][..1].to_owned();
            }
        };
        let others: Vec<String> =
            (0..others).map(|which| engine.network_id(&format!("other{which}"))).collect();
        let mut lb = in_network(&engine, &name);
        let own = engine.network_id(&name);
        assert_eq!(engine.joined(), [own.as_str(); 2]);
        // While the own network is missing, its name means another one to the engine.
        engine.remove_network(&name);
        lb.done(&json!({"cmd": "add", "n": 1}));
        let renewed = engine.network_id(&name);
        assert_ne!(renewed, own);
        assert!(engine.joined().contains(&renewed));
        assert!(engine.joined().iter().all(|id| !others.contains(id)), "{:?}", engine.joined());
        lb.signal("TERM");
        assert_eq!(lb.wait().code(), Some(0));
        assert_eq!(engine.networks().len(), others.len(), "the own network is removed, and no other");
        assert!(others.iter().all(|id| changes(&engine, id).is_empty()));
    }
}

/// How often `lb` has asked for all containers before it removed this one.
fn looks_before_removal(engine: &Engine, id: &str, since: usize) -> usize {
    let requests = engine.requests();
    let removal = requests.iter().position(|request| request.call == Call::Remove && request.object == id);
    requests[since..removal.unwrap()].iter().filter(|request| request.call == Call::Containers).count()
}

#[test]
fn a_container_that_has_ended_is_removed_only_later() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "2"]);
    let (before, slot, since) = (ids(&engine), lb.slot(1), engine.requests().len());
    engine.kill("server1");
    replaced(&lb, &slot);
    wait_for_containers(&engine, 2);
    let dead = &before[0].1;
    assert!(looks_before_removal(&engine, dead, since) >= 2, "it was removed at once");
    let removal = changes(&engine, dead).into_iter().find(|request| request.call == Call::Remove).unwrap();
    assert_ne!(
        removal.query.get("force").map(String::as_str),
        Some("true"),
        "one that runs again would be killed"
    );
}

#[test]
fn a_container_that_is_restarted_by_hand_is_surplus() {
    let engine = Engine::start(IMAGE);
    let lb = start(&engine, &["--replicas", "2"]);
    let (before, slot, since) = (ids(&engine), lb.slot(1), engine.requests().len());
    engine.kill("server1");
    engine.start_again("server1");
    let hostname = replaced(&lb, &slot);
    assert_ne!(hostname, "server1");
    lb.wait_for_log("it was started again by hand");
    wait_for_containers(&engine, 2);
    let surplus = &before[0].1;
    assert!(looks_before_removal(&engine, surplus, since) >= 2, "it was removed at once");
    let calls: Vec<Call> = changes(&engine, surplus).iter().map(|request| request.call).collect();
    assert_eq!(calls[calls.len() - 2..], [Call::Stop, Call::Remove], "it gets the time to end");
    assert_eq!(text(&lb.slot(1)["hostname"]), hostname, "the slot is not touched again");
    assert_eq!(lb.slot(1)["restarts"], 1);
}

#[test]
fn what_waits_for_its_removal_is_removed_at_the_end() {
    let engine = Engine::start(IMAGE);
    let mut lb = start(&engine, &["--replicas", "2"]);
    let slot = lb.slot(1);
    engine.kill("server1");
    replaced(&lb, &slot);
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    assert_eq!((engine.containers(), engine.volumes()), (vec![], vec![]));
}
