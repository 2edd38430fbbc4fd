//! What a scenario does second by second, up to its last fault or command. Its fields are those of the JSON answer.

use fleet::Time;
use serde::Serialize;

use super::figures::Figures;

/// A number for each second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Timeline {
    /// The most sampled keys that balancers disagreed on at a time.
    pub(super) differing_keys: Vec<usize>,
    /// Connects to dead replicas.
    pub(super) connects: Vec<usize>,
    /// Calls of all balancers to the engine.
    pub(super) calls: Vec<u32>,
}

impl Timeline {
    pub(super) fn of(figures: &Figures) -> Self {
        let seconds = figures.length.as_secs().max(1) as usize;
        let calls = |second: usize| figures.calls.iter().filter_map(|calls| calls.get(second)).sum();
        Timeline {
            differing_keys: most_in_each(&figures.agreement.differing, seconds),
            connects: count_in_each(&figures.connects, seconds),
            calls: (0..seconds).map(calls).collect(),
        }
    }
}

/// The greatest value in each second of one that changes at these times, and is 0 at first.
fn most_in_each(changes: &[(Time, usize)], seconds: usize) -> Vec<usize> {
    let (mut changes, mut value) = (changes.iter().peekable(), 0);
    let most = |second: usize| {
        let mut most = value;
        while let Some((_, next)) = changes.next_if(|(at, _)| at.as_secs() as usize <= second) {
            value = *next;
            most = most.max(value);
        }
        most
    };
    (0..seconds).map(most).collect()
}

fn count_in_each(times: &[Time], seconds: usize) -> Vec<usize> {
    let mut counts = vec![0; seconds];
    for at in times {
        if let Some(count) = counts.get_mut(at.as_secs() as usize) {
            *count += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lasts_until_it_changes_and_the_greatest_of_a_second_counts() {
        let ms = Time::from_millis;
        let changes =
            [(ms(500), 3), (ms(600), 0), (ms(2100), 5), (ms(2200), 2), (ms(5900), 0), (ms(6000), 9)];
        assert_eq!(most_in_each(&changes, 7), [3, 0, 5, 2, 2, 2, 9]);
        assert_eq!(most_in_each(&[], 2), [0, 0]);
    }

    #[test]
    fn what_comes_after_the_last_second_is_not_counted() {
        assert_eq!(count_in_each(&[0, 999, 1000, 3000].map(Time::from_millis), 3), [2, 1, 0]);
    }
}
