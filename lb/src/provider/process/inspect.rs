//! What the kernel shows of the processes of one replica: whether they are stopped.

use rustix::process::Pid;
use tokio::task::spawn_blocking;

use crate::provider::proc::{Listener, Process};

/// The process group of a replica, and the port of 127.0.0.1 at which it was told to listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inspector {
    pub(super) group: Pid,
    pub(super) port: u16,
}

impl Inspector {
    /// Whether the replica is stopped (SIGSTOP). The child may be a shell that waits for the server, so the processes that hold
    /// the listening socket count: each of them has to be stopped. If none is found, the child counts.
    pub(crate) async fn is_stopped(self) -> bool {
        let look = move || {
            let (listeners, members) = (Listener::at(self.port), Process::of_group(self.group));
            let holders: Vec<&Process> = members.iter().filter(|process| process.holds(&listeners)).collect();
            if holders.is_empty() {
                let leader = self.group.as_raw_nonzero().get();
                members.iter().any(|process| process.id == leader && process.is_stopped)
            } else {
                holders.iter().all(|process| process.is_stopped)
            }
        };
        spawn_blocking(look).await.unwrap_or(false)
    }
}
