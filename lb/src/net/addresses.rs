//! The addresses of one server: a name may have several, and the server may listen at one of them only.

use std::net::SocketAddr;

use super::Endpoint;

/// The most addresses of one server that are tried.
const MOST: usize = 8;

/// The addresses of one server, in the order in which they are tried. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    first: Endpoint,
    others: Vec<Endpoint>,
}

impl Addresses {
    /// The first eight different addresses of these; `None` if there is none.
    pub(crate) fn of<E: Into<Endpoint>>(found: impl IntoIterator<Item = E>) -> Option<Self> {
        let mut found = found.into_iter().map(Into::into);
        let mut addresses = Addresses { first: found.next()?, others: Vec::new() };
        for address in found {
            if addresses.others.len() + 1 < MOST && !addresses.contains(&address) {
                addresses.others.push(address);
            }
        }
        Some(addresses)
    }

    /// The address that is tried first.
    pub(crate) fn first(&self) -> &Endpoint {
        &self.first
    }

    /// All addresses, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// These addresses with this one of them first.
    pub(crate) fn preferring(&self, address: &Endpoint) -> Self {
        let rest = self.iter().filter(|&other| other != address);
        let first = self.iter().find(|&known| known == address);
        Addresses::of(first.into_iter().chain(rest).cloned()).unwrap_or_else(|| self.clone())
    }

    /// Whether both hold the same addresses, in any order.
    pub(crate) fn are(&self, others: &Self) -> bool {
        self.others.len() == others.others.len() && self.iter().all(|address| others.contains(address))
    }

    /// Whether it is one of them.
    pub(crate) fn contains(&self, address: &Endpoint) -> bool {
        self.iter().any(|known| known == address)
    }
}

impl From<Endpoint> for Addresses {
    fn from(first: Endpoint) -> Self {
        Addresses { first, others: Vec::new() }
    }
}

impl From<SocketAddr> for Addresses {
    fn from(first: SocketAddr) -> Self {
        Endpoint::from(first).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(port: u16) -> Endpoint {
        SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    fn ports(addresses: &Addresses) -> Vec<u16> {
        let ports = addresses.iter().map(|address| match address {
            Endpoint::Tcp(address) => address.port(),
            Endpoint::Unix(_) => 0,
        });
        ports.collect()
    }

    #[test]
    fn addresses_are_different_few_and_in_order() {
        assert_eq!(Addresses::of::<Endpoint>([]), None);
        let addresses = Addresses::of([3, 1, 3, 2, 1].map(port)).unwrap();
        assert_eq!((addresses.first(), ports(&addresses)), (&port(3), vec![3, 1, 2]));
        assert_eq!(ports(&Addresses::of((1..100).map(port)).unwrap()), [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn the_preferred_address_is_tried_first() {
        let addresses = Addresses::of([1, 2, 3].map(port)).unwrap();
        assert_eq!(ports(&addresses.preferring(&port(3))), [3, 1, 2]);
        assert_eq!(ports(&addresses.preferring(&port(4))), [1, 2, 3]);
        assert!(addresses.are(&addresses.preferring(&port(2))));
        assert!(!addresses.are(&Addresses::of([1, 2, 4].map(port)).unwrap()));
        assert!(!addresses.are(&port(1).into()));
    }
}
