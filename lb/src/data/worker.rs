//! A worker as it is seen outside its thread: whether it accepts, and its listening socket, which outlives the thread.
//!
//! It starts nothing and decides nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// What is known of a worker outside its thread.
#[derive(Debug)]
pub(crate) struct Worker {
    /// From 1 on, as in the name of its thread.
    pub(super) number: usize,
    /// The address of every worker's listener.
    pub(super) address: SocketAddr,
    /// Its listening socket; `None` once it is closed for good.
    listener: Mutex<Option<Arc<TcpListener>>>,
    accepts: AtomicBool,
    /// Whether its listener does not work, or its thread has failed.
    is_down: AtomicBool,
    is_blocked: AtomicBool,
    beats: AtomicU64,
    /// Notified with each beat.
    pulse: Notify,
}

impl Worker {
    /// The worker of this number, which has not been started.
    ///
    /// # Errors
    /// The socket is not bound.
    pub(crate) fn new(number: usize, listener: TcpListener) -> io::Result<Self> {
        Ok(Worker {
            number,
            address: listener.local_addr()?,
            listener: Mutex::new(Some(Arc::new(listener))),
            accepts: AtomicBool::new(false),
            is_down: AtomicBool::new(false),
            is_blocked: AtomicBool::new(false),
            beats: AtomicU64::new(0),
            pulse: Notify::new(),
        })
    }

    /// Its number from 0 on, as metrics have it.
    pub(super) fn at(&self) -> u16 {
        u16::try_from(self.number.saturating_sub(1)).unwrap_or(u16::MAX)
    }

    /// Whether a new client would be accepted now.
    pub(super) fn accepts(&self) -> bool {
        self.accepts.load(Relaxed) && !self.is_blocked.load(Relaxed)
    }

    /// Notes whether it accepts connections. If not, there is no room for one, or the end has come.
    pub(super) fn set_accepts(&self, accepts: bool) {
        self.accepts.store(accepts, Relaxed);
        self.is_down.store(false, Relaxed);
    }

    /// Notes that its listener does not work, or that its thread has failed.
    pub(super) fn set_down(&self) {
        self.accepts.store(false, Relaxed);
        self.is_down.store(true, Relaxed);
    }

    /// Whether it can do nothing: it is blocked, its thread has failed, or its listener does not work.
    pub(super) fn is_dead(&self) -> bool {
        self.is_down.load(Relaxed) || self.is_blocked.load(Relaxed)
    }

    /// Notes that its thread runs.
    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Relaxed);
        self.pulse.notify_waiters();
    }

    /// Waits for the next beat.
    pub(super) fn pulse(&self) -> Notified<'_> {
        self.pulse.notified()
    }

    /// How often its thread has run.
    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Relaxed)
    }

    /// Notes whether its thread is blocked; returns what was known.
    pub(super) fn set_blocked(&self, is_blocked: bool) -> bool {
        self.is_blocked.swap(is_blocked, Relaxed)
    }

    /// Its listening socket, unless that is closed for good.
    pub(super) fn listener(&self) -> Option<Arc<TcpListener>> {
        self.lock().clone()
    }

    /// Puts another listening socket in the place of its own, or closes it for good; returns its own.
    pub(super) fn replace_listener(&self, other: Option<TcpListener>) -> Option<Arc<TcpListener>> {
        std::mem::replace(&mut self.lock(), other.map(Arc::new))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<TcpListener>>> {
        // No code panics while it holds the lock.
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
