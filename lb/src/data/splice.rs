//! Pipes: they move bytes from socket to socket without a copy through user space (splice(2)).
//!
//! A worker keeps some empty pipes. A pipe is lent to be filled and comes back as soon as it is empty, so a direction holds one
//! only while its sink takes less than its source gives, and for [`LENT`] at most. The number of pipes is bounded, no source
//! holds more than three quarters of a worker's share, and no direction waits for one: it copies instead. A pipe that still holds bytes
//! never goes to another direction.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::socket::{insist, is_dead};
use super::stream::Stream;

/// The smallest pipe that is better than copying, in bytes. A user beyond `pipe-user-pages-soft` gets smaller ones (pipe(7)).
const WORTHWHILE: usize = 64 * 1024;
/// How long a direction may keep a pipe that it has filled. A sink that takes longer is slow enough to be copied for.
pub(super) const LENT: Duration = Duration::from_secs(1);
/// How many empty pipes a worker keeps.
const KEPT: usize = 16;
/// How many requests for a pipe are refused after one could not be made: each try would cost some system calls in vain.
const SKIPPED: u32 = 64;

/// The size of a pipe in bytes, and how many there may be in all workers together.
///
/// Larger is better, up to the 1 MiB that every user may have (`pipe-max-size`, pipe(7)): longer runs need fewer system calls
/// and wake the other end less often. The buffers of two sockets take more memory than that.
#[derive(Debug)]
pub(crate) struct Pipes {
    size: usize,
    room: Arc<Semaphore>,
    /// How many pipes of one worker one source may hold.
    share: usize,
    /// Whether no pipe is to be lent at the moment.
    is_closed: AtomicBool,
}

/// Who a pipe is lent to: the IPv4 address of a client, or a digest of the first half of its IPv6 address. (Two borrowers with one
/// digest have one share.)
pub(super) type Borrower = u32;

/// A pipe that is lent. (Boxed, because an open connection should be small, and most have none.)
pub(super) struct Pipe {
    open: Box<Open>,
    _loan: Loan,
}

/// A place in its borrower's share.
struct Loan(Borrower);

