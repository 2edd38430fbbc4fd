//! How long things take on Docker Swarm, and how often clients come.
//!
//! Unless it says otherwise, a figure was measured with engine 20.10 on a Swarm of three engines in namespaces of one machine. The defaults
//! of `lb serve` are those of its flags.

use std::time::Duration;

use fleet::{Time, pace};

/// A write of the record, there and back.
pub(super) const WRITE: Duration = Duration::from_millis(8);
/// A read of the record or of one service.
pub(super) const READ: Duration = Duration::from_micros(1150);
/// A list of tasks takes this much longer for each of them. One of services is taken to be as long.
const LIST_EACH: Duration = Duration::from_micros(100);
/// A service is created, or removed.
pub(super) const CREATE: Duration = Duration::from_millis(6);
/// A call that is not answered fails after this time. Chosen by `lb`, as are the next three.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(4);
/// A write that is not answered fails after this time: then what became of it was not to be read either.
pub(super) const WRITE_LIMIT: Duration = Duration::from_millis(4700);
/// What was not answered is tried again after this time.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// The service of a replica is not sought for longer than this.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Swarm notices the crash of a node after this time: with what a task takes to start, that makes 13.5 s.
const AFTER_A_CRASH: Duration = Duration::from_millis(12_140);
/// A killed task refuses connections this long; then packets to it are lost.
pub(super) const REFUSES: Duration = Duration::from_millis(45);
/// The tasks that Swarm lists show the end of a killed one after this time.
pub(super) const SHOWN: Duration = Duration::from_millis(300);

/// `--health-interval` and `--health-timeout`; the second failed probe counts (`--fall`), and it is sent at once after the first.
pub(super) const PROBE_EVERY: Duration = Duration::from_millis(500);
pub(super) const PROBE_LIMIT: Duration = Duration::from_millis(500);
/// A session that failed has its replica probed, but not sooner than this after the last probe.
pub(super) const PROBE_PAUSE: Duration = Duration::from_millis(50);
/// A probe of a new replica that is ready, there and back. Assumed.
pub(super) const PROBE: Duration = Duration::from_millis(1);
/// To find out whether the mapping has room for a command. Assumed.
pub(super) const CHECK: Duration = Duration::from_millis(1);

/// New connections a second for each replica, from all balancers together. Assumed.
pub(super) const CONNECTIONS: f64 = 2.0;
/// How long a session lasts on the average, which is what a drain waits for. Assumed.
pub(super) const SESSION: Duration = Duration::from_secs(10);

/// A list of this many tasks, there and back.
pub(super) fn list(tasks: usize) -> Duration {
    READ + LIST_EACH * u32::try_from(tasks).unwrap_or(u32::MAX)
}

/// An `lb` that starts reads everything for the first time at some moment of this span, so they do not all read at once.
pub(super) fn first_look(rng: &mut fastrand::Rng) -> Time {
    Duration::from_secs(5).mul_f64(rng.f64())
}

/// A killed task runs again under a new address, or a new one runs for the first time.
pub(super) fn start(rng: &mut fastrand::Rng) -> Time {
    skewed([1.29, 1.36, 2.45], rng)
}

/// The tasks of a crashed node run elsewhere.
pub(super) fn crash(rng: &mut fastrand::Rng) -> Time {
    AFTER_A_CRASH + start(rng)
}

/// The new task of a service that is updated with `start-first` runs, and the old one is stopped.
pub(super) fn replace(rng: &mut fastrand::Rng) -> Time {
    Duration::from_secs_f64(1.05 + 0.15 * rng.f64())
}

/// An `lb` hears of a change of the record or of a service.
pub(super) fn event(rng: &mut fastrand::Rng) -> Time {
    Duration::from_secs_f64(0.006 + 0.002 * rng.f64())
}

/// A balancer that reads tasks often reads them within this time.
pub(super) fn next_read(rng: &mut fastrand::Rng) -> Time {
    pace::FAST.mul_f64(rng.f64()) + READ
}

/// A time with this exponential mean.
pub(super) fn exponential(mean: f64, rng: &mut fastrand::Rng) -> Time {
    Duration::from_secs_f64(-(1.0 - rng.f64()).ln() * mean)
}

/// A time with this minimum, median and maximum: all that is known of the distribution. It is even on both sides of the median, so its mean
/// is rather too high.
fn skewed([least, median, most]: [f64; 3], rng: &mut fastrand::Rng) -> Time {
    let [from, to] = if rng.bool() { [least, median] } else { [median, most] };
    Duration::from_secs_f64(from + (to - from) * rng.f64())
}
