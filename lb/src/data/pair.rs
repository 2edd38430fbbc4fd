//! The two sockets of a session, and the system calls of each direction on them.
//!
//! A pair that is dropped before its relay has ended resets both connections, so that nothing that was cut looks complete. It never
//! decides when a relay ends.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::task::{Context, Poll};

use arc_swap::Guard;
use rustix::net::sockopt::{set_tcp_nodelay, set_tcp_quickack};
use tokio::task::yield_now;

use super::Plane;
use super::admission::{Late, Places, Source};
use super::flow::{Behind, Break, Ends, Flow};
use super::rules::Rules;
use super::socket::{is_dead, reset, write_some};
use super::source::{self, Reading, SCRATCH};
use super::splice::{self, Borrower, Pipe};
use super::stream::Stream;
use crate::replica::{Ending, Lease, Way};

/// The two connections of a session, and its hold on the replica. Both are reset if it is dropped before the relay has ended.
pub(super) struct Pair {
    client: Stream,
    replica: Stream,
    pub(super) lease: Lease,
    pub(super) plane: Arc<Plane>,
    /// What it got when it began, where connections are limited.
    pub(super) places: Option<Arc<Places>>,
    /// What limits count the client as.
    pub(super) source: Source,
    /// The number of the last error of a call, for the log. (The largest one is 4095.)
    error: AtomicU16,
    has_ended: AtomicBool,
}

impl Pair {
    /// A client that is connected to its replica.
    pub(super) fn new(
        (client, source): (Stream, Source),
        replica: Stream,
        lease: Lease,
        plane: Arc<Plane>,
        places: Option<Arc<Places>>,
    ) -> Self {
        let (error, has_ended) = (AtomicU16::new(0), AtomicBool::new(false));
        Pair { client, replica, lease, plane, places, source, error, has_ended }
    }

    /// The last error of a call.
    pub(super) fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(self.error.load(Relaxed).into())
    }

    /// Notes an error, and passes it on.
    pub(super) fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let number = error.raw_os_error().and_then(|number| u16::try_from(number).ok());
            self.error.store(number.unwrap_or(0), Relaxed);
        }
        result
    }

    /// Counts the connection where the rules that there are now count it, and those before did not. Returns these rules.
    pub(super) fn catch_up(&self, late: &mut Late) -> Guard<Arc<Rules>> {
        let rules = self.plane.rules.load();
        late.catch_up(self.places.as_deref(), rules.admission.as_ref(), self.source);
        rules
    }

    /// The relay has ended: dropping the pair closes what is still open, without a reset.
    pub(super) fn has_ended(&self) {
        self.has_ended.store(true, Relaxed);
    }

    pub(super) fn sockets(&self) -> [&Stream; 2] {
        [&self.client, &self.replica]
    }

    /// Resets both connections at once, whatever is pending.
    pub(super) fn cut(&self) {
        reset(&self.client);
        reset(&self.replica);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if !self.has_ended.load(Relaxed) {
            self.cut();
            self.lease.replica().counters.ended(Ending::Local);
        }
    }
}

/// Who borrows pipes for this client.
fn borrower(source: Source) -> Borrower {
    match source {
        Source::V4(address) => address,
        Source::V6(high, low) => high ^ low,
    }
}

/// The sockets of one direction, with the system calls on them.
pub(super) struct Sockets<'a> {
    pub(super) pair: &'a Pair,
    is_up: bool,
    /// Whether the replica's socket is already set up for more than one message in this direction.
    is_prompt: Cell<bool>,
}

pub(super) type Direction<'a> = Flow<Sockets<'a>>;

impl<'a> Sockets<'a> {
    pub(super) fn new(pair: &'a Pair, is_up: bool) -> Self {
        Sockets { pair, is_up, is_prompt: Cell::new(false) }
    }

    /// Sets the replica's socket up so that no message waits for an acknowledgement. The first message each way never waits, so
    /// most short connections need no such call.
    fn be_prompt(&self) {
        if self.is_prompt.replace(true) {
            return;
        }
        // If a call fails, the connection is slower but right.
        if self.is_up {
            // Nagle's algorithm here would hold back the bytes after the head.
            let _ = set_tcp_nodelay(&self.pair.replica, true);
        } else {
            // Nagle's algorithm there holds back a second write until the first is acknowledged. That would take 40 ms,
            // because the connection began with delayed acknowledgements.
            let _ = set_tcp_quickack(&self.pair.replica, true);
        }
    }

    pub(super) fn from(&self) -> &'a Stream {
        if self.is_up { &self.pair.client } else { &self.pair.replica }
    }

    pub(super) fn to(&self) -> &'a Stream {
        if self.is_up { &self.pair.replica } else { &self.pair.client }
    }
}

impl Ends for Sockets<'_> {
    type Pipe = Pipe;
    const STREAK: u32 = 2 * SCRATCH as u32;
    const AT_ONCE: u64 = 1024 * 1024;
    const SMALL_LOAN: usize = 48 * 1024;
    const PROVEN: u32 = 8 * 1024 * 1024;

    fn poll_source(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.from().poll_read_ready(cx)
    }

    fn poll_sink(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to().poll_write_ready(cx)
    }

    fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        pin!(yield_now()).poll(cx)
    }

    fn read(&self, take: impl FnOnce(&[u8], Behind)) -> io::Result<Option<usize>> {
        let take = |chunk: &[u8], behind| {
            if !self.is_up && behind == Behind::Unknown {
                self.be_prompt();
            }
            take(chunk, behind);
        };
        self.pair.note(source::Source::Watched(self.from()).read(Reading::TakeAndLookBehind, SCRATCH, take))
    }

    fn write(&self, bytes: &[u8], are_last: bool) -> io::Result<usize> {
        if self.is_up {
            self.be_prompt();
        }
        self.pair.note(write_some(self.to(), bytes, are_last))
    }

    fn fill(&self, most: usize) -> io::Result<Option<(Pipe, usize)>> {
        self.pair.note(self.pair.plane.pipes.fill(self.from(), most, borrower(self.pair.source)))
    }

    fn drain(&self, pipe: &Pipe, most: usize) -> io::Result<usize> {
        if self.is_up {
            self.be_prompt();
        }
        self.pair.note(splice::drain(pipe, self.to(), most))
    }

    fn copy_out(&self, pipe: &Pipe, left: usize) -> io::Result<Vec<u8>> {
        self.pair.note(splice::copy_out(pipe, left))
    }

    fn put_back(&self, pipe: Pipe) {
        splice::put_back(pipe);
    }

    fn count(&self, bytes: usize) {
        let way = if self.is_up { Way::Up } else { Way::Down };
        self.pair.lease.replica().counters.moved(way, bytes);
    }
}

impl Direction<'_> {
    /// Asks the kernel whether the connection that broke is gone. If it lives, the error was not its peer's.
    pub(super) fn judge(&self, end: Result<(), Break>) -> Result<(), Break> {
        let lost = match end {
            Err(Break::Source) => self.ends.from(),
            Err(Break::Sink) => self.ends.to(),
            Ok(()) | Err(Break::Local | Break::Idle) => return end,
        };
        if is_dead(lost) { end } else { Err(Break::Local) }
    }
}
