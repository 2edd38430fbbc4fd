//! How many sessions the limit of open files allows, so that probes, replicas and the control port keep theirs.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Open files of the process itself: standard streams, runtimes, listeners, and a few for control connections.
const PROCESS: usize = 20;
/// Open files of one worker: its listener and its runtime.
const PER_WORKER: usize = 4;
/// Open files of one replica: its process, its output, its probe.
const PER_SLOT: usize = 4;
/// Open files of one session: the client's connection and the replica's.
const PER_SESSION: usize = 2;
/// The least time between two log lines about the same shortage.
const QUIET: Duration = Duration::from_secs(1);

/// The share of the file limit that sessions may use.
#[derive(Debug)]
pub struct FileBudget {
    limit: usize,
    reserved: usize,
    last_complaint: Mutex<Option<Instant>>,
}

impl FileBudget {
    /// Raises the limit of open files as far as allowed, and divides it.
    #[must_use]
    pub fn of_this_process(workers: usize) -> Self {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // To be refused leaves the limit as it was, and that one is read next.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| files as usize);
        FileBudget { limit, reserved: PROCESS + PER_WORKER * workers, last_complaint: Mutex::new(None) }
    }

    /// How many sessions there may be at once beside `slots` slots; never none.
    #[must_use]
    pub fn sessions(&self, slots: usize) -> usize {
        let reserved = self.reserved + PER_SLOT * slots;
        (self.limit.saturating_sub(reserved) / PER_SESSION).max(1)
    }

    /// Logs that files are short, at most once a second over all workers.
    pub(super) fn complain(&self, what: &dyn std::fmt::Display) {
        let Ok(mut last) = self.last_complaint.lock() else { return };
        if last.is_none_or(|at| at.elapsed() >= QUIET) {
            *last = Some(Instant::now());
            warn!("no new connections for the moment: {what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limit: usize) -> FileBudget {
        FileBudget { limit, reserved: PROCESS + PER_WORKER * 2, last_complaint: Mutex::new(None) }
    }

    #[test]
    fn sessions_leave_files_for_everything_else() {
        assert_eq!(budget(64).sessions(3), 12);
        assert_eq!(budget(20_000).sessions(3), 9_980);
    }

    #[test]
    fn one_session_is_always_allowed() {
        assert_eq!(budget(8).sessions(1000), 1);
    }
}
