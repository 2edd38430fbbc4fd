//! Models of other load balancers: the server that each of them gives a key to, computed the way it computes it.
//!
//! Pure: no I/O, no clock, no random numbers. The models know no health and no load: all servers of a configuration are
//! up. Nothing that serves connections uses them.
//!
//! A test compares the models of HAProxy and nginx with the real programs. The model of Envoy was not tried against a
//! running Envoy: its tests use the rings from Envoy's own tests.

mod envoy;
mod haproxy;
mod nginx;

pub use haproxy::HEAVIEST as HAPROXY_HEAVIEST;

/// A server as a peer knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its number: 1, 2, 3 ... in the order of the configuration, unless that sets another (`id`). HAProxy hashes the
    /// number only.
    pub id: u32,
    /// HOST:PORT as in the configuration, unique. nginx and Envoy hash this.
    pub address: String,
    /// Its share, relative to the weights of the others. A server of weight 0 gets no key.
    pub weight: u32,
}

/// Another load balancer and its consistent hashing.
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
    /// All peers that have a model.
    pub const ALL: [Peer; 3] = [Peer::HaProxy, Peer::Nginx, Peer::EnvoyRing];

    /// The name on the command line.
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

/// All points of all servers of a peer, clockwise: 12 bytes a point. A server is known by its ordinal, its place in the
/// slice that the ring was built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRing {
    peer: Peer,
    /// Ascending; HAProxy and nginx use 32 bits, Envoy 64.
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

    /// Sorts points by position. Two points at one position keep their order; nginx drops the second.
    fn sorted(peer: Peer, mut points: Vec<Point>) -> Self {
        points.sort_by_key(|&(position, _)| position);
        if peer == Peer::Nginx {
            points.dedup_by_key(|&mut (position, _)| position);
        }
        let (positions, owners): (Vec<u64>, Vec<u32>) = points.into_iter().unzip();
        Self { peer, positions: positions.into(), owners: owners.into() }
    }

    /// The ordinal of the server that gets `key`. `None` if the key does not decide: no server has a point, or the peer
    /// is nginx and the key is empty (nginx then takes the servers in turns).
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

    /// The memory of this model on the heap, in bytes. The peer itself needs another amount.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.positions) + size_of_val(&*self.owners)
    }

    /// The number of points on the ring.
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
