//! What an experiment stands on: programs that it starts and ends, the network that it runs in, and the host.
//!
//! Whatever is started here ends with `bench`, in whatever way that ends.

pub(crate) mod host;
mod lb;
pub(crate) mod network;
mod program;

pub(crate) use lb::{Lb, Provider};
pub(crate) use program::{Program, become_program, pin, sibling};
