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
/// Dropping it closes the connections that wait in it; [`Listener::stop`] returns them instead. In both cases the streams
/// that it has yielded continue, and are reported when they close, for as long as the runtime lives.
#[derive(Debug)]
pub struct Listener {
    links: Vec<Link>,
    room: Arc<Room>,
    socket: UnixListener,
    _place: Place,
}

impl Listener {
    /// Listens at `path` (at most 107 bytes), for the owner of this process alone (mode 0600). It replaces a stale socket,
    /// one without a listener. Call it within a runtime.
    ///
    /// The limit of open connections is the limit of open files less an eighth (16 to 256) for the rest of the program.
    /// Connections that [`Either`](crate::Either) accepts by TCP count as well.
    ///
    /// # Errors
    /// `AddrInUse`: another process listens there, or the path is not a socket. Other errors are those of bind(2).
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let socket = socket::listen(path)?;
        let place = Place::of(path)?;
        let socket = UnixListener::from_std(StdListener::from(socket))?;
        Ok(Listener { links: Vec::new(), room: Arc::new(Room::new(most())), socket, _place: place })
    }

    /// Listens at the path in `value`, the value of the environment variable [`VARIABLE`](crate::VARIABLE), if it is set:
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

    /// Sets the limit of open connections to `most` (at least 1). Further connections wait in the queue; when it is full,
    /// `lb` picks another replica. The limit applies to connections accepted from now on.
    #[must_use]
    pub fn at_most(mut self, most: usize) -> Self {
        self.room = Arc::new(Room::new(most.max(1)));
        self
    }

    /// Returns the next connection and its metadata. Cancel safe.
    ///
    /// # Errors
    /// Each error concerns one connection or one `lb` and has been dealt with: log it, wait a moment as after an error of
    /// accept(2), and call again. `InvalidData`: an `lb` sent something other than a message of version 1; its Unix
    /// connection is closed. `EMFILE`: there was no free file descriptor for a connection, which is lost, or for a new `lb`.
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

    /// Counts a connection that arrived by TCP.
    pub(crate) fn count(&self) -> Open {
        Open::accepted(Arc::clone(&self.room))
    }

    /// Stops listening and returns the connections that `lb` has handed over already. Further attempts fail at `lb`, which
    /// then picks another replica. Open streams continue, and are reported when they close. Call it within the runtime.
    #[must_use = "these connections have been handed over, and their clients wait"]
    pub fn stop(mut self) -> Vec<(Stream, Metadata)> {
        // After this no lb can connect (connect(2), unix(7)); those in the queue may have handed something over already.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Read);
        while let Ok(lb) = socket::accept(&self.socket) {
            self.links.push(Link::new(lb, Arc::clone(&self.room)));
        }
        self.links.iter().for_each(Link::stop);
        let events = self.links.iter().flat_map(|link| std::iter::from_fn(|| link.last()));
        events.collect()
    }
}

/// Polls all links for the next connection, and removes the links that have ended.
fn poll(links: &mut Vec<Link>, room: &Room, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Metadata)>> {
    let mut at = 0;
    while let Some(link) = links.get(at).filter(|_| !room.is_full()) {
        match link.poll(cx) {
            Poll::Pending => at += 1,
            Poll::Ready(Event::Connection(stream, metadata)) => {
                // Fairness: the next call begins with the other links.
                links.rotate_left(at + 1);
                return Poll::Ready(Ok((stream, metadata)));
            }
            Poll::Ready(Event::Lost(error)) => {
                // Each message received during a shortage loses its client.
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

/// The limit of open connections, from the limit of open files.
fn most() -> usize {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    let files = files.unwrap_or(usize::MAX);
    files.saturating_sub((files / 8).clamp(16, 256)).max(1)
}

/// The socket's file, removed together with the listener.
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
        // Another process may have replaced it.
        if file(&self.path).is_ok_and(|file| file == self.file) {
            let _ = unlink(&self.path);
        }
    }
}

/// Device and inode of the file at `path`.
fn file(path: &Path) -> io::Result<(u64, u64)> {
    let status = lstat(path)?;
    Ok((status.st_dev, status.st_ino))
}
