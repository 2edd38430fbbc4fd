//! Statistics of owners: how even their shares are, and what moved between two fleets.
//!
//! Pure arithmetic: no mapping, no output.

use std::collections::HashMap;

use mapping::Member;
use serde::Serialize;

/// How evenly a mapping spreads requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Balance {
    /// The part of the requests of each server, in the order of the servers.
    pub(crate) shares: Vec<f64>,
    /// The greatest load of a server for each unit of its weight, where the mean is 1.
    pub(crate) busiest_over_mean: f64,
    /// The standard deviation of these loads from the mean, 1.
    pub(crate) deviation: f64,
}

impl Balance {
    /// From the number of requests of each member.
    #[must_use]
    pub(crate) fn of(members: &[Member], counts: &[u64]) -> Self {
        let sum: u64 = counts.iter().sum();
        let shares: Vec<f64> = counts.iter().map(|&count| count as f64 / sum.max(1) as f64).collect();
        let due = dues(members);
        let loads: Vec<f64> =
            shares.iter().zip(&due).filter(|(_, due)| **due > 0.0).map(|(share, due)| share / due).collect();
        let squares: f64 = loads.iter().map(|load| (load - 1.0).powi(2)).sum();
        Balance {
            busiest_over_mean: loads.iter().copied().fold(0.0, f64::max),
            deviation: (squares / loads.len().max(1) as f64).sqrt(),
            shares,
        }
    }
}

/// The part of the keys that each member should have: its weight divided by the sum of all weights.
#[must_use]
pub(crate) fn dues(members: &[Member]) -> Vec<f64> {
    let sum: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    members.iter().map(|member| f64::from(member.weight) / sum.max(1) as f64).collect()
}

/// The part of the keys that has to move between two fleets if all shares follow the weights.
#[must_use]
pub(crate) fn fair(before: &[Member], after: &[Member]) -> f64 {
    let had: HashMap<&str, f64> =
        before.iter().map(|member| member.name.as_str()).zip(dues(before)).collect();
    let gain = |(member, due): (&Member, f64)| {
        (due - had.get(member.name.as_str()).copied().unwrap_or_default()).max(0.0)
    };
    after.iter().zip(dues(after)).map(gain).sum()
}

/// What moves in a step, as parts of all requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Disturbance {
    /// The part that gets another server.
    pub(crate) moved: f64,
    /// The part that moves needlessly: the server it leaves is still there and has lost no weight, and the server it goes
    /// to was there before and has gained none.
    pub(crate) needless: f64,
    /// The least part that has to move between the shares before and the shares after.
    pub(crate) least: f64,
}

/// The number of requests for each pair of an owner before and an owner after.
#[derive(Debug)]
pub(crate) struct Transfers<'a> {
    before: &'a [Member],
    after: &'a [Member],
    /// One for each pair: a row for each owner before, a column for each owner after.
    counts: Vec<u64>,
}

impl<'a> Transfers<'a> {
    /// No requests, between these fleets.
    #[must_use]
    pub(crate) fn between(before: &'a [Member], after: &'a [Member]) -> Self {
        Transfers { before, after, counts: vec![0; before.len() * after.len()] }
    }

    /// Adds requests that go from one ordinal before to another after.
    pub(crate) fn add(&mut self, from: usize, to: usize, requests: u64) {
        self.counts[from * self.after.len() + to] += requests;
    }

    /// The statistics of all requests so far.
    #[must_use]
    pub(crate) fn disturbance(&self) -> Disturbance {
        let (weights_before, weights_after) = (weights(self.before), weights(self.after));
        // A server that is not there counts as less than any weight.
        let change = |name: &str| weights_after.get(name).cmp(&weights_before.get(name));
        let (mut moved, mut needless) = (0, 0);
        let (mut had, mut has) = (HashMap::new(), HashMap::new());
        for (at, &requests) in self.counts.iter().enumerate().filter(|(_, requests)| **requests > 0) {
            let from = self.before[at / self.after.len()].name.as_str();
            let to = self.after[at % self.after.len()].name.as_str();
            *had.entry(from).or_insert(0) += requests;
            *has.entry(to).or_insert(0) += requests;
            if from != to {
                moved += requests;
                needless += if change(from).is_ge() && change(to).is_le() { requests } else { 0 };
            }
        }
        let gain = |(name, now): (&&str, &u64)| now.saturating_sub(had.get(name).copied().unwrap_or(0));
        let least: u64 = has.iter().map(gain).sum();
        let sum = self.counts.iter().sum::<u64>().max(1) as f64;
        let part = |requests: u64| requests as f64 / sum;
        Disturbance { moved: part(moved), needless: part(needless), least: part(least) }
    }
}

