//! Small truths about sockets that both planes need.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::warn;

/// A peer that says nothing for this long is asked by the kernel whether it is still there.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long to look at a new connection of which one does not know whether it will be dropped again.
pub(crate) const SECOND_THOUGHT: Duration = Duration::from_millis(50);
/// The least time between two log lines about the same shortage.
const QUIET: Duration = Duration::from_secs(1);

/// Whether a failed connect is this side's fault: no files, no memory, no watches, no free port. It says nothing about the peer.
pub(crate) fn is_local(error: &io::Error) -> bool {
    let local = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::NOSPC, // for what the runtime watches: epoll_ctl(2)
        Errno::ADDRNOTAVAIL,
        Errno::ADDRINUSE,
    ];
    Errno::from_io_error(error).is_some_and(|errno| local.contains(&errno))
}

/// Waits a moment to see whether the peer drops a connection that it has just accepted.
pub(crate) async fn look_twice(stream: &TcpStream, moment: Duration) -> io::Result<()> {
    match timeout(moment, stream.peek(&mut [0])).await {
        Ok(Ok(0)) => Err(io::Error::new(ErrorKind::ConnectionAborted, "the connection is closed at once")),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// Logs that connections cannot be accepted: a shortage makes itself felt many times a second, and is said once.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    last: Mutex<Option<Instant>>,
}

impl Complaints {
    pub(crate) fn complain(&self, port: &str, what: &dyn Display) {
        let Ok(mut last) = self.last.lock() else { return };
        if last.is_none_or(|at| at.elapsed() >= QUIET) {
            *last = Some(Instant::now());
            warn!("{port}: no new connections for the moment: {what}");
        }
    }
}
