//! The same with other crates, as their documentation shows them: with the hash that each brings.
//!
//! - `hashring`: a sorted vector of points, binary search, SipHash.
//! - `pingora-ketama`: the ring of nginx, points of 32 bits from CRC-32, binary search. 160 points for each unit of weight,
//!   so that a weight of 6 is as even as 1000 points.
//! - `conhash`: a `BTreeMap` of points, MD5.
//! - `maglev`: the table of the same paper, as large as ours, SipHash.
//! - `jump-consistent-hash`: no table at all, and a key is a number, so it gets XXH3 first, as ours do. Only the last server
//!   can be taken away from it, so it is no mapping for a fleet in which any may die; it is here for what it costs.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use conhash::{ConsistentHash, Node};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId};
use hashring::HashRing;
use maglev::{ConsistentHasher as _, Maglev};
use pingora_ketama::{Bucket, Continuum};
use xxhash_rust::xxh3::xxh3_64;

use super::{FLEETS, MANY, Picks, name};

/// Points of a server on a ring of `hashring` or `conhash`.
const POINTS: usize = 1000;
/// The weight of a server on a ring of `pingora-ketama`.
const WEIGHT: u32 = 6;
/// The entries of our table.
const ENTRIES: usize = 65_537;

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

#[derive(Clone)]
struct Server(usize);

impl Node for Server {
    fn name(&self) -> String {
        name(self.0)
    }
}

fn conhash(servers: usize) -> ConsistentHash<Server> {
    let mut ring = ConsistentHash::new();
    (0..servers).for_each(|server| ring.add(&Server(server), POINTS));
    ring
}

fn table(servers: usize) -> Maglev<usize> {
    Maglev::with_capacity(0..servers, ENTRIES)
}

pub(crate) fn picks(picks: &mut Picks<'_>) {
    let servers = picks.servers;
    let ring = hashring(servers);
    picks.measure("hashring", |key| ring.get(key).unwrap().0);
    let ring = ketama(servers);
    picks.measure("pingora-ketama", |key| ring.node(key).unwrap().port().into());
    let ring = conhash(servers);
    picks.measure("conhash", |key| ring.get(key).unwrap().0);
    if servers <= MANY {
        let table = table(servers);
        picks.measure("maglev crate", |key| *table.get(key).unwrap());
    }
    picks.measure("jump-consistent-hash", |key| jump_consistent_hash::hash(xxh3_64(key), servers) as usize);
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
        if *servers <= MANY {
            measure("conhash", &|servers| drop(black_box(conhash(servers))));
            measure("maglev crate", &|servers| drop(black_box(table(servers))));
        }
    }
}
