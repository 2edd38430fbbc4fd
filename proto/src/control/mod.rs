//! The control port's commands and answers, the same for both of its languages.
//!
//! A JSON line holds a whole command ([`Line::parse`]); over HTTP the path names it and the body, if there is one, is
//! its [`Change`]. Every answer is one [`Answer`]: as a line it is its JSON text, over HTTP also its status.
//! Whether a name is in use or a number too large for the fleet is not known here.

mod answer;
mod command;

pub use answer::{
    Answer, Backend, Backends, Candidate, Connections, Explanation, Failure, FailureKind, Health, Message,
    Replicas, State,
};
pub use command::{Change, Command, Hostname, Line, Malformed};
