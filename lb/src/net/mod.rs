//! Socket constants, addresses and error classes that both planes use.

mod accept;
mod addresses;
mod endpoint;
mod listen_address;
mod pause;

use std::convert::Infallible;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::warn;

pub(crate) use accept::Trouble;
pub(crate) use addresses::Addresses;
pub(crate) use endpoint::{Endpoint, no_answer_at_path};
pub(crate) use listen_address::ListenAddress;
pub(crate) use pause::Pause;

/// How long to watch a new connection that the peer may close at once.
pub(crate) const SECOND_THOUGHT: Duration = Duration::from_millis(50);
/// The shortest time between two log lines about the same shortage.
pub(crate) const QUIET: Duration = Duration::from_secs(1);

/// Whether a connect failed for a reason of this machine: a shortage of files, memory, epoll watches or ports, or a call that
/// may not be made. Such an error says nothing about the peer.
pub(crate) fn is_local(error: &io::Error) -> bool {
    let of_the_peer = [
        Errno::CONNREFUSED,
        Errno::CONNRESET,
        Errno::CONNABORTED,
        Errno::PIPE,
        Errno::TIMEDOUT,
        // What routers and hosts answer: icmp(7), and `icmp_err_convert` in Linux.
        Errno::HOSTUNREACH,
        Errno::HOSTDOWN,
        Errno::NETUNREACH,
        Errno::NETDOWN,
        Errno::NONET,
        Errno::NOPROTOOPT,
        Errno::OPNOTSUPP,
        Errno::MSGSIZE,
        Errno::PROTO,
        Errno::NOTCONN,
    ];
    Errno::from_io_error(error).is_some_and(|errno| !of_the_peer.contains(&errno))
}

/// Of two failed attempts to reach a server, at two of its addresses: the error that says more about the server.
pub(crate) fn more_telling(before: Option<io::Error>, error: io::Error) -> io::Error {
    before.filter(|before| !is_local(before) || is_local(&error)).unwrap_or(error)
}

/// Looks for a moment at the first byte from a peer, and fails if it closes the connection that it has just accepted.
pub(crate) async fn look_twice(
    first: impl Future<Output = io::Result<usize>>,
    moment: Duration,
) -> io::Result<()> {
    match timeout(moment, first).await {
        Ok(Ok(0)) => Err(io::Error::new(ErrorKind::ConnectionAborted, "the connection is closed at once")),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// Waits for a byte without taking it. Returns how many bytes there are, at most one; at the end, none.
pub(crate) async fn peek(stream: &UnixStream) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        let peek = || Ok(recv(stream, &mut [0; 1], RecvFlags::PEEK)?.1);
        match stream.try_io(Interest::READABLE, peek) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            peeked => return peeked,
        }
    }
}

/// Keeps a line that would be logged many times a second rare. It counts what it leaves out.
#[derive(Debug)]
pub(crate) struct Throttle {
    quiet: Duration,
    /// When the last line was logged, and how many were left out since.
    last: Mutex<(Option<Instant>, u64)>,
}

impl Throttle {
    /// At most one line in this time.
    pub(crate) fn every(quiet: Duration) -> Self {
        Throttle { quiet, last: Mutex::default() }
    }

    /// Asks for a line. `Some`: log it now; it stands for so many that were asked for, this one included.
    pub(crate) fn ask(&self) -> Option<u64> {
        self.ask_at(Instant::now())
    }

    fn ask_at(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock().ok()?;
        let (at, left_out) = &mut *last;
        *left_out += 1;
        if at.is_some_and(|at| now.saturating_duration_since(at) < self.quiet) {
            return None;
        }
        *at = Some(now);
        Some(std::mem::take(left_out))
    }
}

impl Default for Throttle {
    /// At most one line a second, as for every shortage.
    fn default() -> Self {
        Throttle::every(QUIET)
    }
}

/// Gathers what may happen many times a second, for one log line a second. Whatever is counted is said, also if the thread that counted
/// it is gone by then.
#[derive(Debug)]
pub(crate) struct Tally<T> {
    /// How many since the last line, and the last one.
    since: Mutex<(u64, Option<T>)>,
    more: Notify,
    total: AtomicU64,
}

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Tally { since: Mutex::new((0, None)), more: Notify::new(), total: AtomicU64::new(0) }
    }
}

impl<T> Tally<T> {
    pub(crate) fn count(&self, what: T) {
        self.count_all(1, what);
    }

    /// Counts so many at once.
    pub(crate) fn count_all(&self, count: u64, what: T) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = (since.0 + count, Some(what));
        self.total.fetch_add(count, Relaxed);
        self.more.notify_one();
    }

    /// How many there have been.
    #[must_use]
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Has each number and the last one of so many logged, the first at once, until this is dropped.
    pub(crate) async fn report(&self, log: impl Fn(u64, T)) -> Infallible {
        loop {
            self.more.notified().await;
            if let (count, Some(last)) = self.take() {
                log(count, last);
            }
            sleep(QUIET).await;
        }
    }

    fn take(&self) -> (u64, Option<T>) {
        std::mem::take(&mut *self.since.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Logs that connections cannot be accepted, once a second at most: a shortage shows many times a second.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Throttle);

impl Complaints {
    /// `most` is the limit that was reached, if it was one.
    pub(crate) fn complain(&self, port: &str, what: &dyn Display, most: Option<usize>) {
        if self.0.ask().is_some() {
            warn!(most, error = %what, "{port}: no new connections for the moment");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_logged_at_most_once_a_second_and_says_how_many_it_stands_for() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let due = [0, 1, 999, 1000, 1001, 1999, 2500]
            .map(|milliseconds| throttle.ask_at(start + Duration::from_millis(milliseconds)));
        assert_eq!(due, [Some(1), None, None, Some(3), None, None, Some(3)]);
    }

    #[test]
    fn a_tally_has_all_that_was_counted_since_the_last_look_and_the_last_one() {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=3).for_each(|number| tally.count(number)));
        });
        assert_eq!((tally.take(), tally.take()), ((3, Some(3)), (0, None)));
        tally.count(4);
        assert_eq!(tally.take(), (1, Some(4)));
    }

    #[test]
    fn only_what_the_peer_can_cause_is_held_against_it() {
        let local = |errno: Errno| is_local(&errno.into());
        for errno in [Errno::CONNREFUSED, Errno::TIMEDOUT, Errno::HOSTUNREACH, Errno::CONNRESET, Errno::PIPE]
        {
            assert!(!local(errno), "{errno}");
        }
        for errno in [Errno::MFILE, Errno::NOBUFS, Errno::NOMEM, Errno::NOSPC, Errno::ADDRNOTAVAIL, Errno::IO]
        {
            assert!(local(errno), "{errno}");
        }
        assert!(!is_local(&io::Error::new(ErrorKind::TimedOut, "no answer")));
    }
}
