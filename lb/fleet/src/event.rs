//! What happens to a fleet, and what has to be done about it.

use std::time::Duration;

use mapping::Member;
use proto::control::{Addition, Failure, Hostname, Location, Remapping, Removal, State, Weight};
use serde::{Deserialize, Serialize};

use crate::nouns::{Assignment, Epoch, ReplicaId, Seat, SlotId, Stopping, Time};
use crate::revision::Revision;
use crate::room::{Demand, Room};
use crate::roster::{Rejection, Roster};

/// A command that waits for its answer. The owner of the fleet chooses the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CommandId(pub u64);

/// What happens to a fleet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Add slots.
    Add(CommandId, Addition),
    /// Remove slots.
    Remove(CommandId, Removal),
    /// Change the mapping, or weights.
    Remap(CommandId, Remapping),
    /// Make several changes in one step.
    Revise(CommandId, Revision),
    /// Give a command up, unless it is done. If it has asked for a check, no `Checked` follows any more.
    Cancel(CommandId),
    /// Other time limits hold from now on.
    Limit {
        /// How long a started replica may take until its probes pass.
        start_timeout: Duration,
        /// How long the sessions of a removed replica may go on, if the command does not say.
        drain_timeout: Duration,
    },
    /// Whether the mapping has room for what a command demands ([`Effect::Check`]).
    #[serde(skip)] // an `Input` has its own form of it
    Checked(CommandId, Result<Room, Failure>),
    /// The roster is this one now, changed by whomever. Older ones may be skipped, and a repeated one changes nothing.
    Adopted(Epoch, Roster),
    /// What became of the proposal ([`Effect::Propose`]).
    Proposed(Result<Epoch, Rejection>),
    /// Nothing is left of the replica of this name that [`Effect::Remove`] named.
    Removed(Hostname),
    /// The provider has started the replica, and its address is known.
    Started(ReplicaId),
    /// The provider could not start the replica, or it has exited; with the reason. That it is silent is no such reason.
    Lost(ReplicaId, String),
    /// The provider could not attempt to start the replica; with the reason, which is not the replica's fault.
    Hindered(ReplicaId, String),
    /// The replica's probes pass.
    Passed(ReplicaId),
    /// The replica's probes fail; with the reason.
    Failed(ReplicaId, String),
    /// The replica's probes have failed, and it has sent no byte, for longer than the health policy allows. It is told again while that
    /// lasts: the fleet may not act on it at once.
    Unresponsive(ReplicaId),
    /// Another process answers at the replica's address; with the reason. The replica must not be used.
    Usurped(ReplicaId, String),
    /// A draining replica has no session left, or its sessions were evicted.
    Drained(ReplicaId),
    /// A deadline may have passed ([`Fleet::next_deadline`](crate::Fleet::next_deadline)).
    Tick,
    /// `lb` ends.
    Shutdown,
}

/// What the controller has to do, in the order in which the effects are returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Publish a snapshot of the fleet.
    Publish,
    /// Persist these seats for the next start: they have changed.
    Remember(Vec<Seat>),
    /// Log that a slot or spare has changed its state.
    Changed(View),
    /// Log that this `lb` suspects itself and replaces nothing, because more than half of the fleet is silent for it; or no longer.
    Doubt(bool),
    /// Start a replica. `Started`, `Lost` or `Hindered` follows.
    Start(ReplicaId, Assignment),
    /// Wait until the replica's sessions end, and evict them at the end of this time. `Drained` follows.
    Drain(ReplicaId, Duration),
    /// Stop a replica.
    Stop(ReplicaId, Stopping),
    /// Check whether the mapping has room for what this command demands. `Checked` follows.
    Check(CommandId, Demand),
    /// Replace the roster of this epoch by this one. `Proposed` follows within 5 s. There is never more than one proposal under way.
    ///
    /// The provider creates no service for what is new in it, and removes none for what has gone: `Start` and `Remove` say when.
    Propose(Epoch, Roster),
    /// Remove the replica of this name, which is [leaving](crate::Leaving) in this epoch and whose time is over; but never one that was
    /// created for a later epoch ([`Assignment::since`]), because others may have done this, and used the name again. `Removed` follows
    /// when nothing of it is left, however long that takes.
    Remove(Epoch, Hostname),
    /// Answer a command.
    Answer(CommandId, Result<(), Failure>),
}

/// A slot or spare as the controller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Index and name of the slot; `None` for a spare.
    pub slot: Option<SlotId>,
    /// The slot's share of the keys.
    pub weight: Weight,
    /// The hostname of the replica that runs there, or ran there last.
    pub hostname: Hostname,
    /// Where that replica is, if that is given.
    pub location: Option<Location>,
    /// The replica that runs there, if one does.
    pub replica: Option<ReplicaId>,
    /// The state of the slot or spare.
    pub state: State,
    /// Why it is in that state, if there is a reason to give.
    pub reason: Option<String>,
    /// When it got into that state.
    pub since: Time,
    /// How many times its replica was replaced.
    pub restarts: u64,
    /// When the next replica is started, if the place waits for that.
    pub next_start: Option<Time>,
}

impl View {
    /// The seat, if this is a slot.
    #[must_use]
    pub fn seat(&self) -> Option<Seat> {
        let (slot, hostname) = (self.slot.clone()?, self.hostname.clone());
        Some(Seat { slot, weight: self.weight, hostname, location: self.location.clone() })
    }

    /// The slot as a mapping sees it; `None` for a spare.
    #[must_use]
    pub fn member(&self) -> Option<Member> {
        Some(self.slot.as_ref()?.member(self.weight))
    }
}
