//! The first process of a container, seen from outside: the kernel tells its end within a millisecond
//! (pidfd_open(2)), the engine after some thirty to seventy.
//!
//! That works where `lb` and the engine see the same processes, which is to say not in a container, and not with an
//! engine elsewhere. The engine's event stays the rule.

use std::fs;
use std::os::fd::OwnedFd;

use bollard::models::ContainerInspectResponse;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process that runs, or has ended.
pub(super) struct MainProcess(AsyncFd<OwnedFd>);

impl MainProcess {
    /// The first process of the container with this id, if it is one of this machine.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for the sake of types that may close their file; this one owns it"
    )]
    pub(super) fn of(inspected: &ContainerInspectResponse, id: &str) -> Option<Self> {
        let number = inspected.state.as_ref()?.pid.and_then(|pid| i32::try_from(pid).ok())?;
        let process = pidfd_open(Pid::from_raw(number)?, PidfdFlags::NONBLOCK).ok()?;
        // Only now, so that it is about the process that was opened: the number may mean another one here.
        let groups = fs::read_to_string(format!("/proc/{number}/cgroup")).ok()?;
        let is_it = groups.contains(id);
        is_it.then(|| AsyncFd::with_interest(process, Interest::READABLE).ok().map(MainProcess)).flatten()
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        // It becomes readable then. If it cannot be waited for, the engine tells it a little later.
        if self.0.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
