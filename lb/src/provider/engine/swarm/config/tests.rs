//! Records survive being written and read, and no labels do any harm.

use fleet::{Seat, SlotId};
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use proto::control::Weight;

use mapping::{Algorithm, MappingName, Scheme};

use super::*;

fn host(name: &str) -> Hostname {
    Hostname::try_from(name.to_owned()).unwrap()
}

fn seat(index: u32, name: &str, hostname: &str, weight: u64) -> Seat {
    let slot = SlotId { index, name: host(name) };
    Seat::new(slot, Weight::try_from(weight).unwrap(), host(hostname))
}

fn policy(values: &[(&str, &str)], seed: u64) -> MappingPolicy {
    let scheme = Scheme { algorithm: Algorithm::named(MappingName::Ring), seed: Seed(seed) };
    MappingPolicy { scheme, balance: None }.amended(values.iter().copied()).unwrap()
}

fn policies() -> impl Strategy<Value = MappingPolicy> {
    prop_oneof![
        Just(policy(&[], 0)),
        Just(policy(&[("points", "7"), ("balance_factor", "1.25")], 7)),
        Just(policy(&[("mapping", "maglev"), ("balance_factor", "1.001")], u64::MAX)),
        Just(policy(&[("mapping", "slots"), ("slots", "64"), ("request_hash", "pow(i, 2) + 17")], 0)),
    ]
}

fn times() -> impl Strategy<Value = UnixTime> {
    (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| UnixTime::new(seconds, nanos))
}

fn records() -> impl Strategy<Value = Record> {
    let weights = vec((0..=100_u64, any::<bool>()), 0..5);
    (weights, 0..3_usize, vec(times(), 0..3), vec(times(), 0..3), 1..u64::MAX, policies()).prop_map(
        |(weights, spares, coming, leaving, epoch, mapping)| {
            let seats = (1..).zip(weights).map(|(index, (weight, is_moved))| {
                let (name, other) = (format!("s{index}"), format!("m{index}"));
                seat(index, &name, if is_moved { &other } else { &name }, weight)
            });
            let coming = (7..).zip(coming).map(|(index, until)| {
                let name = format!("c{index}");
                Coming { seat: seat(index, &name, &name, 1), until }
            });
            let leaving = leaving.into_iter().enumerate();
            let roster = Roster {
                seats: seats.collect(),
                spares: (0..spares).map(|at| host(&format!("spare{at}"))).collect(),
                coming: coming.collect(),
                leaving: leaving
                    .map(|(at, until)| Leaving { hostname: host(&format!("l{at}")), until })
                    .collect(),
                mapping,
            };
            Record { birth: nonce(), change: nonce(), epoch: Epoch(epoch), roster }
        },
    )
}

proptest! {
    #[test]
    fn a_record_is_read_back_by_its_own_fleet_and_with_its_own_seed_only(record in records()) {
        let labels = record.labels("fleet");
        let seed = record.roster.mapping.scheme.seed;
        prop_assert_eq!(Record::read(&labels, "fleet2", seed), Err(Unusable::Foreign));
        let other = Seed(seed.0 ^ 1);
        prop_assert_eq!(Record::read(&labels, "fleet", other), Err(Unusable::OtherSeed));
        prop_assert_eq!(Record::read(&labels, "fleet", seed), Ok(record));
    }

    #[test]
    fn any_labels_are_a_record_that_can_be_written_again_or_none(
        record in records(),
        changed in hash_map(
            prop_oneof![Just(EPOCH), Just(BIRTH), Just(CHANGE), Just(SEED), Just(SEATS), Just(SPARES), Just(COMING), Just(LEAVING), Just(MAPPING), Just("lb.mapping.points"), Just("lb.mapping.other")],
            prop_oneof![".*", "[0-9]{0,21}", "[a-z0-9=,]{0,20}", "(s1|spare0|l0)(@[0-9]{1,3}[.][0-9]{9})?", "(1|7)=s1=(s1|m1|x)@1[.]000000000"], 0..3),
        missing in prop::option::of(prop_oneof![Just(EPOCH), Just(BIRTH), Just(SEATS), Just(MAPPING), Just(COMING), Just(LEAVING)]),
    ) {
        let mut labels = record.labels("fleet");
        labels.extend(changed.into_iter().map(|(name, value)| (name.to_owned(), value)));
        missing.map(|name| labels.remove(name));
        let seed = record.roster.mapping.scheme.seed;
        if let Ok(read) = Record::read(&labels, "fleet", seed) {
            prop_assert!(missing.is_none());
            prop_assert_eq!(Record::read(&read.labels("fleet"), "fleet", seed), Ok(read));
        }
    }
}

