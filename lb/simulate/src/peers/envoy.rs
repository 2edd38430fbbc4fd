//! Envoy: the policy `ring_hash` with its defaults, the hash XX_HASH and rings of 1024 points or a few more.
//!
//! Sources: `source/extensions/load_balancing_policies/ring_hash/ring_hash_lb.cc` and
//! `.../common/thread_aware_lb_impl.cc` (weights). The model was not tried against a running Envoy. The
//! tests below use the rings from Envoy's own tests
//! (`test/extensions/load_balancing_policies/ring_hash/ring_hash_lb_test.cc`).
//!
//! - A host is known by its address; point i is XXH64 of the address, "_" and i. A key is hashed with XXH64
//!   as well and goes to the first point at or after it.
//! - The points are a total that is divided among the hosts: at least 1024, and as many more as the lightest
//!   host needs for a whole number. So when a host leaves, those that stay get more points, and with them
//!   keys of each other (envoyproxy/envoy#22558): this is not minimal disruption.
//! - Numbers of points come from running sums in floating point. Where a weight gives no whole number, the
//!   order of the hosts decides who gets the odd point. The sums here are those of x86-64; a compiler that
//!   fuses a multiplication with an addition, as some do for other processors, may give a host one more or
//!   less.
//!
//! Not in the model: localities, priorities, `use_hostname_for_hashing`, a hash balance factor.

use std::fmt::Write as _;

use xxhash_rust::xxh64::xxh64;

use super::{Point, Server};

/// The bounds of a ring's size, in points.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    minimum: f64,
    maximum: f64,
}

impl Sizes {
    pub(super) const DEFAULT: Sizes = Sizes { minimum: 1024.0, maximum: 8_388_608.0 };
}

pub(super) fn points(servers: &[Server], sizes: Sizes) -> Vec<Point> {
    let numbered = servers.iter().zip(0..).filter(|(server, _)| server.weight > 0);
    let (hosts, ordinals): (Vec<&Server>, Vec<u32>) = numbered.unzip();
    let shares = shares(&hosts);
    let scale = scale(&shares, sizes);
    let (mut sum, mut target) = (0.0, 0.0);
    let mut points = Vec::new();
    for ((host, ordinal), share) in hosts.into_iter().zip(ordinals).zip(shares) {
        target += scale * share;
        let mut positions = positions(&host.address);
        while sum < target {
            points.extend(positions.next().map(|position| (position, ordinal)));
            sum += 1.0;
        }
    }
    points
}

/// The position of a key.
pub(super) fn hash(key: &[u8]) -> u64 {
    xxh64(key, 0)
}

/// The weights as parts of their sum.
fn shares(hosts: &[&Server]) -> Vec<f64> {
    let sum: u64 = hosts.iter().map(|host| u64::from(host.weight)).sum();
    hosts.iter().map(|host| f64::from(host.weight) / sum as f64).collect()
}

/// The size at which the host with the least share has a whole number of points.
fn scale(shares: &[f64], sizes: Sizes) -> f64 {
    let least = shares.iter().copied().fold(1.0, f64::min);
    ((least * sizes.minimum).ceil() / least).min(sizes.maximum)
}

