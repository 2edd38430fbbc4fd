//! What moves, against counting and against what is known.

use std::str::FromStr as _;

use super::*;
use crate::testing::{named, names, weighing, without};
use crate::{Algorithm, RequestHash, Seed, ServerHash, SlotsShape};
use proptest::prelude::*;

fn shift<'a>(before: (&'a Mapping, &'a [Member]), after: (&'a Mapping, &'a [Member])) -> Shift<'a> {
    let side = |(mapping, members)| Side { mapping, members };
    Shift::between(side(before), side(after))
}

/// From one algorithm to another, or from some members to others.
fn moved(one: (&Algorithm, &[Member]), other: (&Algorithm, &[Member])) -> (Keys, u128, u128, u128) {
    let (before, after) = (one.0.of(one.1), other.0.of(other.1));
    let shift = shift((&before, one.1), (&after, other.1));
    (shift.keys, shift.whole(), shift.moved(), shift.least())
}

#[test]
fn on_a_ring_a_newcomer_gets_exactly_what_moves_and_nothing_else_does() {
    let (three, four) = (named(["a", "b", "c"]), named(["a", "b", "c", "d"]));
    let ring = Algorithm::Ring { points: 1000 };
    let (keys, whole, moved, least) = moved((&ring, &three), (&ring, &four));
    assert_eq!((keys, whole, moved), (Keys::Positions, 1 << 64, least));
    let share = moved as f64 / whole as f64;
    assert!((share - 0.25).abs() < 0.02, "{share}");
}

#[test]
fn adding_the_fourth_server_of_the_classic_table_moves_the_published_slots_and_no_more() {
    let (three, four) = (named(["s1", "s2", "s3"]), named(["s1", "s2", "s3", "s4"]));
    let slots = Algorithm::Slots(SlotsShape::default());
    let (keys, whole, moved, least) = moved((&slots, &three), (&slots, &four));
    assert_eq!((keys, whole), (Keys::AllIds, 900_000));
    assert_eq!(moved, least);
    // Counted one by one: the ids that fall into the 24 slots that are known to move.
    let (before, after) = (slots.of(&three), slots.of(&four));
    let owner = |mapping: &Mapping, id: u32| mapping.owner(id.to_string().as_bytes());
    let expected = (100_000..=999_999).filter(|&id| owner(&before, id) != owner(&after, id)).count();
    assert_eq!(moved, expected as u128);
}

#[test]
fn maglev_moves_more_than_it_has_to_and_says_so() {
    let members = named((1..=6).map(|index| format!("server{index}")));
    let rest = without(&members, "server3");
    let (keys, whole, moved, least) = moved((&Algorithm::Maglev, &members), (&Algorithm::Maglev, &rest));
    assert_eq!((keys, whole), (Keys::Entries(65_537), 65_537));
    assert!(moved > least && (moved - least) * 100 < whole, "{moved} of {least}");
    assert!(least.abs_diff(65_537 / 6) <= 1, "{least}");
}

#[test]
fn owners_are_the_same_by_arcs_and_by_ids() {
    let members = weighing(named(["a", "b", "c"]), &[1, 2, 0]);
    let ring = Algorithm::Ring { points: 1000 }.of(&members);
    let rendezvous = Algorithm::Rendezvous.of(&members);
    let arcs = shift((&ring, &members), (&ring, &members));
    let ids = shift((&ring, &members), (&rendezvous, &members));
    assert_eq!((arcs.moved(), ids.keys), (0, Keys::AllIds));
    let owned =
        |shift: &Shift| shift.owned_before().iter().map(|own| own.1 as f64 / shift.whole() as f64).collect();
    let (arcs, ids): (Vec<f64>, Vec<f64>) = (owned(&arcs), owned(&ids));
    for (arc, id) in arcs.iter().zip(&ids) {
        assert!((arc - id).abs() < 0.003, "{arcs:?} {ids:?}");
    }
    assert_eq!(arcs[2], 0.0);
}

#[test]
fn where_an_owner_takes_many_hashes_fewer_ids_are_looked_at() {
    let members = named((0..400).map(|index| format!("server{index}")));
    let ring = Algorithm::Ring { points: 10 };
    let (keys, whole, moved, _) = moved((&Algorithm::Rendezvous, &members), (&ring, &members));
    assert_eq!(keys, Keys::SomeIds(u32::try_from(whole).unwrap()));
    assert!((30_000..50_000).contains(&whole) && moved * 10 > whole * 9, "{moved} of {whole}");
}

#[test]
fn a_sample_of_ids_falls_on_even_and_on_odd_positions() {
    let members = named((0..50).map(|index| format!("server{index}")));
    // Who owns what is a matter of the last bit of an id: servers 0 and 1 hold entry 0 and entry 1.
    let (request_hash, server_hash) = ("i & 1", "i - 1");
    let shape = SlotsShape {
        entries: 64,
        virtuals: 1,
        request_hash: RequestHash::from_str(request_hash).unwrap(),
        server_hash: ServerHash::from_str(server_hash).unwrap(),
        ..SlotsShape::default()
    };
    let (slots, rendezvous) = (Algorithm::Slots(shape).of(&members), Algorithm::Rendezvous.of(&members));
    let shift = shift((&slots, &members), (&rendezvous, &members));
    assert!(matches!(shift.keys, Keys::SomeIds(_)), "{:?}", shift.keys);
    let owned = shift.owned_before();
    assert!(owned[0].1.abs_diff(owned[1].1) <= 1, "{} and {}", owned[0].1, owned[1].1);
}