fn a_record() -> Record {
    let roster = Roster {
        seats: vec![seat(1, "a", "a", 1), seat(3, "c", "x", 2)],
        spares: [host("c")].into(),
        coming: vec![Coming { seat: seat(2, "d", "d", 1), until: UnixTime::new(1_700_000_000, 5) }],
        leaving: vec![Leaving { hostname: host("b"), until: UnixTime::from_secs(1_700_000_000) }],
        mapping: policy(&[("balance_factor", "1.25")], 0),
    };
    Record { birth: "b1".to_owned(), change: "c1".to_owned(), epoch: Epoch(7), roster }
}

/// Other `lb`s, of earlier and later versions, read it.
#[test]
fn the_labels_are_these() {
    let expected = [
        ("lb.fleet", "fleet"),
        ("lb.birth", "b1"),
        ("lb.change", "c1"),
        ("lb.epoch", "7"),
        ("lb.seed", "none"),
        ("lb.seats", "1=a=a,3=c=x=2"),
        ("lb.spares", "c"),
        ("lb.coming", "2=d=d@1700000000.000000005"),
        ("lb.leaving", "b@1700000000.000000000"),
        ("lb.mapping", "ring"),
        ("lb.mapping.points", "1000"),
        ("lb.mapping.balance_factor", "1.25"),
    ];
    let expected: Labels = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(a_record().labels("fleet"), expected);
}

#[test]
fn no_name_is_given_twice() {
    for (label, value) in [
        (SPARES, "a"),
        (SPARES, "y,y"),
        (LEAVING, "x@1.000000000"),
        (LEAVING, "c@1.000000000"),
        (COMING, "3=d=d@1.000000000"),
        (COMING, "2=c=d@1.000000000"),
        (COMING, "2=d=x@1.000000000"),
        (SEATS, "1=a=a,2=a=z"),
        (SEATS, "2=a=a,1=y=z"),
    ] {
        let mut labels = a_record().labels("fleet");
        labels.insert(label.to_owned(), value.to_owned());
        assert_eq!(Record::read(&labels, "fleet", Seed(0)), Err(Unusable::Unreadable), "{label}={value}");
    }
}

#[test]
fn the_seed_is_not_in_the_labels() {
    let mut record = a_record();
    record.roster.mapping.scheme.seed = Seed(0x0123_4567_89ab_cdef);
    let labels = record.labels("fleet");
    assert_eq!(labels[SEED].len(), 4, "16 bits of a digest");
    let text = format!("{labels:?}").to_lowercase();
    assert!(!text.contains("89abcdef") && !text.contains(&0x0123_4567_89ab_cdef_u64.to_string()), "{text}");
}

#[test]
fn a_read_is_compared_with_what_is_known() {
    let known = a_record();
    let with = |change: &dyn Fn(&mut Record)| {
        let mut record = known.clone();
        change(&mut record);
        record
    };
    let later = with(&|record| record.epoch = Epoch(8));
    assert_eq!(compare(&known, Some(Ok(later.clone()))), News::Later(Box::new(later)));
    assert_eq!(compare(&known, Some(Ok(known.clone()))), News::None);
    let is_worse = |read| matches!(compare(&known, read), News::Worse(_));
    assert!(is_worse(None) && is_worse(Some(Err(Unusable::Unreadable))));
    assert!(is_worse(Some(Ok(with(&|record| record.epoch = Epoch(6))))));
    let is_over = |read| matches!(compare(&known, Some(read)), News::Over(_));
    assert!(is_over(Err(Unusable::Removed)));
    assert!(is_over(Ok(with(&|record| (record.birth, record.epoch) = ("b2".to_owned(), Epoch(9))))));
}