/// The points of a host, without end.
fn positions(address: &str) -> impl Iterator<Item = u64> {
    let mut text = format!("{address}_");
    let stem = text.len();
    (0_u64..).map(move |number| {
        text.truncate(stem);
        let _ = write!(text, "{number}"); // writing to a String cannot fail
        hash(text.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{keys_and_owners, servers};
    use super::super::{Peer, PeerRing};
    use super::*;

    /// What the specification of XXH64 gives.
    #[test]
    fn a_key_is_its_xxh64_without_a_seed() {
        assert_eq!(hash(b""), 0xef46_db37_51d8_e999);
        assert_eq!(hash(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(hash(b"abc"), 0x44bc_2cf5_ad77_0999);
    }

    /// Computed by an independent implementation in Python, XXH64 included.
    #[test]
    fn three_servers_own_the_keys_that_an_independent_implementation_gives_them() {
        let ends = (0x003c_e3d5_3936_fc12, 0xffd8_4be0_0a1f_f107);
        let equal = PeerRing::build(Peer::EnvoyRing, &servers(&[1, 1, 1]));
        assert_eq!(equal.points(), 1026);
        assert_eq!((equal.positions[0], equal.positions[1025]), ends);
        keys_and_owners(&equal, [2, 0, 0, 0, 2, 1, 0, 0, 0, 2, 2, 1].map(Some));
        let weighted = PeerRing::build(Peer::EnvoyRing, &servers(&[1, 2, 5]));
        assert_eq!(weighted.points(), 1024);
        assert_eq!((weighted.positions[0], weighted.positions[1023]), ends);
        keys_and_owners(&weighted, [2, 2, 0, 2, 2, 1, 2, 2, 2, 2, 2, 1].map(Some));
    }

    /// Servers on the ports that Envoy's tests use, and a ring of theirs.
    fn ring(weights: &[u32], minimum: f64, maximum: f64) -> PeerRing {
        let host =
            |(&weight, port): (&u32, u32)| Server { id: 0, address: format!("127.0.0.1:{port}"), weight };
        let hosts: Vec<Server> = weights.iter().zip(90..).map(host).collect();
        PeerRing::sorted(Peer::EnvoyRing, points(&hosts, Sizes { minimum, maximum }))
    }

    /// Its test `Basic`: six hosts, at least 12 points.
    #[test]
    fn six_hosts_have_the_ring_that_envoys_tests_write_down() {
        let expected = [
            (833_437_586_790_550_860, 4),
            (928_266_305_478_181_108, 2),
            (1_033_482_794_131_418_490, 0),
            (3_551_244_743_356_806_947, 5),
            (3_851_675_632_748_031_481, 3),
            (5_583_722_120_771_150_861, 1),
            (6_311_230_543_546_372_928, 1),
            (7_700_377_290_971_790_572, 3),
            (13_144_177_310_400_110_813, 5),
            (13_444_792_449_719_432_967, 2),
            (15_516_499_411_664_133_160, 4),
            (16_117_243_373_044_804_889, 0),
        ];
        assert_eq!(ring(&[1; 6], 12.0, 1e9), PeerRing::sorted(Peer::EnvoyRing, expected.to_vec()));
    }

    /// Its test `HostWeightedTinyRing`: weights 1, 2 and 3, exactly 6 points.
    #[test]
    fn three_weighted_hosts_have_the_ring_that_envoys_tests_write_down() {
        let expected = [
            (928_266_305_478_181_108, 2),
            (4_443_673_547_860_492_590, 2),
            (5_583_722_120_771_150_861, 1),
            (6_311_230_543_546_372_928, 1),
            (13_444_792_449_719_432_967, 2),
            (16_117_243_373_044_804_889, 0),
        ];
        assert_eq!(ring(&[1, 2, 3], 6.0, 6.0), PeerRing::sorted(Peer::EnvoyRing, expected.to_vec()));
    }

    /// How many of so many hashes, evenly spread, each host gets.
    fn histogram(ring: &PeerRing, hosts: usize, hashes: u64) -> Vec<u32> {
        let mut counts = vec![0; hosts];
        for number in 0..hashes {
            let point = super::super::first_from(&ring.positions, number * (u64::MAX / hashes));
            counts[ring.owners[point] as usize] += 1;
        }
        counts
    }

    /// Its tests `HostWeightedLargeRing`, `LargeFractionalScale` and `SmallFractionalScale`.
    #[test]
    fn hosts_get_as_many_hashes_as_in_envoys_tests() {
        assert_eq!(histogram(&ring(&[1, 2, 3], 6144.0, 1e9), 3, 6000), [987, 1932, 3081]);
        let fractional = ring(&[1, 1], 1023.0, 1023.0);
        assert_eq!(fractional.points(), 1023);
        assert_eq!(histogram(&fractional, 2, 1023), [526, 497]);
        let too_few = histogram(&ring(&[1; 4], 2.0, 2.0), 4, 1024);
        assert_eq!(too_few.iter().filter(|&&count| count == 0).count(), 2, "{too_few:?}");
    }

    #[test]
    fn the_lightest_host_has_a_whole_number_of_points() {
        let sizes = |weights: &[u32]| PeerRing::build(Peer::EnvoyRing, &servers(weights)).points();
        let expected = [1024, 1024, 1026, 1024, 1025, 1026];
        assert_eq!([1, 2, 3, 4, 5, 6].map(|hosts| sizes(&vec![1; hosts])), expected);
        assert_eq!(sizes(&[1; 2000]), 2000);
    }

    #[test]
    fn the_order_of_hosts_decides_which_one_gets_an_odd_point() {
        let count = |ring: &PeerRing, ordinal| ring.owners.iter().filter(|&&owner| owner == ordinal).count();
        let counts = |weights: &[u32]| {
            let ring = PeerRing::build(Peer::EnvoyRing, &servers(weights));
            [0, 1, 2].map(|ordinal| count(&ring, ordinal))
        };
        assert_eq!(counts(&[3, 5, 7]), [205, 342, 478]);
        assert_eq!(counts(&[7, 5, 3]), [479, 341, 205]);
    }
}
