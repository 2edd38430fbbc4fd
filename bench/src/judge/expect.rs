//! The expectations of a correct load balancer: no request fails, each replica gets its share, and keys stay in their slots.
//!
//! The figures for `slots` follow from its formulas alone: over all six-digit ids at N = 3 its shares are 84.37 %, 4.69 %
//! and 10.94 %, whatever the load balancer does. All others come from the data itself.

use crate::data::{Balance, Comparison, Data, Drill, Expectation, Healing, Scaling};
use crate::stats::{sampling_band, standard_deviation};

/// The N of A-1 for which shares are stated.
const THREE: usize = 3;
/// The shares of three replicas under `slots`, over all six-digit ids.
const SLOTS_SHARES: [f64; THREE] = [0.8437, 0.0469, 0.1094];
/// The standard deviation over the replicas under `slots`, at N = 2 to 6, of 10,000 requests.
const SLOTS_DEVIATIONS: [(usize, f64); 5] = [(2, 4531.0), (3, 3617.0), (4, 3302.0), (5, 2993.0), (6, 2795.0)];
/// The number of requests behind these figures; with fewer, chance may exceed the tolerance.
const STATED_FOR: u64 = 10_000;
/// The allowed relative error of the standard deviation.
const DEVIATION_TOLERANCE: f64 = 0.03;
/// The allowed relative distance of a replica from the mean under `ring`.
const RING_TOLERANCE: f64 = 0.10;

/// All expectations that apply to this data.
pub(super) fn of(data: &Data) -> Vec<Expectation> {
    let mut all = Vec::new();
    all.extend(of_loads("A-1", data.a1.iter()));
    all.extend(data.a1.iter().filter_map(of_a1));
    all.extend(of_loads("A-2", data.a2.iter().flat_map(|scaling| &scaling.points)));
    all.extend(data.a2.iter().filter_map(of_a2));
    all.extend(data.a3.iter().flat_map(of_healing));
    if let Some(variants) = &data.a4 {
        let scaled = variants.a2.iter().flat_map(|scaling| &scaling.points);
        all.extend(of_loads("A-4", variants.a1.iter().chain(scaled)));
    }
    all.extend(data.comparison.iter().flat_map(of_comparison));
    all
}

pub(super) fn expectation(
    what: impl Into<String>,
    expected: impl Into<String>,
    found: impl Into<String>,
    passed: bool,
) -> Expectation {
    Expectation { what: what.into(), expected: expected.into(), found: found.into(), passed }
}

/// For every load: no request fails, and each replica gets the share that the mapping gives it.
fn of_loads<'a>(experiment: &str, balances: impl Iterator<Item = &'a Balance> + Clone) -> Vec<Expectation> {
    let count = balances.clone().count();
    if count == 0 {
        return Vec::new();
    }
    let requests: u64 = balances.clone().map(|balance| balance.load.requests).sum();
    let failed: Vec<String> = balances.clone().filter_map(failures).collect();
    let found = if failed.is_empty() { format!("none of {requests}") } else { failed.join("; ") };
    let failures = expectation(format!("{experiment}: failed requests"), "none", found, failed.is_empty());
    let outside: Vec<String> = balances.flat_map(outside_of_bands).collect();
    let found = if outside.is_empty() { format!("all of {count} loads") } else { outside.join("; ") };
    let what = format!("{experiment}: requests for each replica");
    vec![failures, expectation(what, "within the sampling band of its share", found, outside.is_empty())]
}

fn name(balance: &Balance) -> String {
    format!("{} at N = {}", balance.variant.name, balance.replicas.len())
}

fn failures(balance: &Balance) -> Option<String> {
    let load = &balance.load;
    let kinds: Vec<String> = load.failures.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let failed = load.failed();
    (failed > 0).then(|| format!("{}: {failed} of {} ({})", name(balance), load.requests, kinds.join(", ")))
}

fn outside_of_bands(balance: &Balance) -> Vec<String> {
    let outside =
        balance.replicas.iter().filter(|share| balance.within(share) == Some(false)).filter_map(|share| {
            let ((low, high), hostname, requests) = (balance.band(share)?, &share.hostname, share.requests);
            Some(format!("{}: {hostname} {requests} outside of {low:.0} to {high:.0}", name(balance)))
        });
    outside.collect()
}

/// For `slots` and `ring` at N = 3: the known shares.
fn of_a1(balance: &Balance) -> Option<Expectation> {
    let is_stated = balance.load.succeeded >= STATED_FOR && balance.replicas.len() == THREE;
    match balance.variant.flags.as_slice() {
        [_, slots] if is_stated && slots == "slots" => Some(slots_shares(balance)),
        [_, ring] if is_stated && ring == "ring" => Some(near_the_mean(balance)),
        _ => None,
    }
}

