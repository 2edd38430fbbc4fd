//! What a mapping costs: the time to build it, the time to pick an owner, and its memory.
//!
//! This is the only module here that reads the clock. Its results hold for this machine at this moment.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mapping::Member;
use serde::Serialize;

use super::model::{Contender, Model};

/// How often each time is measured; the result is the median.
pub(crate) const ROUNDS: usize = 15;
/// The number of picks in a round, with different keys.
pub(crate) const PICKS: usize = 10_000;

/// The measured costs of a mapping.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Cost {
    /// Time to pick the owner of a key, in nanoseconds.
    pub(crate) pick_ns: f64,
    /// Time to build the mapping, in nanoseconds.
    pub(crate) build_ns: f64,
    /// Memory of the mapping on the heap, in bytes. For a peer it is the memory of the model here.
    pub(crate) bytes: usize,
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
