//! Stalled sockets: those with bytes that their peer does not take, because it keeps its receive window closed.
//!
//! The kernel ends such a connection when `TCP_USER_TIMEOUT` is over, even if the peer answers every window probe
//! (`tcp_probe_timer` in Linux). So the kernel is asked now and then which sockets are stalled, and while a peer answers, the
//! time of its socket is prolonged. A peer that has vanished answers nothing: nothing prolongs the time, and the kernel ends the
//! connection when it is over.
//!
//! The control plane's runtime looks ([`watch`]), and [`Ledger`] decides, purely. Only a session touches its sockets
//! ([`Ear::heed`]). A session costs no timer and no system call for this, unless some socket is stalled for long. Sessions are called in the
//! same way when a limit was switched on that counts them from then on ([`Stalls::call`]).

mod kernel;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::future::poll_fn;
use std::num::NonZero;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::fs::fstat;
use rustix::net::sockopt::{set_tcp_user_timeout, tcp_user_timeout};
use slab::Slab;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::stream::Stream;
use kernel::Stalled;

/// How many looks there are in the time after which a peer counts as gone.
const LOOKS: u32 = 8;
/// A peer that has acknowledged something within so many looks answers.
const FRESH: u32 = 3;
/// It gets the time of so many looks more. The kernel sends the next probe before that is over
/// (`tcp_clamp_probe0_to_user_timeout`). So a peer that vanishes is gone after `FRESH + GRANTED + 1` looks.
const GRANTED: u32 = 4;

/// How many sessions are woken while no other can begin or end.
const AT_ONCE: usize = 256;

/// What sessions are told of stalled sockets.
#[derive(Debug, Default)]
pub(crate) struct Stalls {
    /// How long a peer may acknowledge nothing; `None`: nothing limits it.
    limit: Option<Duration>,
    news: ArcSwap<News>,
    /// A number that is another one for each news.
    number: AtomicU32,
    /// The tasks of all sessions. The lock is held for a few instructions, and never across a system call of a session.
    tasks: Mutex<Slab<Waker>>,
}

/// What a look has shown, by the inode of each socket.
#[derive(Debug, Default, PartialEq, Eq)]
struct News {
    /// The sockets that are stalled.
    stalled: HashSet<u32>,
    /// The new `TCP_USER_TIMEOUT` of some sockets.
    times: HashMap<u32, Duration>,
}

