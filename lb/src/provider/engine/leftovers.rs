//! Which containers or services without a keeper are removed, and when. These are decisions only; the engine carries them out.
//!
//! A container that has ended is not removed at once: `docker restart` or `docker stop` may still work on it, and would fail. A service
//! may be part of an `add` at another `lb`, which is not over. So each waits, counted from the first list that shows it without a
//! keeper.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How long a container waits: longer than an engine takes to start again what it has stopped.
const LINGER: Duration = Duration::from_secs(5);
/// The most containers that wait. Beyond it, those that have waited longest are removed at once.
const MOST: usize = 64;
/// How long a service waits: longer than an `add` may take.
const LONGEST_ADD: Duration = Duration::from_secs(120);

/// Time since any fixed moment.
type Time = Duration;

/// The containers or services without a keeper, by id.
#[derive(Debug)]
pub(super) struct Leftovers {
    linger: Duration,
    most: usize,
    /// Those that wait, and since when.
    waiting: HashMap<String, Time>,
    /// Those that are not of this fleet, although their labels say so. They are never removed.
    foreign: HashSet<String>,
}

impl Leftovers {
    fn new(linger: Duration, most: usize) -> Self {
        Leftovers { linger, most, waiting: HashMap::new(), foreign: HashSet::new() }
    }

    /// Containers without a keeper.
    pub(super) fn of_containers() -> Self {
        Leftovers::new(LINGER, MOST)
    }

    /// Services without a keeper. All of an `add` at another `lb` wait, however many they are.
    pub(super) fn of_services() -> Self {
        Leftovers::new(LONGEST_ADD, usize::MAX)
    }

    /// Takes note of a list: `seen` are all containers without a keeper. Returns the ids of those that are to be removed now. It
    /// returns them again after each list that still shows them.
    pub(super) fn due<'a>(&mut self, now: Time, seen: impl Iterator<Item = &'a str>) -> Vec<String> {
        let seen: HashSet<&str> = seen.collect();
        self.foreign.retain(|id| seen.contains(id.as_str()));
        self.waiting.retain(|id, _| seen.contains(id.as_str()));
        for id in seen.into_iter().filter(|id| !self.foreign.contains(*id)) {
            self.waiting.entry(id.to_owned()).or_insert(now);
        }
        let mut oldest_first: Vec<(Time, &String)> =
            self.waiting.iter().map(|(id, &since)| (since, id)).collect();
        oldest_first.sort_unstable();
        let excess = oldest_first.len().saturating_sub(self.most);
        let is_due = |&(index, &(since, _)): &(usize, &(Time, &String))| {
            index < excess || now.saturating_sub(since) >= self.linger
        };
        oldest_first.iter().enumerate().filter(is_due).map(|(_, (_, id))| (*id).clone()).collect()
    }

    /// Notes that a container is not of this fleet; returns whether that is news.
    pub(super) fn is_foreign_now(&mut self, id: &str) -> bool {
        self.waiting.remove(id);
        self.foreign.insert(id.to_owned())
    }

    /// Whether a container is known not to be of this fleet.
    pub(super) fn is_foreign(&self, id: &str) -> bool {
        self.foreign.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{hash_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_container_waits_and_one_that_is_seen_again_waits_anew() {
        let mut leftovers = Leftovers::of_containers();
        assert!(leftovers.due(seconds(0), ["a"].into_iter()).is_empty());
        assert!(leftovers.due(seconds(4), ["a", "b"].into_iter()).is_empty());
        assert_eq!(leftovers.due(seconds(5), ["a", "b"].into_iter()), ["a"]);
        // It could not be removed.
        assert_eq!(leftovers.due(seconds(6), ["a", "b"].into_iter()), ["a"]);
        // It has a keeper, or is gone.
        assert!(leftovers.due(seconds(7), ["b"].into_iter()).is_empty());
        assert_eq!(leftovers.due(seconds(10), ["a", "b"].into_iter()), ["b"]);
        assert_eq!(leftovers.due(seconds(15), ["a"].into_iter()), ["a"]);
    }

    #[test]
    fn a_foreign_container_is_never_due_and_is_news_once() {
        let mut leftovers = Leftovers::of_containers();
        leftovers.due(seconds(0), ["a"].into_iter());
        assert!(leftovers.is_foreign_now("a") && !leftovers.is_foreign_now("a") && leftovers.is_foreign("a"));
        assert!(leftovers.due(seconds(100), ["a"].into_iter()).is_empty());
        leftovers.due(seconds(101), [].into_iter());
        assert!(!leftovers.is_foreign("a"), "what is gone is forgotten");
    }

    #[test]
    fn no_more_than_a_bounded_number_waits() {
        let ids: Vec<String> = (0..MOST + 2).map(|id| id.to_string()).collect();
        let (old, new) = ids.split_at(3);
        let mut leftovers = Leftovers::of_containers();
        assert!(leftovers.due(seconds(0), old.iter().map(String::as_str)).is_empty());
        let due = leftovers.due(seconds(1), ids.iter().map(String::as_str));
        assert_eq!(due.len(), ids.len() - MOST);
        assert!(due.iter().all(|id| old.contains(id)), "{due:?}, and not {new:?}");
    }

    proptest! {
        /// Each step is a list, some seconds later, and perhaps the news that a container is foreign.
        #[test]
        fn after_any_lists_what_is_due_was_seen_for_long_and_is_not_foreign(
            steps in vec((0_u64..6, hash_set(0_u8..6, 0..6), prop::option::of(0_u8..6)), 0..40)
        ) {
            let (mut leftovers, mut now) = (Leftovers::of_containers(), 0);
            let (mut since, mut foreign) = (HashMap::<u8, u64>::new(), HashSet::new());
            for (pause, seen, stranger) in steps {
                now += pause;
                since.retain(|id, _| seen.contains(id));
                foreign.retain(|id| seen.contains(id));
                for &id in &seen {
                    since.entry(id).or_insert(now);
                }
                let names: Vec<String> = seen.iter().map(u8::to_string).collect();
                let mut due = leftovers.due(seconds(now), names.iter().map(String::as_str));
                let is_due = |id: &&u8| seconds(now - since[*id]) >= LINGER && !foreign.contains(*id);
                let mut wanted: Vec<String> = seen.iter().filter(is_due).map(u8::to_string).collect();
                due.sort();
                wanted.sort();
                prop_assert_eq!(due, wanted);
                if let Some(id) = stranger.filter(|id| seen.contains(id)) {
                    leftovers.is_foreign_now(&id.to_string());
                    foreign.insert(id);
                }
            }
        }
    }
}
