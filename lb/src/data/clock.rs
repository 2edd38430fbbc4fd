//! The time limits of a relay: how long it may be silent, how old it may get, how long a direction may keep a pipe, and when a call that
//! was interrupted is made again.
//!
//! A limit that is off costs nothing. One that is on costs no timer for each byte: the timer is set again only when it has run
//! out, or when something is due before it. Nothing here touches a socket.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::Limits;
use super::flow::{Break, Ends, Flow};
use super::socket::SOON;
use super::splice::LENT;

/// Why a relay has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// It was silent for too long.
    Idle,
    /// It is too old.
    Aged,
    /// A pipe could not be given back.
    Local,
}

/// The clock of a relay. (Boxed, because most relays have no limit, and no pipe.)
#[derive(Debug, Default)]
pub(super) struct Clock(Option<Box<Watch>>);

/// The limits, and what was seen of the directions at the last look.
#[derive(Debug)]
struct Watch {
    silence: Option<Duration>,
    end: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// The sum of what the directions call their progress, and when it was a new one.
    progress: (u32, Instant),
    /// The loan of each direction, and when it was a new one.
    loans: [Option<(u16, Instant)>; 2],
}

impl Clock {
    /// The limits of a relay that begins now.
    pub(super) fn new(limits: &Limits) -> Self {
        let (silence, age) = (limits.idle_timeout, limits.max_connection_age);
        let has_limit = silence.is_some() || age.is_some();
        Clock(has_limit.then(|| Box::new(Watch::new(silence, age))))
    }

    /// Only silence is limited.
    pub(super) fn of_silence(silence: Duration) -> Self {
        Clock(Some(Box::new(Watch::new(Some(silence), None))))
    }

    /// How long the relay may still last.
    pub(super) fn age_left(&self) -> Option<Duration> {
        let end = self.0.as_ref()?.end?;
        Some(end.saturating_duration_since(Instant::now()))
    }

    /// Takes pipes back that were lent for too long, and has the task run again soon after an interruption. Ready when a limit is reached.
    ///
    /// It has to be called after each poll of the directions, of which there are at most two.
    pub(super) fn poll<E: Ends>(&mut self, flows: &mut [Flow<E>], cx: &mut Context<'_>) -> Poll<Expired> {
        let is_idle = |flow: &Flow<E>| flow.loan().is_none() && !flow.is_interrupted();
        if self.0.is_none() && flows.iter().all(is_idle) {
            return Poll::Pending;
        }
        let watch = self.0.get_or_insert_with(|| Box::new(Watch::new(None, None)));
        loop {
            let now = Instant::now(); // no system call: vdso(7)
            watch.look(flows, now);
            let Ok(pipe) = watch.take_back(flows, now) else { return Poll::Ready(Expired::Local) };
            let silent = watch.silence.map(|silence| watch.progress.1 + silence);
            if watch.end.is_some_and(|end| end <= now) {
                return Poll::Ready(Expired::Aged);
            }
            if silent.is_some_and(|due| due <= now) {
                return Poll::Ready(Expired::Idle);
            }
            let again = flows.iter().any(Flow::is_interrupted).then(|| now + SOON);
            let Some(due) = [pipe, silent, watch.end, again].into_iter().flatten().min() else {
                return Poll::Pending;
            };
            if watch.poll_timer(due, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Watch {
    fn new(silence: Option<Duration>, age: Option<Duration>) -> Self {
        let now = Instant::now();
        Watch { silence, end: age.map(|age| now + age), timer: None, progress: (0, now), loans: [None; 2] }
    }

    /// Notes what is new.
    fn look<E: Ends>(&mut self, flows: &[Flow<E>], now: Instant) {
        let progress = progress(flows);
        if self.progress.0 != progress {
            self.progress = (progress, now);
        }
        for (seen, flow) in self.loans.iter_mut().zip(flows) {
            let loan = flow.loan();
            if seen.map(|(number, _)| number) != loan {
                *seen = loan.map(|number| (number, now));
            }
        }
    }

    /// Takes back the pipes that were lent for too long. Returns when the next one is due.
    fn take_back<E: Ends>(&mut self, flows: &mut [Flow<E>], now: Instant) -> Result<Option<Instant>, Break> {
        let mut next = None;
        for (seen, flow) in self.loans.iter_mut().zip(flows) {
            let Some((_, since)) = *seen else { continue };
            if since + LENT <= now {
                flow.give_back()?;
                *seen = None;
            } else {
                next = Some(next.map_or(since + LENT, |next: Instant| next.min(since + LENT)));
            }
        }
        Ok(next)
    }

    /// Waits at most until `due`. A timer that runs out earlier is left as it is: the next look sets it anew.
    fn poll_timer(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.is_elapsed() || due < timer.deadline() {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }
}

fn progress<E: Ends>(flows: &[Flow<E>]) -> u32 {
    flows.iter().fold(0, |sum, flow| sum.wrapping_add(flow.progress()))
}
