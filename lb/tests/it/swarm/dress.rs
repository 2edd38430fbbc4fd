//! What replicas get from `lb`, what is refused before anything is made, and what is said at the end.

use std::fs;

use serde_json::json;

use super::fleet::{CALM, Fleet};
use super::nodes::{IMAGE, NETWORK, Turn};
use crate::harness::Lb;

#[test]
fn a_replica_gets_its_variables_and_secrets() {
    let Some(swarm) = Turn::shared() else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, "open sesame").unwrap();
    swarm.docker(1, &["secret", "create", "lb-test.key", file.path().to_str().unwrap()]);
    let fleet = Fleet::of(&swarm, "dressed");
    let given =
        ["--replicas", "1", "--env", "GREETING=hello, world", "--env", "PATH", "--secret", "lb-test.key"];
    let lb = fleet.start(1, &[&CALM[..], &given].concat());
    let process = fleet.process(&lb.slot(1));
    let environment = fs::read_to_string(format!("/proc/{process}/environ")).unwrap();
    let environment: Vec<&str> = environment.split('\0').collect();
    let own = format!("PATH={}", std::env::var_os("PATH").unwrap().into_string().unwrap());
    for variable in ["SERVER_ID=server1", "GREETING=hello, world", &own] {
        assert!(environment.contains(&variable), "{variable}: {environment:?}");
    }
    let secret = fs::read_to_string(format!("/proc/{process}/root/run/secrets/lb-test.key")).unwrap();
    assert_eq!(secret, "open sesame");
    drop(lb);
    drop(fleet);
    swarm.docker(1, &["secret", "rm", "lb-test.key"]);
}

#[test]
fn a_secret_that_is_missing_is_said_at_the_start_and_nothing_is_made() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "bare");
    let flags = ["--provider", "swarm", "--fleet", "bare", "--network", NETWORK, "--image", IMAGE];
    let mut command = Lb::command(&[&flags[..], &["--secret", "lb-test.none"]].concat());
    command.env("DOCKER_HOST", swarm.engine(1));
    let mut lb = Lb::launch_as(command);
    assert_eq!(lb.wait().code(), Some(1));
    lb.wait_for_log("--secret: there is no secret lb-test.none in the Swarm");
    assert!(fleet.services().is_empty());
    let configs = swarm.docker(1, &["config", "ls", "--format", "{{.Name}}"]);
    assert!(configs.lines().all(|name| name != "lb.bare"), "{configs}");
}

#[test]
fn an_add_of_a_name_that_swarm_refuses_changes_nothing() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "named");
    let lb = fleet.start(1, &[&CALM[..], &["--replicas", "1"]].concat());
    let epoch = || lb.done(&json!({"cmd": "backends"}))["epoch"].clone();
    let before = epoch();
    for name in ["a.b", "a_", &"a".repeat(58)] {
        let expected =
            format!("hostname {name}: named-{name} cannot be the name of a service: expected at most 63");
        for command in [
            json!({"cmd": "add", "n": 2, "hostnames": ["fine", name]}),
            json!({"cmd": "plan", "change": {"cmd": "add", "n": 1, "hostnames": [name]}}),
        ] {
            let refusal = lb.refused(&command);
            assert!(refusal.contains(&expected), "{refusal}");
        }
    }
    assert_eq!(epoch(), before);
    assert_eq!(fleet.services().into_keys().collect::<Vec<_>>(), ["server1"]);
    let longest = "a".repeat(57);
    lb.done(&json!({"cmd": "add", "n": 1, "hostnames": [longest]}));
    assert_eq!(fleet.services().into_keys().collect::<Vec<_>>(), [longest.as_str(), "server1"]);
}

#[test]
fn at_its_end_lb_says_how_to_remove_the_replicas_that_go_on() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "left");
    let mut lb = fleet.start(1, &[&CALM[..], &["--replicas", "1"]].concat());
    lb.signal("TERM");
    assert!(lb.wait().success());
    lb.wait_for_log(&format!(
        "the replicas go on; `lb fleet rm` with this --fleet and --network removes them fleet=\"left\" network=\"{NETWORK}\""
    ));
    assert_eq!(fleet.services().into_keys().collect::<Vec<_>>(), ["server1"]);
}
