//! Which server another load balancer gives a key to, computed the way it computes it, so that they can be
//! compared offline.
//!
//! Pure: it does no I/O, reads no clock and draws no random number. It knows no health and no load, so it
//! speaks of a configuration whose servers are all up; and nothing that serves connections uses it.
//!
//! The models of HAProxy and nginx are held against the real programs by a test. That of Envoy could not be
//! tried against a running Envoy here: it is held against the rings that are written down in Envoy's own
//! tests.

mod envoy;
mod haproxy;
mod nginx;

/// A server as a peer knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its number: 1, 2, 3 ... in the order of the configuration, unless that says otherwise (`id`). HAProxy
    /// hashes this, and nothing else of a server.
    pub id: u32,
    /// HOST:PORT as it stands in the configuration, no two alike. The other two hash this.
    pub address: String,
    /// Its share, relative to the weights of the others. With 0 it gets no key.
    pub weight: u32,
}

/// Another load balancer, with the consistent hashing that it comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// HAProxy: `balance hash` with `hash-type consistent`.
    HaProxy,
    /// nginx: `hash ... consistent` in an `upstream`.
    Nginx,
    /// Envoy: the policy `ring_hash` with its defaults.
    EnvoyRing,
}

impl Peer {
    /// Every peer there is a model of.
    pub const ALL: [Peer; 3] = [Peer::HaProxy, Peer::Nginx, Peer::EnvoyRing];

    /// The name under which it is chosen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Peer::HaProxy => "haproxy",
            Peer::Nginx => "nginx",
            Peer::EnvoyRing => "envoy-ring",
        }
    }
}

/// A point of a ring and the ordinal of its server.
type Point = (u64, u32);

/// All points of all servers of a peer, clockwise. It speaks of servers by their ordinal, their place in the
/// slice it was built from. It holds 12 bytes a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRing {
    peer: Peer,
    /// Ascending; 32 bits are used by HAProxy and nginx, 64 by Envoy.
    positions: Box<[u64]>,
    /// The ordinal of the server at each position.
    owners: Box<[u32]>,
}

impl PeerRing {
    /// The ring that `peer` makes of these servers, in the order of its configuration.
    #[must_use]
    pub fn build(peer: Peer, servers: &[Server]) -> Self {
        let points = match peer {
            Peer::HaProxy => haproxy::points(servers),
            Peer::Nginx => nginx::points(servers),
            Peer::EnvoyRing => envoy::points(servers, envoy::Sizes::DEFAULT),
        };
        Self::sorted(peer, points)
    }

    /// Of two points at the same position the one that comes first in `points` stays the first. nginx drops
    /// the other.
    fn sorted(peer: Peer, mut points: Vec<Point>) -> Self {
        points.sort_by_key(|&(position, _)| position);
        if peer == Peer::Nginx {
            points.dedup_by_key(|&mut (position, _)| position);
        }
        let (positions, owners): (Vec<u64>, Vec<u32>) = points.into_iter().unzip();
        Self { peer, positions: positions.into(), owners: owners.into() }
    }

    /// The server that gets `key`; `None` if the key decides nothing: no server has a point, or the key is
    /// empty and the peer is nginx, which does not hash such a key but takes the servers in turns.
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> Option<usize> {
        let point = match self.peer {
            Peer::HaProxy => haproxy::nearest(&self.positions, haproxy::hash(key)),
            Peer::Nginx if key.is_empty() => return None,
            Peer::Nginx => first_from(&self.positions, nginx::hash(key)),
            Peer::EnvoyRing => first_from(&self.positions, envoy::hash(key)),
        };
        self.owners.get(point).map(|&owner| owner as usize)
    }

    /// How much memory this model of the ring takes on the heap, in bytes. The peer itself takes another
    /// amount.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.positions) + size_of_val(&*self.owners)
    }

    /// How many points are on the ring.
    #[must_use]
    pub fn points(&self) -> usize {
        self.positions.len()
    }
}

/// The index of the first position at or after `hash`; the last is followed by the first.
fn first_from(positions: &[u64], hash: u64) -> usize {
    let index = positions.partition_point(|&position| position < hash);
    if index == positions.len() { 0 } else { index }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
