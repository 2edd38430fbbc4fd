//! The kinds of faults of a soak: their names on the command line, and what each of them is.

use std::fmt;

use clap::ValueEnum;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// SIGKILL to a replica
    Kill,
    /// SIGSTOP to a replica: for a moment, or until lb replaces it
    Stop,
    /// SIGKILL to all replicas at once
    Blackout,
    /// A slot is removed, and added again at the end of the round
    Rm,
    /// One or two slots are added, and removed again at the end of the round
    Add,
    /// Another mapping, or another weight, until the end of the round
    Remap,
    /// Clients that reset their connection, most of them in the middle of an answer
    Reset,
    /// Slow readers of long answers, and first lines that come byte by byte
    Slow,
    /// Connections that say nothing, at both ports; garbage and wrong tokens at the control port
    Flood,
    /// First bytes that belong to no protocol
    Garbage,
    /// Clients that close their side after the request
    HalfClose,
}

impl Kind {
    /// All kinds.
    pub(crate) fn all() -> Vec<Kind> {
        Kind::value_variants().to_vec()
    }

    /// Whether it needs the process of a replica.
    pub(crate) fn is_signal(self) -> bool {
        matches!(self, Kind::Kill | Kind::Stop | Kind::Blackout)
    }
}

/// As on the command line.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}
