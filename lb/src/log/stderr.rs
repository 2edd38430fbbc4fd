//! stderr, which may be a file on a full disk, or a pipe whose reader is slow. What is missing in the log is said in the log.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tracing::warn;

use super::dropped;
use crate::appender::{Missing, Torn};

/// How many lines could not be written.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines could not be written.
pub(super) fn lost() -> u64 {
    LOST.load(Relaxed)
}

/// Writes lines there. A line for which there is no room is lost, and nothing else is.
pub(super) struct Output<W> {
    to: W,
    torn: Torn,
    missing: Missing,
}

impl<W: AsFd> Output<W> {
    pub(super) fn new(to: W) -> Self {
        Output { to, torn: Torn::default(), missing: Missing::default() }
    }

    /// Says that lines are missing, once there is room again, and once a second at most. That is a line like all others: it waits for its
    /// turn, and it may be lost.
    fn say_what_is_missing(&mut self) {
        let Some((lines, error)) = self.missing.due(dropped(), "its reader") else { return };
        warn!(lines, %error, "lines are missing in the log");
    }
}

impl<W: AsFd> Write for Output<W> {
    /// Takes whole lines.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match self.torn.put(&self.to, lines) {
            Ok(()) => self.say_what_is_missing(),
            Err((lost, error)) => {
                LOST.fetch_add(lost, Relaxed);
                self.missing.note(error);
            }
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
