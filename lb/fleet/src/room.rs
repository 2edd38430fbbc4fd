//! Whether the mapping has room for the slots that a command would make.
//!
//! To find out may take a second: the table of `slots` is filled on trial. So the fleet asks for it ([`Effect::Check`](crate::Effect::Check)),
//! the owner of the fleet has it computed ([`Demand::check`]), and the fleet goes on when it has the proof, a [`Room`].

use mapping::{Mapping, MappingPolicy, Member, Scheme};
use proto::control::{Failure, FailureKind};
use serde::{Deserialize, Serialize};

use crate::policy_text;

/// What the mapping has to have room for: the slots in it, those of every `add` under way, and those of the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Each way in which keys may be mapped, and all slots of then. One way nearly always.
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PartText", into = "PartText")]
struct Part {
    scheme: Scheme,
    /// Without their names, which take no room.
    members: Vec<Member>,
}

/// A part as it is written down: the indices and weights of its members.
#[derive(Serialize, Deserialize)]
struct PartText {
    #[serde(with = "policy_text")]
    mapping: MappingPolicy,
    members: Vec<(u32, u32)>,
}

impl From<Part> for PartText {
    fn from(Part { scheme, members }: Part) -> Self {
        let members = members.into_iter().map(|member| (member.index, member.weight));
        PartText { mapping: MappingPolicy { scheme, balance: None }, members: members.collect() }
    }
}

impl From<PartText> for Part {
    fn from(PartText { mapping, members }: PartText) -> Self {
        let members =
            members.into_iter().map(|(index, weight)| Member { index, name: String::new(), weight });
        Part { scheme: mapping.scheme, members: members.collect() }
    }
}

impl Demand {
    pub(crate) fn new(scheme: Scheme, members: Vec<Member>) -> Self {
        let mut demand = Demand { parts: Vec::with_capacity(1) };
        demand.add(scheme, members);
        demand
    }

    /// Demands room for these slots under this scheme as well.
    pub(crate) fn add(&mut self, scheme: Scheme, mut members: Vec<Member>) {
        members.iter_mut().for_each(|member| member.name.clear());
        let part = Part { scheme, members };
        if !self.parts.contains(&part) {
            self.parts.push(part);
        }
    }

    /// Checks whether there is room. It is pure, and takes up to a second or two.
    ///
    /// # Errors
    /// There is none: the weights are too large, or quadratic probing finds no free entry.
    pub fn check(self) -> Result<Room, Failure> {
        for Part { scheme, members } in &self.parts {
            Mapping::check(scheme, members)
                .map_err(|full| FailureKind::BadRequest.because(full.to_string()))?;
        }
        Ok(Room(self))
    }
}

/// The proof that there is room for a demand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room(Demand);

impl Room {
    /// The room that was found for this demand, as a transcript says.
    pub(crate) fn found(demand: Demand) -> Self {
        Room(demand)
    }

    /// Whether this is the room for this demand. It may not be: the fleet may have changed during the check.
    pub(crate) fn is_for(&self, demand: &Demand) -> bool {
        self.0 == *demand
    }
}
