//! Which containers and networks of a real engine are the fleet's own, and what becomes of one that a user has a hand on.

use super::{CALM, Fleet, OwnImage, docker, homes, image, kill, terminate, try_docker};
use crate::harness::{Lb, eventually, text};

/// Containers, images and networks that a test makes beside the fleet. Dropping it removes them.
#[derive(Default)]
struct Beside {
    containers: Vec<String>,
    networks: Vec<String>,
}

impl Beside {
    /// Runs a container; its id.
    fn run(&mut self, arguments: &[&str]) -> String {
        let id = docker(&[&["run", "--detach"], arguments].concat());
        self.containers.push(id.clone());
        id
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.containers.iter().for_each(|id| drop(try_docker(&["rm", "--force", "--volumes", id])));
        self.networks.iter().for_each(|id| drop(try_docker(&["network", "rm", id])));
    }
}

#[test]
fn a_container_that_is_renamed_stays_in_its_slot_and_is_taken_over() {
    let Some(fleet) = Fleet::of("rename") else { return };
    let lb = fleet.start(&CALM);
    let (containers, at_home) = (fleet.settled(&lb), homes(&lb));
    docker(&["rename", &containers["server1"], &format!("{}-precious", fleet.name)]);
    docker(&["rename", &containers["server2"], &format!("{}-moved", fleet.name)]);
    docker(&["rename", &containers["server3"], &format!("{}-server2", fleet.name)]);
    // The sweep that removes the dead container sees the others as well.
    let slot = lb.slot(3);
    docker(&["kill", &containers["server3"]]);
    lb.wait_for_replacement(&slot);
    let mut now = fleet.settled(&lb);
    assert_eq!((&now["server1"], &now["server2"]), (&containers["server1"], &containers["server2"]));
    assert_eq!(homes(&lb), at_home);

    kill(lb);
    docker(&["rename", &now["server1"], &format!("{}-again", fleet.name)]);
    let lb = fleet.start(&CALM);
    assert_eq!(fleet.settled(&lb), now);
    assert_eq!(homes(&lb), at_home);
    terminate(lb);
    fleet.is_gone();
    now.clear();
}

#[test]
fn a_container_whose_image_has_the_label_of_the_fleet_is_left_alone() {
    let Some(fleet) = Fleet::of("lookalike") else { return };
    let folder = tempfile::TempDir::new().unwrap();
    let file = format!(
        "FROM {}\nLABEL lb.fleet={} lb.hostname=server1 lb.slot.index=1 lb.slot.name=server1\n",
        image(),
        fleet.name
    );
    let own = OwnImage::build(&fleet, folder.path(), &file);
    let mut beside = Beside::default();
    let early = beside.run(&["--volume", "/data", &own.0]);
    let mut lb = fleet.start(&[&CALM[..], &["--replicas", "2"]].concat());
    let replica = fleet.id_of_own("server1", &[&early]);
    let committed = OwnImage(format!("{}:committed", fleet.name));
    docker(&["commit", &replica, &committed.0]);
    let late = [beside.run(&[&own.0]), beside.run(&[&committed.0])];
    let half_made = docker(&["create", &own.0]);
    beside.containers.push(half_made.clone());
    let slot = lb.slot(2);
    docker(&["kill", &fleet.id_of_own("server2", &[])]);
    lb.wait_for_replacement(&slot);
    eventually("a word about each", || {
        let words = lb
            .log()
            .iter()
            .filter(|line| line.contains("has the label of this fleet from its image"))
            .count();
        (words == 4).then_some(())
    });
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    let states = [&early, &late[0], &late[1], &half_made]
        .map(|id| docker(&["inspect", "--format", "{{.State.Status}}", id]));
    assert_eq!(states, ["running", "running", "running", "created"]);
    assert_eq!(fleet.containers().len(), 4, "nothing else is left");
    assert_eq!(fleet.volumes(), <[String; 0]>::default());
}

#[test]
fn a_network_whose_id_begins_with_the_name_is_left_alone() {
    let Some(fleet) = Fleet::of("prefix") else { return };
    let mut beside = Beside::default();
    let other = docker(&["network", "create", &format!("{}-elsewhere", fleet.name)]);
    beside.networks.push(other.clone());
    // Long enough to be the name of no other network.
    let name = &other[..9];
    let mut command = Lb::command(&[
        "--provider",
        "docker",
        "--fleet",
        &fleet.name,
        "--network",
        name,
        "--image",
        image(),
        "--start-timeout",
        "50s",
        "--replicas",
        "2",
    ]);
    command.env_remove("DOCKER_HOST");
    let lb = Lb::launch_as(command);
    lb.wait_for_log("ready data=");
    let own = docker(&["network", "ls", "--no-trunc", "--quiet", "--filter", &format!("name=^{name}$")]);
    beside.networks.push(own.clone());
    assert!(!own.is_empty() && own != other);
    for [id, ..] in fleet.containers() {
        let joined =
            docker(&["inspect", "--format", "{{range .NetworkSettings.Networks}}{{.NetworkID}}{{end}}", &id]);
        assert_eq!(joined, own);
    }
    terminate(lb);
    assert!(try_docker(&["network", "inspect", &own]).is_err(), "the own network is removed");
    assert_eq!(docker(&["network", "inspect", "--format", "{{.Id}}", &other]), other);
}

#[test]
fn a_restart_by_hand_succeeds_and_the_container_is_surplus() {
    let Some(fleet) = Fleet::of("restart") else { return };
    let lb = fleet.start(&CALM);
    let (containers, at_home, slot) = (fleet.settled(&lb), homes(&lb), lb.slot(2));
    docker(&["restart", &containers["server2"]]);
    let after = lb.wait_for_replacement(&slot);
    assert_ne!(after["hostname"], slot["hostname"]);
    let line = lb.wait_for_log("it was started again by hand");
    assert!(line.contains("lb rm 1 HOSTNAME") && line.contains("server2"), "{line}");
    let now = fleet.settled(&lb);
    assert!(!now.contains_key("server2") && now.contains_key(text(&after["hostname"])));
    assert_eq!(homes(&lb), at_home);

    // With a restart policy, the engine itself starts again what has ended.
    let slot = lb.slot(1);
    docker(&["update", "--restart", "always", &containers["server1"]]);
    let process = docker(&["inspect", "--format", "{{.State.Pid}}", &containers["server1"]]);
    crate::harness::signal(process.parse().unwrap(), "KILL");
    lb.wait_for_replacement(&slot);
    let now = fleet.settled(&lb);
    assert!(!now.contains_key("server1"));
    assert_eq!(homes(&lb), at_home);
}

#[test]
fn a_container_that_is_stopped_by_hand_can_be_removed_by_hand() {
    let Some(fleet) = Fleet::of("stop") else { return };
    let lb = fleet.start(&CALM);
    let (containers, slot) = (fleet.settled(&lb), lb.slot(2));
    docker(&["stop", &containers["server2"]]);
    lb.wait_for_replacement(&slot);
    // `lb` may be faster on a slow machine.
    let removed = try_docker(&["rm", &containers["server2"]]);
    assert!(
        removed.as_ref().is_ok_and(|id| *id == containers["server2"])
            || removed.unwrap_err().contains("No such container")
    );
    assert_eq!(fleet.settled(&lb).len(), 3);
}
