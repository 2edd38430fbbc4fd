//! The provider of fixed addresses. It looks them up, and never starts or stops what listens there.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use proto::control::{Hostname, Weight};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::doors::Doors;
use super::{Reach, Report, Reports};
use crate::fleet::ReplicaId;
use crate::net::Addresses;

/// How long a lookup may take.
const LOOK_UP: Duration = Duration::from_secs(5);

/// A server that runs without `lb`'s help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedBackend {
    /// The name of its slot.
    pub name: Hostname,
    /// `HOST:PORT`.
    pub address: String,
    /// The weight of its slot.
    pub weight: Weight,
}

/// The addresses, by name, each `HOST:PORT`, and the folder in which the servers take connections over.
#[derive(Debug)]
pub(crate) struct Fixed {
    addresses: HashMap<Hostname, String>,
    doors: Option<Doors>,
}

impl Fixed {
    pub(crate) fn new(backends: Vec<FixedBackend>, doors: Option<Doors>) -> Self {
        let addresses = backends.into_iter().map(|backend| (backend.name, backend.address)).collect();
        Fixed { addresses, doors }
    }

    pub(super) fn start(&self, id: ReplicaId, hostname: &Hostname, reports: Reports) {
        let address = self.addresses.get(hostname).cloned().unwrap_or_default();
        let door = self.doors.as_ref().map(|doors| doors.of(hostname));
        tokio::spawn(async move {
            let inspector = Inspector { address };
            let report = match timeout(LOOK_UP, look_up(&inspector.address)).await {
                Ok(Ok(addresses)) => {
                    let inspector = super::Inspector::Fixed(inspector);
                    Report::Started(id, Reach { addresses, door, inspector })
                }
                Ok(Err(error)) => Report::Lost(id, format!("cannot look up {}: {error}", inspector.address)),
                Err(late) => Report::Lost(id, format!("cannot look up {}: {late}", inspector.address)),
            };
            // It fails only if the program ends.
            let _ = reports.send(report).await;
        });
    }
}

/// Looks a fixed address up again.
pub(crate) struct Inspector {
    /// `HOST:PORT`.
    address: String,
}

impl Inspector {
    /// The addresses that it has now; `None` if it has none. It takes as long as the resolver does.
    pub(super) async fn look_up(&self) -> Option<Addresses> {
        look_up(&self.address).await.ok()
    }
}

async fn look_up(address: &str) -> io::Result<Addresses> {
    let found = lookup_host(address).await?;
    Addresses::of(found).ok_or_else(|| io::Error::other("it has no address"))
}
