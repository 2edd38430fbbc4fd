//! Black-box tests: the program `bench` against real servers and bad ones, everything through its output, its files and
//! its exit code.

#![cfg(test)]

mod comparison;
mod containers;
mod experiments;
mod harness;
mod interruption;
mod load;
mod servers;
