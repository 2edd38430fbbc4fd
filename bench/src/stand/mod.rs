//! The test stand: programs that an experiment starts and ends, its network namespace, and the host.
//!
//! A program that is started here ends with `bench`, even if `bench` is killed.

mod calls;
pub(crate) mod host;
mod lb;
pub(crate) mod network;
pub(crate) mod processes;
mod program;
mod swarm;
mod victim;

pub(crate) use calls::{Calls, Counts};
pub(crate) use lb::{Lb, Provider, TOKEN};
pub(crate) use processes::Processes;
pub(crate) use program::{Program, become_program, pin, sibling};
pub(crate) use swarm::{Nodes, Place, Swarm};
pub(crate) use victim::{Stopped, Victim};