struct Open {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
    _room: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Pool {
    #[expect(clippy::vec_box, reason = "a pipe is boxed once, not for each loan")]
    kept: Vec<Box<Open>>,
    to_skip: u32,
    /// How many pipes each borrower holds; there is no entry for 0.
    lent: HashMap<Borrower, usize>,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

impl Pipes {
    /// At most `most` pipes of `size` bytes for all workers, or of the usual 64 KiB if that is refused. With none, everything is
    /// copied.
    #[must_use]
    pub(crate) fn new(size: usize, most: usize, workers: usize) -> Self {
        let share = (3 * (most / workers.max(1))).div_ceil(4).max(1);
        Pipes { size, room: Arc::new(Semaphore::new(most)), share, is_closed: AtomicBool::new(false) }
    }

    /// Lends no pipe from now on, or lends them again. Those that are lent stay so until they are empty.
    pub(crate) fn close(&self, closed: bool) {
        self.is_closed.store(closed, Relaxed);
    }

    /// Moves the bytes that are there, at most `most`, from a socket into an empty pipe. `None` if no bytes were moved, for any
    /// reason but an error of the socket. The readiness that the runtime holds for the socket stays as it is.
    pub(super) fn fill(
        &self,
        from: &Stream,
        most: usize,
        borrower: Borrower,
    ) -> io::Result<Option<(Pipe, usize)>> {
        let Some(pipe) = self.lend(borrower) else { return Ok(None) };
        match splice(from, None, &pipe.open.write, None, most.min(pipe.open.size), FLAGS) {
            Ok(bytes) if bytes > 0 => return Ok(Some((pipe, bytes))),
            Err(error) if !says_nothing(error) && is_dead(from) => return Err(error.into()),
            _ => {}
        }
        put_back(pipe);
        Ok(None)
    }

    fn lend(&self, borrower: Borrower) -> Option<Pipe> {
        if self.is_closed.load(Relaxed) {
            return None;
        }
        let open = POOL.with_borrow_mut(|pool| {
            if pool.lent.get(&borrower).is_some_and(|held| *held >= self.share) {
                return None;
            }
            let open = pool.take(self)?;
            *pool.lent.entry(borrower).or_default() += 1;
            Some(open)
        })?;
        Some(Pipe { open, _loan: Loan(borrower) })
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // It fails only while the thread ends.
        let _ = POOL.try_with(|pool| {
            if let Entry::Occupied(mut held) = pool.borrow_mut().lent.entry(self.0) {
                *held.get_mut() -= 1;
                if *held.get() == 0 {
                    held.remove();
                }
            }
        });
    }
}

/// How often a read of bytes that are in a pipe may be interrupted.
const TRIES: u32 = 8;

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// Whether an error of splice(2) certainly says nothing about the socket. An error of the socket has to be passed on at once: the
/// kernel reports it only once, and after it the socket looks like the end of the stream.
fn says_nothing(error: Errno) -> bool {
    let ours = [Errno::AGAIN, Errno::INTR, Errno::INVAL, Errno::NOMEM, Errno::NOSYS, Errno::PERM];
    ours.contains(&error)
}

/// Moves at most `most` bytes, which have to be in the pipe, to a socket. Returns how many it moved.
///
/// A signal may make it move fewer although the socket has room, so only EAGAIN clears the readiness. Because the pipe is not
/// empty, EAGAIN is about the socket. An error is that of [`insist`].
pub(super) fn drain(pipe: &Pipe, to: &Stream, most: usize) -> io::Result<usize> {
    let call = || Ok(splice(&pipe.open.read, None, to, None, most, FLAGS)?);
    match to.try_io(Interest::WRITABLE, || insist(to, Interest::WRITABLE, call)) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        moved => moved,
    }
}

/// Takes `left` bytes, which have to be in the pipe, out of it.
pub(super) fn copy_out(pipe: &Pipe, left: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; left];
    let (mut read, mut tries) = (0, TRIES);
    while read < left {
        match rustix::io::read(&pipe.open.read, &mut bytes[read..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(some) => read += some,
            // They are there.
            Err(Errno::INTR | Errno::AGAIN) if tries > 0 => tries -= 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// Takes back an empty pipe.
pub(super) fn put_back(pipe: Pipe) {
    let Pipe { open, _loan } = pipe;
    POOL.with_borrow_mut(|pool| {
        if pool.kept.len() < KEPT {
            pool.kept.push(open);
        }
    });
}

impl Pool {
    fn take(&mut self, pipes: &Pipes) -> Option<Box<Open>> {
        if let Some(pipe) = self.kept.pop() {
            return Some(pipe);
        }
        if self.to_skip > 0 {
            self.to_skip -= 1;
            return None;
        }
        let pipe = Open::new(pipes).map(Box::new);
        if pipe.is_none() {
            self.to_skip = SKIPPED;
        }
        pipe
    }
}

impl Open {
    /// `None` if there are enough pipes, or files or memory for one are short.
    fn new(pipes: &Pipes) -> Option<Self> {
        let room = Arc::clone(&pipes.room).try_acquire_owned().ok()?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // A refusal leaves the size as it was; it is read next.
        let _ = fcntl_setpipe_size(&write, pipes.size);
        let size = fcntl_getpipe_size(&write).ok()?;
        let is_worth_it = size >= WORTHWHILE.min(pipes.size);
        is_worth_it.then(|| Open { read, write, size, _room: room })
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;
    use crate::data::source::{Reading, Source};
    use crate::data::testing::connection;

    /// Reads what is there now.
    fn all(from: &Stream) -> Vec<u8> {
        let mut bytes = vec![0; 100];
        let read = from.try_read(&mut bytes).unwrap();
        bytes.truncate(read);
        bytes
    }

    #[tokio::test]
    async fn a_pipe_moves_bytes_and_there_are_no_more_pipes_than_allowed() {
        let ((client, from), (to, replica)) = (connection().await, connection().await);
        let pipes = Pipes::new(4096, 1, 1);
        client.writable().await.unwrap();
        client.try_write(b"abcdef").unwrap();
        from.readable().await.unwrap();
        to.writable().await.unwrap();
        let (pipe, bytes) = pipes.fill(&from, 4096, 7).unwrap().unwrap();
        assert_eq!(bytes, 6);
        assert!(Open::new(&pipes).is_none(), "there may be only one");
        assert_eq!(drain(&pipe, &to, 4).unwrap(), 4);
        assert_eq!(drain(&pipe, &to, 2).unwrap(), 2);
        replica.readable().await.unwrap();
        assert_eq!(all(&replica), b"abcdef");

        put_back(pipe);
        assert!(pipes.fill(&from, 4096, 7).unwrap().is_none(), "nothing is there");
        let kept = POOL.with_borrow_mut(|pool| pool.kept.pop().unwrap());
        assert_eq!(pipes.room.available_permits(), 0);
        drop(kept);
        assert_eq!(pipes.room.available_permits(), 1);
    }

    #[test]
    fn no_source_holds_more_than_three_quarters_of_the_pipes_of_a_worker() {
        let pipes = Pipes::new(4096, 8, 2);
        let held: Vec<Pipe> = (0..3).map(|_| pipes.lend(7).unwrap()).collect();
        assert!(pipes.lend(7).is_none(), "three of four");
        let other = pipes.lend(8).unwrap();
        drop(held);
        put_back(other);
        assert!(POOL.with_borrow(|pool| pool.lent.is_empty()));
        pipes.close(true);
        assert!(pipes.lend(7).is_none(), "none is lent");
        pipes.close(false);
        assert!(pipes.lend(7).is_some());
    }

    #[tokio::test]
    async fn what_is_left_in_a_pipe_can_be_copied_out() {
        let (client, from) = connection().await;
        let pipes = Pipes::new(4096, 1, 1);
        client.writable().await.unwrap();
        client.try_write(b"abcdef").unwrap();
        from.readable().await.unwrap();
        let (pipe, bytes) = pipes.fill(&from, 4, 7).unwrap().unwrap();
        assert_eq!((bytes, copy_out(&pipe, 4).unwrap()), (4, b"abcd".to_vec()));
        assert!(copy_out(&pipe, 1).is_err(), "it is empty");
    }

    #[tokio::test]
    async fn bytes_that_a_pipe_does_not_move_can_be_read() {
        let (client, from) = connection().await;
        let pipes = Pipes::new(4096, 1, 1);
        client.writable().await.unwrap();
        client.try_write(b"before").unwrap();
        SockRef::from(client.std()).send_out_of_band(b"!").unwrap();
        client.try_write(b"behind").unwrap();
        from.readable().await.unwrap();
        let (pipe, bytes) = pipes.fill(&from, 4096, 7).unwrap().unwrap();
        assert_eq!(bytes, 6, "up to the urgent byte");
        drop(pipe);
        assert!(pipes.fill(&from, 4096, 7).unwrap().is_none(), "it does not get past the urgent byte");
        let mut behind = Vec::new();
        let keep = |bytes: &[u8], _| behind.extend_from_slice(bytes);
        assert_eq!(Source::Watched(&from).read(Reading::Take, 100, keep).unwrap(), Some(6));
        assert_eq!(behind, b"behind");
    }
}
