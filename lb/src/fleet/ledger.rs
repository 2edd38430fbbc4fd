//! How often the replicas of one place have failed, and what that means for the next one.
//!
//! Three kinds of loss are told apart. A replica that had been in rotation is replaced at once: that is what the fleet
//! is for, and only a great many in a minute make a storm. One that never became ready will most likely fail again:
//! it is tried with growing pauses, a few times, and then now and then. And a start that the provider could not even try
//! (the engine is away, there is no file left) says nothing about the replica: it is tried again, with pauses that stay
//! short, until it can be.

use std::collections::VecDeque;
use std::time::Duration;

use super::Time;

/// The pause after the first failed start; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause, and the pause between the tries of a quarantined place.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause between starts that could not be tried.
const LONGEST_HINDRANCE: Duration = Duration::from_secs(2);
/// Failed starts in a row that may be tried again before the place is quarantined.
const FAILED_STARTS: u32 = 5;
/// Replicas that may be lost from rotation within [`WINDOW`] before the place is quarantined.
const LOSSES: usize = 30;
const WINDOW: Duration = Duration::from_secs(60);

/// The failures of one place. A place that has one replica in rotation has a clean slate for the next start.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    failed_starts: u32,
    /// Starts in a row that could not be tried.
    hindered: u32,
    losses: VecDeque<Time>,
}

/// Whose fault it is that a replica is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Replica,
    Provider,
}

/// How a replica was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It had served.
    FromRotation,
    /// It never became ready.
    FailedStart,
    /// It could not even be tried to start it.
    NoStart,
}

/// When to try again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    AtOnce,
    After(Duration),
    Quarantine(Duration),
}

impl Ledger {
    /// The replica got into rotation.
    pub(super) fn rose(&mut self) {
        self.failed_starts = 0;
        self.hindered = 0;
    }

    /// The replica is gone.
    pub(super) fn lost(&mut self, loss: Loss, now: Time, rng: &mut fastrand::Rng) -> Next {
        match loss {
            Loss::FromRotation => self.lost_from_rotation(now, rng),
            Loss::FailedStart => self.failed_to_start(rng),
            Loss::NoStart => self.could_not_start(rng),
        }
    }

    fn could_not_start(&mut self, rng: &mut fastrand::Rng) -> Next {
        let pause = FIRST_PAUSE * 2u32.saturating_pow(self.hindered.min(8));
        self.hindered = self.hindered.saturating_add(1);
        Next::After(jittered(pause.min(LONGEST_HINDRANCE), rng))
    }

    fn lost_from_rotation(&mut self, now: Time, rng: &mut fastrand::Rng) -> Next {
        while self.losses.front().is_some_and(|&loss| loss + WINDOW <= now) {
            self.losses.pop_front();
        }
        self.losses.push_back(now);
        if self.losses.len() <= LOSSES {
            return Next::AtOnce;
        }
        self.losses.pop_front();
        Next::Quarantine(jittered(LONGEST_PAUSE, rng))
    }

    fn failed_to_start(&mut self, rng: &mut fastrand::Rng) -> Next {
        self.failed_starts = self.failed_starts.saturating_add(1);
        if self.failed_starts > FAILED_STARTS {
            return Next::Quarantine(jittered(LONGEST_PAUSE, rng));
        }
        let pause = FIRST_PAUSE * 2u32.pow(self.failed_starts - 1);
        Next::After(jittered(pause.min(LONGEST_PAUSE), rng))
    }
}

/// Up to a tenth more or less, so that places that failed together do not try together.
fn jittered(pause: Duration, rng: &mut fastrand::Rng) -> Duration {
    pause.mul_f64(0.9 + 0.2 * rng.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rng() -> fastrand::Rng {
        fastrand::Rng::with_seed(7)
    }

    #[test]
    fn a_replica_lost_from_rotation_is_replaced_at_once() {
        let (mut ledger, mut rng) = (Ledger::default(), rng());
        for second in 0..20 {
            assert_eq!(ledger.lost(Loss::FromRotation, Duration::from_secs(second), &mut rng), Next::AtOnce);
        }
    }

    #[test]
    fn a_storm_of_losses_is_quarantined_until_it_calms_down() {
        let (mut ledger, mut rng) = (Ledger::default(), rng());
        for _ in 0..LOSSES {
            assert_eq!(ledger.lost(Loss::FromRotation, Time::ZERO, &mut rng), Next::AtOnce);
        }
        assert!(matches!(ledger.lost(Loss::FromRotation, Time::ZERO, &mut rng), Next::Quarantine(_)));
        assert_eq!(ledger.lost(Loss::FromRotation, WINDOW, &mut rng), Next::AtOnce);
    }

    #[test]
    fn failed_starts_are_tried_again_with_doubling_pauses_and_then_quarantined() {
        let (mut ledger, mut rng) = (Ledger::default(), rng());
        for expected in [200, 400, 800, 1600, 3200] {
            let Next::After(pause) = ledger.lost(Loss::FailedStart, Time::ZERO, &mut rng) else {
                panic!("no pause")
            };
            let expected = Duration::from_millis(expected);
            assert!(pause >= expected.mul_f64(0.9) && pause <= expected.mul_f64(1.1), "{pause:?}");
        }
        for _ in 0..3 {
            assert!(matches!(ledger.lost(Loss::FailedStart, Time::ZERO, &mut rng), Next::Quarantine(_)));
        }
    }

    #[test]
    fn a_start_that_could_not_be_tried_is_tried_again_for_ever_with_short_pauses() {
        let (mut ledger, mut rng) = (Ledger::default(), rng());
        for expected in [200, 400, 800, 1600].into_iter().chain(std::iter::repeat_n(2000, 50)) {
            let Next::After(pause) = ledger.lost(Loss::NoStart, Time::ZERO, &mut rng) else {
                panic!("no pause")
            };
            let expected = Duration::from_millis(expected);
            assert!(pause >= expected.mul_f64(0.9) && pause <= expected.mul_f64(1.1), "{pause:?}");
        }
    }

    #[test]
    fn one_replica_in_rotation_makes_a_clean_slate() {
        let (mut ledger, mut rng) = (Ledger::default(), rng());
        for _ in 0..4 {
            ledger.lost(Loss::FailedStart, Time::ZERO, &mut rng);
        }
        ledger.rose();
        assert!(
            matches!(ledger.lost(Loss::FailedStart, Time::ZERO, &mut rng), Next::After(pause) if pause < FIRST_PAUSE * 2)
        );
    }
}
