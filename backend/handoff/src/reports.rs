//! Which connections of one `lb` are open here, and which of the closed ones it does not know of yet.
//!
//! Whoever closes a connection never waits for `lb`: it leaves a number, and a task sends it. The numbers are bounded,
//! because nothing is received from an `lb` that has [`MOST_UNREPORTED`] of them to read first.

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

/// How long a number waits for others. That none is open any more is no reason to hurry: with short connections it happens all
/// the time.
const PATIENCE: Duration = Duration::from_millis(10);
/// How long nothing is received after a connection was lost for want of a descriptor.
const SHORTAGE: Duration = Duration::from_secs(1);
/// How many numbers wait at most before nothing more is received. (128 KiB.)
const MOST_UNREPORTED: usize = 16 * 1024;

/// How many connections are open, handed over by any `lb` or not, and how many may be.
#[derive(Debug)]
pub(crate) struct Room {
    open: AtomicUsize,
    most: usize,
    /// There was no descriptor for the last one, whatever `most` says: until when none is received.
    short: Mutex<Option<Instant>>,
    /// There may be room again.
    pub(crate) freed: Notify,
}

impl Room {
    pub(crate) fn new(most: usize) -> Self {
        Room { open: AtomicUsize::new(0), most, short: Mutex::default(), freed: Notify::new() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.short().is_some() || self.open.load(SeqCst) >= self.most
    }

    /// Descriptors are short: there is no room until a connection is closed, or for a while.
    pub(crate) fn set_short(&self) {
        *self.short() = Some(Instant::now() + SHORTAGE);
    }

    /// Waits until a shortage has passed, if there is one.
    pub(crate) async fn recovered(&self) {
        let until = *self.short();
        match until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
        *self.short() = None;
    }

    fn short(&self) -> MutexGuard<'_, Option<Instant>> {
        // Nobody can panic while it is locked.
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

/// The connections of one `lb`.
#[derive(Debug)]
pub(crate) struct Reports {
    room: Arc<Room>,
    state: Mutex<State>,
    /// There may be something to send, or an end.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    /// Closed, and not reported.
    closed: Vec<u64>,
    /// No connection will be added.
    is_stopped: bool,
    /// `lb` is gone: there is nobody to report to.
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

    /// Whether so much is unreported that no more should be received.
    pub(crate) fn are_full(&self) -> bool {
        self.state().closed.len() >= MOST_UNREPORTED
    }

    /// No connection will be added: the last report is the end.
    pub(crate) fn stop(&self) {
        self.state().is_stopped = true;
        self.changed.notify_one();
    }

    /// There is nobody to report to.
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
        // The first one begins the wait, and what is due ends it.
        let has_news = state.closed.len() == 1 || state.are_due();
        drop(state);
        if has_news {
            self.changed.notify_one();
        }
        self.room.leave();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nobody can panic while it is locked; and if somebody did, the numbers would be as they were.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports what is closed to `lb`, until it is gone, or until the last connection after [`Reports::stop`].
    pub(crate) async fn send_all(self: Arc<Self>, lb: Arc<UnixStream>) {
        while self.wait_for(|state| !state.closed.is_empty()).await {
            let deadline = Instant::now() + PATIENCE;
            let _ = timeout_at(deadline, self.wait_for(State::are_due)).await;
            if self.send(&lb).await.is_err() {
                self.end();
            }
        }
    }

    /// Waits for a state. `false`: nothing will ever be sent again.
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

    /// Sends what there is, as soon as `lb` has room for it.
    async fn send(&self, lb: &UnixStream) -> io::Result<()> {
        let numbers: Vec<u64> = self.state().closed.iter().copied().take(MOST_CLOSED).collect();
        let Some(message) = encode_closed(&numbers) else { return Ok(()) };
        let send = || Ok(socket::send(lb, &message, None)?);
        let sent = tokio::select! {
            sent = lb.async_io(Interest::WRITABLE, send) => sent,
            _ = self.wait_for(|_| false) => return Ok(()),
        };
        match sent.as_ref().err().and_then(Errno::from_io_error) {
            // Nobody says when the kernel has memory again.
            Some(Errno::NOBUFS | Errno::NOMEM) => sleep(PATIENCE).await,
            _ => self.sent(sent.map(|()| numbers.len())?),
        }
        Ok(())
    }

    /// The first `count` numbers are reported. (Others are only ever added behind them.)
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

/// A connection that is open. To drop this is to say that it is closed: there is room for another one, and if it was handed
/// over, `lb` is told.
#[derive(Debug)]
#[must_use = "to drop it is to say that the connection is closed"]
pub struct Open(Counted);

#[derive(Debug)]
enum Counted {
    HandedOver(u64, Arc<Reports>),
    Accepted(Arc<Room>),
}

impl Open {
    /// One that was not handed over.
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
