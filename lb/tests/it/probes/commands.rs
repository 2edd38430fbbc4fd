//! Probes that run a command.

use std::fs;
use std::net::TcpListener;

use super::OFTEN;
use crate::harness::{Lb, Replica, eventually, fixed, flags, processes_with};

/// A script in a folder of its own.
struct Script(tempfile::TempDir);

impl Script {
    fn new(text: &str) -> Script {
        let script = Script(tempfile::tempdir().unwrap());
        script.says(text);
        script
    }

    fn says(&self, text: &str) {
        // A new file at once: no probe may read half of it.
        fs::write(self.path("next"), text).unwrap();
        fs::rename(self.path("next"), self.path("script")).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn probe(&self) -> String {
        format!("exec:cd {} && . ./script", self.0.path().display())
    }

    fn launch(&self, more: &[&str]) -> (Lb, Replica) {
        let replica = Replica::named("one");
        let fleet = fixed(&[replica.address]);
        let probe = self.probe();
        (Lb::launch(&[&flags(&fleet)[..], &OFTEN, &["--health", &probe], more].concat()), replica)
    }
}

#[test]
fn the_status_of_a_command_decides_and_its_first_line_is_the_reason() {
    let script = Script::new("exit 0");
    let (lb, _replica) = script.launch(&["--health-timeout", "20s"]);
    lb.wait_for_state(1, "up");
    script.says("echo; echo not today >&2; echo never; exit 3");
    lb.wait_for_state(1, "down");
    lb.wait_for_log("probe: the command exits with 3: not today");
    script.says("exit 0");
    lb.wait_for_state(1, "up");
    script.says("kill -9 $$");
    lb.wait_for_log("probe: the command is killed by signal 9");
    // More than a pipe holds.
    script.says("yes | head -c 300000; exit 0");
    lb.wait_for_state(1, "up");
    assert_eq!(lb.exchange(b"7\n"), b"one");
}

#[test]
fn a_command_knows_which_replica_it_is_about_and_no_secret() {
    let script = Script::new("env >seen.new; cat >>seen.new; mv seen.new seen; exit 0");
    let probe = script.probe();
    let replica = Replica::named("one");
    let fleet = fixed(&[replica.address]);
    let mut command = Lb::command(&[&flags(&fleet)[..], &OFTEN, &["--health", &probe]].concat());
    command.env("LB_CONTROL_TOKEN", "the-secret-of-this-test");
    let _lb = Lb::launch_as(command);
    let seen = eventually("what the command sees", || fs::read_to_string(script.path("seen")).ok());
    let address = replica.address;
    for expected in [format!("LB_HOST={}", address.ip()), format!("LB_PORT={}", address.port())] {
        assert!(seen.lines().any(|line| line == expected), "{expected}: {seen}");
    }
    let name = fleet.iter().find_map(|flag| flag.split_once('=')).unwrap().0;
    for variable in ["LB_SLOT", "LB_HOSTNAME"] {
        assert!(seen.lines().any(|line| line == format!("{variable}={name}")), "{variable}: {seen}");
    }
    assert!(!seen.contains("the-secret-of-this-test"), "{seen}");
}

#[test]
fn a_command_that_is_late_is_killed_with_all_that_it_has_started() {
    let script = Script::new("");
    let mark = format!("MARK={}", script.path("mark"));
    script.says(&format!("export {mark}; sh -c 'sleep 98765; true' & sh -c 'sleep 98765; true'"));
    let (lb, _replica) = script.launch(&["--health-timeout", "100ms"]);
    lb.wait_for_log("probe: no answer within 100ms");
    lb.wait_for_state(1, "down");
    let running = || processes_with(&mark);
    // One probe runs at a time: two shells with a program each.
    eventually("only the newest probe runs", || (1..=4).contains(&running().len()).then_some(()));
    drop(lb);
    eventually("nothing outlives lb", || running().is_empty().then_some(()));
}

#[test]
fn many_slow_commands_delay_nothing_and_few_run_at_a_time() {
    let script = Script::new("");
    let mark = format!("MARK={}", script.path("mark"));
    script.says(&format!("export {mark}; exec sleep 98765"));
    let listeners: Vec<TcpListener> = (0..26).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let (fleet, probe) = (fixed(&addresses), script.probe());
    let lb = Lb::launch(&[&flags(&fleet)[..], &["--health-timeout", "1s", "--health", &probe]].concat());
    lb.wait_for_log("probe: no answer within 1s");
    assert_eq!(lb.backends().len(), 26);
    let running = processes_with(&mark).len();
    assert!(running <= 16, "{running}");
}
