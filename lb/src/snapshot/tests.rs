//! Which replica gets a connection, and which are skipped.

use std::str::FromStr as _;

use mapping::{Algorithm, Member};
use proptest::prelude::*;
use proto::control::State;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::replica::{Lease, Replica};

fn replica(name: &str) -> Arc<Replica> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    Arc::new(Replica::new(name.to_owned(), address.into(), CancellationToken::new()))
}

/// Slots of these weights and states, with a replica in each.
fn snapshot(slots: &[(u32, State)], factor: Option<&str>) -> Snapshot {
    limited(slots, factor, None)
}

/// The same, where no replica may have more than `most` connections.
fn limited(slots: &[(u32, State)], factor: Option<&str>, most: Option<usize>) -> Snapshot {
    let named = |(index, &(weight, state)): (u32, &(u32, State))| {
        let name = format!("server{index}");
        let replica = Some(replica(&name));
        Slot { index, hostname: name.clone(), name, weight, state, reason: None, replica }
    };
    let slots: Vec<Slot> = (1..).zip(slots).map(named).collect();
    let member = |slot: &Slot| Member { index: slot.index, name: slot.name.clone(), weight: slot.weight };
    let members: Vec<Member> = slots.iter().map(member).collect();
    let mapping = Mapping::build(&Algorithm::Ring { points: 100 }.into(), &members).unwrap();
    Snapshot::new(Arc::new(mapping), slots, factor.map(|factor| factor.parse().unwrap()), most)
}

fn tried(snapshot: &Snapshot, key: &str) -> Vec<String> {
    snapshot.leases(key.as_bytes()).map(|(_, lease)| lease.replica().hostname.clone()).collect()
}

fn lease(snapshot: &Snapshot, key: &str) -> Option<Lease> {
    snapshot.leases(key.as_bytes()).next().map(|(_, lease)| lease)
}

fn in_order(snapshot: &Snapshot, key: &str) -> Vec<String> {
    let candidates = snapshot.mapping.candidates(key.as_bytes());
    candidates.map(|ordinal| snapshot.slots[ordinal].hostname.clone()).collect()
}

fn pick<'a>(snapshot: &'a Snapshot, key: &'a str) -> &'a str {
    &snapshot.outlook(key.as_bytes()).pick.unwrap().hostname
}

#[test]
fn those_in_rotation_come_in_the_order_of_the_mapping() {
    let fleet = snapshot(&[(1, State::Up); 4], None);
    for key in ["132574", "100000", "7"] {
        assert_eq!(tried(&fleet, key), in_order(&fleet, key));
        assert_eq!(pick(&fleet, key), tried(&fleet, key)[0]);
    }
}

#[test]
fn a_replica_that_fails_its_probes_comes_last_and_one_without_weight_never() {
    let fleet = snapshot(&[(1, State::Down), (1, State::Up), (0, State::Up), (1, State::Up)], None);
    for key in ["132574", "100000", "7"] {
        let order = tried(&fleet, key);
        assert_eq!((order.len(), order.last().unwrap().as_str()), (3, "server1"), "{order:?}");
        assert!(!order.contains(&"server3".to_owned()), "{order:?}");
    }
    assert_eq!(tried(&snapshot(&[(0, State::Up)], None), "7"), Vec::<String>::new());
}

#[test]
fn a_full_replica_is_skipped_and_tried_when_no_other_can_be_reached() {
    let fleet = snapshot(&[(1, State::Up), (1, State::Up), (1, State::Down)], Some("1.25"));
    let order: Vec<String> = in_order(&fleet, "7").into_iter().filter(|name| name != "server3").collect();
    let held: Vec<Lease> = (0..4).filter_map(|_| lease(&fleet, "7")).collect();
    // With 4 connections on 2 replicas, each may have ceil(1.25 * 4 / 2).
    let held_by = |name: &String| held.iter().filter(|lease| lease.replica().hostname == *name).count();
    assert_eq!(order.iter().map(held_by).collect::<Vec<_>>(), [3, 1]);
    let expected = vec![order[1].clone(), order[0].clone(), "server3".to_owned()];
    // With 5, each may have 4: the owner has room for one more.
    let fifth = lease(&fleet, "7").unwrap();
    assert_eq!(fifth.replica().hostname, order[0]);
    assert_eq!(pick(&fleet, "7"), order[1]);
    assert_eq!(tried(&fleet, "7"), expected);
}

