//! The history of a fleet as values that can be written down: what it began with, and then each event with its time. A [`Checkpoint`] is
//! the fleet itself, from which a history can be read on.
//!
//! A fleet is deterministic, so a history that is read again ends in the same fleet ([`Replay`]). Nothing is started or stopped: the
//! effects of the events are dropped. The seed of the mapping is a secret and is not written down; no decision of a fleet depends on
//! it but whether a mapping has room, and of that the outcome is written down.

use proto::control::{Failure, FixedBackend};
use serde::{Deserialize, Serialize};

use crate::event::{CommandId, Event};
use crate::fleet::Fleet;
use crate::names::{Names, Rule};
use crate::nouns::Time;
use crate::policy::{Lineup, Policy};
use crate::room::Room;

/// What a fleet begins with, as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Beginning {
    policy: Policy,
    names: NamesText,
    lineup: Lineup,
    seed: u64,
}

/// [`Names`] as they are written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NamesText {
    Random,
    /// With what the rule depends on.
    Ruled(String),
    Fixed(Vec<FixedBackend>),
}

/// An [`Event`] as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The mapping has room for what a command demands, or this is the reason why it has none.
    Checked(CommandId, Option<Failure>),
    /// Any other event.
    #[serde(untagged)]
    Event(Event),
}

/// A fleet whose history is read again.
#[derive(Clone, Debug)]
pub struct Replay {
    fleet: Fleet,
}

/// A fleet at one moment, as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    fleet: Fleet,
    names: NamesText,
}

/// An input that does not follow from the ones before: some are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("room for a command was found that has not asked for it")]
pub struct Unfit;

impl Beginning {
    /// What [`Fleet::new`] gets.
    #[must_use]
    pub fn new(policy: &Policy, names: &Names, lineup: &Lineup, seed: u64) -> Self {
        Beginning { policy: policy.clone(), names: names.into(), lineup: lineup.clone(), seed }
    }

    /// How the history begins. `rule` makes the rule for names again from what it [depends on](Rule::about).
    #[must_use]
    pub fn replay(self, rule: impl FnOnce(&str) -> Rule) -> Replay {
        let (fleet, _) = Fleet::new(self.policy, self.names.read(rule), self.lineup, self.seed);
        Replay { fleet }
    }
}

impl Checkpoint {
    /// The fleet as it is between two events.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        Checkpoint { fleet: fleet.clone(), names: fleet.names().into() }
    }

    /// How the history goes on. `rule` makes the rule for names again from what it [depends on](Rule::about).
    #[must_use]
    pub fn replay(self, rule: impl FnOnce(&str) -> Rule) -> Replay {
        Replay { fleet: self.fleet.with_names(self.names.read(rule)) }
    }
}

impl NamesText {
    fn read(self, rule: impl FnOnce(&str) -> Rule) -> Names {
        match self {
            NamesText::Random => Names::Random,
            NamesText::Ruled(about) => Names::Ruled(rule(&about)),
            NamesText::Fixed(names) => Names::Fixed(names),
        }
    }
}

impl From<&Names> for NamesText {
    fn from(names: &Names) -> Self {
        match names {
            Names::Random => NamesText::Random,
            Names::Ruled(rule) => NamesText::Ruled(rule.about().to_owned()),
            Names::Fixed(names) => NamesText::Fixed(names.clone()),
        }
    }
}

impl From<&Event> for Input {
    fn from(event: &Event) -> Self {
        match event {
            Event::Checked(command, found) => Input::Checked(*command, found.as_ref().err().cloned()),
            event => Input::Event(event.clone()),
        }
    }
}

impl Replay {
    /// Goes on with what happened at `now`.
    ///
    /// # Errors
    /// The input does not follow from the ones before. Nothing is changed.
    pub fn apply(&mut self, now: Time, input: Input) -> Result<(), Unfit> {
        let event = match input {
            Input::Event(event) => event,
            Input::Checked(command, failure) => {
                let demand = self.fleet.demand_under_check(command).ok_or(Unfit)?.clone();
                Event::Checked(command, failure.map_or_else(|| Ok(Room::found(demand)), Err))
            }
        };
        self.fleet.apply(now, event);
        Ok(())
    }

    /// The fleet as it was then.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }
}
