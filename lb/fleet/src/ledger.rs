//! How often the replicas of one place have failed, and when to start the next one.
//!
//! There are three kinds of loss. A replica lost from rotation is replaced at once, unless too many are lost within a minute.
//! A replica that never became ready will probably fail again: the fleet retries with exponential backoff, and after a few
//! failures quarantines the place and retries every 30 s. A start that the provider could not attempt (the engine is away, no
//! file descriptor is left) says nothing about the replica: the fleet retries without limit, with short pauses.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::nouns::Time;

/// The pause after the first failed start; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause, and the pause between two attempts in quarantine.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause after a start that the provider could not attempt.
const LONGEST_HINDRANCE: Duration = Duration::from_secs(2);
/// Failed starts in a row that are retried before the place is quarantined.
const FAILED_STARTS: u32 = 5;
/// Replicas that may be lost from rotation within [`WINDOW`] before the place is quarantined.
const LOSSES: usize = 30;
const WINDOW: Duration = Duration::from_secs(60);

/// The failures of one place. A replica that gets into rotation resets the failed starts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    failed_starts: u32,
    /// Starts in a row that the provider could not attempt.
    hindered: u32,
    losses: VecDeque<Time>,
}

/// What caused a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Replica,
    Provider,
}

/// How a replica was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It had served.
    FromRotation,
    /// It never became ready.
    FailedStart,
    /// The provider could not attempt to start it.
    NoStart,
}

/// When to start the next replica.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    AtOnce,
    After(Duration),
    Quarantine(Duration),
}

impl Ledger {
    /// Records that a replica got into rotation.
    pub(crate) fn rose(&mut self) {
        self.failed_starts = 0;
        self.hindered = 0;
    }

    /// Records a loss, and says when to start the next replica.
    pub(crate) fn lost(&mut self, loss: Loss, now: Time, rng: &mut fastrand::Rng) -> Next {
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

/// The pause with up to 10 % jitter, so that places that failed together do not retry together.
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
    fn failed_starts_are_retried_with_doubling_pauses_and_then_quarantined() {
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
    fn a_start_that_could_not_be_attempted_is_retried_without_limit_and_with_short_pauses() {
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
    fn a_replica_in_rotation_resets_the_failed_starts() {
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
