//! Small truths about sockets that both planes need.

use std::io;

use rustix::io::Errno;

/// Whether a failed connect is this side's fault: no files, no memory, no free port. It says nothing about the peer.
pub(crate) fn is_local(error: &io::Error) -> bool {
    let local =
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL, Errno::ADDRINUSE];
    Errno::from_io_error(error).is_some_and(|errno| local.contains(&errno))
}
