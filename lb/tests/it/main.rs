//! Black-box tests: a real `lb` on loopback, everything through its ports, its log and its exit code.

#![allow(dead_code, clippy::allow_attributes, reason = "the harness is written for the tests to come as well")]

mod harness;
mod start;
