//! The clocks of the fleet.

use std::time::{Instant, SystemTime};

use fleet::{Time, UnixTime};

/// When the fleet began, on the monotonic clock and on the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(super) instant: Instant,
    wall: SystemTime,
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn start() -> Self {
        Clock { instant: Instant::now(), wall: SystemTime::now() }
    }

    /// When it began, as the time since 1970.
    pub(crate) fn born(&self) -> UnixTime {
        self.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    /// The time of the fleet at this instant.
    pub(super) fn time(&self, instant: Instant) -> Time {
        instant.saturating_duration_since(self.instant)
    }

    pub(super) fn rfc3339(&self, time: Time) -> String {
        humantime::format_rfc3339_millis(self.wall + time).to_string()
    }
}
