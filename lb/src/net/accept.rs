//! What the errors of accept(2) mean. It accepts nothing.

use std::io;

use rustix::io::Errno;

/// What an error of accept(2) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// One client left before it was accepted, or its network failed. So many of these in a row that no client is ever accepted are
    /// the listener's trouble.
    Connection,
    /// There is no file or memory left for a connection. The listener is fine.
    Shortage,
    /// The listener does not work: it was destroyed (ss(8), `--kill`), or every call is refused.
    Listener,
}

impl Trouble {
    /// The pending network errors of a new connection that accept(2) lists under "Error handling", and a client that has left.
    const CONNECTION: [Errno; 10] = [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
    ];
    const SHORTAGE: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];

    /// An error that is in no list is taken for the listener's: no error may be tried again without a pause.
    pub(crate) fn of(error: &io::Error) -> Self {
        let is_one_of =
            |list: &[Errno]| Errno::from_io_error(error).is_some_and(|errno| list.contains(&errno));
        if is_one_of(&Self::CONNECTION) {
            Trouble::Connection
        } else if is_one_of(&Self::SHORTAGE) {
            Trouble::Shortage
        } else {
            Trouble::Listener
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_errors_of_accept_are_not_the_listeners() {
        let trouble = |errno: Errno| Trouble::of(&errno.into());
        assert_eq!(trouble(Errno::CONNABORTED), Trouble::Connection);
        assert_eq!(trouble(Errno::HOSTUNREACH), Trouble::Connection);
        assert_eq!(trouble(Errno::MFILE), Trouble::Shortage);
        for errno in [Errno::INVAL, Errno::PERM, Errno::BADF, Errno::NOTSOCK, Errno::NOSYS, Errno::FAULT] {
            assert_eq!(trouble(errno), Trouble::Listener, "{errno}");
        }
    }
}
