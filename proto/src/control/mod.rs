//! The commands and answers of the control port, the same in both of its languages.
//!
//! A JSON line holds a whole command ([`Line`]). Over HTTP the path names the command, and a body, if there is one,
//! holds its fields ([`parse_body`]). Every answer is one [`Answer`]: its JSON text, and over HTTP also its status; a client
//! reads it as a [`Reply`]. Nothing here checks whether a name is in use or a number fits the fleet.

mod answer;
mod backends;
mod change;
mod command;
mod json;
mod line;
mod newcomer;
mod plan;
mod reload;
mod ring;
mod since;
mod value;

pub use answer::{
    Answer, Body, Candidate, Explanation, Failure, FailureKind, Health, Killed, Mapping, Parameters,
    Replicas, Reply, Upgraded,
};
pub use backends::{
    Backend, Backends, Connections, FailedConnects, FileReads, Refused, Resolutions, State, Transport,
};
pub use change::{Addition, Change, Kill, Remapping, Removal, parse_body};
pub use command::Command;
pub use line::Line;
pub use newcomer::{FixedBackend, LONGEST_SOCKET_PATH, Location, Newcomer, is_host_name, read_port};
pub use plan::{Basis, Displaced, Move, MovedArc, Omitted, Plan, Shares};
pub use reload::{Changer, Fate, Reload, Reloaded, SettingChange, SlotChange, Written};
pub use ring::{Arc, Ring, RingSlot};
pub use since::Since;
pub use value::{DrainTime, Hostname, Malformed, Weight};
