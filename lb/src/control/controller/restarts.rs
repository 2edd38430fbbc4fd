//! Why replicas were replaced. The fleet counts how often; what it was told last about the old replica is the cause.

use std::collections::HashMap;

use fleet::{Event, ReplicaId, View};
use proto::control::State;

use super::Controller;
use crate::control::exposition::Cause;

/// What is known of each slot, by index.
#[derive(Debug, Default)]
pub(super) struct Restarts(HashMap<u32, Slot>);

#[derive(Debug)]
struct Slot {
    /// How many restarts are counted already.
    counted: u64,
    cause: Cause,
}

impl Default for Slot {
    fn default() -> Self {
        // Of a start that takes too long nothing is heard.
        Slot { counted: 0, cause: Cause::StartFailed }
    }
}

impl Restarts {
    /// The replica of a slot is lost for this reason.
    fn blame(&mut self, index: u32, cause: Cause) {
        self.0.entry(index).or_default().cause = cause;
    }

    /// A slot has had so many restarts. Returns how many of them are new, and why.
    fn news(&mut self, index: u32, restarts: u64) -> Option<(u64, Cause)> {
        let slot = self.0.entry(index).or_default();
        let new = restarts.saturating_sub(slot.counted);
        slot.counted = restarts;
        (new > 0).then(|| (new, std::mem::replace(&mut slot.cause, Cause::StartFailed)))
    }

    /// Only slots with these indices are left.
    pub(super) fn retain(&mut self, is_left: impl Fn(u32) -> bool) {
        self.0.retain(|index, _| is_left(*index));
    }
}

impl Controller {
    /// The fleet is about to hear this.
    pub(super) fn note_cause(&mut self, event: &Event) {
        let (id, cause) = match event {
            Event::Lost(id, _) | Event::Hindered(id, _) => (*id, self.end_of(*id)),
            Event::Unresponsive(id) => (*id, Cause::Unresponsive),
            _ => return,
        };
        let view = self.fleet.slots().find(|view| view.replica == Some(id));
        if let Some(slot) = view.and_then(|view| view.slot) {
            self.restarts.blame(slot.index, cause);
        }
    }

    /// What the end of a replica means.
    fn end_of(&self, id: ReplicaId) -> Cause {
        let has_started = self.running.get(&id).is_some_and(|running| running.replica.is_some());
        if has_started { Cause::Exit } else { Cause::StartFailed }
    }

    /// Counts the restarts of a slot that has changed, and says which replica sits there.
    pub(super) fn count_restarts(&mut self, view: &View) {
        // A slot that drains has left the fleet already.
        let Some(slot) = view.slot.as_ref().filter(|_| view.state != State::Draining) else { return };
        if let Some((times, cause)) = self.restarts.news(slot.index, view.restarts) {
            self.setup.slots.restarted(slot.name.as_str(), cause, times);
        }
        self.seat(view);
    }

    /// Tells which replica sits in a slot.
    pub(super) fn seat(&self, view: &View) {
        let replica = view.replica.and_then(|id| self.running.get(&id)?.replica.as_ref());
        if let (Some(slot), Some(replica)) = (&view.slot, replica) {
            self.setup.slots.seat(slot.name.as_str(), replica);
            replica.sit(slot.name.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_restart_is_counted_once_with_its_cause() {
        let mut restarts = Restarts::default();
        assert_eq!(restarts.news(1, 0), None);
        restarts.blame(1, Cause::Exit);
        assert_eq!(restarts.news(1, 1), Some((1, Cause::Exit)));
        assert_eq!(restarts.news(1, 1), None);
        assert_eq!(restarts.news(1, 2), Some((1, Cause::StartFailed)), "nothing was heard");
        restarts.retain(|index| index != 1);
        assert_eq!(restarts.news(1, 0), None, "another slot with this index");
    }
}
