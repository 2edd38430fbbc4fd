//! Entries survive being written and read, and no labels do any harm.

use fleet::SlotId;
use proptest::collection::{btree_set, hash_map, vec};
use proptest::prelude::*;
use proto::control::{Hostname, Weight};

use super::*;

/// Any entry that a holder can write.
pub(super) fn entry() -> impl Strategy<Value = Entry> {
    let holder = proptest::option::of(
        (any::<u64>(), any::<u64>()).prop_map(|(since, nonce)| Holder::new(since, nonce)),
    );
    (any::<u64>(), holder, seats()).prop_map(|(number, holder, seats)| Entry { number, holder, seats })
}

/// Seats with growing indices; each has the name of its slot or another one.
fn seats() -> impl Strategy<Value = Vec<Seat>> {
    let index = 1..=u32::MAX;
    btree_set(index, 0..6).prop_flat_map(|indices| {
        let names = btree_set("[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", 2 * indices.len());
        (Just(indices), names, vec((any::<bool>(), 0..=100_u64), 6)).prop_map(|(indices, names, more)| {
            let mut names = names.into_iter().map(|name| Hostname::try_from(name).unwrap());
            let seat = |(index, (has_own_name, weight))| {
                let name = names.next().unwrap();
                let hostname = if has_own_name { name.clone() } else { names.next().unwrap() };
                Seat::new(SlotId { index, name }, Weight::try_from(weight).unwrap(), hostname)
            };
            indices.into_iter().zip(more).map(seat).collect()
        })
    })
}

/// Labels that resemble those of an entry, each of them right or wrong.
fn labels() -> impl Strategy<Value = Labels> {
    let seats = "(0|1|2|-1|4294967296|\u{661})?(=(a|b|)){0,3}(=(5|101|x))?(,(1|2|3)=[a-c]=[a-c])*,?";
    let value = prop_oneof![".*", "[0-9]{0,21}", seats];
    hash_map(prop_oneof![Just(NUMBER), Just(HOLDER), Just(SINCE), Just(SEATS)], value, 0..=4)
        .prop_map(|labels| labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

proptest! {
    #[test]
    fn an_entry_is_read_back_as_it_was_written(entry in entry()) {
        prop_assert_eq!(Entry::read(&entry.labels()), Some(entry));
    }

    #[test]
    fn any_labels_are_an_entry_that_can_be_written_again_or_none(labels in labels()) {
        if let Some(entry) = Entry::read(&labels) {
            prop_assert!(is_fleet(&entry.seats));
            prop_assert_eq!(Entry::read(&entry.labels()), Some(entry));
        }
    }
}

/// What is read of an entry with these seats.
fn seats_of(seats: &str) -> Option<Vec<Seat>> {
    let labels = [(NUMBER, "7"), (HOLDER, "n"), (SINCE, "1"), (SEATS, seats)];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Entry::read(&labels).map(|entry| entry.seats)
}

#[test]
fn the_text_of_a_seat_is_that_of_earlier_versions() {
    let host = |name: &str| Hostname::try_from(name.to_owned()).unwrap();
    let seat = |index, name, hostname, weight| {
        let slot = SlotId { index, name: host(name) };
        Seat::new(slot, Weight::try_from(weight).unwrap(), host(hostname))
    };
    let seats = vec![seat(1, "server1", "server1", 1), seat(3, "server3", "x-1.y", 0)];
    assert_eq!(seats_of("1=server1=server1,3=server3=x-1.y=0"), Some(seats.clone()));
    let entry = Entry { number: 7, holder: None, seats };
    assert_eq!(entry.labels()[SEATS], "1=server1=server1,3=server3=x-1.y=0");
}

#[test]
fn seats_that_make_no_fleet_are_no_entry() {
    assert_eq!(seats_of(""), Some(Vec::new()));
    for seats in [
        "0=a=a",
        "x=a=a",
        "1=a",
        "1=a=",
        "1==a",
        "1=a=a=101",
        "1=a=a,1=b=b",
        "2=a=a,1=b=b",
        "1=a=a,2=a=b",
        "1=a=b,2=b=a",
        "1=a=b,2=c=b",
    ] {
        assert_eq!(seats_of(seats), None, "{seats}");
    }
}

#[test]
fn an_entry_without_a_number_or_time_is_rejected() {
    for missing in [NUMBER, SINCE, SEATS] {
        let mut labels = Entry { number: 1, holder: Some(Holder::new(1, 1)), seats: Vec::new() }.labels();
        labels.remove(missing);
        assert_eq!(Entry::read(&labels), None, "{missing}");
    }
    let released = Entry { number: 1, holder: None, seats: Vec::new() };
    assert_eq!(Entry::read(&released.labels()), Some(released));
}
