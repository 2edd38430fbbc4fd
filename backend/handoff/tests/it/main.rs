//! Real client sockets, handed over to a listener in this process and to the Python example.

#![cfg(test)]

mod ends;
mod garbage;
mod harness;
mod python;
mod raw;
mod refusal;
mod serving;
