//! Divides the limit of open files: how many sessions it allows, so that probes, replicas and the control port keep theirs.

use std::fmt::Display;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::net::Complaints;

/// Open files of the process itself: standard streams, signals, the control plane's runtime and listener.
const PROCESS: usize = 14;
/// Open files of one worker: its listener, its runtime, and one connection that waits for room.
const PER_WORKER: usize = 6;
/// Open files of one replica or spare: its process, its standard streams, its probe, and the link to it.
const PER_REPLICA: usize = 6;
/// Open files of one session: the connections to the client and to the replica.
const PER_SESSION: usize = 2;
/// Open files of one pipe: its two ends.
const PER_PIPE: usize = 2;
/// One pipe for this many files: where files are short, connections need them more.
const FILES_FOR_A_PIPE: usize = 128;
/// The most pipes for each worker. A full one holds a mebibyte of kernel memory.
const PIPES: usize = 64;

/// The share of the file limit that sessions may use.
#[derive(Debug)]
pub(crate) struct FileBudget {
    limit: usize,
    reserved: usize,
    pipes: usize,
    complaints: Complaints,
}

impl FileBudget {
    /// Raises the limit of open files as far as allowed, and divides it. Pipes get a share only if `splices`.
    #[must_use]
    pub(crate) fn of_this_process(workers: usize, spares: usize, splices: bool) -> Self {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // A refusal leaves the limit as it was; it is read next.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| files as usize);
        FileBudget::new(limit, workers, spares, splices)
    }

    fn new(limit: usize, workers: usize, spares: usize, splices: bool) -> Self {
        let pipes = if splices { (limit / FILES_FOR_A_PIPE).min(PIPES * workers) } else { 0 };
        let reserved = PROCESS
            + PER_WORKER * workers
            + PER_REPLICA * spares
            + PER_PIPE * pipes
            + control_connections(limit);
        FileBudget { limit, reserved, pipes, complaints: Complaints::default() }
    }

    /// The most pipes at once.
    #[must_use]
    pub(crate) fn pipes(&self) -> usize {
        self.pipes
    }

    /// The most connections of the control port at once.
    #[must_use]
    pub(crate) fn control_connections(&self) -> usize {
        control_connections(self.limit)
    }

    /// The most sessions at once beside `slots` slots, at least one.
    #[must_use]
    pub(crate) fn sessions(&self, slots: usize) -> usize {
        let reserved = self.reserved + PER_REPLICA * slots;
        (self.limit.saturating_sub(reserved) / PER_SESSION).max(1)
    }

    /// Logs a shortage of files, at most once a second for all workers together.
    pub(super) fn complain(&self, what: &dyn Display) {
        self.complaints.complain("data port", what);
    }
}

fn control_connections(limit: usize) -> usize {
    (limit / 16).clamp(4, 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_leave_files_for_everything_else() {
        assert_eq!(FileBudget::new(64, 2, 0, false).sessions(3), 8);
        assert_eq!(FileBudget::new(64, 2, 1, false).sessions(3), 5);
        assert_eq!(FileBudget::new(20_000, 2, 0, false).sessions(3), 9_850);
    }

    #[test]
    fn pipes_get_a_small_share() {
        let shares = |limit, splices| {
            let files = FileBudget::new(limit, 2, 0, splices);
            (files.pipes(), files.sessions(3))
        };
        assert_eq!(shares(64, true), (0, 8));
        assert_eq!(shares(20_000, false), (0, 9_850));
        assert_eq!(shares(1_280, true).0, 10);
        assert_eq!(shares(20_000, true), (128, 9_850 - 128));
    }

    #[test]
    fn one_session_is_always_allowed() {
        assert_eq!(FileBudget::new(8, 2, 0, true).sessions(1000), 1);
    }
}
