//! Network namespaces that a test makes for itself.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::harness::Lb;

/// A network namespace, removed when it is dropped.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    /// `None` where it cannot be made, unless `CI` is set.
    pub(crate) fn make(name: &str) -> Option<Namespace> {
        let name = format!("lb-test-{}-{name}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        if !made.as_ref().is_ok_and(|made| made.status.success()) {
            assert!(std::env::var_os("CI").is_none(), "no network namespace can be made: {made:?}");
            eprintln!("skipped: no network namespace can be made here (it takes root, and iproute2)");
            return None;
        }
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        Some(Namespace { name })
    }

    /// Runs `work` on a thread in this namespace.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&File::open(format!("/run/netns/{}", self.name)).unwrap(), work)
    }

    /// `lb serve` in this namespace, with its replicas in rotation.
    pub(crate) fn launch(&self, flags: &[&str]) -> Lb {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, env!("CARGO_BIN_EXE_lb"), "serve"]).args(flags);
        let lb = Lb::launch_as(command);
        lb.wait_for_log("ready data=");
        lb
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Runs `work` on a thread in this network namespace.
pub(crate) fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> T {
    let inside = || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(inside).join().unwrap())
}

/// Runs ip(8).
#[track_caller]
pub(crate) fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).output().unwrap();
    assert!(done.status.success(), "ip {arguments:?}: {done:?}");
}
