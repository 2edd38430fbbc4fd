//! The control port's commands and answers, the same for both of its languages.
//!
//! A JSON line holds a whole command ([`Line::parse`]); over HTTP the path names it and the body, if there is one, is
//! says how ([`parse_body`]). Every answer is one [`Answer`]: as a line it is its JSON text, over HTTP also its status.
//! Whether a name is in use or a number too large for the fleet is not known here.

mod answer;
mod backends;
mod change;
mod command;
mod json;

pub use answer::{
    Answer, Candidate, Displaced, Explanation, Failure, FailureKind, Health, Mapping, Message, Move, Omitted,
    Plan, Replicas, Shares, Table,
};
pub use backends::{Backend, Backends, Connections, State, Transport};
pub use change::{Addition, Change, Remapping, Removal, Weight, parse_body};
pub use command::{Command, Hostname, Line, Malformed};