#[test]
fn the_expected_moves_of_rendezvous_match_its_keys() {
    let before = weighing(named(["a", "b", "c", "d"]), &[1, 2, 3, 0]);
    let mut after = weighing(named(["a", "b", "c", "e"]), &[4, 2, 1, 5]);
    after.rotate_left(1);
    let (one, other) = (Algorithm::Rendezvous.of(&before), Algorithm::Rendezvous.of(&after));
    let shift = shift((&one, &before), (&other, &after));
    assert_eq!(shift.keys, Keys::Expected);
    // Of 6 draws before and 12 after, 4 are the same.
    assert_eq!(shift.whole(), 14 * 6 * 12);
    let shares = |owned: Vec<(&Member, u128)>| -> Vec<f64> {
        owned.iter().map(|own| own.1 as f64 / shift.whole() as f64).collect()
    };
    assert_eq!(shares(shift.owned_before()), [1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0, 0.0]);
    assert_eq!(shares(shift.owned_after()), [2.0 / 12.0, 1.0 / 12.0, 5.0 / 12.0, 4.0 / 12.0]);
    for transfer in shift.transfers() {
        let (from, to) = (&transfer.from.unwrap().name, &transfer.to.unwrap().name);
        let is_it = |id: &u32| {
            let key = id.to_le_bytes();
            before[one.owner(&key).unwrap()].name == *from && after[other.owner(&key).unwrap()].name == *to
        };
        let (found, expected) =
            ((0..40_000).filter(is_it).count() as f64, transfer.keys as f64 / shift.whole() as f64);
        assert!(
            (found / 40_000.0 - expected).abs() < 0.01,
            "{from} to {to}: {found} of 40000, not {expected}"
        );
    }
}

#[test]
fn removing_one_of_many_moves_its_share_under_rendezvous_and_no_more() {
    let members = named((0..1000).map(|index| format!("server{index}")));
    let rest = without(&members, "server7");
    let (keys, whole, moved, least) =
        moved((&Algorithm::Rendezvous, &members), (&Algorithm::Rendezvous, &rest));
    assert_eq!((keys, moved * 1000), (Keys::Expected, whole));
    assert_eq!(moved, least);
}

#[test]
fn the_arc_over_the_end_belongs_to_the_first_points() {
    let (few, more) = (named(["a"]), named(["a", "b"]));
    let ring = Algorithm::Ring { points: 1 };
    let (before, after) = (ring.of(&few), ring.of(&more));
    let shift = shift((&before, &few), (&after, &more));
    assert!(shift.transfers().all(|transfer| transfer.from == Some(&few[0]) && transfer.to.is_some()));
    assert_eq!(shift.whole(), 1 << 64);
}

#[test]
fn an_empty_fleet_and_a_ring_under_another_seed_are_no_exceptions() {
    let (members, ring) = (named(["a"]), Algorithm::Ring { points: 3 });
    let (empty, one) = (ring.of(&[]), ring.of(&members));
    let first = shift((&empty, &[]), (&one, &members));
    let transfers: Vec<Transfer> = first.transfers().collect();
    assert_eq!(transfers, [Transfer { from: None, to: Some(&members[0]), keys: 1 << 64 }]);
    assert_eq!((first.moved(), first.least()), (1 << 64, 1 << 64));
    let rendezvous = Algorithm::Rendezvous;
    let (before, after) = (rendezvous.of(&[]), rendezvous.of(&members));
    let expected = shift((&before, &[]), (&after, &members));
    assert_eq!((expected.keys, expected.moved()), (Keys::Expected, expected.whole()));
    let nothing = shift((&empty, &[]), (&empty, &[]));
    assert_eq!((nothing.whole(), nothing.moved()), (1 << 64, 0));
    let seeded = crate::Scheme { algorithm: ring, seed: Seed(1) };
    let seeded = Mapping::build(&seeded, &members).unwrap();
    assert_eq!(shift((&one, &members), (&seeded, &members)).keys, Keys::AllIds);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn arcs_agree_with_the_owners_of_keys(names in names(2..6), points in 1..30_u32) {
        let members = named(names);
        let rest = without(&members, &members[0].name);
        let ring = Algorithm::Ring { points };
        let (before, after) = (ring.of(&members), ring.of(&rest));
        let shift = shift((&before, &members), (&after, &rest));
        prop_assert_eq!(shift.whole(), 1 << 64);
        prop_assert_eq!(shift.moved(), shift.least());
        let gone = shift.owned_before()[0].1 as f64 / shift.whole() as f64;
        let ids = (0..20_000_u32).filter(|id| before.owner(&id.to_le_bytes()) == Some(0)).count();
        prop_assert!((gone - ids as f64 / 20_000.0).abs() < 0.02, "{} {}", gone, ids);
        prop_assert_eq!(shift.moved(), shift.owned_before()[0].1);
    }
}
