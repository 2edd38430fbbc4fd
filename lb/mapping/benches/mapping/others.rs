//! Other crates, as their documentation shows them: with the hash that each brings.
//!
//! - `hashring`: a sorted vector of points, binary search, SipHash.
//! - `pingora-ketama`: the ring of nginx, points of 32 bits from CRC-32, binary search. It has 160 points for each unit of
//!   weight, so that a weight of 6 is as even as 1000 points.
//!
//! docs/BENCHMARKS.md keeps figures of crates that are no longer built: `conhash`, `maglev`, `jump-consistent-hash`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId};
use hashring::HashRing;
use pingora_ketama::{Bucket, Continuum};

use super::{FLEETS, Picks};

/// Points of a server on a ring of `hashring`.
const POINTS: usize = 1000;
/// The weight of a server on a ring of `pingora-ketama`.
const WEIGHT: u32 = 6;

fn hashring(servers: usize) -> HashRing<(usize, usize)> {
    let mut ring = HashRing::new();
    ring.batch_add((0..servers).flat_map(|server| (0..POINTS).map(move |point| (server, point))).collect());
    ring
}

/// The server is the port.
fn ketama(servers: usize) -> Continuum {
    let address = |server| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), server as u16);
    let buckets: Vec<Bucket> = (0..servers).map(|server| Bucket::new(address(server), WEIGHT)).collect();
    Continuum::new(&buckets)
}

pub(crate) fn picks(picks: &mut Picks<'_>) {
    let servers = picks.servers;
    let ring = hashring(servers);
    picks.measure("hashring", |key| ring.get(key).unwrap().0);
    let ring = ketama(servers);
    picks.measure("pingora-ketama", |key| ring.node(key).unwrap().port().into());
}

pub(crate) fn builds(group: &mut BenchmarkGroup<'_, WallTime>) {
    for servers in &FLEETS[1..] {
        let mut measure = |what: &str, build: &dyn Fn(usize)| {
            group.bench_with_input(BenchmarkId::new(what, servers), servers, |bencher, &servers| {
                bencher.iter(|| build(black_box(servers)));
            });
        };
        measure("hashring", &|servers| drop(black_box(hashring(servers))));
        measure("pingora-ketama", &|servers| drop(black_box(ketama(servers))));
    }
}
