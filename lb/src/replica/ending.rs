//! How a connection with a replica ended.

use std::fmt;

/// How a connection ended that had reached a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Both directions came to their end.
    Complete,
    /// The client reset the connection.
    ClientReset,
    /// The replica reset the connection.
    ReplicaReset,
    /// Both directions were silent for too long, or one had ended and the other was.
    Idle,
    /// It has reached its greatest age.
    Aged,
    /// The replica was stopped before the session ended.
    Evicted,
    /// The replica has taken it over.
    HandedOver,
    /// A system call failed, for a reason of this machine.
    Local,
}

impl Ending {
    /// All of them.
    pub(crate) const ALL: [Ending; 8] = [
        Ending::Complete,
        Ending::ClientReset,
        Ending::ReplicaReset,
        Ending::Idle,
        Ending::Aged,
        Ending::Evicted,
        Ending::HandedOver,
        Ending::Local,
    ];

    /// Its name, as programs read it.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Ending::Complete => "complete",
            Ending::ClientReset => "client_reset",
            Ending::ReplicaReset => "replica_reset",
            Ending::Idle => "idle",
            Ending::Aged => "aged",
            Ending::Evicted => "evicted",
            Ending::HandedOver => "handed_over",
            Ending::Local => "local",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Complete => "complete",
            Ending::ClientReset => "reset by the client",
            Ending::ReplicaReset => "reset by the replica",
            Ending::Idle => "idle",
            Ending::Aged => "too old",
            Ending::Evicted => "evicted",
            Ending::HandedOver => "handed over",
            Ending::Local => "local error",
        })
    }
}
