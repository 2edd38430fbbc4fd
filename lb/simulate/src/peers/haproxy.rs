//! HAProxy: `balance hash <expression>` with `hash-type consistent` and nothing after it.
//!
//! Sources: `src/lb_chash.c`, `src/backend.c` (`gen_hash`, `get_server_expr`), `src/cfgparse-listen.c`,
//! `src/hash.c` and `include/haproxy/intops.h` of HAProxy 2.6; the mixing of integers is Bob Jenkins',
//! "Integer hashing".
//!
//! - A server is known by its number alone; its address and its name are not hashed. Numbers follow the order
//!   of the configuration, so the removal of a server renumbers those below, and their keys move too. `id`
//!   prevents that.
//! - It has 16 points for each unit of weight, so with the default weight, 1, there are 16 in all.
//! - A key goes to the nearest point, before or after it; from halfway between two, to the one before.
//! - An expression that gives an address or a number is hashed in its binary form, any text as its bytes,
//!   also when empty.
//!
//! Points of different servers never coincide: the mixing is one-to-one, and 4096 inputs are set apart for
//! each number below 2^20.

use super::{Point, Server, first_from};

/// Points of a server for each unit of its weight (`BE_WEIGHT_SCALE`).
const POINTS: u32 = 16;
/// The greatest weight that HAProxy accepts (`SRV_UWGHT_MAX`); a greater one counts as this one here.
pub const HEAVIEST: u32 = 256;
/// The number of positions on the ring.
const CIRCLE: u64 = 1 << 32;

pub(super) fn points(servers: &[Server]) -> Vec<Point> {
    let points_of = |(server, ordinal): (&Server, u32)| {
        let first = server.id.wrapping_mul(HEAVIEST * POINTS);
        let points = POINTS * server.weight.min(HEAVIEST);
        (0..points).map(move |point| (u64::from(mixed(first.wrapping_add(point))), ordinal))
    };
    servers.iter().zip(0..).flat_map(points_of).collect()
}

/// The position of a key.
pub(super) fn hash(key: &[u8]) -> u64 {
    u64::from(mixed(sdbm(key)))
}

/// The index of the position that is nearest to `hash`.
pub(super) fn nearest(positions: &[u64], hash: u64) -> usize {
    let next = first_from(positions, hash);
    let previous = next.checked_sub(1).unwrap_or(positions.len().saturating_sub(1));
    let distance = |from: u64, to: u64| (to + CIRCLE - from) % CIRCLE;
    match (positions.get(previous), positions.get(next)) {
        (Some(&before), Some(&after)) if distance(before, hash) > distance(hash, after) => next,
        _ => previous,
    }
}

/// The hash function of the database library sdbm: for each byte, multiply by 65599 and add the byte.
fn sdbm(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |hash: u32, &byte| hash.wrapping_mul(65599).wrapping_add(u32::from(byte)))
}

