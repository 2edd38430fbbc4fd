//! Shares the cores and open files of this host among the programs of a comparison.
//!
//! A proxy has one core and the load generator the other, so that the generator never slows a proxy down. Replicas share a
//! core with the generator, or with the proxy. Nothing is started here.

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::args::Beside;
use crate::stand::pin;

/// Open files of a program besides connections.
const OTHER_FILES: usize = 200;
/// The maximum number of connections that a proxy is configured for.
const SESSIONS: usize = 6000;

/// Which program runs on which core. With only one core nothing is pinned.
#[derive(Debug)]
pub(super) struct Cores {
    pub(super) proxy: Option<usize>,
    pub(super) load: Option<usize>,
    pub(super) replicas: Option<usize>,
    allowed: CpuSet,
}

impl Cores {
    /// The first two cores that this process may use; the replicas share a core with `beside`.
    pub(super) fn find(beside: Beside) -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None).context("cannot list the cores of this process")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let (proxy, load) = (cores.next(), cores.next());
        let proxy = load.and(proxy);
        let replicas = match beside {
            Beside::Load => load,
            Beside::Proxy => proxy,
        };
        Ok(Cores { proxy, load, replicas, allowed })
    }

    /// Pins this thread, and the threads that it starts from now on, to the core of the load.
    pub(super) fn pin_load(&self) -> anyhow::Result<Pinned> {
        if let Some(core) = self.load {
            pin(core)?;
        }
        Ok(Pinned(self.allowed))
    }

    /// The core of proxies, as a part of a sentence.
    pub(super) fn pinning(&self) -> String {
        on(self.proxy)
    }

    /// The core of replicas, as a part of a sentence.
    pub(super) fn pinning_of_replicas(&self) -> String {
        on(self.replicas)
    }
}

fn on(core: Option<usize>) -> String {
    core.map_or_else(|| ", not pinned".to_owned(), |core| format!(" on core {core}"))
}

/// Keeps this thread pinned until it is dropped.
#[derive(Debug)]
pub(super) struct Pinned(CpuSet);

impl Drop for Pinned {
    fn drop(&mut self) {
        // If this fails, later work is slower and still right.
        let _ = sched_setaffinity(None, &self.0);
    }
}

/// The number of connections for which a proxy has enough files: two files each, and haproxy wants a pipe for every fourth.
pub(super) fn sessions(files: usize) -> usize {
    (files.saturating_sub(OTHER_FILES) / 5 * 2).clamp(1, SESSIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_into_the_limit_of_files() {
        assert_eq!(sessions(20_000), 6000);
        assert_eq!(sessions(1024), 328);
        assert_eq!(sessions(100), 1);
        assert_eq!(sessions(usize::MAX), 6000);
    }

    #[test]
    fn proxies_and_their_load_have_different_cores_or_none_of_their_own() {
        let cores = Cores::find(Beside::Load).unwrap();
        assert_eq!(cores.proxy.is_some(), cores.load.is_some());
        assert!(cores.proxy.is_none() || cores.proxy != cores.load);
        assert_eq!(cores.replicas, cores.load);
        assert_eq!(Cores::find(Beside::Proxy).unwrap().replicas, cores.proxy);
    }

    #[test]
    fn a_thread_is_pinned_only_for_a_while() {
        let cores = Cores::find(Beside::Load).unwrap();
        let count = || sched_getaffinity(None).unwrap().count();
        let before = count();
        let pinned = cores.pin_load().unwrap();
        assert_eq!(count(), if cores.load.is_some() { 1 } else { before });
        drop(pinned);
        assert_eq!(count(), before);
    }
}
