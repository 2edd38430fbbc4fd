//! Pipes, and how bytes go through them from socket to socket without being copied (splice(2)).
//!
//! A worker keeps some empty pipes. One is taken to be filled and comes back as soon as it is empty, so what holds a pipe is
//! only a direction that has more than its sink can take. There is a bound to their number, and a pipe that is not to be had is
//! never waited for: bytes can be copied as well. A pipe that still holds bytes is never kept for others.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A pipe that holds less is no better than copying: what a user who has used up `pipe-user-pages-soft` gets (pipe(7)).
const WORTHWHILE: usize = 64 * 1024;
/// Empty pipes that a worker keeps.
const KEPT: usize = 16;
/// When a pipe could not be made, so many wishes for one are not tried: each would cost some system calls in vain.
const SKIPPED: u32 = 64;

/// How many pipes there may be in all workers together, and how large they are.
///
/// The larger the better, up to the 1 MiB that every user may have (`pipe-max-size`, pipe(7)): fewer and longer runs mean fewer
/// system calls, and fewer times that the other end is woken. Beside the buffers of two sockets it is little.
#[derive(Debug)]
pub struct Pipes {
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
    /// At most `most` pipes of `size` bytes, or the usual 64 KiB where that is refused. With none, everything is copied.
    #[must_use]
    pub fn new(size: usize, most: usize) -> Self {
        Pipes { size, room: Arc::new(Semaphore::new(most)) }
    }

    /// Moves what there is from a socket into an empty pipe. `None` if that is nothing, for whatever reason but an error of
    /// the socket; it does not touch what the runtime knows of the socket.
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

/// Whether an error of splice(2) is none of the socket's. That one has to be told at once: the kernel tells it only once, and
/// what comes after it looks like the end of the stream.
fn says_nothing(error: Errno) -> bool {
    let ours = [Errno::AGAIN, Errno::INTR, Errno::INVAL, Errno::NOMEM, Errno::NOSYS, Errno::PERM];
    ours.contains(&error)
}

/// Moves at most `most` bytes, which have to be in the pipe, to a socket.
///
/// It may move fewer although the socket has room (when a signal comes), so only EAGAIN takes the readiness back: as the pipe
/// is not empty, it is the socket's.
pub(super) fn drain(pipe: &Pipe, to: &TcpStream, most: usize) -> io::Result<usize> {
    let moved = to.try_io(Interest::WRITABLE, || Ok(splice(&pipe.0.read, None, to, None, most, FLAGS)?));
    match moved {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        moved => moved,
    }
}

/// Takes back a pipe, which has to be empty.
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
    /// `None` if there are enough, or files or memory for pipes are short.
    fn open(pipes: &Pipes) -> Option<Self> {
        let room = Arc::clone(&pipes.room).try_acquire_owned().ok()?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // To be refused leaves the size as it was, and that one is read next.
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

    /// What can be read now.
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
        assert!(Pipe::open(&pipes).is_none(), "one is all there may be");
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
    async fn what_a_pipe_does_not_move_can_be_read() {
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
        assert!(pipes.fill(&from).unwrap().is_none(), "and it does not get past it");
        let mut behind = Vec::new();
        let keep = |bytes: &[u8], _| behind.extend_from_slice(bytes);
        assert_eq!(Source::Watched(&from).read(Reading::Take, 100, keep).unwrap(), Some(6));
        assert_eq!(behind, b"behind");
    }
}
