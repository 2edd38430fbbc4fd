//! What the probes of one replica show together: whether it is healthy, and whether it has given a sign of life. Pure: the caller
//! sends the probes and brings the time.

use std::time::Duration;

/// Time since the first probe.
pub(super) type Time = Duration;

/// The shortest pause between two probes, so that "at once" never becomes a busy loop.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// How often to look whether a silent replica with sessions is stopped, or has lost its sessions.
const LOOK: Duration = Duration::from_secs(1);

/// The rules by which a replica is judged.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) interval: Duration,
    pub(super) fall: u32,
    pub(super) rise: u32,
    pub(super) replace_after: Duration,
    /// Never shorter than `replace_after`.
    pub(super) replace_busy_after: Duration,
}

/// What the silence of an unhealthy replica means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// It may end.
    Bearable,
    /// The replica may be busy with its sessions. If it is stopped, it cannot be.
    Doubtful,
    /// The replica has to be replaced.
    Fatal,
}

/// Believes a change after enough equal observations in a row.
#[derive(Debug)]
struct Dampener {
    fall: u32,
    rise: u32,
    streak: u32,
    last: bool,
    believed: Option<bool>,
}

impl Dampener {
    fn new(fall: u32, rise: u32) -> Self {
        Dampener { fall, rise, streak: 0, last: false, believed: None }
    }

    /// Takes one observation, and returns the belief if it changes.
    fn observe(&mut self, good: bool) -> Option<bool> {
        self.streak = if good == self.last { self.streak.saturating_add(1) } else { 1 };
        self.last = good;
        let needed = if good { self.rise } else { self.fall };
        let news = self.streak >= needed && self.believed != Some(good);
        news.then(|| *self.believed.insert(good))
    }

    /// Whether the last observation contradicts the belief.
    fn is_in_doubt(&self) -> bool {
        self.believed.is_some_and(|believed| believed != self.last)
    }
}

/// What has been seen of one replica.
#[derive(Debug)]
pub(super) struct Judge {
    rules: Rules,
    dampener: Dampener,
    /// The time of the last passed probe or received byte.
    last_sign: Time,
    /// The bytes received so far.
    received: u64,
    /// Whether it was ever believed to be healthy.
    has_passed: bool,
    /// The last reason for failing that was told.
    reason: String,
    /// When it was told that the replica has been silent for too long.
    reported: Option<Time>,
}

impl Judge {
    pub(super) fn new(rules: Rules) -> Self {
        let dampener = Dampener::new(rules.fall, rules.rise);
        Judge {
            rules,
            dampener,
            last_sign: Time::ZERO,
            received: 0,
            has_passed: false,
            reason: String::new(),
            reported: None,
        }
    }

    /// Judges by other rules from now on. What is believed stays.
    pub(super) fn follow(&mut self, rules: Rules) {
        (self.dampener.fall, self.dampener.rise) = (rules.fall, rules.rise);
        self.rules = rules;
    }

    /// Whether it is believed to be healthy, and its last probe passed.
    pub(super) fn is_well(&self) -> bool {
        self.dampener.believed == Some(true) && !self.dampener.is_in_doubt()
    }

    /// Whether it is believed to be unhealthy.
    pub(super) fn is_unhealthy(&self) -> bool {
        self.dampener.believed == Some(false)
    }

    /// Takes the number of bytes that it has sent: more of them are a sign of life, whatever its probes show.
    pub(super) fn hear(&mut self, received: u64, now: Time) {
        if std::mem::replace(&mut self.received, received) != received {
            self.sign(now);
        }
    }

    /// Takes a passed probe. Returns true if the replica is healthy from now on.
    pub(super) fn pass(&mut self, now: Time) -> bool {
        self.sign(now);
        let is_news = self.dampener.observe(true).is_some();
        self.has_passed |= is_news;
        is_news
    }

    /// Takes a failed probe. Returns true if the replica is unhealthy from now on, or for another reason.
    pub(super) fn fail(&mut self, reason: &str) -> bool {
        let is_news = self.dampener.observe(false).is_some();
        let is_another = self.dampener.believed == Some(false) && self.reason != reason;
        if is_news || is_another {
            reason.clone_into(&mut self.reason);
        }
        is_news || is_another
    }

    /// What its silence means, while it has this many open sessions. It is told again after as long,
    /// because the fleet may not have acted on it.
    pub(super) fn silence(&self, now: Time, open: usize) -> Silence {
        let silent = self.silent_for(now);
        let Rules { replace_after, replace_busy_after, .. } = self.rules;
        let is_told = self.reported.is_some_and(|told| now < told + replace_after);
        if !self.is_unhealthy() || is_told || silent < replace_after {
            Silence::Bearable
        } else if open == 0 || silent >= replace_busy_after {
            Silence::Fatal
        } else {
            Silence::Doubtful
        }
    }

    /// It was told that the replica is unresponsive. The next sign of life ends that.
    pub(super) fn report(&mut self, now: Time) {
        self.reported = Some(now);
    }

    /// The pause before the next probe.
    pub(super) fn pause(&self, now: Time) -> Duration {
        let interval = self.rules.interval;
        let wanted = if self.is_well() {
            interval
        } else if self.dampener.is_in_doubt() {
            Duration::ZERO
        } else if !self.has_passed {
            // The longer a start takes, the rarer the probes.
            now / 8
        } else if self.reported.is_some() {
            interval
        } else {
            let left = self.rules.replace_after.saturating_sub(self.silent_for(now));
            if left.is_zero() { LOOK } else { left }
        };
        wanted.clamp(SHORTEST_PAUSE.min(interval), interval)
    }