#[test]
fn the_first_candidate_over_the_bound_is_tried_first() {
    let fleet = snapshot(&[(1, State::Up); 3], Some("1"));
    let order = in_order(&fleet, "7");
    // Each has one connection, then the third one's ends: the other two are full for the fourth connection.
    let mut held: Vec<Lease> = (0..3).filter_map(|_| lease(&fleet, "7")).collect();
    held.retain(|lease| lease.replica().hostname != order[2]);
    let more: Vec<Lease> = fleet.leases(b"7").map(|(_, lease)| lease).collect();
    let names: Vec<&str> = more.iter().map(|lease| lease.replica().hostname.as_str()).collect();
    assert_eq!(names, [&order[2], &order[0], &order[1]]);
}

#[test]
fn a_replica_with_as_many_connections_as_any_may_have_is_never_tried() {
    let fleet = limited(&[(1, State::Up), (1, State::Up), (1, State::Down)], None, Some(2));
    let in_rotation: Vec<String> =
        in_order(&fleet, "7").into_iter().filter(|name| name != "server3").collect();
    let mut held: Vec<Lease> = (0..6).filter_map(|_| lease(&fleet, "7")).collect();
    let names: Vec<&str> = held.iter().map(|lease| lease.replica().hostname.as_str()).collect();
    let [first, second] = [&in_rotation[0], &in_rotation[1]];
    assert_eq!(
        names,
        [first, first, second, second, "server3", "server3"],
        "the one that fails its probes is the last"
    );
    assert_eq!(tried(&fleet, "7"), [""; 0]);
    let outlook = fleet.outlook(b"7");
    assert!(outlook.pick.is_none() && outlook.slots.len() == 3);
    let full = Some(Skipped::Full(Bound { most: 2, open: 2 }));
    assert!(outlook.slots.iter().all(|(_, skipped)| *skipped == full), "{outlook:?}");
    held.remove(0);
    assert_eq!(tried(&fleet, "7"), [first.as_str()]);
}

#[test]
fn workers_that_want_the_last_place_of_a_limited_replica_do_not_both_get_it() {
    for _ in 0..300 {
        let fleet = limited(&[(1, State::Up)], None, Some(1));
        let start = std::sync::Barrier::new(2);
        let taken = std::thread::scope(|scope| {
            let worker = || {
                start.wait();
                lease(&fleet, "7")
            };
            let workers = [scope.spawn(worker), scope.spawn(worker)];
            // The leases live until both workers have tried.
            workers.map(|worker| worker.join().unwrap()).iter().flatten().count()
        });
        assert_eq!(taken, 1);
    }
}

#[test]
fn connections_of_replicas_that_are_out_of_rotation_do_not_raise_the_mean() {
    let fleet = snapshot(&[(1, State::Up), (1, State::Up), (1, State::Down), (0, State::Up)], Some("1"));
    let others = &fleet.slots()[2..];
    let _held: Vec<Lease> =
        others.iter().flat_map(|slot| (0..50).map(|_| slot.replica.as_ref().unwrap().lease(b"1"))).collect();
    let two: Vec<Lease> = (0..2).filter_map(|_| lease(&fleet, "7")).collect();
    assert_ne!(two[0].replica().hostname, two[1].replica().hostname, "each has one, with a mean of one");
}

