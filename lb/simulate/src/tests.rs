//! Results of simulations, compared with known properties of each mapping.

use mapping::{Algorithm, SlotsShape};

use super::*;
use crate::peers::Peer;

/// Ours without `slots`, then the peers.
fn contenders() -> [Contender; 6] {
    let ours = |algorithm: Algorithm| Contender::Ours(algorithm.into());
    let theirs = |peer| Contender::Theirs { peer, unit: 1 };
    [
        ours(Algorithm::Ring { points: 1000 }),
        ours(Algorithm::Rendezvous),
        theirs(Peer::HaProxy),
        theirs(Peer::Nginx),
        theirs(Peer::EnvoyRing),
        ours(Algorithm::Maglev),
    ]
}

/// The first contenders with a fleet, steps, and 20,000 ids.
pub(super) fn plan(count: usize, replicas: usize, steps: &[&str]) -> Plan {
    let steps = steps.iter().map(|step| Step::parse(step).unwrap()).collect();
    Plan {
        contenders: contenders().into_iter().take(count).collect(),
        stages: stages(fleet(replicas), steps).unwrap(),
        ids: Ids { count: 20_000, distribution: Distribution::Uniform, seed: 1 },
        json: false,
        chart: None,
        draw: None,
    }
}

pub(super) fn report(plan: &Plan) -> Report {
    simulate(plan).unwrap()
}

/// What moved in the last step, by mapping.
fn last(report: &Report) -> Vec<(&str, outcome::Disturbance)> {
    let last = |row: &Row| row.stages.last().unwrap().disturbance.unwrap();
    report.mappings.iter().map(|row| (row.mapping.as_str(), last(row))).collect()
}

/// 432, 24 and 56 of 512 entries, with the formulas' frequencies: the figures are known from the table
/// itself.
#[test]
fn the_classic_table_has_its_known_shares_of_all_six_digit_ids() {
    let mut plan = plan(0, 3, &[]);
    plan.contenders = vec![Contender::Ours(Algorithm::Slots(SlotsShape::default()).into())];
    plan.ids.count = 900_000;
    let report = report(&plan);
    let shares = &report.mappings[0].stages[0].balance.shares;
    for (share, expected) in shares.iter().zip([0.8437, 0.0469, 0.1094]) {
        assert!((share - expected).abs() < 0.0001, "{shares:?}");
    }
}

#[test]
fn rings_and_scores_move_nothing_needlessly_maglev_a_little_and_envoy_much() {
    for step in ["rm server2", "add new", "add 2", "weight server1=3", "weight server4=0"] {
        let report = report(&plan(6, 4, &[step]));
        for (mapping, moves) in last(&report) {
            println!("{step}, {mapping}: {moves:?}");
            assert!(moves.needless <= moves.moved && moves.least <= moves.moved + 1e-9, "{mapping}");
            match mapping {
                "maglev" => assert!(moves.needless > 0.0 && moves.needless < 0.03, "{step}: {moves:?}"),
                "envoy-ring" => {}
                _ => assert_eq!((moves.needless, moves.moved), (0.0, moves.least), "{step}, {mapping}"),
            }
        }
    }
    let envoy = last(&report(&plan(5, 4, &["rm server2"])))[4].1;
    assert!(envoy.needless > 0.05, "{envoy:?}");
}

#[test]
fn only_the_keys_of_the_lost_replica_move() {
    let report = report(&plan(4, 4, &["rm server2"]));
    for row in &report.mappings {
        let [first, last] = &row.stages[..] else { panic!() };
        let moved = last.disturbance.unwrap().moved;
        assert!((first.balance.shares[1] - moved).abs() < 1e-12, "{}", row.mapping);
        assert_eq!(last.balance.shares.len(), 3);
    }
    assert!((report.stages[1].fair.unwrap() - 0.25).abs() < 1e-9);
}

/// Peers know a replica by its index, and the newcomer has that of the lost one.
#[test]
fn for_peers_a_newcomer_in_the_place_of_a_lost_one_is_the_lost_one() {
    let report = report(&plan(5, 4, &["rm server2", "add other"]));
    for row in &report.mappings {
        let is_the_same = row.stages[0].balance == row.stages[2].balance;
        assert_eq!(is_the_same, !["ring", "rendezvous"].contains(&row.mapping.as_str()), "{}", row.mapping);
    }
}

/// With weights of 100 a replica has 1600 points, not 16.
#[test]
fn haproxy_gets_more_even_with_its_weights() {
    let mut plan = plan(0, 6, &[]);
    plan.contenders = [1, 100].map(|unit| Contender::Theirs { peer: Peer::HaProxy, unit }).into();
    let report = report(&plan);
    let peak = |at: usize| report.mappings[at].stages[0].balance.busiest_over_mean;
    assert!((peak(0) - 1.1517).abs() < 0.001 && (peak(1) - 1.0323).abs() < 0.001, "{} {}", peak(0), peak(1));
    assert_eq!(report.mappings[1].measured.bytes, 100 * report.mappings[0].measured.bytes);
}

#[test]
fn popular_ids_make_shares_of_requests() {
    let mut plan = plan(2, 3, &["rm server1"]);
    plan.ids.distribution = Distribution::Zipf { exponent: 1.2 };
    let report = report(&plan);
    assert!(report.distinct < report.ids as usize);
    for row in &report.mappings {
        let sum: f64 = row.stages[0].balance.shares.iter().sum();
        assert!((sum - 1.0).abs() < 1e-9, "{}", row.mapping);
        assert!((row.stages[1].disturbance.unwrap().moved - row.stages[0].balance.shares[0]).abs() < 1e-9);
    }
}
