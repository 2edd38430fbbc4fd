//! The relay: moves bytes both ways until both directions have ended.
//!
//! What it promises:
//!
//! - Every byte arrives in order. A FIN is passed on after the last byte (with it, if both were there), and the other
//!   direction stays open (half-close).
//! - A reset is passed on as a reset, after every byte that came before it: nothing that was cut looks complete.
//! - If this machine fails (a call has an error although both connections live), both are reset at once. The same happens if
//!   the session is dropped before its end.
//! - A slow reader slows its writer: at most [`SCRATCH`](super::source::SCRATCH) bytes, or one pipe, are pending in each direction.
//! - An idle connection holds no buffer and no pipe: a worker's connections share one scratch buffer and some pipes, and a
//!   direction keeps only what could not be written at once.
//! - A busy connection lets the others on its worker have a turn.
//!
//! [`Flow`] is one direction, and [`Clock`] is what time limits there are; this module decides what becomes of the other
//! direction when one has ended. It never looks at the bytes.

use std::future::{self, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::time::sleep;

use super::admission::Late;
use super::clock::{Clock, Expired};
use super::flow::{Break, Flow};
use super::pair::{Direction, Pair, Sockets};
use super::socket::{all_sent, reset};
use super::source::discard;
use super::stalls::Ear;
use super::stream::Stream;
use crate::replica::Ending;

/// How long a reset waits for a slow reader of the bytes before it.
const LINGER: Duration = Duration::from_secs(300);
/// How long a reset waits after a FIN.
const LINGER_BEHIND_FIN: Duration = Duration::from_secs(5);

/// How many bytes were moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// From the client to the replica.
    pub(super) up: u64,
    /// From the replica to the client.
    pub(super) down: u64,
}

/// Relays until both directions have ended, a time limit is reached, or the session is evicted. The caller drops the pair then.
///
/// `unsent` was read from the client before and goes first. It is not counted.
pub(super) fn run(pair: &Pair, unsent: Vec<u8>) -> impl Future<Output = (Ending, Traffic)> + Send {
    // An open connection should be small, so the future keeps only what is made of the arguments.
    let flows =
        [Flow::new(Sockets::new(pair, true), unsent), Flow::new(Sockets::new(pair, false), Vec::new())];
    // Before the look at the rules, so that it hears of those that come after the look.
    let (ear, mut late) = (Ear::new(&pair.plane.stalls), Late::default());
    let clock = Clock::new(&pair.catch_up(&mut late).limits);
    let mut relay = Relay { flows, clock, ear, late };
    async move {
        let ending = tokio::select! {
            ending = relay.run() => ending,
            () = pair.lease.evicted() => Ending::Evicted,
        };
        if matches!(ending, Ending::Idle | Ending::Aged | Ending::Evicted | Ending::Local) {
            pair.cut();
        }
        pair.has_ended();
        let [up, down] = relay.flows.each_ref().map(|flow| flow.moved);
        (ending, Traffic { up, down })
    }
}

/// A relay that runs.
struct Relay<'a> {
    /// Up and down.
    flows: [Direction<'a>; 2],
    clock: Clock,
    ear: Ear,
    late: Late,
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        self.ear.leave(&self.flows[0].ends.pair.plane.stalls);
    }
}

impl Relay<'_> {
    /// Relays until both directions have ended, or a time limit is reached.
    async fn run(&mut self) -> Ending {
        match poll_fn(|cx| self.poll(cx)).await {
            // Boxed, because this future is large, and an open connection should be small.
            Ok((first, end)) => Box::pin(self.conclude(first, end)).await,
            Err(expired) => expired.into(),
        }
    }

    /// Polls both directions; ready with the first one that ends, or when a time limit is reached.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<FirstEnd, Expired>> {
        let pair = self.flows[0].ends.pair;
        if self.ear.heed(&pair.plane.stalls, pair.sockets(), cx) {
            drop(pair.catch_up(&mut self.late));
        }
        // A busy direction may use up the budget of the task. Either may go first, so neither can starve the other.
        let first = usize::from(fastrand::bool());
        for at in [first, 1 - first] {
            if let Poll::Ready(end) = self.flows[at].poll(cx) {
                return Poll::Ready(Ok((at, end)));
            }
        }
        self.clock.poll(&mut self.flows, cx).map(Err)
    }

    /// Brings the relay to its end after one direction came to its own.
    async fn conclude(&mut self, first: usize, end: Result<(), Break>) -> Ending {
        let [up, down] = &mut self.flows;
        let (first, other, endings) = match first {
            0 => (up, down, [Ending::ClientReset, Ending::ReplicaReset]),
            _ => (down, up, [Ending::ReplicaReset, Ending::ClientReset]),
        };
        let age_left = self.clock.age_left();
        let aged = async {
            match age_left {
                Some(left) => sleep(left).await,
                None => future::pending().await,
            }
        };
        let pair = first.ends.pair;
        let silence = pair.plane.rules.load().limits.half_close_timeout;
        let late = &mut self.late;
        let catch_up = || drop(pair.catch_up(late));
        tokio::select! {
            never = self.ear.heed_on(&pair.plane.stalls, pair.sockets(), catch_up) => match never {},
            end = conclude(end, first, other, silence) => ending(end, endings),
            () = aged => Ending::Aged,
        }
    }
}

