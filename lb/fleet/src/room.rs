//! Whether the mapping has room for the slots that a command would make.
//!
//! To find out may take a second: the table of `slots` is filled on trial. So the fleet asks for it ([`Effect::Check`](crate::Effect::Check)),
//! the owner of the fleet has it computed ([`Demand::check`]), and the fleet goes on when it has the proof, a [`Room`].

use mapping::{Mapping, Member, Scheme};
use proto::control::{Failure, FailureKind};

/// What the mapping has to have room for: the slots in it, those of every `add` under way, and those of the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    scheme: Scheme,
    /// Without their names, which take no room.
    members: Vec<Member>,
}

impl Demand {
    pub(crate) fn new(scheme: Scheme, mut members: Vec<Member>) -> Self {
        members.iter_mut().for_each(|member| member.name.clear());
        Demand { scheme, members }
    }

    /// Checks whether there is room. It is pure, and takes up to a second.
    ///
    /// # Errors
    /// There is none: the weights are too large, or quadratic probing finds no free entry.
    pub fn check(self) -> Result<Room, Failure> {
        match Mapping::check(&self.scheme, &self.members) {
            Ok(()) => Ok(Room(self)),
            Err(full) => Err(FailureKind::BadRequest.because(full.to_string())),
        }
    }
}

/// The proof that there is room for a demand.
#[derive(Clone, Debug, PartialEq, Eq)]
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
