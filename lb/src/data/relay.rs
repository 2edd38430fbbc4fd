//! The relay: moves bytes both ways until both directions have ended.
//!
//! What it promises:
//!
//! - Every byte arrives in order. A FIN is passed on after the last byte (with it, if both were there), and the other
//!   direction stays open (half-close).
//! - A reset is passed on as a reset, after every byte that came before it: nothing that was cut looks complete.
//! - A slow reader slows its writer: at most [`SCRATCH`] bytes, or one pipe, are pending in each direction.
//! - An idle connection holds no buffer and no pipe: a worker's connections share one scratch buffer and some pipes, and a
//!   direction keeps only what could not be written at once.
//! - A busy connection lets the others on its worker have a turn.
//!
//! [`Flow`] is one direction; this module decides what becomes of the other direction when one has ended. It never looks at
//! the bytes, and sets no limit to how long a connection that is open both ways may be silent.

use std::cell::Cell;
use std::fmt;
use std::future::{self, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt::set_tcp_quickack;
use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::flow::{Behind, Break, Ends, Flow};
use super::socket::{all_sent, reset, write_some};
use super::source::{Reading, SCRATCH, Source, discard};
use super::splice::{self, Pipe, Pipes};
use crate::replica::Lease;

/// How long a half-closed connection may be silent: its other end may have vanished without a word.
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(600);
/// How long a reset waits for a slow reader of the bytes before it.
const LINGER: Duration = Duration::from_secs(300);
/// How long a reset waits after a FIN.
const LINGER_BEHIND_FIN: Duration = Duration::from_secs(5);

/// How many bytes were moved.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// From the client to the replica.
    pub(super) up: u64,
    /// From the replica to the client.
    pub(super) down: u64,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both directions came to their end.
    Complete,
    /// The client reset the connection.
    ClientReset,
    /// The replica reset the connection.
    ReplicaReset,
    /// One direction had ended, and the other was silent for too long.
    Idle,
    /// The replica was stopped before the session ended.
    Evicted,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Complete => "complete",
            Ending::ClientReset => "reset by the client",
            Ending::ReplicaReset => "reset by the replica",
            Ending::Idle => "half-closed and idle",
            Ending::Evicted => "evicted",
        })
    }
}

/// The two connections of a session, and its hold on the replica.
pub(super) struct Pair {
    pub(super) client: TcpStream,
    pub(super) replica: TcpStream,
    pub(super) lease: Lease,
    pub(super) pipes: Arc<Pipes>,
}

/// Relays until both directions have ended, or the session is evicted. The caller drops the pair then.
///
/// `unsent` was read from the client before and goes first. It is not counted.
pub(super) fn run(pair: &Pair, unsent: Vec<u8>) -> impl Future<Output = (Ending, Traffic)> + Send {
    // An open connection should be small, so the future keeps only what is made of the arguments.
    let up = Flow::new(Sockets::new(pair, true), unsent);
    let mut flows = [up, Flow::new(Sockets::new(pair, false), Vec::new())];
    let unfinished = Unfinished(pair);
    async move {
        let ending = tokio::select! {
            ending = both(&mut flows) => ending,
            () = unfinished.0.lease.evicted() => cut(&unfinished.0.client, &unfinished.0.replica),
        };
        std::mem::forget(unfinished);
        let [up, down] = flows.map(|flow| flow.moved);
        (ending, Traffic { up, down })
    }
}

/// Resets both connections if the relay is dropped before its end: its worker has failed, and what was cut off must not look complete.
struct Unfinished<'a>(&'a Pair);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        cut(&self.0.client, &self.0.replica);
    }
}