impl From<Expired> for Ending {
    fn from(expired: Expired) -> Self {
        match expired {
            Expired::Idle => Ending::Idle,
            Expired::Aged => Ending::Aged,
            Expired::Local => Ending::Local,
        }
    }
}

/// A direction, by its number, and how it ended.
type FirstEnd = (usize, Result<(), Break>);

/// Brings the `other` direction to its end after the first one came to `end`.
///
/// The break that it returns is seen from the first direction: its source and its sink.
async fn conclude(
    end: Result<(), Break>,
    first: &mut Direction<'_>,
    other: &mut Direction<'_>,
    silence: Duration,
) -> Result<(), Break> {
    let end = first.judge(end.and_then(|()| pass_fin(first)));
    match end {
        Ok(()) => return conclude_half_closed(other, silence).await,
        Err(Break::Source) => reset_after(future::ready(()), first.ends.to()).await,
        Err(Break::Local | Break::Idle) => {}
        Err(Break::Sink) => {
            // What the lost side sent before its reset can still be read, up to the error or what looks like an end.
            let to = other.ends.to();
            other.pass_no_end();
            reset_after(rest(other), to).await;
        }
    }
    end
}

/// Moves what is left in a direction whose source is lost.
async fn rest(flow: &mut Direction<'_>) {
    let mut clock = Clock::default();
    poll_fn(|cx| match flow.poll(cx) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => clock.poll(std::slice::from_mut(&mut *flow), cx).map(|_| ()),
    })
    .await;
}

/// Like [`conclude`], after a FIN was passed on. The sink of `other` is the source of the first direction.
async fn conclude_half_closed(other: &mut Direction<'_>, silence: Duration) -> Result<(), Break> {
    let end = half_closed(other, silence).await;
    match other.judge(end) {
        Ok(()) => Ok(()),
        Err(Break::Source) => {
            reset_after(future::ready(()), other.ends.to()).await;
            Err(Break::Sink)
        }
        Err(Break::Sink) => {
            reset_after_fin(other.ends.from()).await;
            Err(Break::Source)
        }
        Err(end @ (Break::Local | Break::Idle)) => Err(end),
    }
}

/// Runs the direction that is left after the other one ended with a FIN. It may be silent for so long: its other end may have
/// vanished without a word. A peer that does not take its bytes is not silent: if it vanishes, the kernel notices.
async fn half_closed(flow: &mut Direction<'_>, silence: Duration) -> Result<(), Break> {
    let mut clock = Clock::of_silence(silence);
    // Nothing is read any more from the side that sent its FIN, so its reset shows only as an error of the socket.
    let mut lost = pin!(flow.ends.to().ready(Interest::ERROR));
    poll_fn(|cx| {
        if let Poll::Ready(end) = flow.poll(cx) {
            return Poll::Ready(end);
        }
        if lost.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Break::Sink));
        }
        let pair = flow.ends.pair;
        let flow = std::slice::from_mut(&mut *flow);
        loop {
            match ready!(clock.poll(flow, cx)) {
                Expired::Local => return Poll::Ready(Err(Break::Local)),
                Expired::Idle | Expired::Aged => {}
            }
            if !pair.sockets().into_iter().any(|socket| pair.plane.stalls.is_stalled(socket)) {
                return Poll::Ready(Err(Break::Idle));
            }
            clock = Clock::of_silence(silence);
        }
    })
    .await
}

/// The ending of a session whose first direction ran from `source` to `sink`.
fn ending(result: Result<(), Break>, [source, sink]: [Ending; 2]) -> Ending {
    match result {
        Ok(()) => Ending::Complete,
        Err(Break::Source) => source,
        Err(Break::Sink) => sink,
        Err(Break::Local) => Ending::Local,
        Err(Break::Idle) => Ending::Idle,
    }
}

fn pass_fin(flow: &Direction<'_>) -> Result<(), Break> {
    let passed = shutdown(flow.ends.to(), Shutdown::Write).map_err(io::Error::from);
    // A failure is judged by whether the connection lives.
    flow.ends.pair.note(passed).map_err(|_| Break::Sink)
}

/// Resets a connection after the `rest` is written to it and the kernel has sent every byte: a reset throws away what is
/// still in the send buffer.
///
/// Some peers read only after they have sent everything. Their bytes are of no use now, but reading them lets the peers go on.
async fn reset_after(rest: impl Future, stream: &Stream) {
    let delivered = async {
        rest.await;
        let _ = all_sent(stream).await;
    };
    let swallowed = async {
        discard(stream, LINGER).await;
        future::pending::<()>().await;
    };
    tokio::select! {
        () = delivered => {}
        () = swallowed => {}
        () = sleep(LINGER) => {}
    }
    reset(stream);
}

/// Resets a connection on which a FIN was sent. No call tells whether the FIN has arrived, so it gets some time.
async fn reset_after_fin(stream: &Stream) {
    discard(stream, LINGER_BEHIND_FIN).await;
    reset(stream);
}

#[cfg(test)]
mod tests;
