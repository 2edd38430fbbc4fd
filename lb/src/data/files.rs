//! Divides the limit of open files: how many sessions it allows, so that probes, replicas and the control port keep theirs.

use std::fmt::Display;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::net::Complaints;

/// Open files of the process itself: standard streams, signals, the runtimes of the control plane.
const PROCESS: usize = 16;
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
    /// Raises the limit of open files as far as allowed, and divides it. Pipes get a share only if `splices`; `others` are for
    /// the rest of the process.
    #[must_use]
    pub(crate) fn of_this_process(workers: usize, spares: usize, splices: bool, others: usize) -> Self {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // A refusal leaves the limit as it was; it is read next.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| files as usize);
        let budget = FileBudget::new(limit, workers, spares, splices);
        FileBudget { reserved: budget.reserved + others, ..budget }
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

    /// Logs a shortage of files, at most once a second for all workers together. `most` is the limit that was reached, if it was one.
    pub(super) fn complain(&self, what: &dyn Display, most: Option<usize>) {
        self.complaints.complain("data port", what, most);
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
        assert_eq!(FileBudget::new(64, 2, 0, false).sessions(3), 7);
        assert_eq!(FileBudget::new(64, 2, 1, false).sessions(3), 4);
        assert_eq!(FileBudget::new(20_000, 2, 0, false).sessions(3), 9_849);
    }

    #[test]
    fn pipes_get_a_small_share() {
        let shares = |limit, splices| {
            let files = FileBudget::new(limit, 2, 0, splices);
            (files.pipes(), files.sessions(3))
        };
        assert_eq!(shares(64, true), (0, 7));
        assert_eq!(shares(20_000, false), (0, 9_849));
        assert_eq!(shares(1_280, true).0, 10);
        assert_eq!(shares(20_000, true), (128, 9_849 - 128));
    }

    #[test]
    fn one_session_is_always_allowed() {
        assert_eq!(FileBudget::new(8, 2, 0, true).sessions(1000), 1);
    }
}
