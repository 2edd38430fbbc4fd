//! The kinds of failed requests. Each has a name, under which it is counted.

use std::fmt;
use std::io::{self, ErrorKind};

use rustix::io::Errno;

/// Why a request got no right answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// No server listens at the address.
    Refused,
    /// The address cannot be reached.
    Unreachable,
    /// The connection was reset before the answer was complete.
    Reset,
    /// The connection was closed before the answer was complete.
    Closed,
    /// It took too long.
    Timeout,
    /// An HTTP status other than 2xx.
    Status(u16),
    /// An answer to another request, or none of this protocol.
    Wrong,
    /// This host has no more ports, files or memory; it is not the target's fault.
    Local,
    /// It was due in an open loop, and no connection was free to send it before the end.
    NotSent,
}

impl Failure {
    /// The failure behind an error of a socket.
    pub(crate) fn of(error: &io::Error) -> Self {
        if is_local(error) {
            return Failure::Local;
        }
        match error.kind() {
            ErrorKind::ConnectionRefused => Failure::Refused,
            ErrorKind::TimedOut => Failure::Timeout,
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                Failure::Reset
            }
            _ => Failure::Unreachable,
        }
    }

    /// Whether there was no connection, so that the next try should wait a moment.
    pub(crate) fn is_without_connection(self) -> bool {
        matches!(self, Failure::Refused | Failure::Unreachable | Failure::Local)
    }
}

fn is_local(error: &io::Error) -> bool {
    let shortages =
        [Errno::ADDRNOTAVAIL, Errno::ADDRINUSE, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
            .map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| shortages.contains(&code))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("refused"),
            Failure::Unreachable => f.write_str("unreachable"),
            Failure::Reset => f.write_str("reset"),
            Failure::Closed => f.write_str("closed early"),
            Failure::Timeout => f.write_str("timeout"),
            Failure::Status(code) => write!(f, "status {code}"),
            Failure::Wrong => f.write_str("wrong answer"),
            Failure::Local => f.write_str("no ports, files or memory left here"),
            Failure::NotSent => f.write_str("not sent in time"),
        }
    }
}