impl Stalls {
    /// For sockets with this `TCP_USER_TIMEOUT`.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Stalls { limit, ..Stalls::default() }
    }

    fn tell(&self, news: News) {
        let has_times = !news.times.is_empty();
        self.news.store(Arc::new(news));
        if has_times {
            self.call();
        }
    }

    /// Has every session look at what is new: here, and in the rules.
    pub(super) fn call(&self) {
        self.number.fetch_add(1, Release);
        let mut next = 0;
        loop {
            let tasks = self.lock();
            (next..next + AT_ONCE).filter_map(|at| tasks.get(at)).for_each(Waker::wake_by_ref);
            next += AT_ONCE;
            if tasks.capacity() <= next {
                return;
            }
        }
    }

    /// Whether this socket was stalled at the last look. If so, the kernel ends it when its peer vanishes.
    pub(super) fn is_stalled(&self, socket: &Stream) -> bool {
        inode(socket).is_some_and(|inode| self.news.load().stalled.contains(&inode))
    }

    /// Sets the new time of this socket, if there is one. A socket without such a time stays as it is.
    fn prolong(&self, socket: &Stream) {
        let time = inode(socket).and_then(|inode| self.news.load().times.get(&inode).copied());
        if let Some(time) = time
            && tcp_user_timeout(socket).is_ok_and(|before| before > 0)
        {
            // If it fails, the old time goes on.
            let _ = set_tcp_user_timeout(socket, u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Waker>> {
        // No code panics while it holds the lock.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number by which the kernel knows a socket.
fn inode(socket: &Stream) -> Option<u32> {
    fstat(socket).ok().map(|stat| stat.st_ino as u32)
}

/// How a session hears the news. It has to [leave](Ear::leave) at its end.
#[derive(Debug)]
pub(super) struct Ear {
    /// Where the session's task is among those of all sessions; one more than that.
    place: Option<NonZero<u32>>,
    /// The news that it has heard.
    number: u32,
}

impl Ear {
    pub(super) fn new(stalls: &Stalls) -> Self {
        Ear { place: None, number: stalls.number.load(Acquire) }
    }

    /// Does what there is to do for these sockets, and returns whether there is news. It has to be called by one task, each time that the
    /// task runs.
    pub(super) fn heed(&mut self, stalls: &Stalls, sockets: [&Stream; 2], cx: &Context<'_>) -> bool {
        let is_new = self.place.is_none();
        if is_new {
            let place = stalls.lock().insert(cx.waker().clone());
            self.place = NonZero::new(place as u32 + 1);
        }
        let number = stalls.number.load(Acquire);
        let has_news = std::mem::replace(&mut self.number, number) != number;
        if has_news && !is_new {
            sockets.into_iter().for_each(|socket| stalls.prolong(socket));
        }
        has_news
    }

    /// Does so for ever. `hear` is called when there is news.
    pub(super) async fn heed_on(
        &mut self,
        stalls: &Stalls,
        sockets: [&Stream; 2],
        mut hear: impl FnMut(),
    ) -> Infallible {
        poll_fn(|cx| {
            if self.heed(stalls, sockets, cx) {
                hear();
            }
            Poll::Pending
        })
        .await
    }

    /// The session has ended.
    pub(super) fn leave(&mut self, stalls: &Stalls) {
        if let Some(place) = self.place.take() {
            stalls.lock().try_remove(place.get() as usize - 1);
        }
    }
}

/// Looks for stalled sockets again and again, and tells the sessions. It never ends, unless nothing limits them.
pub(crate) async fn watch(stalls: &Stalls, sessions: &TaskTracker) {
    let Some(limit) = stalls.limit else { return };
    let (mut ledger, mut is_blind) = (Ledger::new(limit, Instant::now()), false);
    let mut period = interval(limit / LOOKS);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let now = Instant::now();
        if sessions.is_empty() {
            ledger.judge(now, &[]);
            continue;
        }
        let answer = spawn_blocking(kernel::stalled).await.map_err(std::io::Error::from).flatten();
        match &answer {
            Ok(stalled) => stalls.tell(ledger.judge(now, stalled)),
            Err(error) if !is_blind => warn!(
                ack_timeout = limit.as_secs_f64(), %error,
                "data port: the kernel does not say which peers answer: one that keeps its window closed for longer than \
                 --ack-timeout is reset"
            ),
            Err(_) => {}
        }
        if is_blind && answer.is_ok() {
            info!("data port: the kernel says again which peers answer");
        }
        is_blind = answer.is_err();
    }
}

/// Since when which sockets are stalled.
#[derive(Debug)]
struct Ledger {
    limit: Duration,
    stalled: HashMap<u32, Stall>,
    /// When the last look was.
    last: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Stall {
    /// The last look at which it was not stalled. What the kernel measures began later.
    since: Instant,
    is_prolonged: bool,
}

impl Ledger {
    fn new(limit: Duration, now: Instant) -> Self {
        Ledger { limit, stalled: HashMap::new(), last: now }
    }

    /// Takes down what a look has shown. Another time is for sockets of stalled peers that answer, and for those that are stalled no
    /// more.
    fn judge(&mut self, now: Instant, seen: &[Stalled]) -> News {
        let look = self.limit / LOOKS;
        let before = std::mem::take(&mut self.stalled);
        let prolonged = before.iter().filter(|(_, stall)| stall.is_prolonged);
        let mut times: HashMap<u32, Duration> = prolonged.map(|(&inode, _)| (inode, self.limit)).collect();
        for Stalled { inode, silence } in seen {
            times.remove(inode);
            let new = Stall { since: self.last, is_prolonged: false };
            let mut stall = before.get(inode).copied().unwrap_or(new);
            let time = now - stall.since + look * GRANTED;
            if *silence <= look * FRESH && time > self.limit {
                stall.is_prolonged = true;
                times.insert(*inode, time);
            }
            self.stalled.insert(*inode, stall);
        }
        self.last = now;
        News { stalled: self.stalled.keys().copied().collect(), times }
    }
}

#[cfg(test)]
mod tests;
