//! Socket constants, addresses and error classes that both planes use.

mod addresses;

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

pub(crate) use addresses::Addresses;

/// The idle time after which the kernel sends keepalive probes to a peer (tcp(7), `TCP_KEEPIDLE`).
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long to watch a new connection that the peer may close at once.
pub(crate) const SECOND_THOUGHT: Duration = Duration::from_millis(50);
/// The shortest time between two log lines about the same shortage.
const QUIET: Duration = Duration::from_secs(1);

/// Whether a connect failed because of a local shortage: files, memory, epoll watches or ports. Such an error says nothing about the peer.
pub(crate) fn is_local(error: &io::Error) -> bool {
    let local = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::NOSPC, // no epoll watch is left: epoll_ctl(2)
        Errno::ADDRNOTAVAIL,
        Errno::ADDRINUSE,
    ];
    Errno::from_io_error(error).is_some_and(|errno| local.contains(&errno))
}

/// Of two failed attempts to reach a server, at two of its addresses: the error that says more about the server.
pub(crate) fn more_telling(before: Option<io::Error>, error: io::Error) -> io::Error {
    before.filter(|before| !is_local(before) || is_local(&error)).unwrap_or(error)
}

/// Waits for a moment, and fails if the peer closes the connection that it has just accepted.
pub(crate) async fn look_twice(stream: &TcpStream, moment: Duration) -> io::Result<()> {
    match timeout(moment, stream.peek(&mut [0])).await {
        Ok(Ok(0)) => Err(io::Error::new(ErrorKind::ConnectionAborted, "the connection is closed at once")),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// Logs that connections cannot be accepted, once a second at most: a shortage shows many times a second.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Seldom);

impl Complaints {
    pub(crate) fn complain(&self, port: &str, what: &dyn Display) {
        if self.0.is_due(Instant::now()) {
            warn!("{port}: no new connections for the moment: {what}");
        }
    }
}

/// Logs errors, once a second at most.
#[derive(Debug, Default)]
pub(crate) struct Errors(Seldom);

impl Errors {
    /// Returns whether it was logged.
    pub(crate) fn say(&self, what: &dyn Display) -> bool {
        let is_due = self.0.is_due(Instant::now());
        if is_due {
            error!("{what}");
        }
        is_due
    }
}

/// Lets one line in a second through.
#[derive(Debug, Default)]
struct Seldom {
    last: Mutex<Option<Instant>>,
}

impl Seldom {
    fn is_due(&self, now: Instant) -> bool {
        let Ok(mut last) = self.last.lock() else { return false };
        let is_due = last.is_none_or(|at| now.saturating_duration_since(at) >= QUIET);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

/// Counts what may happen many times a second, for one log line a second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<AtomicU64>);

impl Tally {
    /// Counts one. `report` gets the number of a second, at its end. Call it on a runtime.
    pub(crate) fn count(&self, report: fn(u64)) {
        if self.0.fetch_add(1, Relaxed) == 0 {
            let count = Arc::clone(&self.0);
            tokio::spawn(async move {
                sleep(QUIET).await;
                report(count.swap(0, Relaxed));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_logged_at_most_once_a_second() {
        let (complaints, start) = (Seldom::default(), Instant::now());
        let due = [0, 1, 999, 1000, 1001, 1999, 2500]
            .map(|milliseconds| complaints.is_due(start + Duration::from_millis(milliseconds)));
        assert_eq!(due, [true, false, false, true, false, false, true]);
    }
}