fn slots_shares(balance: &Balance) -> Expectation {
    let total = balance.load.succeeded;
    let mut passed = true;
    let mut found = Vec::new();
    for (share, expected) in balance.replicas.iter().zip(SLOTS_SHARES) {
        let (low, high) = sampling_band(expected, total, 0);
        passed &= (low..=high).contains(&(share.requests as f64));
        found.push(format!("{:.1} %", 100.0 * share.requests as f64 / total as f64));
    }
    let expected = SLOTS_SHARES.map(|share| format!("{:.1} %", 100.0 * share)).join(" / ");
    let what = format!("A-1: shares of {}, by its formulas", name(balance));
    expectation(what, format!("{expected}, within the sampling band"), found.join(" / "), passed)
}

fn near_the_mean(balance: &Balance) -> Expectation {
    let mean = balance.load.succeeded as f64 / balance.replicas.len() as f64;
    let distances = balance.replicas.iter().map(|share| (share.requests as f64 / mean - 1.0).abs());
    let most = distances.fold(0.0, f64::max);
    let what = format!("A-1: distance of {} from the mean", name(balance));
    let expected = format!("each within {:.0} % of {mean:.0}", 100.0 * RING_TOLERANCE);
    expectation(what, expected, format!("{:.1} % at most", 100.0 * most), most <= RING_TOLERANCE)
}

/// For `slots` at every N: the known standard deviations.
fn of_a2(scaling: &Scaling) -> Option<Expectation> {
    let is_slots = matches!(scaling.variant.flags.as_slice(), [_, slots] if slots == "slots");
    let is_enough = scaling.points.iter().all(|point| point.load.succeeded >= STATED_FOR);
    if !is_slots || !is_enough || scaling.points.is_empty() {
        return None;
    }
    let (mut passed, mut stated, mut found) = (true, Vec::new(), Vec::new());
    for point in &scaling.points {
        let n = point.replicas.len();
        let (_, deviation) = SLOTS_DEVIATIONS.iter().find(|(size, _)| *size == n)?;
        let deviation = deviation * point.load.succeeded as f64 / STATED_FOR as f64;
        let is = standard_deviation(&point.counts());
        passed &= (is / deviation - 1.0).abs() <= DEVIATION_TOLERANCE;
        stated.push(format!("{deviation:.0}"));
        found.push(format!("{is:.0}"));
    }
    let expected = format!("{}, within {:.0} %", stated.join(" / "), 100.0 * DEVIATION_TOLERANCE);
    Some(expectation("A-2: standard deviation of slots, by N", expected, found.join(" / "), passed))
}

fn of_healing(healing: &Healing) -> Vec<Expectation> {
    let mut all = Vec::new();
    if !healing.checks.is_empty() {
        let right = healing.checks.iter().filter(|check| check.passed).count();
        let count = healing.checks.len();
        let wrong: Vec<&str> =
            healing.checks.iter().filter(|check| !check.passed).map(|check| check.what.as_str()).collect();
        let found = if wrong.is_empty() {
            format!("all {count}")
        } else {
            format!("{right} of {count}; not: {}", wrong.join(", "))
        };
        all.push(expectation(
            "A-3, control port: right answers",
            format!("all {count}"),
            found,
            right == count,
        ));
    }
    if let Some(drill) = &healing.drill {
        all.extend(of_drill("A-3, drill", drill));
    }
    all
}

/// What has to hold of a drill; `title` says which one it is.
pub(super) fn of_drill(title: &str, drill: &Drill) -> Vec<Expectation> {
    let kills = usize::try_from(drill.wanted).unwrap_or(usize::MAX).max(drill.kills.len());
    let begun: u64 = drill.kills.iter().map(|kill| kill.begun_after).sum();
    let failed: u64 = drill.kills.iter().map(|kill| kill.failed_after).sum();
    let back = drill.kills.iter().filter(|kill| kill.back.is_some() && kill.answered.is_some()).count();
    let mut all = vec![
        expectation(
            format!("{title}: failed requests among those begun after a kill"),
            "none",
            format!("{failed} of {begun}"),
            failed == 0 && begun > 0,
        ),
        expectation(
            format!("{title}: replacements that answered"),
            format!("all {kills}"),
            format!("{back} of {kills}"),
            back == kills,
        ),
    ];
    if drill.mapping_asked > 0 {
        all.push(expectation(
            format!("{title}: keys that moved to another slot"),
            "none",
            format!("{} of {}", drill.mapping_moved, drill.mapping_asked),
            drill.mapping_moved == 0,
        ));
    }
    all
}

