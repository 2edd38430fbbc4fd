//! How a balancer sees that a replica has died, and what its clients see meanwhile.
//!
//! A probe fails: the next one that is due, or one that a refused connect has asked for. From then on the balancer reads the tasks of the
//! service often. It has seen the death when those show it, or when the second probe has failed. A task that Swarm replaces is read often
//! before it ends. The end of a session is no sign of anything: clients and replicas end sessions all the time.
//!
//! Clients come to each balancer as a Poisson process. Only those that would meet a dead replica are drawn: the others do nothing that is
//! counted. There is no false alarm in this model, and no Swarm event: it has none for tasks.

use fleet::Time;

use super::delays;

/// How a replica dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// Its process ends: connects are refused for a moment. After that packets to its address are lost.
    Killed,
    /// The same, when a new task of its service runs.
    Replaced,
    /// Its node is gone: packets to it are lost, and Swarm goes on to show its task.
    Crashed,
}

/// What one balancer and its clients see of a death.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    /// How long after the death a first probe has failed.
    pub(super) doubted: Time,
    /// How long after the death the balancer has seen it.
    pub(super) after: Time,
    /// Connects until then that were refused, each as long after the death. They are tried at the next replica at once.
    pub(super) refused: Vec<Time>,
    /// Connects until then that wait until they time out.
    pub(super) lost: Vec<Time>,
}

/// What a balancer sees that has `rate` new connections a second with the dead replica, and reaches the engine or does not.
pub(super) fn see(death: Death, rate: f64, reaches_engine: bool, rng: &mut fastrand::Rng) -> Sight {
    let is_refused = |at: &Time| death != Death::Crashed && *at < delays::REFUSES;
    let mut next = next_connect(rate, rng);
    let asked_for = next.filter(is_refused).map_or(Time::MAX, |at| at.max(delays::PROBE_PAUSE));
    let probe = delays::PROBE_EVERY.mul_f64(rng.f64()).min(asked_for);
    let doubted = if is_refused(&probe) { probe } else { probe + delays::PROBE_LIMIT };
    let shown = match death {
        Death::Killed => Some(doubted.max(delays::SHOWN)),
        Death::Replaced => Some(Time::ZERO),
        Death::Crashed => None,
    };
    let read = shown.filter(|_| reaches_engine).map_or(Time::MAX, |shown| shown + delays::next_read(rng));
    let mut sight = Sight {
        doubted,
        after: read.min(doubted + delays::PROBE_LIMIT),
        refused: Vec::new(),
        lost: Vec::new(),
    };
    while let Some(at) = next.filter(|at| *at < sight.after) {
        if is_refused(&at) { &mut sight.refused } else { &mut sight.lost }.push(at);
        next = next_connect(rate, rng).map(|pause| at + pause);
    }
    sight
}

fn next_connect(rate: f64, rng: &mut fastrand::Rng) -> Option<Time> {
    (rate > 0.0).then(|| delays::exponential(1.0 / rate, rng))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sights(death: Death, rate: f64, reaches_engine: bool) -> Vec<Sight> {
        let mut rng = fastrand::Rng::with_seed(1);
        (0..1000).map(|_| see(death, rate, reaches_engine, &mut rng)).collect()
    }

    fn ms(ms: u64) -> Time {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_killed_replica_is_shown_by_swarm_after_the_first_failed_probe() {
        let sights = sights(Death::Killed, 0.0, true);
        assert!(
            sights.iter().all(|sight| (ms(300)..ms(1102)).contains(&sight.after) && sight.doubted < ms(1000))
        );
        let early = sights.iter().filter(|sight| sight.doubted < delays::REFUSES).count();
        assert!((60..130).contains(&early), "45 ms of 500 ms: {early}");
    }

    #[test]
    fn without_the_engine_or_after_a_crash_the_second_probe_tells() {
        for sight in sights(Death::Killed, 0.0, false).into_iter().chain(sights(Death::Crashed, 0.0, true)) {
            assert_eq!(sight.after, sight.doubted + delays::PROBE_LIMIT);
        }
        let crashed = sights(Death::Crashed, 0.0, true);
        assert!(crashed.iter().all(|sight| (ms(1000)..ms(1500)).contains(&sight.after)));
    }

    #[test]
    fn a_replaced_task_is_read_often_before_it_ends() {
        assert!(sights(Death::Replaced, 0.0, true).iter().all(|sight| sight.after < ms(102)));
    }

    #[test]
    fn connects_are_refused_for_a_moment_and_then_lost_until_the_death_is_seen() {
        for sight in sights(Death::Killed, 100.0, true) {
            let Sight { refused, lost, after, .. } = sight;
            assert!(
                refused.iter().all(|at| *at < delays::REFUSES)
                    && lost.iter().all(|at| *at >= delays::REFUSES)
            );
            assert!(refused.iter().chain(&lost).all(|at| *at < after) && lost.len() > 10);
        }
        assert!(sights(Death::Crashed, 100.0, true).iter().all(|sight| sight.refused.is_empty()));
    }

    #[test]
    fn a_refused_connect_has_the_replica_probed_soon() {
        let busy = sights(Death::Killed, 1000.0, true);
        let soon =
            busy.iter().filter(|sight| sight.doubted <= delays::PROBE_PAUSE + delays::PROBE_LIMIT).count();
        assert!(soon > 990, "{soon}");
    }
}
