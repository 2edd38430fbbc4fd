//! An engine that goes away, or hangs, and comes back.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::json;

use super::{CALM, Fleet, docker, homes, ids, slots, terminate};
use crate::harness::{Lb, eventually, text};
use crate::load::Load;

/// Where the engine really is.
const ENGINE: &str = "/var/run/docker.sock";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    /// Connections are refused.
    Away,
    /// Connections are accepted but not answered; requests are carried out later.
    Hung,
}

/// A proxy in front of the engine, which a test can close or stop.
struct Gateway {
    folder: tempfile::TempDir,
    state: Arc<State>,
}

struct State {
    mode: Mutex<Mode>,
    changed: Condvar,
    connections: Mutex<Vec<UnixStream>>,
}

impl Gateway {
    fn open() -> Gateway {
        let folder = tempfile::TempDir::new().unwrap();
        let state =
            State { mode: Mutex::new(Mode::Open), changed: Condvar::new(), connections: Mutex::default() };
        let gateway = Gateway { folder, state: Arc::new(state) };
        let (listener, state) = (UnixListener::bind(gateway.path()).unwrap(), Arc::clone(&gateway.state));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                state.connect(client);
            }
        });
        gateway
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("engine")
    }

    fn host(&self) -> String {
        format!("unix://{}", self.path().display())
    }

    fn set(&self, mode: Mode) {
        let elsewhere = self.folder.path().join("away");
        *self.state.mode.lock().unwrap() = mode;
        self.state.changed.notify_all();
        if mode == Mode::Away {
            fs::rename(self.path(), elsewhere).unwrap();
            for connection in self.state.connections.lock().unwrap().drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        } else if elsewhere.exists() {
            fs::rename(elsewhere, self.path()).unwrap();
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if *self.state.mode.lock().unwrap() != Mode::Away {
            self.set(Mode::Away);
        }
    }
}

impl State {
    fn connect(self: &Arc<Self>, client: UnixStream) {
        let engine = UnixStream::connect(ENGINE).unwrap();
        self.connections.lock().unwrap().extend([client.try_clone().unwrap(), engine.try_clone().unwrap()]);
        let back = (engine.try_clone().unwrap(), client.try_clone().unwrap());
        for (from, to) in [(client, engine), back] {
            let state = Arc::clone(self);
            thread::spawn(move || state.pump(from, to));
        }
    }

    /// Passes bytes on, except while the engine must seem hung.
    fn pump(&self, mut from: UnixStream, mut to: UnixStream) {
        let mut buffer = vec![0; 65536];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let mode = self.mode.lock().unwrap();
            let mode = *self.changed.wait_while(mode, |mode| *mode == Mode::Hung).unwrap();
            // A request that is held back until the end of a test must not reach the engine afterwards.
            if mode == Mode::Away || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}

fn start_behind(gateway: &Gateway, fleet: &Fleet) -> Lb {
    let mut command = Lb::command(&fleet.flags(&CALM));
    command.env("DOCKER_HOST", gateway.host());
    let lb = Lb::launch_as(command);
    lb.wait_for_log("ready data=");
    lb
}

/// Puts the engine into this `mode` for a while. Connections must be served and commands refused, and a dead container must
/// be replaced once when the engine is back.
fn survives(fleet: &Fleet, mode: Mode) {
    let gateway = Gateway::open();
    let lb = start_behind(&gateway, fleet);
    let (mut before, at_home, seats) = (fleet.settled(&lb), homes(&lb), slots(&lb));
    let others: Vec<String> = ids().filter(|id| lb.order(id)[0] != "server2").collect();
    let load = Load::begin(&lb, &others, 1);
    gateway.set(mode);
    load.go_on(50);
    // Answered while the engine is still away or hung.
    let refusal = lb.refused(&json!({"cmd": "add", "n": 2, "hostnames": ["S5", "S4"]}));
    assert!(refusal.contains("the engine"), "{refusal}");
    assert_eq!(slots(&lb), seats);
    let slot = lb.slot(2);
    docker(&["kill", &before["server2"]]);
    eventually("the loss noticed", || (lb.slot(2)["state"] != "up").then_some(()));
    load.go_on(200);
    lb.wait_for_log("the engine is away");
    gateway.set(Mode::Open);
    let after = lb.wait_for_replacement(&slot);
    lb.wait_for_log("the engine is back");
    let mut now = fleet.settled(&lb);
    now.remove(text(&after["hostname"]));
    before.remove("server2");
    assert_eq!(now, before, "the others are the same");
    assert_eq!(homes(&lb), at_home);
    load.go_on(50);
    let (_, failed) = load.end();
    assert!(failed.is_empty(), "{failed:?}");
    lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S5"]}));
    assert_eq!(fleet.settled(&lb).len(), 4);
}

#[test]
fn an_engine_that_goes_away_and_comes_back_costs_no_connection() {
    let Some(fleet) = Fleet::of("away") else { return };
    survives(&fleet, Mode::Away);
}

#[test]
fn an_engine_that_hangs_for_a_while_costs_no_connection() {
    let Some(fleet) = Fleet::of("hung") else { return };
    survives(&fleet, Mode::Hung);
}

#[test]
fn lb_ends_without_the_engine_and_the_next_lb_finds_the_fleet() {
    let Some(fleet) = Fleet::of("away-in-the-end") else { return };
    let gateway = Gateway::open();
    let lb = start_behind(&gateway, &fleet);
    let (containers, seats) = (fleet.settled(&lb), slots(&lb));
    gateway.set(Mode::Away);
    lb.wait_for_log("the engine is away");
    terminate(lb);
    assert_eq!(fleet.containers().len(), 3);
    let lb = fleet.start(&CALM);
    assert_eq!((fleet.settled(&lb), slots(&lb)), (containers, seats));
    terminate(lb);
    fleet.is_gone();
}
