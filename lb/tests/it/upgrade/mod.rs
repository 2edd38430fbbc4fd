//! A successor takes everything over without a lost connection, and the old `lb` goes on if it fails.

mod failures;
pub(crate) mod load;
mod processes;

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Lb, Replica, eventually, fixed, flags, is_alive, say, session, signal};
use load::Load;

/// A successor. It is killed at the end.
pub(crate) struct Successor(pub(crate) u32);

impl Successor {
    /// Has one take over from the `lb` that answers now.
    #[track_caller]
    pub(crate) fn of(lb: &Lb) -> Successor {
        let done = lb.done(&json!({"cmd": "upgrade"}));
        let pid = done["successor"].as_u64().unwrap_or_else(|| panic!("no successor: {done}"));
        Successor(u32::try_from(pid).unwrap())
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn wait(&self) {
        eventually("the end of the successor", || (!is_alive(self.0)).then_some(()));
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if is_alive(self.0) {
            signal(self.0, "KILL");
        }
    }
}

/// What `explain` says of some keys, without counts that change.
fn mapping(lb: &Lb) -> Vec<Value> {
    let explain = |id: u32| lb.done(&json!({"cmd": "explain", "id": id.to_string()}));
    (0..50).map(explain).collect()
}

fn fleet_of(replicas: usize) -> (Vec<Replica>, Vec<String>) {
    let replicas: Vec<Replica> = (0..replicas).map(|_| Replica::echo()).collect();
    let addresses: Vec<_> = replicas.iter().map(|replica| replica.address).collect();
    (replicas, fixed(&addresses))
}

#[test]
fn upgrades_under_load_lose_no_connection_and_keep_the_mapping() {
    let (_replicas, backends) = fleet_of(3);
    let mut lb = Lb::start(&flags(&backends));
    let (mut open, _) = session(&lb, "1");
    let before = mapping(&lb);
    let load = Load::on(lb.data);
    let mut last = None;
    for _ in 0..5 {
        let successor = Successor::of(&lb);
        load.wait_for_more(50);
        assert_eq!(mapping(&lb), before);
        drop(last.replace(successor));
    }
    assert_eq!(load.end(), Vec::<String>::new());
    say(&mut open, "the old one still serves it");
    drop(open);
    assert!(lb.wait().success(), "it ends with its last session");
    let last = last.unwrap();
    signal(last.0, "TERM");
    last.wait();
    assert!(TcpStream::connect(lb.data).is_err());
}

#[test]
fn the_signal_asks_for_a_successor_too() {
    let (_replicas, backends) = fleet_of(1);
    let lb = Lb::start(&flags(&backends));
    lb.signal("USR2");
    let line = lb.wait_for_log("upgrade: process");
    let successor = Successor(crate::harness::field(&line, "pid=").parse().unwrap());
    assert_eq!(lb.hostnames(), ["a"]);
    assert!(is_alive(successor.0));
}

#[test]
fn the_journal_goes_on() {
    let (_replicas, backends) = fleet_of(1);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("journal");
    let lb = Lb::start(&[&flags(&backends)[..], &["--journal", file.to_str().unwrap()]].concat());
    let _successor = Successor::of(&lb);
    let kinds = || -> Vec<String> {
        let stream = lb.dial(lb.control);
        std::io::Write::write_all(&mut &stream, b"{\"cmd\":\"events\",\"follow\":false}\n").unwrap();
        let text = std::io::read_to_string(stream).unwrap();
        let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let numbers: Vec<u64> = entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
        entries.iter().map(|entry| entry["kind"].as_str().unwrap().to_owned()).collect()
    };
    eventually("ready for the second time", || {
        (kinds().iter().filter(|kind| *kind == "ready").count() == 2).then_some(())
    });
    assert_eq!(kinds().iter().filter(|kind| *kind == "started").count(), 2);
}

#[test]
fn what_a_command_has_changed_stays_changed() {
    let (_replicas, backends) = fleet_of(3);
    let lb = Lb::start(&flags(&backends));
    lb.done(&json!({"cmd": "mapping", "mapping": "maglev", "weights": {"b": 7, "c": 0}}));
    let before = lb.done(&json!({"cmd": "mapping"}));
    let _successor = Successor::of(&lb);
    assert_eq!(lb.done(&json!({"cmd": "mapping"})), before);
}

#[test]
fn a_mapping_goes_along_if_a_command_has_changed_it_since_the_last_reload() {
    let (_replicas, backends) = fleet_of(2);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("lb.toml");
    let says = |mapping: &str| std::fs::write(&file, format!("mapping = \"{mapping}\"\n")).unwrap();
    says("ring");
    let lb = Lb::start(&[&flags(&backends)[..], &["--config", file.to_str().unwrap()]].concat());
    let algorithm = || lb.done(&json!({"cmd": "mapping"}))["mapping"].clone();
    let change = |mapping| lb.done(&json!({"cmd": "mapping", "mapping": mapping}));
    says("maglev");
    lb.done(&json!({"cmd": "reload"}));
    change("ring");
    let first = Successor::of(&lb);
    assert_eq!(algorithm(), "ring", "a command has said so, though it is what was configured at the start");
    change("maglev");
    says("rendezvous");
    let _second = Successor::of(&lb);
    assert_eq!(algorithm(), "rendezvous", "no command has said anything else");
    drop(first);
}

#[test]
fn unix_sockets_go_along_with_their_files() {
    let (_replicas, backends) = fleet_of(1);
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (data, control) = (path("data.sock"), path("control.sock"));
    let listen = format!("unix:{}", data.display());
    let more = format!("unix:{}", control.display());
    let mut lb = Lb::start(
        &[&flags(&backends)[..], &["--listen", &listen, "--control", &more, "--drain-timeout", "1s"]]
            .concat(),
    );
    let first = Successor::of(&lb);
    let second = Successor::of(&lb);
    assert!(lb.wait().success());
    first.wait();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&control)), (0o666, 0o600));
    for path in [&data, &control] {
        assert!(UnixStream::connect(path).is_ok(), "{}", path.display());
    }
    assert_eq!(lb.hostnames(), ["a"]);
    signal(second.0, "TERM");
    second.wait();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the last one removes them");
}