fn weights(members: &[Member]) -> HashMap<&str, u32> {
    members.iter().map(|member| (member.name.as_str(), member.weight)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[(&str, u32)]) -> Vec<Member> {
        let member =
            |(&(name, weight), index): (&(&str, u32), u32)| Member { index, name: name.to_owned(), weight };
        weights.iter().zip(1..).map(member).collect()
    }

    fn disturbance(
        before: &[(&str, u32)],
        after: &[(&str, u32)],
        transfers: &[(usize, usize, u64)],
    ) -> Disturbance {
        let (before, after) = (members(before), members(after));
        let mut all = Transfers::between(&before, &after);
        transfers.iter().for_each(|&(from, to, requests)| all.add(from, to, requests));
        all.disturbance()
    }

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-12
    }

    /// Loads of 1.2, 0.9 and 0.9: the squares of what is off are 0.04, 0.01 and 0.01.
    #[test]
    fn shares_of_equal_replicas() {
        let balance = Balance::of(&members(&[("a", 1), ("b", 1), ("c", 1)]), &[40, 30, 30]);
        assert_eq!(balance.shares, [0.4, 0.3, 0.3]);
        assert!(near(balance.busiest_over_mean, 1.2) && near(balance.deviation, 0.02_f64.sqrt()));
    }

    /// a ought to have a quarter, b three; d has no weight, so it does not count.
    #[test]
    fn a_load_is_that_of_a_unit_of_weight() {
        let balance = Balance::of(&members(&[("a", 1), ("b", 3), ("d", 0)]), &[30, 70, 0]);
        assert!(near(balance.busiest_over_mean, 1.2), "{balance:?}");
        let expected = ((0.2_f64.powi(2) + (1.0_f64 / 15.0).powi(2)) / 2.0).sqrt();
        assert!(near(balance.deviation, expected), "{balance:?}");
    }

    #[test]
    fn the_fair_part_is_the_part_that_even_shares_would_move() {
        let three = [("a", 1), ("b", 1), ("c", 1)];
        assert!(near(fair(&members(&three), &members(&three[..2])), 1.0 / 3.0));
        assert!(near(fair(&members(&three[..2]), &members(&three)), 1.0 / 3.0));
        // From 1/2 to 2/3.
        assert!(near(fair(&members(&three[..2]), &members(&[("a", 2), ("b", 1)])), 1.0 / 6.0));
    }

    #[test]
    fn a_loss_needs_the_moves_of_the_lost_one_only() {
        let before = [("a", 1), ("b", 1), ("c", 1)];
        let after = [("a", 1), ("b", 1)];
        let transfers = [(0, 0, 40), (1, 1, 20), (2, 0, 20), (2, 1, 10), (0, 1, 7), (1, 0, 3)];
        let found = disturbance(&before, &after, &transfers);
        // a had 47 and has 63; b had 23 and has 37.
        assert_eq!(found, Disturbance { moved: 0.4, needless: 0.1, least: 0.3 });
    }

    #[test]
    fn a_newcomer_needs_the_moves_to_it_only() {
        let before = [("a", 1), ("b", 1)];
        let after = [("a", 1), ("new", 1), ("b", 1)];
        let transfers = [(0, 0, 30), (0, 1, 20), (1, 1, 10), (1, 2, 36), (0, 2, 4)];
        let found = disturbance(&before, &after, &transfers);
        // The newcomer has 30; a had 54 and has 30; b had 46 and has 40.
        assert_eq!(found, Disturbance { moved: 0.34, needless: 0.04, least: 0.3 });
    }

    #[test]
    fn more_weight_needs_moves_to_it_and_less_weight_moves_from_it() {
        let (light, heavy) = ([("a", 1), ("b", 1), ("c", 1)], [("a", 2), ("b", 1), ("c", 1)]);
        let transfers = [(0, 0, 70), (1, 0, 10), (1, 2, 5), (0, 1, 15)];
        assert!(near(disturbance(&light, &heavy, &transfers).needless, 0.2));
        assert!(near(disturbance(&heavy, &light, &transfers).needless, 0.15));
    }
}
