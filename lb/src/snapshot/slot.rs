//! A slot of a snapshot: whether its replica can get a connection, and if not, why. It never chooses between slots.

use std::sync::Arc;

use proto::control::State;

use crate::replica::Replica;

/// A slot and the replica in it.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Its stable index.
    pub(crate) index: u32,
    /// Its stable name, which the mapping hashes.
    pub(crate) name: String,
    /// Its share of the keys relative to the other slots. A slot with 0 is no candidate.
    pub(crate) weight: u32,
    /// The hostname of its replica, or of the last one.
    pub(crate) hostname: String,
    /// Its state.
    pub(crate) state: State,
    /// The reason for its state, if there is one.
    pub(crate) reason: Option<String>,
    /// The replica in it, if one runs and its address is known.
    pub(crate) replica: Option<Arc<Replica>>,
}

impl Slot {
    /// Whether its replica is known to be healthy, whatever the weight of the slot.
    pub(crate) fn is_up(&self) -> bool {
        self.state == State::Up && self.replica.is_some()
    }

    /// Its replica, if the slot is in rotation.
    ///
    /// # Errors
    /// The reason why it is out of rotation.
    pub(crate) fn in_rotation(&self) -> Result<&Arc<Replica>, Skipped> {
        match (&self.replica, self.state) {
            _ if self.weight == 0 => Err(Skipped::NoWeight),
            (Some(replica), State::Up) => Ok(replica),
            (Some(_), State::Down) => Err(Skipped::FailsProbes),
            _ => Err(Skipped::NoReplica),
        }
    }
}

/// Why a slot does not get a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skipped {
    /// Its replica has as many connections as any may have. It is never tried.
    Full(Bound),
    /// Its replica has reached the bound. It is tried after the replicas below theirs.
    OverBound(Bound),
    /// Its replica fails its probes, but runs. It is tried after every slot in rotation.
    FailsProbes,
    /// Its weight is 0. It is never tried.
    NoWeight,
    /// It has no replica, or one that gets no new connections. It is never tried.
    NoReplica,
}

/// A replica's connections against the most that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// The most it may have. Where the bound is a multiple of the mean, the connection that is to be placed counts towards that.
    pub(crate) most: usize,
    /// How many it has now.
    pub(crate) open: usize,
}
