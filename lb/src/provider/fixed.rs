//! The provider of fixed addresses. It looks them up, and never starts or stops what listens there.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proto::control::{Hostname, Weight};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::doors::Doors;
use super::{Inspector, Reach, Report, Reports};
use crate::fleet::ReplicaId;

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
            let report = match look_up(&address).await {
                Ok(address) => Report::Started(id, Reach { address, door, inspector: Inspector::Fixed }),
                Err(error) => Report::Lost(id, format!("cannot look up {address}: {error}")),
            };
            // It fails only if the program ends.
            let _ = reports.send(report).await;
        });
    }
}

async fn look_up(address: &str) -> io::Result<SocketAddr> {
    let found = timeout(LOOK_UP, lookup_host(address)).await?;
    found?.next().ok_or_else(|| io::Error::other("it has no address"))
}