#[test]
fn workers_that_want_the_last_place_at_the_same_time_do_not_both_get_it() {
    const WORKERS: usize = 4;
    let slots: Vec<(u32, State)> = vec![(1, State::Up); WORKERS];
    for _ in 0..300 {
        let fleet = snapshot(&slots, Some("1"));
        let start = std::sync::Barrier::new(WORKERS);
        std::thread::scope(|scope| {
            let worker = || {
                start.wait();
                lease(&fleet, "7").unwrap()
            };
            let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
            let held: Vec<Lease> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
            let names: std::collections::BTreeSet<&str> =
                held.iter().map(|lease| lease.replica().hostname.as_str()).collect();
            assert_eq!(names.len(), WORKERS, "each worker has its own replica");
        });
    }
}

#[test]
fn without_a_bound_the_owner_gets_everything() {
    let fleet = snapshot(&[(1, State::Up); 3], None);
    let held: Vec<Lease> = (0..50).filter_map(|_| lease(&fleet, "7")).collect();
    assert!(held.iter().all(|lease| lease.replica().hostname == held[0].replica().hostname));
}

/// Runs a history of connections whose ids follow Zipf's law (the k-th most frequent id has 1/k of the first one's share), so
/// that one replica would get far more than the others. After every third connection, on average, one ends. Returns how many
/// went to another replica than the owner.
fn bound_holds(weights: &[u32], factor: &str, seed: u64) -> usize {
    let slots: Vec<(u32, State)> = weights.iter().map(|&weight| (weight, State::Up)).collect();
    let fleet = snapshot(&slots, Some(factor));
    let limit = BalanceFactor::from_str(factor).unwrap();
    let all: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut held, mut overflowed) = (Vec::new(), 0);
    for _ in 0..2000 {
        // Roughly the inverse of the distribution function: 10^u for a uniform u.
        let id = (10_f64.powf(rng.f64()) as u32).to_string();
        let owner = fleet.owner(id.as_bytes()).unwrap().hostname.clone();
        let promised = pick(&fleet, &id).to_owned();
        let lease = lease(&fleet, &id).unwrap();
        assert_eq!(lease.replica().hostname, promised, "the explanation holds");
        overflowed += usize::from(promised != owner);
        held.push(lease);
        let slot = fleet.slots().iter().find(|slot| slot.hostname == promised).unwrap();
        let (open, most) = (slot.replica.as_ref().unwrap().open(), limit.most(held.len(), slot.weight, all));
        assert!(open <= most, "{promised} has {open} of {}, at most {most}", held.len());
        if rng.u32(0..3) == 0 {
            held.swap_remove(rng.usize(..held.len()));
        }
    }
    overflowed
}

