//! One direction of a relay, as a pure state machine: when it reads, and what it does with bytes that cannot be written yet.
//!
//! It decides and makes no system calls. Those are behind [`Ends`], so that a test can try every order of events. It never
//! looks at the bytes, never blocks, and never reads on while bytes are pending.
//!
//! Bytes are copied until [`Ends::STREAK`] of them came in one run, without a pause of the source. From then on they are
//! moved through a pipe, until a run is shorter again: copying a message of a few kilobytes is cheaper. A pipe moves bytes and
//! nothing else. In every other case (no pipe is free, there is nothing to read, the stream ends, or urgent data stops
//! splice(2)) a copy is tried next, so that one place understands these cases.
//!
//! A pipe is lent. Its user gives it back when it is empty, or when it is told to ([`Flow::give_back`]); what is in it is copied
//! out then. So that this costs little memory, a loan is small until the sink has taken more than the kernel holds for it.

use std::io;
use std::task::{Context, Poll, ready};

/// Why a direction broke off, without a FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// The connection that it reads from was reset; all bytes before the reset are written.
    Source,
    /// The connection that it writes to was reset.
    Sink,
    /// A call failed although both connections live: this machine is short of something.
    Local,
    /// It was silent for too long.
    Idle,
}

/// Why a direction stops for now.
enum Stop {
    /// A call was interrupted before it did anything. It has to be made again soon.
    Interrupted,
    Broken(Break),
}

impl Stop {
    fn of(error: &io::Error, end: Break) -> Self {
        if is_interruption(error) { Stop::Interrupted } else { Stop::Broken(end) }
    }
}

fn is_interruption(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// What comes behind the bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Nothing is known.
    Unknown,
    /// The end of the stream.
    End,
    /// A reset. The error has been reported, so reading on now looks like the end of the stream.
    Reset,
}

/// The system calls of a direction: its two sockets, and the pipes between them. The error EINTR means that a call has done nothing and
/// has to be made again, a little later.
pub(super) trait Ends {
    /// A pipe between the two sockets.
    type Pipe;
    /// How many bytes without a pause of the source are worth a pipe.
    const STREAK: u32;
    /// How many bytes are moved before other tasks on the same thread get a turn.
    const AT_ONCE: u64;
    /// How many bytes a pipe may take at first, and after one was given back with bytes in it.
    const SMALL_LOAN: usize;
    /// After how many bytes a pipe may be full.
    const PROVEN: u32;

