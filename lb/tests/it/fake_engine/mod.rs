//! `--provider docker` with an engine that fails on demand: how `lb` reacts, and what it leaves behind.

mod away;
mod call;
mod commands;
mod engine;
mod healing;
mod life;
mod ours;
mod start;
mod state;
mod wire;

use std::process::Command;

use serde_json::{Value, json};

use crate::control::{Response, http, refused};
use crate::harness::{Lb, eventually, text};
use call::Call;
use engine::Engine;

const IMAGE: &str = "team/image:1";
const NETWORK: &str = "net";
const FLEET: &str = "fleet";

/// `lb` with containers of this engine. Its probes are rare, so it learns from the engine that a container has ended.
fn command(host: &str, port: u16, flags: &[&str]) -> Command {
    let port = port.to_string();
    let docker = ["--provider", "docker", "--image", IMAGE, "--network", NETWORK, "--backend-port", &port];
    let calm = ["--health-interval", "1m", "--health-timeout", "30s", "--start-timeout", "50s"];
    let mut command = Lb::command(&[&docker[..], &calm, flags].concat());
    command.env("DOCKER_HOST", host);
    command
}

fn launch(engine: &Engine, flags: &[&str]) -> Lb {
    Lb::launch_as(command(&engine.host(), engine.port(), &[&["--fleet", FLEET], flags].concat()))
}

fn start(engine: &Engine, flags: &[&str]) -> Lb {
    let lb = launch(engine, flags);
    lb.wait_for_log("ready data=");
    lb
}

/// The error with which `lb` exits.
#[track_caller]
fn error_of(mut lb: Lb) -> String {
    let code = lb.wait().code();
    let error = lb.wait_for_log("error: ");
    assert_eq!(code, Some(1), "{error}");
    assert!(!lb.log().iter().any(|line| line.contains("panicked")), "{:?}", lb.log());
    error
}

/// The slot and the hostname of each running container of the fleet, by slot.
fn running(engine: &Engine) -> Vec<(String, String)> {
    let containers = engine.containers().into_iter().filter(|seen| seen.runs && seen.fleet == FLEET);
    let mut seats: Vec<_> = containers.map(|seen| (seen.slot, seen.hostname)).collect();
    seats.sort();
    seats
}

/// Waits until the fleet has exactly `n` containers, and all of them run.
#[track_caller]
fn wait_for_containers(engine: &Engine, n: usize) {
    eventually(&format!("exactly {n} containers, all running"), || {
        let containers: Vec<_> = engine.containers().into_iter().filter(|seen| seen.fleet == FLEET).collect();
        (containers.len() == n && containers.iter().all(|seen| seen.runs)).then_some(())
    });
}

/// Waits until `lb` has listed its containers and acted on that list.
#[track_caller]
fn wait_for_a_look(engine: &Engine) {
    let lists = engine.count(&[Call::Containers]);
    // `lb` acts on one list before it asks for the next.
    eventually("two lists", || (engine.count(&[Call::Containers]) > lists + 1).then_some(()));
}

/// Waits until a slot has a replacement in rotation; its hostname.
#[track_caller]
fn replaced(lb: &Lb, before: &Value) -> String {
    text(&lb.wait_for_replacement(before)["hostname"]).to_owned()
}

/// Asks for one more replica, which must be refused; the reason. No slot may come of it (another replica may be replaced meanwhile).
/// The engine fails until the test repairs it later, so the answer has to come before that.
#[track_caller]
fn refused_add(lb: &Lb, hostname: &str) -> String {
    let before = lb.hostnames().len();
    let response: Response = http(lb, "POST /add", &json!({"n": 1, "hostnames": [hostname]}).to_string());
    assert_eq!(response.status, 502, "{response:?}");
    let after = lb.hostnames();
    assert!(after.len() == before && !after.iter().any(|name| name == hostname), "{after:?}");
    refused(&response.body)
}
