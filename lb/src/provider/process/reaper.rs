//! Takes the exit statuses of processes that `lb` has inherited, so that none of them stays as a zombie.
//!
//! As the first process of a PID namespace (in a container of its own) `lb` becomes the parent of every process whose own parent has
//! ended (pid_namespaces(7)). The statuses of its own children are left to those who wait for them.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use rustix::process::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// The pause before the next look, when a child of our own has ended whose status was not taken yet.
const PAUSE: Duration = Duration::from_millis(20);

/// The children that `lb` has started and waits for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Children(Arc<Mutex<HashSet<i32>>>);

impl Children {
    /// Notes a child, until the mark is dropped. There must be no await between its start and this call.
    pub(super) fn mark(&self, child: Pid) -> Mark {
        let id = child.as_raw_nonzero().get();
        self.lock().insert(id);
        Mark { id, children: self.clone() }
    }

    fn has(&self, id: i32) -> bool {
        self.lock().contains(&id)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<i32>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a child is our own.
#[derive(Debug)]
pub(super) struct Mark {
    id: i32,
    children: Children,
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.children.lock().remove(&self.id);
    }
}

/// Reaps every child that is not among `children`, for ever. Run it on the thread that starts them.
///
/// # Errors
/// SIGCHLD cannot be watched.
pub(crate) fn reap(children: Children) -> io::Result<impl Future<Output = ()>> {
    // From here on SIGCHLD has a handler. If it was ignored, the kernel would keep no status of any child (wait(2)).
    let mut ended = signal(SignalKind::child())?;
    Ok(async move {
        loop {
            while let Some(id) = ended_child() {
                if children.has(id.as_raw()) {
                    // It may hide others. Its status is about to be taken.
                    sleep(PAUSE).await;
                } else {
                    // It fails only if it has been taken meanwhile.
                    let _ = waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
                }
            }
            ended.recv().await;
        }
    })
}

/// A child that has ended, if there is one. It stays a zombie.
fn ended_child() -> Option<nix::unistd::Pid> {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, look).ok()?.pid()
}
