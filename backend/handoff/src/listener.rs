//! The replica's side: a socket at a path, the `lb`s that have connected to it, and one `accept` over all of them.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::fs::{lstat, unlink};
use rustix::net::Shutdown;
use rustix::process::{Resource, getrlimit};
use tokio::net::UnixListener;

use crate::link::{Event, Link};
use crate::protocol::Metadata;
use crate::reports::{Open, Room};
use crate::socket;
use crate::stream::Stream;

/// Listens for connections that `lb` hands over, from any number of `lb`s.
///
/// To drop it is to take no more, and to close what waits; [`Listener::stop`] loses nothing. Either way the streams it
/// has yielded go on, and are reported when they are closed, for as long as the runtime lives.
#[derive(Debug)]
pub struct Listener {
    links: Vec<Link>,
    room: Arc<Room>,
    socket: UnixListener,
    _place: Place,
}

impl Listener {
    /// Listens at `path`, of at most 107 bytes, for the owner of this process alone (mode 0600). A socket there that
    /// nobody listens at is removed first. Has to be called within a runtime.
    ///
    /// As many connections may be open as the limit of open files allows, less an eighth (16 to 256) for the rest of the
    /// program; those that [`Either`](crate::Either) accepts by TCP count as well.
    ///
    /// # Errors
    /// `AddrInUse`: somebody listens there, or it is no socket. Else those of bind(2).
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let socket = socket::listen(path)?;
        let place = Place::of(path)?;
        let socket = UnixListener::from_std(StdListener::from(socket))?;
        Ok(Listener { links: Vec::new(), room: Arc::new(Room::new(most())), socket, _place: place })
    }

    /// Listens at the path in the value of the variable [`VARIABLE`](crate::VARIABLE), if there is one:
    ///
    /// ```no_run
    /// # async fn f() -> std::io::Result<()> {
    /// let listener = handoff::Listener::from_env(std::env::var_os(handoff::VARIABLE))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Listener::bind`].
    pub fn from_env(value: Option<OsString>) -> io::Result<Option<Self>> {
        value.filter(|path| !path.is_empty()).map(Self::bind).transpose()
    }

    /// Has no more than `most` connections open at a time (at least one): others stay with `lb`, which takes them elsewhere
    /// when the queue is full. Holds for those that are accepted from now on.
    #[must_use]
    pub fn at_most(mut self, most: usize) -> Self {
        self.room = Arc::new(Room::new(most.max(1)));
        self
    }

    /// The next connection, and what `lb` says about it. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// All of them concern one connection or one `lb`, and have been dealt with: log it, wait a moment as after an error of
    /// accept(2), and go on. `InvalidData`: an `lb` has sent what is no message of version 1, and its Unix connection
    /// is closed. `EMFILE`: there was no free descriptor for a connection, which is lost, or for a new `lb`.
    pub async fn accept(&mut self) -> io::Result<(Stream, Metadata)> {
        loop {
            let room = Arc::clone(&self.room);
            let received = std::future::poll_fn(|cx| poll(&mut self.links, &room, cx));
            tokio::select! {
                received = received => return received,
                lb = self.socket.accept() => self.links.push(Link::new(lb?.0, Arc::clone(&room))),
                () = room.freed.notified() => {}
                () = room.recovered() => {}
            }
        }
    }

    /// Counts a connection that was not handed over.
    pub(crate) fn count(&self) -> Open {
        Open::accepted(Arc::clone(&self.room))
    }

    /// Takes no more connections, and returns those that `lb` has handed over already. What it tries to hand over
    /// afterwards it is refused, so that it can go elsewhere. Streams that are open go on, and are reported when they
    /// are closed. Has to be called within the runtime.
    #[must_use = "these connections have been handed over, and their clients wait"]
    pub fn stop(mut self) -> Vec<(Stream, Metadata)> {
        // Who has connected may have handed something over already; nobody connects after this (connect(2), unix(7)).
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Read);
        while let Ok(lb) = socket::accept(&self.socket) {
            self.links.push(Link::new(lb, Arc::clone(&self.room)));
        }
        self.links.iter().for_each(Link::stop);
        let events = self.links.iter().flat_map(|link| std::iter::from_fn(|| link.last()));
        events.collect()
    }
}

/// What comes next from any of the links. Those that have ended are removed.
fn poll(links: &mut Vec<Link>, room: &Room, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Metadata)>> {
    let mut at = 0;
    while let Some(link) = links.get(at).filter(|_| !room.is_full()) {
        match link.poll(cx) {
            Poll::Pending => at += 1,
            Poll::Ready(Event::Connection(stream, metadata)) => {
                // The others are asked first the next time.
                links.rotate_left(at + 1);
                return Poll::Ready(Ok((stream, metadata)));
            }
            Poll::Ready(Event::Lost(error)) => {
                // Each message that is received now costs a client its connection.
                room.set_short();
                return Poll::Ready(Err(error));
            }
            Poll::Ready(Event::End(error)) => {
                links.swap_remove(at).end();
                if let Some(error) = error {
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
    Poll::Pending
}

/// How many connections may be open.
fn most() -> usize {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    let files = files.unwrap_or(usize::MAX);
    files.saturating_sub((files / 8).clamp(16, 256)).max(1)
}

/// The socket's file, which goes when the listener does.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    file: (u64, u64),
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Place { path: path.to_owned(), file: file(path)? })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // By now it may be somebody else's.
        if file(&self.path).is_ok_and(|file| file == self.file) {
            let _ = unlink(&self.path);
        }
    }
}

/// Which file is at the path.
fn file(path: &Path) -> io::Result<(u64, u64)> {
    let status = lstat(path)?;
    Ok((status.st_dev, status.st_ino))
}