    fn silent_for(&self, now: Time) -> Duration {
        now.saturating_sub(self.last_sign)
    }

    fn sign(&mut self, now: Time) {
        self.last_sign = now;
        self.reported = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dampener_believes_a_change_after_enough_equal_observations_in_a_row() {
        const T: bool = true;
        const F: bool = false;
        /// Fall, rise, observations, and the change of belief after each.
        type Case = (u32, u32, &'static [bool], &'static [Option<bool>]);
        let cases: [Case; 6] = [
            (2, 1, &[T, T], &[Some(T), None]),
            (2, 1, &[F, F, F], &[None, Some(F), None]),
            (2, 1, &[T, F, T, F, F, T], &[Some(T), None, None, None, Some(F), Some(T)]),
            (1, 1, &[T, F, T], &[Some(T), Some(F), Some(T)]),
            (3, 2, &[T, T, F, F, T, F, F, F], &[None, Some(T), None, None, None, None, None, Some(F)]),
            (2, 3, &[F, F, T, T, F, T, T, T], &[None, Some(F), None, None, None, None, None, Some(T)]),
        ];
        for (fall, rise, observations, beliefs) in cases {
            let mut dampener = Dampener::new(fall, rise);
            let seen: Vec<Option<bool>> = observations.iter().map(|&good| dampener.observe(good)).collect();
            assert_eq!(seen, beliefs, "fall {fall}, rise {rise}: {observations:?}");
        }
    }

    #[test]
    fn one_failure_raises_a_doubt_until_the_next_probe() {
        let mut dampener = Dampener::new(2, 1);
        dampener.observe(true);
        assert!(!dampener.is_in_doubt());
        dampener.observe(false);
        assert!(dampener.is_in_doubt());
        dampener.observe(false);
        assert!(!dampener.is_in_doubt());
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A judge of a replica that was healthy at the start, and has failed its probes since.
    fn of_an_unhealthy_one() -> Judge {
        let mut judge = Judge::new(Rules {
            interval: Duration::from_millis(500),
            fall: 1,
            rise: 1,
            replace_after: seconds(3),
            replace_busy_after: seconds(60),
        });
        assert!(judge.pass(Time::ZERO));
        assert!(judge.fail("late"));
        judge
    }

    #[test]
    fn silence_counts_later_while_there_are_sessions() {
        use Silence::{Bearable, Doubtful, Fatal};
        let judge = of_an_unhealthy_one();
        for (at, idle, busy) in [
            (0, Bearable, Bearable),
            (2, Bearable, Bearable),
            (3, Fatal, Doubtful),
            (59, Fatal, Doubtful),
            (60, Fatal, Fatal),
        ] {
            assert_eq!(
                [judge.silence(seconds(at), 0), judge.silence(seconds(at), 1)],
                [idle, busy],
                "{at} s"
            );
        }
    }

    #[test]
    fn a_sign_of_life_begins_the_silence_again() {
        let mut judge = of_an_unhealthy_one();
        judge.report(seconds(100));
        assert_eq!(judge.silence(seconds(102), 0), Silence::Bearable, "it has been told");
        assert_eq!(judge.silence(seconds(103), 0), Silence::Fatal, "it is told again");
        judge.hear(1, seconds(100));
        assert_eq!(judge.silence(seconds(102), 0), Silence::Bearable);
        judge.hear(1, seconds(103));
        assert_eq!(judge.silence(seconds(103), 0), Silence::Fatal, "no new byte");
        judge.pass(seconds(103));
        assert_eq!(judge.silence(seconds(200), 0), Silence::Bearable, "it is healthy");
    }

    #[test]
    fn other_rules_hold_from_the_next_observation_on_and_what_is_believed_stays() {
        let rules = |fall, rise| Rules {
            interval: seconds(1),
            fall,
            rise,
            replace_after: seconds(3),
            replace_busy_after: seconds(60),
        };
        let mut judge = Judge::new(rules(3, 1));
        assert!(judge.pass(seconds(1)) && !judge.fail("a"));
        judge.follow(rules(2, 2));
        assert!(!judge.is_unhealthy() && judge.fail("b") && judge.is_unhealthy());
        assert_eq!(judge.silence(seconds(5), 0), Silence::Fatal);
        judge.follow(Rules { replace_after: seconds(30), ..rules(2, 2) });
        assert_eq!(judge.silence(seconds(5), 0), Silence::Bearable);
        assert!(!judge.pass(seconds(6)) && judge.pass(seconds(7)));
    }

    #[test]
    fn a_replica_in_doubt_is_never_probed_without_a_pause() {
        let mut judge = of_an_unhealthy_one();
        let pauses = [0, 2, 3, 59, 60, 1000].map(|at| judge.pause(seconds(at)));
        assert_eq!(pauses, [500, 500, 500, 500, 500, 500].map(Duration::from_millis));
        assert_eq!(judge.pause(Duration::from_millis(2990)), Duration::from_millis(10));
        judge.pass(Time::ZERO);
        judge.fail("late");
        judge.pass(Time::ZERO);
        assert_eq!(judge.pause(Time::ZERO), Duration::from_millis(500));
    }
}
