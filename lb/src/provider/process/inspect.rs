//! What the kernel shows of the processes of one replica: whether they are stopped, and whether another user has taken their port.

use rustix::process::{Pid, geteuid, test_kill_process_group};
use tokio::task::spawn_blocking;
use tracing::warn;

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
            let listeners = Listener::at(self.port).unwrap_or_default();
            let members = Process::of_group(self.group);
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

    /// Checks that what listens at its port is the replica, and not a process of another user that was faster.
    ///
    /// A listener is the replica's if a process of its group holds it, or if it belongs to a user as which `lb` or the group runs: a
    /// server may leave its group (a daemon, a container), and such a user could harm the replica in many other ways. What the kernel
    /// does not show is not held against the replica; the log says so.
    ///
    /// # Errors
    /// Another user has the port; who.
    pub(crate) async fn check_owner(self) -> Result<(), String> {
        let look = move || {
            let us = geteuid().as_raw();
            let listeners = Listener::at(self.port).unwrap_or_else(|error| {
                warn!(port = self.port, %error, "it cannot be checked who listens at the port of a replica");
                Vec::new()
            });
            let strangers: Vec<Listener> =
                listeners.into_iter().filter(|listener| listener.user != us).collect();
            if strangers.is_empty() {
                return None;
            }
            let members = Process::of_group(self.group);
            let is_ours = |listener: &Listener| {
                let has_it = |member: &Process| {
                    member.user() == Some(listener.user) || member.holds(std::slice::from_ref(listener))
                };
                members.iter().any(has_it)
            };
            strangers.into_iter().find(|listener| !is_ours(listener))
        };
        match spawn_blocking(look).await.ok().flatten() {
            None => Ok(()),
            Some(Listener { user, .. }) => {
                Err(format!("a process of another user (uid {user}) listens at port {}", self.port))
            }
        }
    }
}

/// Whether a process of this group runs. One that has ended counts as gone, although its parent may never take its status.
pub(super) async fn runs(group: Pid) -> bool {
    // The kernel's answer counts what has ended, too; looking at all processes takes longer.
    test_kill_process_group(group).is_ok()
        && spawn_blocking(move || !Process::of_group(group).is_empty()).await.unwrap_or(false)
}
