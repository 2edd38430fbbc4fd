//! nginx: `hash <key> consistent` in an `upstream` of the stream or the http module, the ring of Ketama as
//! the Perl module `Cache::Memcached::Fast` builds it.
//!
//! Sources: `src/stream/ngx_stream_upstream_hash_module.c` and its twin
//! `src/http/modules/ngx_http_upstream_hash_module.c` of nginx 1.22.
//!
//! - A server is known by its address as the configuration has it: "localhost:1" is another server than
//!   "127.0.0.1:1".
//! - It has 160 points for each unit of weight: CRC-32 of the host, a NUL byte, the port and the point before
//!   in four bytes.
//! - A key is hashed with CRC-32 and goes to the first point at or after it.
//! - Where points coincide one is kept: of the server that the configuration names first, if the C library's
//!   `qsort` is stable, as glibc's is for rings of this size.
//!
//! Not in the model: a name with several addresses, or an address that is there twice. nginx keeps one set of
//! points for both and takes them in turns.

use crc32fast::Hasher;

use super::{Point, Server};

/// Points of a server for each unit of its weight.
const POINTS: u64 = 160;

pub(super) fn points(servers: &[Server]) -> Vec<Point> {
    let points_of = |(server, ordinal): (&Server, u32)| {
        let stem = stem(&server.address);
        let mut point = 0;
        (0..POINTS * u64::from(server.weight)).map(move |_| {
            let mut hasher = stem.clone();
            hasher.update(&u32::to_le_bytes(point));
            point = hasher.finalize();
            (u64::from(point), ordinal)
        })
    };
    servers.iter().zip(0..).flat_map(points_of).collect()
}

/// The position of a key.
pub(super) fn hash(key: &[u8]) -> u64 {
    u64::from(crc32fast::hash(key))
}

/// The part of the hash that all points of a server share.
fn stem(address: &str) -> Hasher {
    let (host, port) = split(address);
    let mut hasher = Hasher::new();
    for part in [host, "\0", port] {
        hasher.update(part.as_bytes());
    }
    hasher
}

/// The host and the port. A path of a Unix socket has no port; nor has a name that does not end with a colon
/// and digits.
fn split(address: &str) -> (&str, &str) {
    let is_path = address.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("unix:"));
    match address.rsplit_once(':') {
        _ if is_path => (&address[5..], ""),
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (address, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{keys_and_owners, servers};
    use super::super::{Peer, PeerRing};
    use super::*;

    /// Computed by an independent implementation: Python, `zlib.crc32`.
    #[test]
    fn three_servers_own_the_keys_that_an_independent_implementation_gives_them() {
        let equal = PeerRing::build(Peer::Nginx, &servers(&[1, 1, 1]));
        assert_eq!(equal.points(), 480);
        assert_eq!((equal.positions[0], equal.positions[479]), (0x006f_ff97, 0xffee_a1b4));
        keys_and_owners(&equal, [0, 2, 2, 0, 2, 0, 2, 1, 2, NO_OWNER, 0, 1].map(known));
        let weighted = PeerRing::build(Peer::Nginx, &servers(&[1, 2, 5]));
        assert_eq!(weighted.points(), 1280);
        assert_eq!((weighted.positions[0], weighted.positions[1279]), (0x0016_d8cb, 0xffef_fbef));
        keys_and_owners(&weighted, [0, 2, 2, 2, 2, 1, 2, 1, 2, NO_OWNER, 2, 1].map(known));
    }

    /// The owner of an empty key.
    const NO_OWNER: usize = usize::MAX;

    fn known(owner: usize) -> Option<usize> {
        (owner != NO_OWNER).then_some(owner)
    }

    /// `zlib.crc32(b"127.0.0.1\x009001\0\0\0\0")`, and then with the four bytes of that, least first, in
    /// place of the zeros.
    #[test]
    fn a_point_is_the_checksum_of_host_nul_port_and_the_point_before() {
        let points: Vec<u64> = points(&servers(&[1])).into_iter().map(|(position, _)| position).collect();
        assert_eq!(points.len(), 160);
        assert_eq!(points[..2], [0x7053_3e04, 0x1057_1e62]);
    }

    #[test]
    fn a_key_is_its_checksum() {
        assert_eq!(hash(b"123456789"), 0xcbf4_3926, "the check value of CRC-32");
    }

    #[test]
    fn an_address_is_split_at_its_last_colon_if_digits_follow() {
        for (address, parts) in [
            ("10.0.0.1:80", ("10.0.0.1", "80")),
            ("[::1]:80", ("[::1]", "80")),
            ("[::1]", ("[::1]", "")),
            ("example.org", ("example.org", "")),
            ("example.org:http", ("example.org:http", "")),
            ("example.org:", ("example.org", "")),
            ("80", ("80", "")),
            ("unix:/run/a.sock", ("/run/a.sock", "")),
            ("UNIX:/run/a:80", ("/run/a:80", "")),
            ("", ("", "")),
        ] {
            assert_eq!(split(address), parts, "{address:?}");
        }
    }

    #[test]
    fn of_two_points_at_one_position_the_first_is_kept() {
        let ring = PeerRing::sorted(Peer::Nginx, vec![(9, 1), (7, 1), (7, 0), (8, 0)]);
        assert_eq!((&*ring.positions, &*ring.owners), ([7, 8, 9].as_slice(), [1, 0, 1].as_slice()));
    }
}
