//! Reading: the one place where the data plane receives bytes from a socket.
//!
//! It knows neither client nor replica, and keeps nothing from one call to the next but a scratch buffer for each worker.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::TcpStream as StdStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::time::{sleep, timeout};

use super::flow::Behind;
use super::socket::{SOON, once};
use super::stream::Stream;

/// The most that a relay reads at once, and so the most that can wait for a slow reader, in bytes.
pub(super) const SCRATCH: usize = 32 * 1024;
/// The most that any call receives: the longest first line that can be asked for (`--first-line-max`), in bytes.
const LONGEST: usize = 64 * 1024;

thread_local! {
    static SCRATCH_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LONGEST]);
}

/// A socket to read from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// The runtime reports when it is readable. No call is made before that.
    Watched(&'a Stream),
    /// The runtime does not know it.
    Unwatched(&'a StdStream),
}

/// What becomes of the bytes that are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// They are taken from the stream.
    Take,
    /// They are taken. If the runtime has already reported the end of the stream, one more call finds out what is behind them.
    TakeAndLookBehind,
    /// They stay in the stream (`MSG_PEEK`, recv(2)). While there are bytes, no call shows the end of the stream.
    Peek,
}

impl Source<'_> {
    /// Receives at most `most` bytes (and at most 64 KiB), and gives them to `take` with what is known to be behind them.
    ///
    /// `Some(0)` means the end of the stream, `None` that there is nothing to read now. The error EINTR means that it has to be tried
    /// again [`SOON`].
    pub(super) fn read(
        self,
        reading: Reading,
        most: usize,
        take: impl FnOnce(&[u8], Behind),
    ) -> io::Result<Option<usize>> {
        SCRATCH_BUFFER.with_borrow_mut(|scratch| {
            let room = &mut scratch[..most.min(LONGEST)];
            let (most, mut behind) = (room.len(), Behind::Unknown);
            let received = self.when_readable(most, || {
                let (read, seen) = self.receive(reading, room)?;
                behind = seen;
                Ok(read)
            })?;
            if let Some(bytes) = received {
                take(&scratch[..bytes], behind);
            }
            Ok(received)
        })
    }

    /// Makes a call that receives up to `most` bytes, if there may be any.
    fn when_readable(
        self,
        most: usize,
        mut call: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        match self {
            Source::Watched(stream) => once(stream, Interest::READABLE, most, call),
            Source::Unwatched(_) => match call() {
                // If it is watched from now on, the runtime hears of what is there already.
                Err(error) if is_nothing(&error) => Ok(None),
                received => received.map(Some),
            },
        }
    }

    fn receive(self, reading: Reading, room: &mut [u8]) -> io::Result<(usize, Behind)> {
        let flags = if reading == Reading::Peek { RecvFlags::PEEK } else { RecvFlags::empty() };
        let (read, _) = recv(self, &mut *room, flags)?;
        let looks = reading == Reading::TakeAndLookBehind && 0 < read && read < room.len();
        if !looks || !self.has_ended() {
            return Ok((read, Behind::Unknown));
        }
        // There may still be bytes: a call stops at urgent data.
        Ok(match recv(self, &mut room[read..], flags) {
            Ok((0, _)) => (read, Behind::End),
            Ok((more, _)) => (read + more, Behind::Unknown),
            Err(Errno::AGAIN | Errno::INTR) => (read, Behind::Unknown),
            Err(_) => (read, Behind::Reset),
        })
    }

    /// Whether the runtime has reported the end of the stream. This makes no system call if the socket is readable.
    fn has_ended(self) -> bool {
        let Source::Watched(stream) = self else { return false };
        let ready = pin!(stream.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }
}

impl AsFd for Source<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Watched(stream) => stream.as_fd(),
            Source::Unwatched(socket) => socket.as_fd(),
        }
    }
}

/// Whether an error says only that no byte was received now.
fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Reads and drops what comes, until the end of the stream, an error, or `limit`.
pub(super) async fn discard(stream: &Stream, limit: Duration) {
    let until_the_end = async {
        while stream.readable().await.is_ok() {
            let read = Source::Watched(stream).read(Reading::Take, SCRATCH, |_, _| ());
            match read {
                Ok(Some(0)) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => sleep(SOON).await,
                Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    let _ = timeout(limit, until_the_end).await;
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;
    use crate::data::socket::reset;
    use crate::data::testing::connection;

    /// What is read from a connection on which `send` sent something, after the runtime has heard of its end.
    async fn read(send: impl FnOnce(Stream)) -> Vec<(Vec<u8>, Behind)> {
        let (client, stream) = connection().await;
        send(client);
        while !stream.ready(Interest::READABLE).await.unwrap().is_read_closed() {
            let _ = stream.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
        let mut all = Vec::new();
        let mut keep = |bytes: &[u8], behind| all.push((bytes.to_vec(), behind));
        let reading = Reading::TakeAndLookBehind;
        while Source::Watched(&stream).read(reading, SCRATCH, &mut keep).is_ok_and(|read| read > Some(0)) {}
        all
    }

    #[tokio::test]
    async fn the_end_is_seen_behind_the_last_bytes() {
        let last = read(|client| assert_eq!(client.try_write(b"last").unwrap(), 4)).await;
        assert_eq!(last[0], (b"last".to_vec(), Behind::End));
    }

    #[tokio::test]
    async fn a_reset_behind_bytes_is_no_end() {
        let cut = read(|client| {
            client.try_write(b"cut").unwrap();
            reset(&client);
        });
        assert_eq!(cut.await[0], (b"cut".to_vec(), Behind::Reset));
    }

    #[tokio::test]
    async fn urgent_data_does_not_hide_the_bytes_behind_it() {
        let urgent = read(|client| {
            client.try_write(b"before").unwrap();
            SockRef::from(client.std()).send_out_of_band(b"!").unwrap();
            client.try_write(b"behind").unwrap();
        });
        assert_eq!(urgent.await[0], (b"beforebehind".to_vec(), Behind::Unknown));
    }

    #[tokio::test]
    async fn a_look_leaves_the_bytes_where_they_are_watched_or_not() {
        let (client, stream) = connection().await;
        client.try_write(b"line").unwrap();
        stream.readable().await.unwrap();
        let read = |source: Source<'_>, reading| {
            let mut bytes = Vec::new();
            source.read(reading, 100, |chunk, _| bytes.extend_from_slice(chunk)).unwrap().map(|_| bytes)
        };
        assert_eq!(read(Source::Watched(&stream), Reading::Peek).unwrap(), b"line");
        let socket = stream.into_std();
        for (reading, expected) in [
            (Reading::Peek, Some(b"line".to_vec())),
            (Reading::Take, Some(b"line".to_vec())),
            (Reading::Take, None),
        ] {
            assert_eq!(read(Source::Unwatched(&socket), reading), expected);
        }
        drop(client);
        let stream = Stream::watch(socket).unwrap();
        stream.readable().await.unwrap();
        assert_eq!(read(Source::Watched(&stream), Reading::Take).unwrap(), b"", "the end");
    }
}
