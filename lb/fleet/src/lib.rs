//! The fleet: every slot with its state, as a pure state machine.
//!
//! [`Fleet::apply`] takes one event and returns the effects that follow from it. The fleet does no I/O and reads no clock: each
//! event brings the time. Its only randomness is a seed. So equal seeds and events make equal fleets, and the sweep of its tests can
//! drive it through thousands of random histories.
//!
//! A slot outlives its replicas: a replacement takes over the slot's index and name, and with them its keys. States:
//!
//! ```text
//! Starting ──► Up ◄──► Down ──► (replaced: Starting again, or a spare moves in: Up)
//!    └─ failed too often ──► Quarantined ──► Starting (one attempt every 30 s)
//! ```
//!
//! The slots of one `add` enter the mapping together when all their replicas are ready, or not at all. A [`Revision`] makes several
//! changes in the same way: they are one roster, or none.
//!
//! So a history that is written down ([`Beginning`], [`Input`]) can be seen again ([`Replay`]), also from a later moment on ([`Checkpoint`]).
//!
//! Several `lb`s can serve one fleet. Then each change of the seats is proposed first and made when it is agreed on ([`Roster`]), and
//! what others have agreed on is followed.

mod dice;
mod event;
mod fleet;
mod ledger;
mod names;
mod nouns;
pub mod pace;
mod place;
mod policy;
mod policy_text;
mod revision;
mod room;
mod roster;
mod transcript;

pub use event::{CommandId, Effect, Event, View};
pub use fleet::{Fleet, Preview};
pub use names::{Names, Rule};
pub use nouns::{Assignment, Epoch, ReplicaId, Seat, SlotId, Stopping, Time};
pub use policy::{Authority, Lineup, Policy};
pub use revision::Revision;
pub use room::{Demand, Room};
pub use roster::{Coming, Leaving, Rejection, Roster, UnixTime};
pub use transcript::{Beginning, Checkpoint, Input, Replay, Unfit};