#[test]
fn no_replica_gets_above_the_bound_however_uneven_the_ids_are() {
    for (weights, factor) in [([1, 1, 1, 1], "1.25"), ([1, 1, 1, 1], "1"), ([1, 2, 5, 1], "1.1")] {
        let overflowed = bound_holds(&weights, factor, 7);
        println!("weights {weights:?}, factor {factor}: {overflowed} of 2000 went to another than the owner");
        assert!(overflowed > 100, "the ids are not uneven enough to prove anything: {overflowed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_bound_holds_for_any_weights_and_factor(
        weights in proptest::collection::vec(1..6_u32, 1..8), thousandths in 1000..3000_u32, seed in any::<u64>(),
    ) {
        bound_holds(&weights, &format!("{}.{:03}", thousandths / 1000, thousandths % 1000), seed);
    }
}

/// A slot of a random fleet: its weight, its state, whether it has a replica, and how many connections that has.
type Random = (u32, State, bool, usize);

fn any_slots() -> impl Strategy<Value = Vec<Random>> {
    use State::{Down, Draining, Quarantined, Starting, Up};
    let state = prop_oneof![4 => Just(Up), 2 => Just(Down), 1 => prop::sample::select(vec![Starting, Draining, Quarantined])];
    prop::collection::vec((0..4_u32, state, prop::bool::weighted(0.9), 0..6_usize), 0..8)
}

/// The rules in other words: why this slot is skipped, if it is.
fn expected_reason(
    slots: &[Random],
    at: usize,
    factor: Option<&str>,
    limit: Option<usize>,
) -> Option<Skipped> {
    let in_rotation = |slot: &&Random| slot.0 > 0 && slot.1 == State::Up && slot.2;
    let (weight, state, has_replica, open) = slots[at];
    if weight == 0 {
        return Some(Skipped::NoWeight);
    }
    if !has_replica || !matches!(state, State::Up | State::Down) {
        return Some(Skipped::NoReplica);
    }
    if let Some(most) = limit.filter(|&most| open >= most) {
        return Some(Skipped::Full(Bound { most, open }));
    }
    if state == State::Down {
        return Some(Skipped::FailsProbes);
    }
    let connections = slots.iter().filter(in_rotation).map(|slot| slot.3).sum::<usize>() + 1;
    let all = slots.iter().filter(in_rotation).map(|slot| u64::from(slot.0)).sum();
    let most = BalanceFactor::from_str(factor?).unwrap().most(connections, weight, all);
    (open >= most).then_some(Skipped::OverBound(Bound { most, open }))
}

proptest! {
    #[test]
    fn the_outlook_names_the_replica_of_the_next_connection(
        slots in any_slots(), factor in prop::sample::select(vec![None, Some("1"), Some("1.25"), Some("3")]),
        limit in prop::option::of(1..6_usize), key in "[0-9]{1,6}",
    ) {
        let states: Vec<(u32, State)> = slots.iter().map(|&(weight, state, ..)| (weight, state)).collect();
        let mut fleet = snapshot(&states, factor);
        let mut open = Vec::new();
        for (slot, &(.., has_replica, connections)) in fleet.slots.iter_mut().zip(&slots) {
            slot.replica.take_if(|_| !has_replica);
            open.extend(slot.replica.iter().flat_map(|replica| (0..connections).map(|_| replica.lease(b"1"))));
        }
        let fleet = Snapshot::new(fleet.mapping, fleet.slots, fleet.balance, limit);
        let reason = |at: usize| expected_reason(&slots, at, factor, limit);
        let candidates: Vec<usize> = fleet.mapping.candidates(key.as_bytes()).collect();
        let all = |wanted: fn(Option<Skipped>) -> bool| candidates.iter().copied().filter(move |&at| wanted(reason(at)));
        let in_turn: Vec<usize> = all(|reason| reason.is_none())
            .chain(all(|reason| matches!(reason, Some(Skipped::OverBound(_)))))
            .chain(all(|reason| reason == Some(Skipped::FailsProbes)))
            .collect();

        let outlook = fleet.outlook(key.as_bytes());
        let ordinal = |slot: &Slot| slot.index as usize - 1;
        let pick = outlook.pick.map(ordinal);
        prop_assert_eq!(outlook.owner.map(ordinal), candidates.first().copied());
        prop_assert_eq!(pick, in_turn.first().copied());
        let told: Vec<usize> = outlook.slots.iter().map(|(slot, _)| ordinal(slot)).collect();
        let others = (0..slots.len()).filter(|at| !candidates.contains(at));
        prop_assert_eq!(told, candidates.iter().copied().chain(others).collect::<Vec<_>>());
        for (slot, skipped) in &outlook.slots {
            let at = ordinal(slot);
            prop_assert_eq!(*skipped, reason(at).filter(|_| pick != Some(at)), "{}", slot.name);
        }

        let next = fleet.leases(key.as_bytes()).next().map(|(slot, lease)| (ordinal(slot), lease.replica().hostname.clone()));
        prop_assert_eq!(next, outlook.pick.map(|slot| (ordinal(slot), slot.hostname.clone())));
        let tried: Vec<usize> = fleet.leases(key.as_bytes()).map(|(slot, _)| ordinal(slot)).collect();
        prop_assert_eq!(tried, in_turn);
    }
}
