//! What a mapping costs: the time to build it and to pick an owner, and its memory.
//!
//! It reads the clock, as nothing else here does, and what it says holds for this machine at this moment.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mapping::Member;
use serde::Serialize;

use super::model::{Contender, Model};

/// How often each time is taken; the median counts.
pub(crate) const ROUNDS: usize = 15;
/// How many picks make a round, with different keys.
pub(crate) const PICKS: usize = 10_000;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// A pick of an owner, in nanoseconds.
    pub pick_ns: f64,
    /// A build, in nanoseconds.
    pub build_ns: f64,
    /// The memory of the mapping, in bytes; that of a peer is the model's.
    pub bytes: usize,
}

impl Cost {
    /// # Errors
    /// There is no room for the members.
    pub(crate) fn measure(
        contender: &Contender,
        members: &[Member],
        keys: &[Vec<u8>],
    ) -> anyhow::Result<Self> {
        let model = Model::build(contender, members)?;
        let build = median(|| {
            let built = timed(|| Model::build(contender, black_box(members)));
            built.1.context("it was built before").map(|_| built.0)
        })?;
        let pick = median(|| {
            let pass =
                || keys.iter().filter_map(|key| model.owner(black_box(key))).fold(0, usize::wrapping_add);
            Ok(timed(|| black_box(pass())).0)
        })?;
        Ok(Cost {
            pick_ns: pick.as_nanos() as f64 / keys.len().max(1) as f64,
            build_ns: build.as_nanos() as f64,
            bytes: model.bytes(),
        })
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let done = work();
    (begun.elapsed(), done)
}

fn median(mut round: impl FnMut() -> anyhow::Result<Duration>) -> anyhow::Result<Duration> {
    let mut rounds = (0..ROUNDS).map(|_| round()).collect::<anyhow::Result<Vec<_>>>()?;
    rounds.sort_unstable();
    rounds.get(ROUNDS / 2).copied().context("there are rounds")
}