fn of_comparison(comparison: &Comparison) -> Vec<Expectation> {
    let mut all = Vec::new();
    for (place, contender) in comparison.contenders.iter().enumerate() {
        let readings =
            comparison.modes.iter().flat_map(|mode| &mode.rounds).filter_map(|round| round.get(place));
        let failed: u64 = readings.map(|reading| reading.failures).sum();
        all.push(expectation(
            format!("Comparison, {}: failures", contender.name),
            "none",
            if failed == 0 { "none".to_owned() } else { failed.to_string() },
            failed == 0,
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Kill, Load, Share, Variant};

    fn variant(name: &str) -> Variant {
        Variant { name: name.to_owned(), flags: vec!["--mapping".to_owned(), name.to_owned()] }
    }

    fn balance(name: &str, counts: &[u64], shares: &[f64]) -> Balance {
        let total = counts.iter().sum();
        let share = |(place, &requests): (usize, &u64)| Share {
            hostname: format!("server{}", place + 1),
            requests,
            expected: shares.get(place).copied(),
            asked: 50_000,
        };
        let load = Load { requests: total, succeeded: total, ..Load::default() };
        Balance { variant: variant(name), replicas: counts.iter().enumerate().map(share).collect(), load }
    }

    #[track_caller]
    fn passed(data: &Data, what: &str) -> bool {
        let found: Vec<Expectation> = of(data).into_iter().filter(|one| one.what.contains(what)).collect();
        assert_eq!(found.len(), 1, "{what}: {:?}", of(data));
        found[0].passed
    }

    fn a1(balance: Balance) -> Data {
        Data { a1: vec![balance], ..Data::default() }
    }

    #[test]
    fn a_failed_request_is_always_wrong() {
        let mut right = balance("ring", &[3300, 3300, 3400], &[]);
        assert!(passed(&a1(right.clone()), "A-1: failed requests"));
        right.load.requests += 1;
        right.load.failures.insert("reset".to_owned(), 1);
        let data = a1(right);
        assert!(!passed(&data, "A-1: failed requests"));
        assert!(of(&data)[0].found.contains("1 reset"), "{:?}", of(&data)[0]);
    }

    #[test]
    fn counts_have_to_lie_within_their_bands() {
        let shares = [0.3363, 0.3254, 0.3383];
        assert!(passed(&a1(balance("ring", &[3335, 3272, 3393], &shares)), "requests for each replica"));
        assert!(!passed(&a1(balance("ring", &[3700, 2907, 3393], &shares)), "requests for each replica"));
    }

    #[test]
    fn slots_and_ring_have_their_known_shares() {
        assert!(passed(&a1(balance("slots", &[8481, 476, 1043], &[])), "by its formulas"));
        assert!(!passed(&a1(balance("slots", &[8600, 400, 1000], &[])), "by its formulas"));
        assert!(passed(&a1(balance("ring", &[3335, 3272, 3393], &[])), "from the mean"));
        assert!(!passed(&a1(balance("ring", &[3800, 3100, 3100], &[])), "from the mean"));
        // With few requests chance exceeds the tolerance.
        assert_eq!(of(&a1(balance("ring", &[60, 30, 10], &[]))).len(), 2);
    }

    #[test]
    fn slots_has_its_known_deviations() {
        let scaling = |first: u64| Data {
            a2: vec![Scaling {
                variant: variant("slots"),
                points: vec![
                    balance("slots", &[first, 10_000 - first], &[]),
                    balance("slots", &[8481, 476, 1043], &[]),
                ],
            }],
            ..Data::default()
        };
        assert!(passed(&scaling(9524), "standard deviation"));
        assert!(!passed(&scaling(9800), "standard deviation"));
    }

    #[test]
    fn a_drill_passes_only_when_nothing_begun_later_fails_and_all_come_back_home() {
        let good = Kill { back: Some(6.0), answered: Some(7.0), begun_after: 100, ..Kill::default() };
        let drill = |kill: Kill, moved: u64| {
            let drill =
                Drill { kills: vec![kill], mapping_asked: 10, mapping_moved: moved, ..Drill::default() };
            let healing = Healing { drill: Some(drill), ..Healing::default() };
            of(&Data { a3: Some(healing), ..Data::default() }).iter().all(|one| one.passed)
        };
        assert!(drill(good.clone(), 0));
        assert!(!drill(good.clone(), 1));
        assert!(!drill(Kill { failed_after: 1, ..good.clone() }, 0));
        assert!(!drill(Kill { begun_after: 0, ..good.clone() }, 0));
        assert!(!drill(Kill { answered: None, ..good }, 0));
    }
}
