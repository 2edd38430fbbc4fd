//! Black-box tests: a real `lb` on loopback, everything through its ports, its log and its exit code.

#![cfg(test)]

mod book;
mod client;
mod commands;
mod containers;
mod control;
mod control_crowd;
mod control_unix;
mod control_wire;
mod drain;
mod examples;
mod explain;
mod failover;
mod fake_engine;
mod first_line;
mod flags;
mod handoff;
mod harness;
mod healing;
mod imports;
mod injection;
mod life;
mod limits;
mod load;
mod mapping;
mod names;
mod noise;
mod peers;

mod port_trap;
mod probes;
mod processes;
mod refusals;
mod relay;
mod replica;
mod shortage;
mod simulate;
mod splice;
mod start;
mod starting;
mod stopping;
mod streams;
mod tracer;
mod wire;
mod workers;
