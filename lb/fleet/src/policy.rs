//! The rules of a fleet, and what it begins with.

use std::time::Duration;

use mapping::MappingPolicy;
use proto::control::{FixedBackend, Hostname, Weight};
use serde::{Deserialize, Serialize};

use crate::nouns::{Seat, SlotId, Stopping};
use crate::policy_text;
use crate::roster::UnixTime;

/// The rules of a fleet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// How keys are mapped. Commands can change it.
    #[serde(with = "policy_text")]
    pub mapping: MappingPolicy,
    /// How long a started replica may take until its probes pass.
    pub start_timeout: Duration,
    /// How long the sessions of a removed replica may go on, if the command does not say.
    pub drain_timeout: Duration,
    /// Who decides.
    pub authority: Authority,
    /// The wall clock at [`Time`](crate::Time) zero.
    pub born: UnixTime,
}

/// Who decides which replica sits where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authority {
    /// This `lb` alone. A change is made at once.
    Alone {
        /// Whether a replacement keeps the hostname of the replica it replaces.
        same_name: bool,
        /// Whether `lb` can start replicas. It cannot start fixed addresses.
        restartable: bool,
        /// Whether replicas keep running when `lb` ends.
        keep: bool,
    },
    /// All `lb`s that share a [`Roster`](crate::Roster). A change is proposed, and made when it is agreed.
    ///
    /// A lost replica comes back by itself, under its hostname: to start one means to follow the next one there.
    Shared,
    /// Something outside, such as a name server. The roster is followed; only the mapping and the weights are this `lb`'s to change.
    Outside,
}

impl Policy {
    /// Whether changes have to be agreed on.
    pub(crate) fn is_shared(&self) -> bool {
        self.authority == Authority::Shared
    }

    /// Whether replicas can be started.
    pub(crate) fn is_restartable(&self) -> bool {
        match self.authority {
            Authority::Alone { restartable, .. } => restartable,
            Authority::Shared => true,
            Authority::Outside => false,
        }
    }

    /// Whether the next replica has the hostname of the lost one: in a slot, and as a spare.
    pub(crate) fn keeps_hostname(&self, is_slot: bool) -> bool {
        match self.authority {
            Authority::Alone { same_name, .. } => same_name && is_slot,
            Authority::Shared | Authority::Outside => true,
        }
    }

    /// How a replica is stopped that has left the fleet. What others may still use is only let go.
    pub(crate) fn farewell(&self) -> Stopping {
        match self.authority {
            Authority::Alone { .. } => Stopping::Gently,
            Authority::Shared | Authority::Outside => Stopping::Release,
        }
    }

    /// How the replicas of the fleet are stopped when `lb` ends.
    pub(crate) fn closing(&self) -> Stopping {
        match self.authority {
            Authority::Alone { keep: false, .. } => Stopping::Gently,
            Authority::Alone { keep: true, .. } | Authority::Shared | Authority::Outside => Stopping::Release,
        }
    }
}

/// The slots and spares that a fleet begins with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lineup {
    /// The slots, by index, each with the hostname of its first replica.
    pub seats: Vec<Seat>,
    /// The hostnames of spares that already run.
    pub(crate) known_spares: Vec<Hostname>,
    /// How many more spares to start.
    pub(crate) more_spares: usize,
}

impl Lineup {
    /// A new fleet: slots with the indices 1, 2, 3, ..., and replicas with the names of their slots.
    #[must_use]
    pub fn new(slots: Vec<(Hostname, Weight)>, spares: usize) -> Self {
        let seat = |(index, (name, weight)): (u32, (Hostname, Weight))| {
            Seat::new(SlotId { index, name: name.clone() }, weight, name)
        };
        Lineup::of((1..).zip(slots).map(seat).collect(), Vec::new(), spares)
    }

    /// A new fleet of servers that run already: slots with the indices 1, 2, 3, ...
    #[must_use]
    pub fn fixed<'a>(servers: impl IntoIterator<Item = &'a FixedBackend>) -> Self {
        let seat = |(index, server): (u32, &FixedBackend)| {
            let slot = SlotId { index, name: server.name.clone() };
            let location = Some(server.location.clone());
            Seat { location, ..Seat::new(slot, server.weight(), server.name.clone()) }
        };
        Lineup::of((1..).zip(servers).map(seat).collect(), Vec::new(), 0)
    }

    /// A fleet with these `seats`, by index, and this number of `spares`, some of which already run.
    #[must_use]
    pub fn of(seats: Vec<Seat>, known_spares: Vec<Hostname>, spares: usize) -> Self {
        let more_spares = spares.saturating_sub(known_spares.len());
        Lineup { seats, known_spares, more_spares }
    }
}
