//! Replicas that a container engine runs.
//!
//! - [`docker`]: what is Docker's alone.

pub(crate) mod docker;
