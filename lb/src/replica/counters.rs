//! What a replica counts: connections by how they ended, bytes, attempts to connect, probes. Nothing here connects or probes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use proto::control::FailedConnects;

use super::Ending;
use crate::metrics::{Distribution, Probes, probes};

/// How an attempt to connect to a replica went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialled {
    /// There is a connection.
    Ok,
    /// The replica refused.
    Refused,
    /// It did not answer in time.
    Timeout,
    /// It failed for a reason of this machine.
    Local,
    /// It failed in any other way.
    Other,
}

impl Dialled {
    /// All of them.
    pub(crate) const ALL: [Dialled; 5] =
        [Dialled::Ok, Dialled::Refused, Dialled::Timeout, Dialled::Local, Dialled::Other];

    /// Its name, as programs read it.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Dialled::Ok => "ok",
            Dialled::Refused => "refused",
            Dialled::Timeout => "timeout",
            Dialled::Local => "local",
            Dialled::Other => "other",
        }
    }
}

/// How a probe went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probed {
    /// It passed.
    Ok,
    /// It failed.
    Failed,
    /// It failed for a reason of this machine, which is no evidence.
    Local,
}

impl Probed {
    /// All of them.
    pub(crate) const ALL: [Probed; 3] = [Probed::Ok, Probed::Failed, Probed::Local];

    /// Its name, as programs read it.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Probed::Ok => "ok",
            Probed::Failed => "failed",
            Probed::Local => "local",
        }
    }
}

/// A way of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the replica.
    Up,
    /// From the replica to the client.
    Down,
}

impl Way {
    /// Both.
    pub(crate) const ALL: [Way; 2] = [Way::Up, Way::Down];

    /// Its name, as programs read it.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Up => "up",
            Way::Down => "down",
        }
    }
}

/// What a replica counts.
#[derive(Debug)]
pub(crate) struct Counters {
    ended: [AtomicU64; 8],
    bytes: [AtomicU64; 2],
    dials: [AtomicU64; 5],
    probes: [Probes; 3],
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            ended: Default::default(),
            bytes: Default::default(),
            dials: Default::default(),
            probes: [(); 3].map(|()| probes()),
        }
    }
}

impl Counters {
    /// Counts a connection that has ended.
    pub(crate) fn ended(&self, how: Ending) {
        self.ended[how as usize].fetch_add(1, Relaxed);
    }

    /// Counts bytes that were read.
    pub(crate) fn moved(&self, way: Way, bytes: usize) {
        self.bytes[way as usize].fetch_add(bytes as u64, Relaxed);
    }

    /// The bytes so far.
    pub(super) fn bytes(&self, way: Way) -> u64 {
        self.bytes[way as usize].load(Relaxed)
    }

    /// Counts an attempt to connect.
    pub(crate) fn dialled(&self, how: Dialled) {
        self.dials[how as usize].fetch_add(1, Relaxed);
    }

    /// The attempts that failed.
    pub(super) fn failed(&self) -> FailedConnects {
        let of = |how: Dialled| self.dials[how as usize].load(Relaxed);
        let [refused, timeout, local, other] =
            [Dialled::Refused, Dialled::Timeout, Dialled::Local, Dialled::Other].map(of);
        FailedConnects { refused, timeout, local, other }
    }

    /// Counts a probe that took so long.
    pub(crate) fn probed(&self, how: Probed, time: Duration) {
        self.probes[how as usize].observe(time);
    }

    /// What is counted so far.
    pub(crate) fn read(&self) -> Totals {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        Totals {
            ended: self.ended.each_ref().map(load),
            bytes: self.bytes.each_ref().map(load),
            dials: self.dials.each_ref().map(load),
            probes: self.probes.each_ref().map(Probes::read),
        }
    }
}

/// What was counted until one moment, of one replica or of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    ended: [u64; 8],
    bytes: [u64; 2],
    dials: [u64; 5],
    probes: [Distribution<7>; 3],
}

impl Default for Totals {
    fn default() -> Self {
        Counters::default().read()
    }
}

impl Totals {
    /// The connections that ended like this.
    pub(crate) fn ended(&self, how: Ending) -> u64 {
        self.ended[how as usize]
    }

    /// The bytes.
    pub(crate) fn bytes(&self, way: Way) -> u64 {
        self.bytes[way as usize]
    }

    /// The attempts to connect that went like this.
    pub(crate) fn dials(&self, how: Dialled) -> u64 {
        self.dials[how as usize]
    }

    /// The probes that went like this.
    pub(crate) fn probes(&self, how: Probed) -> &Distribution<7> {
        &self.probes[how as usize]
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn add(&mut self, other: &Totals) {
        self.combine(other, u64::wrapping_add);
        self.probes.iter_mut().zip(&other.probes).for_each(|(one, other)| one.add(other));
    }

    /// Takes away what was counted earlier.
    pub(crate) fn subtract(&mut self, earlier: &Totals) {
        self.combine(earlier, u64::saturating_sub);
        self.probes.iter_mut().zip(&earlier.probes).for_each(|(one, earlier)| one.subtract(earlier));
    }

    fn combine(&mut self, other: &Totals, how: fn(u64, u64) -> u64) {
        let mine = self.ended.iter_mut().chain(&mut self.bytes).chain(&mut self.dials);
        let others = other.ended.iter().chain(&other.bytes).chain(&other.dials);
        mine.zip(others).for_each(|(one, other)| *one = how(*one, *other));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        assert!(Ending::ALL.map(|kind| kind as usize).into_iter().eq(0..8));
        assert!(Dialled::ALL.map(|kind| kind as usize).into_iter().eq(0..5));
        assert!(Probed::ALL.map(|kind| kind as usize).into_iter().eq(0..3));
        assert!(Way::ALL.map(|kind| kind as usize).into_iter().eq(0..2));
    }

    #[test]
    fn what_was_counted_since_is_the_difference() {
        let counters = Counters::default();
        let count = || {
            counters.ended(Ending::Idle);
            counters.moved(Way::Down, 5);
            counters.dialled(Dialled::Other);
            counters.probed(Probed::Local, Duration::from_millis(2));
        };
        count();
        let before = counters.read();
        count();
        let mut since = counters.read();
        since.subtract(&before);
        assert_eq!(since, before);
        since.add(&before);
        assert_eq!(since, counters.read());
        assert_eq!((since.ended(Ending::Idle), since.bytes(Way::Down), since.bytes(Way::Up)), (2, 10, 0));
        assert_eq!((since.dials(Dialled::Other), since.probes(Probed::Local).count()), (2, 2));
    }
}
