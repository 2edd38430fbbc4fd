//! A worker as it is seen outside its thread: whether it accepts, and its listening sockets, which outlive the thread.
//!
//! It starts nothing and decides nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::binding::At;

/// What is known of a worker outside its thread.
#[derive(Debug)]
pub(crate) struct Worker {
    /// From 1 on, as in the name of its thread.
    pub(super) number: usize,
    /// Where it listens. Every worker has the same addresses.
    pub(super) gates: Vec<Gate>,
    is_blocked: AtomicBool,
    beats: AtomicU64,
    /// Notified with each beat.
    pulse: Notify,
}

/// An address at which a worker listens.
#[derive(Debug)]
pub(super) struct Gate {
    /// Where it is bound; `None`: at a Unix socket.
    pub(super) at: Option<At>,
    /// Its listening socket; `None` once it is closed for good.
    listener: Mutex<Option<Arc<TcpListener>>>,
    accepts: AtomicBool,
    /// Whether its listener does not work, or its thread has failed.
    is_down: AtomicBool,
}

impl Worker {
    /// The worker of this number, which has not been started, with a listening socket for each address.
    ///
    /// # Errors
    /// A socket is not bound.
    pub(crate) fn new(number: usize, listeners: Vec<TcpListener>) -> io::Result<Self> {
        Ok(Worker {
            number,
            gates: listeners.into_iter().map(Gate::new).collect::<io::Result<_>>()?,
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
        self.gates.iter().any(|gate| gate.accepts.load(Relaxed)) && !self.is_blocked.load(Relaxed)
    }

    /// Notes that its thread has failed.
    pub(super) fn set_down(&self) {
        self.gates.iter().for_each(Gate::set_down);
    }

    /// Whether it can do nothing: it is blocked, its thread has failed, or none of its listeners works.
    pub(super) fn is_dead(&self) -> bool {
        self.gates.iter().all(|gate| gate.is_down.load(Relaxed)) || self.is_blocked.load(Relaxed)
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

    /// Its listening sockets, each with the address where it is bound (`None`: a Unix socket).
    pub(super) fn listeners(&self) -> impl Iterator<Item = (Option<SocketAddr>, Arc<TcpListener>)> {
        self.gates.iter().filter_map(|gate| Some((gate.at.map(|at| at.address), gate.listener()?)))
    }

    /// Closes all listening sockets for good; returns them.
    pub(super) fn close(&self) -> impl Iterator<Item = (&Gate, Arc<TcpListener>)> {
        self.gates.iter().filter_map(|gate| {
            gate.set_accepts(false);
            Some((gate, gate.replace_listener(None)?))
        })
    }
}

impl Gate {
    fn new(listener: TcpListener) -> io::Result<Self> {
        Ok(Gate {
            at: At::of(&listener)?,
            listener: Mutex::new(Some(Arc::new(listener))),
            accepts: AtomicBool::new(false),
            is_down: AtomicBool::new(false),
        })
    }

    /// Notes whether connections are accepted here. If not, there is no room for one, or the end has come.
    pub(super) fn set_accepts(&self, accepts: bool) {
        self.accepts.store(accepts, Relaxed);
        self.is_down.store(false, Relaxed);
    }

    /// Notes that its listener does not work, or that the thread has failed.
    pub(super) fn set_down(&self) {
        self.accepts.store(false, Relaxed);
        self.is_down.store(true, Relaxed);
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
