//! The open connections of one `lb`, and the closed ones that have not been reported to it yet.
//!
//! Closing a connection never waits for `lb`: it records the connection's number, and a task sends the report. The list is
//! bounded: once [`MOST_UNREPORTED`] numbers wait, nothing more is received from that `lb`.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::protocol::{MOST_CLOSED, encode_closed};
use crate::socket;

/// How long a closed connection waits to be reported together with others, even if none is open any more: with short
/// connections that happens all the time, and each report wakes `lb`.
const PATIENCE: Duration = Duration::from_millis(10);
/// How long nothing is received after a connection was lost for lack of a file descriptor.
const SHORTAGE: Duration = Duration::from_secs(1);
/// The most unreported numbers (128 KiB); beyond it nothing more is received.
const MOST_UNREPORTED: usize = 16 * 1024;

/// Counts the open connections of the process, handed over or accepted, against their limit.
#[derive(Debug)]
pub(crate) struct Room {
    open: AtomicUsize,
    most: usize,
    /// Set when the process ran out of file descriptors: nothing is received before this time.
    short: Mutex<Option<Instant>>,
    /// Notified when there may be room again.
    pub(crate) freed: Notify,
}

impl Room {
    pub(crate) fn new(most: usize) -> Self {
        Room { open: AtomicUsize::new(0), most, short: Mutex::default(), freed: Notify::new() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.short().is_some() || self.open.load(SeqCst) >= self.most
    }

    /// Records a shortage of file descriptors: there is no room until a connection closes or [`SHORTAGE`] has passed.
    pub(crate) fn set_short(&self) {
        *self.short() = Some(Instant::now() + SHORTAGE);
    }

    /// Completes when a shortage has passed; never if there is none.
    pub(crate) async fn recovered(&self) {
        let until = *self.short();
        match until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
        *self.short() = None;
    }

    fn short(&self) -> MutexGuard<'_, Option<Instant>> {
        // No code panics while it holds the lock.
        self.short.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) {
        self.open.fetch_add(1, SeqCst);
    }

    fn leave(&self) {
        let was_short = self.short().take().is_some();
        if self.open.fetch_sub(1, SeqCst) >= self.most || was_short {
            self.freed.notify_one();
        }
    }
}

/// The open and the unreported connections of one `lb`.
#[derive(Debug)]
pub(crate) struct Reports {
    room: Arc<Room>,
    state: Mutex<State>,
    /// Notified when there may be something to send, or when the reports end.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    /// The numbers of closed connections that are not reported yet.
    closed: Vec<u64>,
    /// No connection will be added any more.
    is_stopped: bool,
    /// `lb` is gone: no report can be sent.
    is_over: bool,
}

impl State {
    fn are_due(&self) -> bool {
        let is_the_last = self.is_stopped && self.open == 0;
        !self.closed.is_empty() && (is_the_last || self.closed.len() >= MOST_CLOSED)
    }
}

impl Reports {
    pub(crate) fn new(room: Arc<Room>) -> Self {
        Reports { room, state: Mutex::default(), changed: Notify::new() }
    }

    /// Counts a connection as open until its [`Open`] is dropped.
    pub(crate) fn open(self: &Arc<Self>, number: u64) -> Open {
        self.state().open += 1;
        self.room.enter();
        Open(Counted::HandedOver(number, Arc::clone(self)))
    }

    /// Whether too much is unreported to receive more.
    pub(crate) fn are_full(&self) -> bool {
        self.state().closed.len() >= MOST_UNREPORTED
    }

    /// Declares that no connection will be added: the reports end with the last open one.
    pub(crate) fn stop(&self) {
        self.state().is_stopped = true;
        self.changed.notify_one();
    }

    /// Drops all reports, because `lb` is gone.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        (state.is_over, state.closed) = (true, Vec::new());
        drop(state);
        self.changed.notify_one();
        self.room.freed.notify_one();
    }

    fn close(&self, number: u64) {
        let mut state = self.state();
        state.open -= 1;
        if !state.is_over {
            state.closed.push(number);
        }
        // The first number starts the wait for others; a full batch ends it.
        let has_news = state.closed.len() == 1 || state.are_due();
        drop(state);
        if has_news {
            self.changed.notify_one();
        }
        self.room.leave();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and no invariant spans a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports closed connections to `lb`, until it is gone, or until the last connection after [`Reports::stop`].
    pub(crate) async fn send_all(self: Arc<Self>, lb: Arc<UnixStream>) {
        while self.wait_for(|state| !state.closed.is_empty()).await {
            let deadline = Instant::now() + PATIENCE;
            let _ = timeout_at(deadline, self.wait_for(State::are_due)).await;
            if self.send(&lb).await.is_err() {
                self.end();
            }
        }
    }

    /// Waits until the state satisfies `is_there`. Returns `false` when nothing will be sent any more.
    async fn wait_for(&self, is_there: impl Fn(&State) -> bool) -> bool {
        loop {
            {
                let state = self.state();
                if state.is_over || state.is_stopped && state.open == 0 && state.closed.is_empty() {
                    return false;
                }
                if is_there(&state) {
                    return true;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Sends one batch as soon as `lb` has room for it.
    async fn send(&self, lb: &UnixStream) -> io::Result<()> {
        let numbers: Vec<u64> = self.state().closed.iter().copied().take(MOST_CLOSED).collect();
        let Some(message) = encode_closed(&numbers) else { return Ok(()) };
        let send = || Ok(socket::send(lb, &message, None)?);
        let sent = tokio::select! {
            sent = lb.async_io(Interest::WRITABLE, send) => sent,
            _ = self.wait_for(|_| false) => return Ok(()),
        };
        match sent.as_ref().err().and_then(Errno::from_io_error) {
            // No event tells when the kernel has memory again.
            Some(Errno::NOBUFS | Errno::NOMEM) => sleep(PATIENCE).await,
            _ => self.sent(sent.map(|()| numbers.len())?),
        }
        Ok(())
    }

    /// Removes the first `count` numbers after they were sent. New numbers are only appended.
    fn sent(&self, count: usize) {
        let mut state = self.state();
        let were_full = state.closed.len() >= MOST_UNREPORTED;
        let count = count.min(state.closed.len());
        drop(state.closed.drain(..count));
        drop(state);
        if were_full {
            self.room.freed.notify_one();
        }
    }
}

/// The guard of an open connection. Dropping it reports the connection as closed: that frees its place, and `lb` is told
/// if the connection was handed over.
#[derive(Debug)]
#[must_use = "dropping it reports the connection as closed"]
pub struct Open(Counted);

#[derive(Debug)]
enum Counted {
    HandedOver(u64, Arc<Reports>),
    Accepted(Arc<Room>),
}

impl Open {
    /// The guard of a connection that this process accepted itself.
    pub(crate) fn accepted(room: Arc<Room>) -> Self {
        room.enter();
        Open(Counted::Accepted(room))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        match &self.0 {
            Counted::HandedOver(number, reports) => reports.close(*number),
            Counted::Accepted(room) => room.leave(),
        }
    }
}