/// Relays until both directions, up and down, have ended.
async fn both(flows: &mut [Direction<'_>; 2]) -> Ending {
    // Boxed, because these futures are large, and an open connection should be small.
    match poll_fn(|cx| poll_both(flows, cx)).await {
        (0, end) => {
            let [up, down] = flows;
            let end = Box::pin(conclude(end, up, down)).await;
            ending(end, Ending::ClientReset, Ending::ReplicaReset)
        }
        (_, end) => {
            let [up, down] = flows;
            let end = Box::pin(conclude(end, down, up)).await;
            ending(end, Ending::ReplicaReset, Ending::ClientReset)
        }
    }
}

/// Polls both directions; ready with the first one that ends.
fn poll_both(flows: &mut [Direction<'_>; 2], cx: &mut Context<'_>) -> Poll<(usize, Result<(), Break>)> {
    // A busy direction may use up the budget of the task. Either may go first, so neither can starve the other.
    let first = usize::from(fastrand::bool());
    for at in [first, 1 - first] {
        if let Poll::Ready(end) = flows[at].poll(cx) {
            return Poll::Ready((at, end));
        }
    }
    Poll::Pending
}

/// Resets both connections at once, whatever is pending.
fn cut(client: &TcpStream, replica: &TcpStream) -> Ending {
    reset(client);
    reset(replica);
    Ending::Evicted
}

/// Brings the `other` direction to its end after the first one came to `end`.
///
/// The break that it returns is seen from the first direction: its source and its sink.
async fn conclude(
    end: Result<(), Break>,
    first: &mut Direction<'_>,
    other: &mut Direction<'_>,
) -> Result<(), Break> {
    let end = end.and_then(|()| pass_fin(first.ends.to()));
    match end {
        Ok(()) => return conclude_half_closed(other).await,
        Err(Break::Source) => reset_after(future::ready(()), first.ends.to()).await,
        Err(Break::Sink | Break::Idle) => {
            // What the lost side sent before its reset can still be read, up to the error or what looks like an end.
            let to = other.ends.to();
            other.pass_no_end();
            reset_after(poll_fn(|cx| other.poll(cx)), to).await;
        }
    }
    end
}

/// Like [`conclude`], after a FIN was passed on. The sink of `other` is the source of the first direction.
async fn conclude_half_closed(other: &mut Direction<'_>) -> Result<(), Break> {
    match half_closed(other).await {
        Ok(()) => Ok(()),
        Err(Break::Source) => {
            reset_after(future::ready(()), other.ends.to()).await;
            Err(Break::Sink)
        }
        Err(Break::Sink) => {
            reset_after_fin(other.ends.from()).await;
            Err(Break::Source)
        }
        Err(Break::Idle) => {
            cut(other.ends.from(), other.ends.to());
            Err(Break::Idle)
        }
    }
}

/// Runs the direction that is left after the other one ended with a FIN.
async fn half_closed(flow: &mut Direction<'_>) -> Result<(), Break> {
    let mut idle = pin!(sleep(HALF_CLOSED_IDLE));
    // Nothing is read any more from the side that sent its FIN, so its reset shows only as an error of the socket.
    let mut lost = pin!(flow.ends.to().ready(Interest::ERROR));
    let mut moved = flow.moved;
    poll_fn(|cx| {
        if let Poll::Ready(end) = flow.poll(cx) {
            return Poll::Ready(end);
        }
        if lost.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Break::Sink));
        }
        if std::mem::replace(&mut moved, flow.moved) != flow.moved {
            idle.as_mut().reset(Instant::now() + HALF_CLOSED_IDLE);
        }
        idle.as_mut().poll(cx).map(|()| Err(Break::Idle))
    })
    .await
}

/// The ending of a session whose first direction ran from `source` to `sink`.
fn ending(result: Result<(), Break>, source: Ending, sink: Ending) -> Ending {
    match result {
        Ok(()) => Ending::Complete,
        Err(Break::Source) => source,
        Err(Break::Sink) => sink,
        Err(Break::Idle) => Ending::Idle,
    }
}

/// The sockets of one direction, with the system calls on them.
struct Sockets<'a> {
    pair: &'a Pair,
    is_up: bool,
    /// Whether the replica's socket is already set up for more than one message in this direction.
    is_prompt: Cell<bool>,
}

type Direction<'a> = Flow<Sockets<'a>>;

impl<'a> Sockets<'a> {
    fn new(pair: &'a Pair, is_up: bool) -> Self {
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
            let _ = self.pair.replica.set_nodelay(true);
        } else {
            // Nagle's algorithm there holds back a second write until the first is acknowledged. That would take 40 ms,
            // because the connection began with delayed acknowledgements.
            let _ = set_tcp_quickack(&self.pair.replica, true);
        }
    }

    fn from(&self) -> &'a TcpStream {
        if self.is_up { &self.pair.client } else { &self.pair.replica }
    }

    fn to(&self) -> &'a TcpStream {
        if self.is_up { &self.pair.replica } else { &self.pair.client }
    }
}

impl Ends for Sockets<'_> {
    type Pipe = Pipe;
    const STREAK: u32 = 2 * SCRATCH as u32;
    const AT_ONCE: u64 = 1024 * 1024;

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
        Source::Watched(self.from()).read(Reading::TakeAndLookBehind, SCRATCH, take)
    }

    fn write(&self, bytes: &[u8], are_last: bool) -> io::Result<usize> {
        if self.is_up {
            self.be_prompt();
        }
        write_some(self.to(), bytes, are_last)
    }

    fn fill(&self) -> io::Result<Option<(Pipe, usize)>> {
        self.pair.pipes.fill(self.from())
    }

    fn drain(&self, pipe: &Pipe, most: usize) -> io::Result<usize> {
        if self.is_up {
            self.be_prompt();
        }
        splice::drain(pipe, self.to(), most)
    }

    fn put_back(&self, pipe: Pipe) {
        splice::put_back(pipe);
    }

    fn count(&self, bytes: usize) {
        if !self.is_up {
            self.pair.lease.received(bytes);
        }
    }
}

fn pass_fin(to: &TcpStream) -> Result<(), Break> {
    shutdown(to, Shutdown::Write).map_err(|_| Break::Sink)
}

/// Resets a connection after the `rest` is written to it and the kernel has sent every byte: a reset throws away what is
/// still in the send buffer.
///
/// Some peers read only after they have sent everything. Their bytes are of no use now, but reading them lets the peers go on.
async fn reset_after(rest: impl Future, stream: &TcpStream) {
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
async fn reset_after_fin(stream: &TcpStream) {
    discard(stream, LINGER_BEHIND_FIN).await;
    reset(stream);
}

#[cfg(test)]
mod tests;
