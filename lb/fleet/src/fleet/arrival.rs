//! The slots of one `add` that are not in the mapping yet.

use std::time::Duration;

use proto::control::State;
use serde::{Deserialize, Serialize};

use super::rest::Rest;
use crate::event::CommandId;
use crate::nouns::{ReplicaId, Time};
use crate::place::Place;
use crate::roster::{Coming, UnixTime};

/// How long an `add` waits for its replicas: short enough to answer it within a minute.
pub(super) const ADD_LIMIT: Duration = Duration::from_secs(50);

/// The slots of one `add` that are not in the mapping yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Arrival {
    pub(super) command: CommandId,
    pub(super) places: Vec<Place>,
    /// When all of them have to be ready. Each replica also has its own deadline from its start on.
    pub(super) deadline: Time,
    /// How long its slots were announced for.
    pub(super) until: UnixTime,
    /// Why it has to be given up, if that came to light while it was proposed that they enter.
    pub(super) broken: Option<String>,
    /// What else happens when its slots enter, if it is of a revision.
    pub(super) rest: Option<Rest>,
}

impl Arrival {
    /// Whether one of its replicas is this one.
    pub(super) fn holds(&self, id: ReplicaId) -> bool {
        self.places.iter().any(|place| place.holds(id))
    }

    /// Whether it has announced this slot.
    pub(super) fn announced(&self, coming: &Coming) -> bool {
        let is_it = |place: &Place| place.slot.as_ref() == Some(&coming.seat.slot);
        coming.until == self.until && self.places.iter().any(is_it)
    }

    /// Whether all of its replicas are ready.
    pub(super) fn is_complete(&self) -> bool {
        self.places.iter().all(|place| place.life.state() == State::Up)
    }

    /// The earliest of its deadlines.
    pub(super) fn next_deadline(&self) -> Time {
        self.places
            .iter()
            .filter_map(|place| place.life.deadline())
            .min()
            .unwrap_or(self.deadline)
            .min(self.deadline)
    }

    /// The reason for abandoning the `add`, if one of its deadlines has passed by `now`.
    pub(super) fn overdue(&self, now: Time, start_timeout: Time) -> Option<String> {
        let late = self.places.iter().find(|place| place.life.late(now).is_some());
        let unready = || self.places.iter().find(|place| place.life.state() != State::Up);
        match late {
            Some(late) => Some(late.overdue(start_timeout)),
            None if self.deadline <= now => unready().map(|place| place.overdue(ADD_LIMIT)),
            None => None,
        }
    }
}