/// Jenkins' integer hash with full avalanche, times a prime (`full_hash`).
fn mixed(value: u32) -> u32 {
    let value = value.wrapping_add(0x7ed5_5d16).wrapping_add(value << 12);
    let value = value ^ 0xc761_c23c ^ (value >> 19);
    let value = value.wrapping_add(0x1656_67b1).wrapping_add(value << 5);
    let value = value.wrapping_add(0xd3a2_646c) ^ (value << 9);
    let value = value.wrapping_add(0xfd70_46c5).wrapping_add(value << 3);
    let value = value ^ 0xb55a_4f09 ^ (value >> 16);
    value.wrapping_mul(3_221_225_473)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{keys_and_owners, moved, owners, servers, without};
    use super::super::{Peer, PeerRing};
    use super::*;

    /// Computed by an independent implementation in Python.
    #[test]
    fn three_servers_own_the_keys_that_an_independent_implementation_gives_them() {
        let equal = PeerRing::build(Peer::HaProxy, &servers(&[1, 1, 1]));
        assert_eq!(equal.points(), 48);
        assert_eq!((equal.positions[0], equal.positions[47]), (0x048e_6a3d, 0xf212_ae04));
        keys_and_owners(&equal, [2, 1, 1, 2, 1, 0, 0, 2, 0, 2, 1, 1].map(Some));
        let weighted = PeerRing::build(Peer::HaProxy, &servers(&[1, 2, 5]));
        assert_eq!(weighted.points(), 128);
        assert_eq!((weighted.positions[0], weighted.positions[127]), (0x0024_5877, 0xffa1_9cf3));
        keys_and_owners(&weighted, [2, 1, 1, 2, 2, 0, 0, 2, 0, 2, 1, 1].map(Some));
    }

    /// By hand: 'a' is 97, and 97 * 65599 + 98 = 6 363 201.
    #[test]
    fn sdbm_is_a_sum_that_is_multiplied_by_65599_before_each_byte() {
        assert_eq!(sdbm(b""), 0);
        assert_eq!(sdbm(b"a"), 97);
        assert_eq!(sdbm(b"ab"), 6_363_201);
        assert_eq!(sdbm(b"\xff"), 255);
    }

    #[test]
    fn the_nearest_point_owns_a_key_and_halfway_the_one_before() {
        let positions = [100, 200, 300];
        let cases =
            [(100, 0), (149, 0), (150, 0), (151, 1), (199, 1), (200, 1), (250, 1), (251, 2), (300, 2)];
        for (hash, point) in cases {
            assert_eq!(nearest(&positions, hash), point, "{hash}");
        }
    }

    /// The keys were found by running the hash backwards.
    #[test]
    fn a_key_halfway_between_two_servers_goes_to_the_one_before() {
        let ring = PeerRing::build(Peer::HaProxy, &servers(&[1, 1, 1]));
        for (key, before, after, owner) in [
            ("aaqyvhmz", 828_942_252, 890_795_054, 1),
            ("aaxrquxc", 2_102_342_909, 2_234_691_741, 1),
            ("abvhckxk", 2_457_531_413, 2_510_465_431, 2),
        ] {
            assert_eq!(hash(key.as_bytes()), u64::midpoint(before, after), "{key}");
            assert!(ring.positions.windows(2).any(|pair| pair == [before, after]), "{key}");
            assert_eq!(ring.owner(key.as_bytes()), Some(owner), "{key}");
        }
    }

    /// From 300 up to 100 it is 2^32 - 200; halfway is at 2^31 + 200.
    #[test]
    fn the_ring_is_closed() {
        let positions = [100, 200, 300];
        assert_eq!(nearest(&positions, 0), 0);
        assert_eq!(nearest(&positions, CIRCLE - 1), 0);
        assert_eq!(nearest(&positions, (1 << 31) + 200), 2);
        assert_eq!(nearest(&positions, (1 << 31) + 201), 0);
        assert_eq!(nearest(&[100], 50), 0);
    }

    #[test]
    fn a_weight_above_the_greatest_counts_as_the_greatest() {
        let points = |weight| PeerRing::build(Peer::HaProxy, &servers(&[weight])).points();
        assert_eq!((points(256), points(257), points(u32::MAX)), (4096, 4096, 4096));
    }

    #[test]
    fn no_two_points_coincide() {
        let servers = servers(&[256; 20]);
        let ring = PeerRing::build(Peer::HaProxy, &servers);
        assert!(ring.positions.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn an_address_plays_no_part() {
        let servers = servers(&[1, 2, 5]);
        let moved: Vec<Server> =
            servers.iter().map(|server| Server { address: "elsewhere:1".into(), ..server.clone() }).collect();
        assert_eq!(PeerRing::build(Peer::HaProxy, &servers), PeerRing::build(Peer::HaProxy, &moved));
    }

    #[test]
    fn taking_the_first_server_out_of_the_configuration_moves_keys_of_the_others() {
        let all = servers(&[1; 4]);
        let renumbered: Vec<Server> =
            without(&all, 0).into_iter().zip(1..).map(|(server, id)| Server { id, ..server }).collect();
        let (before, after) = (owners(Peer::HaProxy, &all), owners(Peer::HaProxy, &renumbered));
        let share = moved(&before, &after, &all[0].address);
        println!(
            "haproxy: server 1 of 4 is taken out of the configuration: {share:.3} of the others' keys move"
        );
        assert!(share > 0.5, "{share}");
    }
}
