//! Real client sockets, handed over to a listener in this process.

#![cfg(test)]

mod ends;
mod garbage;
mod harness;
mod raw;
mod refusal;
mod serving;
