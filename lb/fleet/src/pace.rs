//! When to ask a Docker Swarm for what: pure, the caller brings the time and asks.
//!
//! Swarm sends no events about tasks. So while a slot waits for a task, or a replica is in doubt, the tasks of its service are read every
//! 100 ms. All else is read every few seconds, and whenever an event says that something has changed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::nouns::Time;

/// The time between two reads of everything: at most 0.2 a second.
const SLOW: Duration = Duration::from_secs(5);
/// The time between two reads of the tasks of a service that is waited for.
pub const FAST: Duration = Duration::from_millis(100);
/// The same for one that has been waited for longer than `LONG`: Swarm has no room for it, or it fails again and again.
const PATIENT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(15);
/// How long a doubt lasts: longer than Swarm takes to show that a task has ended.
const DOUBT: Duration = Duration::from_secs(2);
/// The time between two attempts while the API is away.
const ABSENCE: Duration = Duration::from_millis(500);
/// The most services whose tasks are asked for by name. Beyond that, those of the whole fleet cost less.
const MOST: usize = 16;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for this time, or until something changes.
    Wait(Duration),
    /// Read the tasks of these services.
    Some(Vec<String>),
    /// Read the tasks of the fleet.
    Tasks,
    /// Read everything: the config object, services, tasks.
    All,
}

/// What is waited for, and what was read when.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// Services by id, each with the number of those who wait and since when.
    waiting: BTreeMap<String, (usize, Time)>,
    /// Services in doubt by id, and until when.
    doubted: BTreeMap<String, Time>,
    /// When everything was last read.
    all: Option<Time>,
    /// When tasks were last read.
    tasks: Option<Time>,
    /// Whether something has changed that only a read of everything shows.
    is_stale: bool,
    is_away: bool,
}

impl Pace {
    /// Someone waits for a task of this service.
    pub fn wait_for(&mut self, service: &str, now: Time) {
        self.waiting.entry(service.to_owned()).or_insert((0, now)).0 += 1;
    }

    /// One of those who waited for a task of this service does not wait any more.
    pub fn waited_for(&mut self, service: &str) {
        if let Some((waiting, _)) = self.waiting.get_mut(service) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting.remove(service);
            }
        }
    }

    /// The replica of this service may have ended.
    pub fn doubt(&mut self, service: &str, now: Time) {
        self.doubted.insert(service.to_owned(), now + DOUBT);
    }

    /// Something has changed that only a read of everything shows.
    pub fn is_stale(&mut self) {
        self.is_stale = true;
    }

    /// Takes note of a read that began at `at`; returns whether the API was away before.
    pub fn was_read(&mut self, what: &Next, at: Time, is_away: bool) -> bool {
        self.tasks = Some(at);
        if *what == Next::All {
            (self.all, self.is_stale) = (Some(at), is_away);
        }
        std::mem::replace(&mut self.is_away, is_away)
    }

    /// What to do now.
    pub fn next(&mut self, now: Time) -> Next {
        self.doubted.retain(|_, until| *until > now);
        let since = |last: Option<Time>| last.map_or(Duration::MAX, |last| now.saturating_sub(last));
        let (all, tasks) = (since(self.all), since(self.tasks));
        let left = |interval: Duration, passed| interval.saturating_sub(passed);
        if self.is_away {
            // One kind of call is enough to find out that it is back.
            return if tasks >= ABSENCE { Next::All } else { Next::Wait(left(ABSENCE, tasks)) };
        }
        let all_in = left(if self.is_stale { FAST } else { SLOW }, all);
        let tasks_in = self.interval(now).map_or(Duration::MAX, |interval| left(interval, tasks));
        match all_in.min(tasks_in) {
            Duration::ZERO if all_in.is_zero() => Next::All,
            Duration::ZERO => self.some(),
            pause => Next::Wait(pause),
        }
    }

    /// How often the tasks of those services are read that are waited for or in doubt; `None` if there are none.
    fn interval(&self, now: Time) -> Option<Duration> {
        let is_impatient = |&(_, since): &(usize, Time)| now.saturating_sub(since) < LONG;
        if !self.doubted.is_empty() || self.waiting.values().any(is_impatient) {
            Some(FAST)
        } else {
            (!self.waiting.is_empty()).then_some(PATIENT)
        }
    }

    fn some(&self) -> Next {
        let mut services: Vec<String> = self.waiting.keys().chain(self.doubted.keys()).cloned().collect();
        services.sort_unstable();
        services.dedup();
        if services.len() > MOST { Next::Tasks } else { Next::Some(services) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Duration::from_millis(ms)
    }

    /// A pace after a read of everything at 0.
    fn calm() -> Pace {
        let mut pace = Pace::default();
        assert_eq!(pace.next(ms(0)), Next::All);
        pace.was_read(&Next::All, ms(0), false);
        pace
    }

    #[test]
    fn while_nothing_happens_everything_is_read_every_five_seconds() {
        let mut pace = calm();
        assert_eq!(pace.next(ms(1)), Next::Wait(ms(4999)));
        assert_eq!(pace.next(ms(5000)), Next::All);
    }

    #[test]
    fn a_service_that_is_waited_for_is_read_often_at_first() {
        let mut pace = calm();
        pace.wait_for("a", ms(1000));
        pace.wait_for("a", ms(1000));
        assert_eq!(pace.next(ms(1000)), Next::Some(vec!["a".to_owned()]));
        pace.was_read(&Next::Some(Vec::new()), ms(1000), false);
        assert_eq!(pace.next(ms(1050)), Next::Wait(ms(50)));
        pace.waited_for("a");
        assert_eq!(pace.next(ms(1100)), Next::Some(vec!["a".to_owned()]), "another one waits");
        pace.was_read(&Next::All, ms(16_000), false);
        assert_eq!(pace.next(ms(16_100)), Next::Wait(ms(900)), "it takes long");
        pace.waited_for("a");
        assert_eq!(pace.next(ms(16_100)), Next::Wait(ms(4900)));
    }

    #[test]
    fn a_doubt_ends_by_itself_and_many_services_are_read_together() {
        let mut pace = calm();
        pace.doubt("b", ms(1000));
        pace.wait_for("a", ms(1000));
        assert_eq!(pace.next(ms(2999)), Next::Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(pace.next(ms(3000)), Next::Some(vec!["a".to_owned()]));
        (0..MOST).for_each(|at| pace.doubt(&at.to_string(), ms(3000)));
        assert_eq!(pace.next(ms(3000)), Next::Tasks);
    }

    #[test]
    fn a_change_is_read_soon_but_no_storm_of_them_makes_a_storm_of_reads() {
        let mut pace = calm();
        pace.is_stale();
        assert_eq!(pace.next(ms(10)), Next::Wait(ms(90)));
        assert_eq!(pace.next(ms(100)), Next::All);
        pace.was_read(&Next::All, ms(100), false);
        assert_eq!(pace.next(ms(200)), Next::Wait(ms(4900)));
    }

    #[test]
    fn while_the_api_is_away_it_is_asked_twice_a_second_however_many_wait() {
        let mut pace = calm();
        pace.wait_for("a", ms(0));
        assert!(!pace.was_read(&Next::Tasks, ms(100), true));
        assert_eq!(pace.next(ms(300)), Next::Wait(ms(300)));
        assert_eq!(pace.next(ms(600)), Next::All);
        assert!(pace.was_read(&Next::All, ms(600), false), "it was away");
        assert_eq!(pace.next(ms(700)), Next::Some(vec!["a".to_owned()]));
    }
}