    /// Waits until the source may be readable.
    fn poll_source(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Waits until the sink may be writable.
    fn poll_sink(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Lets the other tasks on the same thread go first.
    fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()>;
    /// Reads some bytes and gives them to `take`, with what is known to come behind them. `Some(0)` is the end of the stream.
    /// `None` means that there is nothing now; [`Ends::poll_source`] then waits for more.
    fn read(&self, take: impl FnOnce(&[u8], Behind)) -> io::Result<Option<usize>>;
    /// Writes as many bytes as there is room for, and returns how many. After less than all, [`Ends::poll_sink`] waits for room.
    /// The last bytes may wait for the end of the stream, to travel with it.
    fn write(&self, bytes: &[u8], are_last: bool) -> io::Result<usize>;
    /// Moves at most `most` bytes from the source into an empty pipe. Returns the pipe, and how many bytes it holds. `None`
    /// means only that no bytes were moved.
    fn fill(&self, most: usize) -> io::Result<Option<(Self::Pipe, usize)>>;
    /// Moves at most `most` of the bytes in the pipe to the sink, and returns how many. After none, [`Ends::poll_sink`] waits
    /// for room.
    fn drain(&self, pipe: &Self::Pipe, most: usize) -> io::Result<usize>;
    /// Takes the bytes that are in the pipe, `left` in number, out of it.
    fn copy_out(&self, pipe: &Self::Pipe, left: usize) -> io::Result<Vec<u8>>;
    /// Takes back an empty pipe. A pipe that still holds bytes is dropped instead.
    fn put_back(&self, pipe: Self::Pipe);
    /// Counts bytes that were read.
    fn count(&self, bytes: usize);
}

/// The bytes that were read and are not written yet.
enum Pending<P> {
    Nothing,
    /// A copy; the bytes before this offset are written.
    Copied(Vec<u8>, usize),
    /// A pipe that holds this many bytes.
    Piped(P, usize),
}

/// One direction.
pub(super) struct Flow<E: Ends> {
    pub(super) ends: E,
    pending: Pending<E::Pipe>,
    /// How many bytes were read so far.
    pub(super) moved: u64,
    /// How many calls moved bytes, in or out. It overflows.
    steps: u32,
    /// How many pipes were lent. It overflows.
    loans: u16,
    /// How many bytes were read since the beginning, or since a pipe was given back with bytes in it. It stops at its maximum.
    proven: u32,
    /// How many bytes came since the last pause of the source.
    run: u32,
    /// Whether the run before that pause was long enough for a pipe.
    streams: bool,
    /// Whether a call has to be made again.
    is_interrupted: bool,
    /// What is behind the last bytes that were read.
    behind: Behind,
    /// Whether the end of the source becomes an end of the sink. If the sink will be reset instead, no byte may wait for its end.
    pub(super) passes_end: bool,
}

impl<E: Ends> Flow<E> {
    /// A direction that begins with `unsent`, bytes that were read before and are not counted.
    pub(super) fn new(ends: E, unsent: Vec<u8>) -> Self {
        let pending = if unsent.is_empty() { Pending::Nothing } else { Pending::Copied(unsent, 0) };
        Flow {
            ends,
            pending,
            moved: 0,
            steps: 0,
            loans: 0,
            proven: 0,
            run: 0,
            streams: false,
            is_interrupted: false,
            behind: Behind::Unknown,
            passes_end: true,
        }
    }

    /// A number that is another one after each call that moved bytes, in or out.
    pub(super) fn progress(&self) -> u32 {
        self.steps
    }

    /// Whether it has to be polled again soon, whatever happens: a call was interrupted.
    pub(super) fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }

    /// If it has a pipe: a number that is another one for each loan.
    pub(super) fn loan(&self) -> Option<u16> {
        matches!(self.pending, Pending::Piped(..)).then_some(self.loans)
    }

    /// Gives its pipe back, if it has one. The bytes in it are copied out and go next.
    ///
    /// # Errors
    /// The bytes cannot be taken out, and are lost.
    pub(super) fn give_back(&mut self) -> Result<(), Break> {
        let (pipe, left) = match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Piped(pipe, left) => (pipe, left),
            other => {
                self.pending = other;
                return Ok(());
            }
        };
        let bytes = self.ends.copy_out(&pipe, left).map_err(|_| Break::Local)?;
        self.ends.put_back(pipe);
        (self.proven, self.run, self.streams) = (0, 0, false);
        self.pending = Pending::Copied(bytes, 0);
        Ok(())
    }

    /// From now on the end of the source is not passed on, because the sink will be reset.
    pub(super) fn pass_no_end(&mut self) {
        self.passes_end = false;
    }

