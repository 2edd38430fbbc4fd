//! When an `lb` suspects itself.
//!
//! Where several `lb`s serve one fleet, each sees the replicas with its own eyes. One that was cut off from the network would take all
//! of them for dead, and have those replaced that serve the others well. So an `lb` for which more than half of the fleet is silent holds
//! its own view against itself: it replaces nothing, until most of the fleet has been heard for a while. That a replica has ended it
//! learns from the engine; that is no matter of silence.
//!
//! A fleet of one replica is the exception: there is no other replica to hear, and a hung replica would stay for ever.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Fleet;
use crate::event::Effect;
use crate::nouns::Time;

/// How long most of the fleet must have been heard. When a network heals, replicas are not heard all at once.
const SETTLING: Duration = Duration::from_secs(5);

/// Whether this `lb` suspects itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Doubt {
    is_silent: bool,
    /// Until then it replaces nothing, though most of the fleet is heard.
    until: Time,
    /// Whether it has refrained from a replacement.
    is_told: bool,
}

impl Fleet {
    /// Whether more than half of the fleet is silent.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.doubt.is_silent
    }

    /// Whether most of the fleet is heard, and has been for a while.
    pub(super) fn is_sure(&self) -> bool {
        !self.doubt.is_silent && self.now >= self.doubt.until
    }

    /// Whether replicas may be replaced for what this `lb` sees of them. If not, that is told.
    pub(super) fn may_replace(&mut self) -> bool {
        let may = self.is_sure();
        if !may && !std::mem::replace(&mut self.doubt.is_told, true) {
            self.effects.push(Effect::Doubt(true));
        }
        may
    }

    /// Looks at the fleet after an event.
    pub(super) fn reconsider(&mut self) {
        if !self.policy.is_shared() || self.over {
            return;
        }
        let silent = self.places.iter().filter(|place| place.life.is_silent()).count();
        let was_silent = self.doubt.is_silent;
        self.doubt.is_silent = self.places.len() > 1 && 2 * silent > self.places.len();
        if was_silent || self.doubt.is_silent {
            self.doubt.until = self.now + SETTLING;
        } else if self.now >= self.doubt.until && std::mem::take(&mut self.doubt.is_told) {
            self.effects.push(Effect::Doubt(false));
        }
    }
}
