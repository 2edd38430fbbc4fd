//! The test stand: programs that an experiment starts and ends, its network namespace, and the host.
//!
//! A program that is started here ends with `bench`, even if `bench` is killed.

pub(crate) mod host;
mod lb;
pub(crate) mod network;
pub(crate) mod processes;
mod program;
mod victim;

pub(crate) use lb::{Lb, Provider};
pub(crate) use processes::Processes;
pub(crate) use program::{Program, become_program, pin, sibling};
pub(crate) use victim::{Stopped, Victim};
