//! One direction of a relay: what it reads, when, and what it does with what cannot be written yet.
//!
//! It decides, and makes no system call: those are [`Ends`], so that a test can put every order of events before it. It
//! never looks at the bytes, never waits, and never reads on while it holds bytes that are not written.
//!
//! Bytes are copied until [`Ends::STREAK`] of them came in one run, without a pause of the source. From then on they are
//! moved through a pipe, until a run is shorter again: a message of a few kilobytes is cheaper to copy. A pipe moves bytes and
//! nothing else. Whatever is no bytes (no pipe to be had, nothing to read, the end of the stream, urgent data, at which
//! splice(2) stops) is left to the copy that is tried next, so that there is one place to understand each.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use tokio::task::yield_now;

/// Why a direction ended without a FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// The connection it reads from was reset; all that came before is written.
    Source,
    /// The connection it writes to was reset.
    Sink,
    /// Silent for too long.
    Idle,
}

/// What comes behind bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Nothing is known.
    Unknown,
    /// The end of the stream.
    End,
    /// The error of a connection that was reset. It was told, and what is read now looks like the end of the stream.
    Reset,
}

/// The system calls of a direction: its two sockets, and the pipes between them.
pub(super) trait Ends {
    /// A pipe.
    type Pipe;
    /// So many bytes without a pause of the source are worth a pipe.
    const STREAK: u32;
    /// So many bytes are moved before others on the same thread have their turn.
    const AT_ONCE: u64;

    /// Waits until it may be worth reading.
    fn poll_source(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Waits until it may be worth writing.
    fn poll_sink(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Reads some bytes and gives them to `take`, with what is known to come behind them. `Some(0)` is the end of the stream;
    /// `None` that there is nothing now, and then [`Ends::poll_source`] waits for more.
    fn read(&self, take: impl FnOnce(&[u8], Behind)) -> io::Result<Option<usize>>;
    /// Writes as many bytes as there is room for. Where that is less than all, [`Ends::poll_sink`] waits for room. Bytes that
    /// are the last ones may wait for the end, to travel with it.
    fn write(&self, bytes: &[u8], are_last: bool) -> io::Result<usize>;
    /// Moves bytes from the source into an empty pipe; the pipe, and how many they are. `None` says nothing but that none
    /// were moved.
    fn fill(&self) -> io::Result<Option<(Self::Pipe, usize)>>;
    /// Moves at most `most` bytes, which are in the pipe, to the sink. Where it moves none, [`Ends::poll_sink`] waits for room.
    fn drain(&self, pipe: &Self::Pipe, most: usize) -> io::Result<usize>;
    /// Takes back a pipe that is empty. One that is not is dropped instead.
    fn put_back(&self, pipe: Self::Pipe);
    /// Hears of bytes that were read.
    fn count(&self, bytes: usize);
}

/// What was read and is not written yet.
enum Held<P> {
    Nothing,
    /// From this byte on.
    Copied(Vec<u8>, usize),
    /// As many bytes, at least one.
    Piped(P, usize),
}

/// One direction.
pub(super) struct Flow<E: Ends> {
    pub(super) ends: E,
    held: Held<E::Pipe>,
    /// Bytes read so far.
    pub(super) moved: u64,
    /// Bytes since the source last made a pause, and whether there were enough of them before it.
    run: u32,
    streams: bool,
    /// What is behind the last bytes that were read.
    behind: Behind,
    /// Whether the end of the source is passed on as an end. If the sink is to be reset instead, nothing may wait for one.
    pub(super) passes_end: bool,
}

impl<E: Ends> Flow<E> {
    /// A direction that begins with `unsent`, which was read already and is not counted.
    pub(super) fn new(ends: E, unsent: Vec<u8>) -> Self {
        let held = if unsent.is_empty() { Held::Nothing } else { Held::Copied(unsent, 0) };
        Flow { ends, held, moved: 0, run: 0, streams: false, behind: Behind::Unknown, passes_end: true }
    }

    /// From now on the end of the source is not passed on: the sink will be reset.
    pub(super) fn pass_no_end(&mut self) {
        self.passes_end = false;
    }

    /// Moves bytes until there is nothing to read or no room to write. `Ok` at the end of the source, with every byte
    /// written.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Break>> {
        let begun = self.moved;
        loop {
            ready!(self.poll_held(cx)).map_err(|_| self.lose())?;
            match self.behind {
                Behind::Unknown => {}
                Behind::End => return Poll::Ready(Ok(())),
                Behind::Reset => return Poll::Ready(Err(Break::Source)),
            }
            if self.moved - begun >= E::AT_ONCE {
                ready!(pin!(yield_now()).poll(cx));
            }
            ready!(self.poll_source(cx)).map_err(|_| Break::Source)?;
            if self.move_some()? == Some(0) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Writes what is held; ready when that is nothing.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let left = match &self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Copied(bytes, written) => bytes.len() - written,
                Held::Piped(_, left) => *left,
            };
            if left == 0 {
                if let Held::Piped(pipe, _) = std::mem::replace(&mut self.held, Held::Nothing) {
                    self.ends.put_back(pipe);
                }
                return Poll::Ready(Ok(()));
            }
            ready!(self.ends.poll_sink(cx))?;
            match &mut self.held {
                Held::Nothing => {}
                Held::Copied(bytes, written) => *written += self.ends.write(&bytes[*written..], false)?,
                Held::Piped(pipe, left) => *left -= self.ends.drain(pipe, *left)?,
            }
        }
    }

    /// Waits for the source, and takes note if that makes a pause.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = self.ends.poll_source(cx);
        if ready.is_pending() {
            self.streams = self.run >= E::STREAK;
            self.run = 0;
        }
        ready
    }

    /// One step; how much was read, if anything could be.
    fn move_some(&mut self) -> Result<Option<usize>, Break> {
        if self.streams || self.run >= E::STREAK {
            let filled = self.ends.fill().map_err(|_| Break::Source)?;
            if let Some((pipe, bytes)) = filled {
                self.held = Held::Piped(pipe, bytes);
                self.count(bytes);
                return Ok(Some(bytes));
            }
        }
        self.copy_some()
    }

    /// One read and one write.
    fn copy_some(&mut self) -> Result<Option<usize>, Break> {
        let (ends, held, behind, passes_end) =
            (&self.ends, &mut self.held, &mut self.behind, self.passes_end);
        let mut outcome = Ok(0);
        let read = ends.read(|chunk, next| {
            if chunk.is_empty() {
                return; // The end of the stream: not worth a system call.
            }
            *behind = next;
            outcome = ends.write(chunk, next == Behind::End && passes_end);
            if let Ok(written) = outcome
                && written < chunk.len()
            {
                *held = Held::Copied(chunk[written..].to_vec(), 0);
                if next == Behind::End {
                    *behind = Behind::Unknown; // Until they are written, it may become a reset.
                }
            }
        });
        let read = read.map_err(|_| Break::Source)?;
        self.count(read.unwrap_or(0));
        outcome.map_err(|_| Break::Sink)?;
        Ok(read)
    }

    fn count(&mut self, bytes: usize) {
        self.run = self.run.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.moved += bytes as u64;
        self.ends.count(bytes);
    }

    /// Nobody takes what is held any more, and a pipe with bytes in it is of no use to others.
    fn lose(&mut self) -> Break {
        self.held = Held::Nothing;
        Break::Sink
    }
}

#[cfg(test)]
mod tests;
