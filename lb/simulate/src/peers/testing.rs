//! Helpers for the tests of all peers.

use super::{Peer, PeerRing, Server};

/// Servers with the numbers 1, 2, 3 ... and the ports 9001, 9002, 9003 ...
pub(super) fn servers(weights: &[u32]) -> Vec<Server> {
    let server =
        |(&weight, id): (&u32, u32)| Server { id, address: format!("127.0.0.1:{}", 9000 + id), weight };
    weights.iter().zip(1..).map(server).collect()
}

/// The servers without one.
pub(super) fn without(servers: &[Server], gone: usize) -> Vec<Server> {
    let rest = servers.iter().enumerate().filter(|&(ordinal, _)| ordinal != gone);
    rest.map(|(_, server)| server.clone()).collect()
}

/// Asserts the owners of keys of many kinds.
#[track_caller]
pub(super) fn keys_and_owners(ring: &PeerRing, owners: [Option<usize>; 12]) {
    let keys: [&[u8]; 12] = [
        b"132574",
        b"100000",
        b"999999",
        b"0",
        b"7",
        b"abc",
        b"alice@example.org",
        b"192.0.2.1",
        b"\x00\xff",
        b"",
        b"\xc3\xbc",
        b"order-42",
    ];
    assert_eq!(keys.map(|key| ring.owner(key)), owners);
}

/// The addresses of the owners of 20 000 ids.
pub(super) fn owners(peer: Peer, servers: &[Server]) -> Vec<&str> {
    let ring = PeerRing::build(peer, servers);
    let owner = |id: u32| ring.owner(id.to_string().as_bytes()).unwrap();
    (100_000..120_000).map(|id| servers[owner(id)].address.as_str()).collect()
}

/// Of the keys whose owner stays, the part that has another one afterwards.
pub(super) fn moved(before: &[&str], after: &[&str], gone: &str) -> f64 {
    let kept = || before.iter().zip(after).filter(|&(&was, _)| was != gone);
    kept().filter(|(was, is)| was != is).count() as f64 / kept().count() as f64
}
