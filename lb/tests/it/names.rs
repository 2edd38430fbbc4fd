//! Names of fixed servers: each has several addresses, and they may change. `lb` runs with a hosts file of the test's own.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Lb, Replica, text};

/// A file that stands in the place of /etc/hosts for one `lb`.
struct Hosts(tempfile::NamedTempFile);

impl Hosts {
    /// `None` where no mount namespace can be made.
    fn with(lines: &str) -> Option<Hosts> {
        let probe = Command::new("unshare").args(["--mount", "true"]).output();
        if !probe.as_ref().is_ok_and(|done| done.status.success()) {
            assert!(std::env::var_os("CI").is_none(), "no mount namespace can be made: {probe:?}");
            eprintln!("skipped: no mount namespace can be made here (it takes root)");
            return None;
        }
        let hosts = Hosts(tempfile::NamedTempFile::new().unwrap());
        hosts.rewrite(lines);
        Some(hosts)
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// Writes the file again. (It stays the same file, because it is mounted.)
    fn rewrite(&self, lines: &str) {
        let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(self.path()).unwrap();
        file.write_all(lines.as_bytes()).unwrap();
    }

    /// `lb serve` that reads this file as its hosts file.
    fn launch(&self, flags: &[&str]) -> Lb {
        Lb::launch_as(with_hosts(&self.path(), &Lb::command(flags)))
    }
}

fn with_hosts(hosts: &Path, command: &Command) -> Command {
    let mut inside = Command::new("unshare");
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    inside.args(["--mount", "sh", "-c", script]).arg(hosts);
    inside.arg(command.get_program()).args(command.get_args());
    inside
}

/// A port that is free at two addresses, and who listens at one of them.
fn at(address: &str, name: &'static str) -> (Replica, u16) {
    let replica = Replica::named_at(&format!("{address}:0"), name);
    let port = replica.address.port();
    (replica, port)
}

const OFTEN: [&str; 2] = ["--health-interval", "50ms"];
const UNWATCHED: [&str; 2] = ["--health-interval", "1h"];

#[test]
fn a_server_is_found_at_any_address_of_its_name() {
    // One of them is not the first, in whichever order the resolver gives them.
    for address in ["127.0.0.7", "127.0.0.8"] {
        let Some(hosts) = Hosts::with("127.0.0.7 both\n127.0.0.8 both\n") else { return };
        let (_replica, port) = at(address, "here");
        let backend = format!("a=both:{port}");
        let lb = hosts.launch(&[&["--provider", "fixed", "--backend", &backend], &OFTEN[..]].concat());
        let slot = lb.wait_for_state(1, "up");
        assert_eq!(text(&slot["address"]), format!("{address}:{port}"), "the address that answers");
        assert_eq!(lb.route("132574"), "here");
    }
}

#[test]
fn a_session_tries_each_address_of_a_name() {
    let Some(hosts) = Hosts::with("127.0.0.7 both\n127.0.0.8 both\n") else { return };
    let (first, port) = at("127.0.0.7", "first");
    let backend = format!("a=both:{port}");
    let lb = hosts.launch(&[&["--provider", "fixed", "--backend", &backend], &UNWATCHED[..]].concat());
    lb.wait_for_state(1, "up");
    assert_eq!(lb.route("132574"), "first");
    let second = Replica::named_at(&format!("127.0.0.8:{port}"), "second");
    first.leave();
    for _ in 0..3 {
        assert_eq!(lb.route("132574"), "second", "no probe has seen the change");
    }
    assert_eq!(text(&lb.slot(1)["address"]), second.address.to_string());
}

#[test]
fn a_name_is_followed_to_its_new_address_when_no_old_one_answers() {
    let Some(hosts) = Hosts::with("127.0.0.7 moves\n") else { return };
    let (first, port) = at("127.0.0.7", "first");
    let backend = format!("a=moves:{port}");
    let lb = hosts.launch(&[&["--provider", "fixed", "--backend", &backend], &OFTEN[..]].concat());
    lb.wait_for_state(1, "up");
    let _second = Replica::named_at(&format!("127.0.0.8:{port}"), "second");
    hosts.rewrite("127.0.0.8 moves\n");
    assert_eq!(lb.route("132574"), "first", "an address that answers is kept");
    first.leave();
    lb.wait_for_log("the name has other addresses now");
    lb.wait_for_state(1, "up");
    assert_eq!(lb.route("132574"), "second");
    // A name without an address changes nothing.
    hosts.rewrite("");
    assert_eq!(lb.route("132574"), "second");
}

#[test]
fn a_port_that_nobody_serves_stays_down_with_the_reason() {
    let Some(hosts) = Hosts::with("127.0.0.7 both\n127.0.0.8 both\n") else { return };
    let port = TcpListener::bind("127.0.0.7:0").unwrap().local_addr().unwrap().port();
    let backend = format!("a=both:{port}");
    let lb = hosts.launch(&[&["--provider", "fixed", "--backend", &backend], &OFTEN[..]].concat());
    let slot = lb.wait_for_state(1, "down");
    assert!(text(&slot["reason"]).contains("refused"), "{slot}");
}
