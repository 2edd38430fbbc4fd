//! The history of a fleet as values that can be written down: what it began with, and then each event with its time.
//!
//! A fleet is deterministic, so a history that is read again ends in the same fleet ([`Replay`]). Nothing is started or stopped: the
//! effects of the events are dropped. The seed of the mapping is a secret and is not written down; no decision of a fleet depends on
//! it but whether a mapping has room, and of that the outcome is written down.

use std::collections::HashMap;

use proto::control::{Failure, Hostname, Weight};
use serde::{Deserialize, Serialize};

use crate::event::{CommandId, Effect, Event};
use crate::fleet::Fleet;
use crate::names::{Names, Rule};
use crate::nouns::Time;
use crate::policy::{Lineup, Policy};
use crate::room::{Demand, Room};

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
    Fixed(Vec<(Hostname, Weight)>),
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
    /// What is demanded by commands whose room is looked for.
    demands: HashMap<CommandId, Demand>,
}

/// An input that does not follow from the ones before: some are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("room for a command was found that has not asked for it")]
pub struct Unfit;

impl Beginning {
    /// What [`Fleet::new`] gets.
    #[must_use]
    pub fn new(policy: &Policy, names: &Names, lineup: &Lineup, seed: u64) -> Self {
        let names = match names {
            Names::Random => NamesText::Random,
            Names::Ruled(rule) => NamesText::Ruled(rule.about().to_owned()),
            Names::Fixed(names) => NamesText::Fixed(names.clone()),
        };
        Beginning { policy: policy.clone(), names, lineup: lineup.clone(), seed }
    }

    /// How the history begins. `rule` makes the rule for names again from what it [depends on](Rule::about).
    #[must_use]
    pub fn replay(self, rule: impl FnOnce(&str) -> Rule) -> Replay {
        let names = match self.names {
            NamesText::Random => Names::Random,
            NamesText::Ruled(about) => Names::Ruled(rule(&about)),
            NamesText::Fixed(names) => Names::Fixed(names),
        };
        let (fleet, effects) = Fleet::new(self.policy, names, self.lineup, self.seed);
        let mut replay = Replay { fleet, demands: HashMap::new() };
        replay.keep_demands(effects);
        replay
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
                let demand = self.demands.remove(&command).ok_or(Unfit)?;
                Event::Checked(command, failure.map_or_else(|| Ok(Room::found(demand)), Err))
            }
        };
        let effects = self.fleet.apply(now, event);
        self.keep_demands(effects);
        Ok(())
    }

    /// The fleet as it was then.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    fn keep_demands(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Check(command, demand) = effect {
                self.demands.insert(command, demand);
            }
        }
    }
}
