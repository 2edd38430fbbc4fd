//! Black-box tests: `bench` against good and bad servers, checked by its output, its files and its exit code.

#![cfg(test)]

mod comparison;
mod containers;
mod experiments;
mod harness;
mod interruption;
mod load;
mod servers;
mod soak;
mod swarm;
