//! Lines that are missing in a file, said in the log.

use std::io;

use crate::net::Throttle;

/// Says how many lines are missing and why, once a second at most.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    /// How many have been said.
    said: u64,
    /// Why the last ones were lost, if they could not be written.
    error: Option<io::Error>,
    complaints: Throttle,
}

impl Missing {
    /// Lines could not be written.
    pub(crate) fn note(&mut self, error: io::Error) {
        self.error = Some(error);
    }

    /// How many of those that are `lost` have to be said now, and why they are. Lines that nothing tried to write were lost because of
    /// what is too `slow`.
    pub(crate) fn due(&mut self, lost: u64, slow: &str) -> Option<(u64, io::Error)> {
        if lost == self.said || self.complaints.ask().is_none() {
            return None;
        }
        let error = self.error.take().unwrap_or_else(|| io::Error::other(format!("{slow} is too slow")));
        Some((lost - std::mem::replace(&mut self.said, lost), error))
    }
}
