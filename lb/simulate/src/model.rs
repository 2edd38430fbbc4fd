//! One interface to all that map keys: the mappings of `lb` and the models of peers.
//!
//! Pure. How a key finds its owner is in the crate `mapping` and in [`peers`](crate::peers).

use mapping::{Full, Mapping, Member, Scheme};

use crate::peers::{HAPROXY_HEAVIEST, Peer, PeerRing, Server};

/// A mapping to compare, with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contender {
    /// A mapping of `lb`.
    Ours(Scheme),
    /// The mapping of another load balancer.
    Theirs {
        /// The load balancer.
        peer: Peer,
        /// The weight in its configuration for each unit of weight here.
        unit: u32,
    },
}

impl Contender {
    /// The name on the command line.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Contender::Ours(scheme) => scheme.algorithm.name().to_string(),
            Contender::Theirs { peer, unit: 1 } => peer.name().to_owned(),
            Contender::Theirs { peer, unit } => format!("{}-{unit}", peer.name()),
        }
    }

    /// Checks whether the mapping has room for these members.
    ///
    /// # Errors
    /// The reason why it has not.
    pub fn check(&self, members: &[Member]) -> Result<(), String> {
        match self {
            Contender::Ours(scheme) => Mapping::check(scheme, members).map_err(|full| full.to_string()),
            Contender::Theirs { peer, unit } => check_peer(*peer, *unit, members),
        }
    }
}

/// The greatest fleet has 16 million points at nginx, which needs no other bound.
fn check_peer(peer: Peer, unit: u32, members: &[Member]) -> Result<(), String> {
    let heaviest = members.iter().map(|member| member.weight * unit).max().unwrap_or(0);
    if peer == Peer::HaProxy && heaviest > HAPROXY_HEAVIEST {
        return Err(format!(
            "a weight would be {heaviest} in its configuration; HAProxy accepts at most {HAPROXY_HEAVIEST}"
        ));
    }
    Ok(())
}

/// A mapping, built for its members.
#[derive(Debug)]
pub(crate) enum Model {
    Ours(Mapping),
    Theirs(PeerRing),
}

impl Model {
    /// # Errors
    /// There is no room for these members.
    pub(crate) fn build(contender: &Contender, members: &[Member]) -> Result<Self, Full> {
        Ok(match contender {
            Contender::Ours(scheme) => Model::Ours(Mapping::build(scheme, members)?),
            Contender::Theirs { peer, unit } => {
                let servers: Vec<Server> = members.iter().map(|member| server(member, *unit)).collect();
                Model::Theirs(PeerRing::build(*peer, &servers))
            }
        })
    }

    /// The ordinal of the member that owns `key`.
    pub(crate) fn owner(&self, key: &[u8]) -> Option<usize> {
        match self {
            Model::Ours(mapping) => mapping.owner(key),
            Model::Theirs(ring) => ring.owner(key),
        }
    }

    /// The memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Model::Ours(mapping) => mapping.bytes(),
            Model::Theirs(ring) => ring.bytes(),
        }
    }
}

/// A member as a server in the configuration of a peer. The index decides the number and the address, so both stay when
/// others leave. HAProxy needs `id` for that.
fn server(member: &Member, unit: u32) -> Server {
    // 10.0.0.1 to 10.0.0.254, then 10.0.1.1; a fleet ends before 10.0.4.
    let [network, host] = [member.index.saturating_sub(1) / 254, member.index.saturating_sub(1) % 254 + 1];
    Server { id: member.index, address: format!("10.0.{network}.{host}:80"), weight: member.weight * unit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::fleet;
    use mapping::Algorithm;

    fn theirs(peer: Peer, unit: u32) -> Contender {
        Contender::Theirs { peer, unit }
    }

    #[test]
    fn the_index_decides_the_address_and_the_number() {
        let addresses = [1, 254, 255, 1000].map(|index| {
            let server = server(&Member { index, name: "any".into(), weight: 2 }, 100);
            assert_eq!((server.id, server.weight), (index, 200));
            server.address
        });
        assert_eq!(addresses, ["10.0.0.1:80", "10.0.0.254:80", "10.0.1.1:80", "10.0.3.238:80"]);
    }

    #[test]
    fn names_contain_the_weight() {
        assert_eq!(theirs(Peer::HaProxy, 1).name(), "haproxy");
        assert_eq!(theirs(Peer::HaProxy, 100).name(), "haproxy-100");
        assert_eq!(Contender::Ours(Algorithm::Maglev.into()).name(), "maglev");
    }

    #[test]
    fn servers_that_do_not_fit_are_refused() {
        let mut members = fleet(1000);
        assert_eq!(theirs(Peer::HaProxy, 256).check(&members), Ok(()));
        members[0].weight = 3;
        let message = "a weight would be 300 in its configuration; HAProxy accepts at most 256";
        assert_eq!(theirs(Peer::HaProxy, 100).check(&members), Err(message.to_owned()));
        assert_eq!(theirs(Peer::HaProxy, 1).check(&members), Ok(()));
        assert_eq!(theirs(Peer::Nginx, 1).check(&members), Ok(()));
        assert_eq!(theirs(Peer::EnvoyRing, 1).check(&members), Ok(()));
    }
}