    /// Moves bytes until there is nothing to read or no room to write. `Ok` is the end of the source, with every byte written.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Break>> {
        self.is_interrupted = false;
        match ready!(self.poll_all(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(Stop::Broken(end)) => Poll::Ready(Err(end)),
            Err(Stop::Interrupted) => {
                self.is_interrupted = true;
                Poll::Pending
            }
        }
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let begun = self.moved;
        loop {
            ready!(self.poll_pending(cx)).map_err(|error| self.lose(&error))?;
            match self.behind {
                Behind::Unknown => {}
                Behind::End => return Poll::Ready(Ok(())),
                Behind::Reset => return Poll::Ready(Err(Stop::Broken(Break::Source))),
            }
            if self.moved - begun >= E::AT_ONCE {
                ready!(self.ends.poll_turn(cx));
            }
            ready!(self.poll_source(cx)).map_err(|error| Stop::of(&error, Break::Source))?;
            if self.move_some()? == Some(0) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Writes the pending bytes; ready when there are none.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let left = match &self.pending {
                Pending::Nothing => return Poll::Ready(Ok(())),
                Pending::Copied(bytes, written) => bytes.len() - written,
                Pending::Piped(_, left) => *left,
            };
            if left == 0 {
                if let Pending::Piped(pipe, _) = std::mem::replace(&mut self.pending, Pending::Nothing) {
                    self.ends.put_back(pipe);
                }
                return Poll::Ready(Ok(()));
            }
            ready!(self.ends.poll_sink(cx))?;
            let went = match &mut self.pending {
                Pending::Nothing => 0,
                Pending::Copied(bytes, written) => {
                    let went = self.ends.write(&bytes[*written..], false)?;
                    *written += went;
                    went
                }
                Pending::Piped(pipe, left) => {
                    let went = self.ends.drain(pipe, *left)?;
                    *left -= went;
                    went
                }
            };
            self.steps = self.steps.wrapping_add(u32::from(went > 0));
        }
    }

    /// Waits for the source, and notes whether it makes a pause.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = self.ends.poll_source(cx);
        if ready.is_pending() {
            self.streams = self.run >= E::STREAK;
            self.run = 0;
        }
        ready
    }

    /// One step through a pipe or by a copy. Returns how many bytes were read; 0 is the end, `None` that there was nothing.
    fn move_some(&mut self) -> Result<Option<usize>, Stop> {
        if self.streams || self.run >= E::STREAK {
            let most = if self.proven < E::PROVEN { E::SMALL_LOAN } else { usize::MAX };
            let filled = self.ends.fill(most).map_err(|error| Stop::of(&error, Break::Source))?;
            if let Some((pipe, bytes)) = filled {
                self.loans = self.loans.wrapping_add(1);
                self.pending = Pending::Piped(pipe, bytes);
                self.count(bytes);
                return Ok(Some(bytes));
            }
        }
        self.copy_some()
    }

    /// One read and one write.
    fn copy_some(&mut self) -> Result<Option<usize>, Stop> {
        let (ends, pending, behind, passes_end) =
            (&self.ends, &mut self.pending, &mut self.behind, self.passes_end);
        let mut outcome = Ok(0);
        let read = ends.read(|chunk, next| {
            if chunk.is_empty() {
                return; // The end of the stream is not worth a system call.
            }
            *behind = next;
            outcome = ends.write(chunk, next == Behind::End && passes_end);
            if outcome.as_ref().is_err_and(is_interruption) {
                outcome = Ok(0); // They are written next.
            }
            if let Ok(written) = outcome
                && written < chunk.len()
            {
                *pending = Pending::Copied(chunk[written..].to_vec(), 0);
                if next == Behind::End {
                    *behind = Behind::Unknown; // It may become a reset before they are written.
                }
            }
        });
        let read = read.map_err(|error| Stop::of(&error, Break::Source))?;
        self.count(read.unwrap_or(0));
        outcome.map_err(|_| Stop::Broken(Break::Sink))?;
        Ok(read)
    }

    fn count(&mut self, bytes: usize) {
        let more = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.run = self.run.saturating_add(more);
        self.proven = self.proven.saturating_add(more);
        self.moved += bytes as u64;
        self.steps = self.steps.wrapping_add(u32::from(bytes > 0));
        self.ends.count(bytes);
    }

    /// Drops the pending bytes, unless it was only an interruption: the sink takes no more, and a pipe with bytes in it is of no use to
    /// other directions.
    fn lose(&mut self, error: &io::Error) -> Stop {
        let stop = Stop::of(error, Break::Sink);
        if matches!(stop, Stop::Broken(_)) {
            self.pending = Pending::Nothing;
        }
        stop
    }
}

#[cfg(test)]
mod tests;
