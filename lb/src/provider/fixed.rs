//! The provider of fixed servers, each at an address or a name of its own.

use std::collections::HashMap;
use std::net::SocketAddr;

use fleet::ReplicaId;
use proto::control::{Hostname, Resolutions, Weight};

use super::doors::Doors;
use super::{Reports, named};
use crate::resolver::{Followed, Resolver};

/// A server that runs without `lb`'s help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedBackend {
    /// The name of its slot.
    pub name: Hostname,
    /// Where it is.
    pub location: Location,
    /// The weight of its slot.
    pub weight: Weight,
}

impl FixedBackend {
    /// Whether its location is a name that has to be resolved.
    pub(crate) fn has_name(&self) -> bool {
        matches!(self.location, Location::Host(..))
    }
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// At this address.
    Address(SocketAddr),
    /// At the addresses of this host, and this port.
    Host(String, u16),
}

/// The servers by name, and the folder in which they take connections over.
#[derive(Debug)]
pub(crate) struct Fixed {
    servers: HashMap<Hostname, Followed>,
    /// Only if one of them has a name.
    resolver: Option<Resolver>,
    doors: Option<Doors>,
}

impl Fixed {
    /// Follows every name from now on, with a resolver that is made if there is one.
    pub(crate) fn new<E>(
        backends: Vec<FixedBackend>,
        doors: Option<Doors>,
        make: impl FnOnce() -> Result<Resolver, E>,
    ) -> Result<Self, E> {
        let resolver = backends.iter().any(FixedBackend::has_name).then(make).transpose()?;
        let mut servers = HashMap::new();
        for FixedBackend { name, location, .. } in backends {
            let followed = match (location, &resolver) {
                (Location::Address(address), _) => Followed::fixed(address),
                (Location::Host(host, port), Some(resolver)) => resolver.follow_host(&host, port),
                (Location::Host(..), None) => continue,
            };
            servers.insert(name, followed);
        }
        Ok(Fixed { servers, resolver, doors })
    }

    pub(super) fn start(&self, id: ReplicaId, hostname: &Hostname, reports: Reports) {
        // The fleet has no other names.
        let Some(server) = self.servers.get(hostname) else { return };
        let door = self.doors.as_ref().map(|doors| doors.of(hostname));
        named::start(id, server.clone(), door, reports);
    }

    pub(super) fn resolutions(&self) -> Option<Resolutions> {
        self.resolver.as_ref().map(Resolver::resolutions)
    }
}
