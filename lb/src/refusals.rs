//! Connections that are not served, or not to their end: counted by reason, and logged once a second at most for each reason.
//!
//! The data plane counts, and the control plane logs and shows the totals. Nothing here refuses a connection.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proto::control::Refused;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::net::QUIET;

/// Why a connection is not served, or not to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No replica can be had.
    NoReplica,
    /// All places are taken, or memory is short. The connection waits, and is served later.
    MaxConnections,
    /// Its source has as many connections as it may.
    PerSource,
    /// Its source makes connections faster than it may.
    Rate,
    /// Its address is not let in, or it comes from a proxy and does not begin with a right header.
    Denied,
    /// The client left before its first line was complete.
    LeftEarly,
    /// A system call failed for a reason of this machine. The connection was reset, early or late.
    Local,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::NoReplica => "no replica is available",
            Reason::MaxConnections => "all places are taken",
            Reason::PerSource => "its source has as many connections as it may",
            Reason::Rate => "its source connects faster than it may",
            Reason::Denied => "its address is not let in",
            Reason::LeftEarly => "the client left before its first line",
            Reason::Local => "local error",
        })
    }
}

impl Reason {
    const ALL: [Reason; 7] = [
        Reason::NoReplica,
        Reason::MaxConnections,
        Reason::PerSource,
        Reason::Rate,
        Reason::Denied,
        Reason::LeftEarly,
        Reason::Local,
    ];

    /// Its name, as programs read it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reason::NoReplica => "no_replica",
            Reason::MaxConnections => "max_connections",
            Reason::PerSource => "per_source",
            Reason::Rate => "rate",
            Reason::Denied => "denied",
            Reason::LeftEarly => "left_early",
            Reason::Local => "local",
        }
    }

    /// Logs how many connections were not served in the last second. (The others are logged where they happen.)
    fn log(self, connections: u64) {
        match self {
            Reason::NoReplica => {
                error!(clients = connections, "no replica is available: clients were turned away");
            }
            Reason::PerSource => warn!(connections, "reset: over --max-connections-per-source"),
            Reason::Rate => warn!(connections, "reset: over --rate-per-source"),
            Reason::Denied => {
                info!(connections, "reset: refused by --deny, --allow or --proxy-protocol-from");
            }
            Reason::MaxConnections | Reason::LeftEarly | Reason::Local => {}
        }
    }
}

/// The connections that were not served since `lb` started.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    totals: [AtomicU64; Reason::ALL.len()],
    more: Notify,
}

impl Refusals {
    /// Counts a connection.
    pub(crate) fn count(&self, reason: Reason) {
        self.totals[reason as usize].fetch_add(1, Relaxed);
        self.more.notify_one();
    }

    /// Logs them, until it is dropped.
    pub(crate) async fn report(&self) -> Infallible {
        let mut said = [0; Reason::ALL.len()];
        loop {
            self.more.notified().await;
            sleep(QUIET).await;
            self.news(&mut said).for_each(|(reason, connections)| reason.log(connections));
        }
    }

    /// The reasons with connections that were not `said` before, and how many these are.
    fn news<'a>(&'a self, said: &'a mut [u64]) -> impl Iterator<Item = (Reason, u64)> + 'a {
        Reason::ALL.into_iter().zip(said).filter_map(|(reason, said)| {
            let total = self.total(reason);
            let more = total - std::mem::replace(said, total);
            (more > 0).then_some((reason, more))
        })
    }

    fn total(&self, reason: Reason) -> u64 {
        self.totals[reason as usize].load(Relaxed)
    }

    /// The total of each reason.
    pub(crate) fn by_reason(&self) -> [(Reason, u64); 7] {
        Reason::ALL.map(|reason| (reason, self.total(reason)))
    }

    /// The totals.
    #[must_use]
    pub(crate) fn totals(&self) -> Refused {
        Refused {
            no_replica: self.total(Reason::NoReplica),
            max_connections: self.total(Reason::MaxConnections),
            per_source: self.total(Reason::PerSource),
            rate: self.total(Reason::Rate),
            denied: self.total(Reason::Denied),
            left_early: self.total(Reason::LeftEarly),
            local: self.total(Reason::Local),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn every_reason_has_a_place_of_its_own() {
        let places = Reason::ALL.map(|reason| reason as usize);
        assert!(places.into_iter().eq(0..Reason::ALL.len()));
    }

    #[test]
    fn each_connection_is_said_once_whatever_has_become_of_the_thread_that_counted_it() {
        let (refusals, mut said) = (Arc::new(Refusals::default()), [0; Reason::ALL.len()]);
        let count = |reason, times| {
            let refusals = Arc::clone(&refusals);
            thread::spawn(move || (0..times).for_each(|_| refusals.count(reason))).join().unwrap();
        };
        count(Reason::Rate, 3);
        assert_eq!(refusals.news(&mut said).collect::<Vec<_>>(), [(Reason::Rate, 3)]);
        assert_eq!(refusals.news(&mut said).count(), 0);
        count(Reason::Rate, 1);
        count(Reason::NoReplica, 2);
        let expected = [(Reason::NoReplica, 2), (Reason::Rate, 1)];
        assert_eq!(refusals.news(&mut said).collect::<Vec<_>>(), expected);
        assert_eq!((refusals.totals().rate, refusals.totals().no_replica), (4, 2));
    }
}
