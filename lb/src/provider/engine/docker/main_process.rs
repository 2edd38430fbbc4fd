//! The main process of a container, watched through the kernel: a pidfd (pidfd_open(2)) reports its end within a millisecond, the
//! engine after 30 to 70.
//!
//! This works only if `lb` sees the engine's processes: not in a container, and not with a remote engine. Keepers
//! also listen to the engine's events.

use std::fs;
use std::os::fd::OwnedFd;

use bollard::models::ContainerInspectResponse;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::provider::proc::Process;

/// A pidfd of a process that runs or has ended.
pub(super) struct MainProcess(AsyncFd<OwnedFd>);

impl MainProcess {
    /// The main process of the container with this id; `None` if it is not a process of this machine.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, because some types may close their file; this one owns it"
    )]
    pub(super) fn of(inspected: &ContainerInspectResponse, id: &str) -> Option<Self> {
        let number = number(inspected)?;
        let process = pidfd_open(Pid::from_raw(number)?, PidfdFlags::NONBLOCK).ok()?;
        // Checked after the pidfd is open.
        is_of(number, id)
            .then(|| AsyncFd::with_interest(process, Interest::READABLE).ok().map(MainProcess))
            .flatten()
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        // A pidfd becomes readable at the end. If waiting fails, the engine reports the end a little later.
        if self.0.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whether the main process of the container with this id is a process of this machine, and stopped by a signal.
pub(super) fn is_stopped(inspected: &ContainerInspectResponse, id: &str) -> bool {
    let process = number(inspected).and_then(Process::read);
    process.is_some_and(|process| process.is_stopped && is_of(process.id, id))
}

fn number(inspected: &ContainerInspectResponse) -> Option<i32> {
    inspected.state.as_ref()?.pid.and_then(|pid| i32::try_from(pid).ok())
}

/// Whether this process runs in the container with this id: its number may belong to another process on this machine.
fn is_of(number: i32, id: &str) -> bool {
    fs::read_to_string(format!("/proc/{number}/cgroup")).is_ok_and(|groups| groups.contains(id))
}
