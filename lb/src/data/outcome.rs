//! How a connection ended, as one value for whatever counts or shows it. It acts on nothing, and names no client.

use std::fmt;
use std::num::NonZero;
use std::time::{Duration, Instant};

use super::relay::Traffic;
use crate::refusals::Reason;
use crate::replica::Ending;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It had reached a replica, and ended like this.
    Ended(Ending),
    /// It has reached no replica.
    Refused(Reason),
}

impl End {
    /// How it ended, and why it was refused, as programs read it.
    pub(super) fn names(&self) -> (&'static str, Option<&'static str>) {
        match self {
            End::Ended(ending) => (ending.name(), None),
            End::Refused(reason) => ("refused", Some(reason.name())),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Ended(ending) => write!(f, "{ending}"),
            End::Refused(reason) => write!(f, "refused: {reason}"),
        }
    }
}

/// A connection that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) end: End,
    /// From accept until it was known what the first line says; `None` if the connection ended before.
    pub(super) first_line: Option<Duration>,
    /// From there until a replica was reached, with all attempts; `None` if none was.
    pub(super) connect: Option<Duration>,
    /// From accept to the end.
    pub(super) total: Duration,
    /// How many replicas were tried, the last one included.
    pub(super) attempts: u32,
    /// The bytes each way between the client and the replica, those of the head included. (Of a connection that was handed over, nothing is known.)
    pub(super) traffic: Traffic,
}

/// How far a connection has come. It is small: each open connection has one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    begun: Instant,
    /// When the first line was known and when a replica was reached, after the beginning.
    known: Option<Lap>,
    reached: Option<Lap>,
    /// The number of the worker that serves it, from 0 on.
    worker: u16,
    attempts: u8,
    /// How many bytes the head had.
    head: u32,
}

/// A time since the beginning, in microseconds and one more. What takes longer counts as 71 minutes.
#[derive(Clone, Copy, Debug)]
struct Lap(NonZero<u32>);

impl Lap {
    fn since(begun: Instant) -> Self {
        let micros = u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX);
        Lap(NonZero::<u32>::MIN.saturating_add(micros))
    }

    fn time(self) -> Duration {
        Duration::from_micros((self.0.get() - 1).into())
    }
}

impl Course {
    /// A connection that this worker has just accepted.
    pub(super) fn begin(worker: u16) -> Self {
        Course { begun: Instant::now(), known: None, reached: None, worker, attempts: 0, head: 0 }
    }

    /// The number of the worker that serves it.
    pub(super) fn worker(&self) -> u16 {
        self.worker
    }

    /// When it was accepted.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// It is known what its first line says. `head` bytes were taken from it.
    pub(super) fn knows(&mut self, head: usize) {
        self.known = Some(Lap::since(self.begun));
        self.head = u32::try_from(head).unwrap_or(u32::MAX);
    }

    /// How many bytes were taken from it before a replica was chosen.
    pub(super) fn head(&self) -> usize {
        self.head as usize
    }

    /// It has reached a replica, after so many that failed.
    pub(super) fn reaches(&mut self, failed: usize) {
        self.reached = Some(Lap::since(self.begun));
        self.tried(failed.saturating_add(1));
    }

    /// So many replicas were tried.
    pub(super) fn tried(&mut self, attempts: usize) {
        self.attempts = u8::try_from(attempts).unwrap_or(u8::MAX);
    }

    /// How long the first line took.
    pub(super) fn first_line(&self) -> Option<Duration> {
        self.known.map(Lap::time)
    }

    /// How long it took from there to a replica.
    pub(super) fn connect(&self) -> Option<Duration> {
        Some(self.reached?.time().saturating_sub(self.known?.time()))
    }

    /// How long it has lasted.
    pub(super) fn total(&self) -> Duration {
        self.begun.elapsed()
    }

    /// It ends now, after this traffic.
    pub(super) fn end(&self, end: End, traffic: Traffic) -> Outcome {
        // Where no replica was reached, none has the head.
        let head = if self.reached.is_some() { self.head } else { 0 };
        Outcome {
            end,
            first_line: self.first_line(),
            connect: self.connect(),
            total: self.total(),
            attempts: self.attempts.into(),
            traffic: Traffic { up: traffic.up + u64::from(head), ..traffic },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_has_what_the_connection_came_to() {
        let mut course = Course::begin(0);
        let early = course.end(End::Refused(Reason::LeftEarly), Traffic::default());
        assert_eq!((early.first_line, early.connect, early.attempts), (None, None, 0));
        course.knows(7);
        course.tried(3);
        let refused = course.end(End::Refused(Reason::NoReplica), Traffic::default());
        assert!(refused.first_line.is_some());
        assert_eq!((refused.connect, refused.attempts, refused.traffic), (None, 3, Traffic::default()));
        course.reaches(2);
        let outcome = course.end(End::Ended(Ending::Complete), Traffic { up: 3, down: 5 });
        assert_eq!((outcome.traffic, outcome.attempts), (Traffic { up: 10, down: 5 }, 3));
        let parts = outcome.first_line.unwrap() + outcome.connect.unwrap();
        assert!(parts <= outcome.total, "{outcome:?}");
    }

    #[test]
    fn an_open_connection_keeps_little_of_it() {
        assert!(size_of::<Course>() <= 32, "{}", size_of::<Course>());
    }
}
