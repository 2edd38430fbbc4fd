//! Pipes: they move bytes from socket to socket without a copy through user space (splice(2)).
//!
//! A worker keeps some empty pipes. A pipe is taken to be filled and comes back as soon as it is empty, so a direction holds one
//! only while its sink takes less than its source gives. The number of pipes is bounded, and no direction waits for one: it
//! copies instead. A pipe that still holds bytes never goes to another direction.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The smallest pipe that is better than copying, in bytes. A user beyond `pipe-user-pages-soft` gets smaller ones (pipe(7)).
const WORTHWHILE: usize = 64 * 1024;
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
}

/// An open pipe. (Boxed, because an open connection should be small, and most have none.)
pub(super) struct Pipe(Box<Open>);

struct Open {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
    _room: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Pool {
    kept: Vec<Pipe>,
    to_skip: u32,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

impl Pipes {
    /// At most `most` pipes of `size` bytes, or of the usual 64 KiB if that is refused. With none, everything is copied.
    #[must_use]
    pub(crate) fn new(size: usize, most: usize) -> Self {
        Pipes { size, room: Arc::new(Semaphore::new(most)) }
    }

    /// Moves the bytes that are there from a socket into an empty pipe. `None` if no bytes were moved, for any reason but an error
    /// of the socket. The readiness that the runtime holds for the socket stays as it is.
    pub(super) fn fill(&self, from: &TcpStream) -> io::Result<Option<(Pipe, usize)>> {
        let Some(pipe) = POOL.with_borrow_mut(|pool| pool.take(self)) else { return Ok(None) };
        match splice(from, None, &pipe.0.write, None, pipe.0.size, FLAGS) {
            Ok(bytes) if bytes > 0 => return Ok(Some((pipe, bytes))),
            Err(error) if !says_nothing(error) => return Err(error.into()),
            _ => {}
        }
        put_back(pipe);
        Ok(None)
    }
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// Whether an error of splice(2) says nothing about the socket. An error of the socket has to be passed on at once: the kernel
/// reports it only once, and after it the socket looks like the end of the stream.
fn says_nothing(error: Errno) -> bool {
    let ours = [Errno::AGAIN, Errno::INTR, Errno::INVAL, Errno::NOMEM, Errno::NOSYS, Errno::PERM];
    ours.contains(&error)
}

/// Moves at most `most` bytes, which have to be in the pipe, to a socket. Returns how many it moved.
///
/// A signal may make it move fewer although the socket has room, so only EAGAIN clears the readiness. Because the pipe is not
/// empty, EAGAIN is about the socket.
pub(super) fn drain(pipe: &Pipe, to: &TcpStream, most: usize) -> io::Result<usize> {
    let moved = to.try_io(Interest::WRITABLE, || Ok(splice(&pipe.0.read, None, to, None, most, FLAGS)?));
    match moved {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        moved => moved,
    }
}

/// Takes back an empty pipe.
pub(super) fn put_back(pipe: Pipe) {
    POOL.with_borrow_mut(|pool| {
        if pool.kept.len() < KEPT {
            pool.kept.push(pipe);
        }
    });
}

impl Pool {
    fn take(&mut self, pipes: &Pipes) -> Option<Pipe> {
        if let Some(pipe) = self.kept.pop() {
            return Some(pipe);
        }
        if self.to_skip > 0 {
            self.to_skip -= 1;
            return None;
        }
        let pipe = Pipe::open(pipes);
        if pipe.is_none() {
            self.to_skip = SKIPPED;
        }
        pipe
    }
}

impl Pipe {
    /// `None` if there are enough pipes, or files or memory for one are short.
    fn open(pipes: &Pipes) -> Option<Self> {
        let room = Arc::clone(&pipes.room).try_acquire_owned().ok()?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // A refusal leaves the size as it was; it is read next.
        let _ = fcntl_setpipe_size(&write, pipes.size);
        let size = fcntl_getpipe_size(&write).ok()?;
        let is_worth_it = size >= WORTHWHILE.min(pipes.size);
        is_worth_it.then(|| Pipe(Box::new(Open { read, write, size, _room: room })))
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;
    use crate::data::source::{Reading, Source};
    use crate::data::testing::connection;

    /// Reads what is there now.
    fn all(from: &TcpStream) -> Vec<u8> {
        let mut bytes = vec![0; 100];
        let read = from.try_read(&mut bytes).unwrap();
        bytes.truncate(read);
        bytes
    }

    #[tokio::test]
    async fn a_pipe_moves_bytes_and_there_are_no_more_pipes_than_allowed() {
        let ((client, from), (to, replica)) = (connection().await, connection().await);
        let pipes = Pipes::new(4096, 1);
        client.writable().await.unwrap();
        client.try_write(b"abcdef").unwrap();
        from.readable().await.unwrap();
        to.writable().await.unwrap();
        let (pipe, bytes) = pipes.fill(&from).unwrap().unwrap();
        assert_eq!(bytes, 6);
        assert!(Pipe::open(&pipes).is_none(), "there may be only one");
        assert_eq!(drain(&pipe, &to, 4).unwrap(), 4);
        assert_eq!(drain(&pipe, &to, 2).unwrap(), 2);
        replica.readable().await.unwrap();
        assert_eq!(all(&replica), b"abcdef");

        put_back(pipe);
        assert!(pipes.fill(&from).unwrap().is_none(), "nothing is there");
        let kept = POOL.with_borrow_mut(|pool| pool.kept.pop().unwrap());
        assert_eq!(pipes.room.available_permits(), 0);
        drop(kept);
        assert_eq!(pipes.room.available_permits(), 1);
    }

    #[tokio::test]
    async fn bytes_that_a_pipe_does_not_move_can_be_read() {
        let (client, from) = connection().await;
        let pipes = Pipes::new(4096, 1);
        client.writable().await.unwrap();
        client.try_write(b"before").unwrap();
        SockRef::from(&client).send_out_of_band(b"!").unwrap();
        client.try_write(b"behind").unwrap();
        from.readable().await.unwrap();
        let (pipe, bytes) = pipes.fill(&from).unwrap().unwrap();
        assert_eq!(bytes, 6, "up to the urgent byte");
        drop(pipe);
        assert!(pipes.fill(&from).unwrap().is_none(), "it does not get past the urgent byte");
        let mut behind = Vec::new();
        let keep = |bytes: &[u8], _| behind.extend_from_slice(bytes);
        assert_eq!(Source::Watched(&from).read(Reading::Take, 100, keep).unwrap(), Some(6));
        assert_eq!(behind, b"behind");
    }
}
