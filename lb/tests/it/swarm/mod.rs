//! `lb --provider swarm` on a real Docker Swarm of several engines on this machine ([`nodes`]), and what becomes of it after faults.
//!
//! The tests are skipped where no such Swarm can be made; they fail there when `CI` is set. One runs at a time, because a few cores
//! carry all engines. Each has a fleet of its own. Those that crash nodes have a Swarm of their own, too.

mod agreement;
mod dress;
mod fleet;
mod hands;
mod machines;
mod managers;
mod nodes;
mod reload;
mod room;
mod tasks;

use std::time::Duration;

use crate::harness::eventually_within;

/// The longest wait for what a Swarm does by itself: to miss a node, to elect a leader, to start a task elsewhere.
const LONG: Duration = Duration::from_secs(180);

/// Waits until `condition` returns a value, as long as a Swarm may need.
#[track_caller]
pub(crate) fn in_time<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    eventually_within(LONG, what, condition)
}
