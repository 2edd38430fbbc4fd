//! The header of the PROXY protocol that a replica gets before the bytes of its client (`--send-proxy`).
//!
//! It travels with the head, in the same call. A replica that takes the connection over gets none: it has the client's socket.

use std::net::SocketAddr;

use proto::proxy::{Foreword, Version};
use rustix::net::getsockname;

use super::Plane;
use super::client::Client;
use super::header::Ends;
use super::key::Key;

impl Plane {
    /// Puts the header in front of the bytes for a replica, where replicas get one.
    pub(super) fn introduce_to_replica(
        &self,
        bytes: &mut Vec<u8>,
        (client, ends): (&Client, &Ends),
        key: &Key<'_>,
        (version, worker): (Option<Version>, u16),
    ) {
        let Some(version) = version else { return };
        let knocked = ends.knocked.or_else(|| self.listens_at(worker)).or_else(|| address_of(client));
        let ends = knocked.map(|knocked| (ends.peer, knocked));
        let mut header = Foreword { ends, unique_id: key.id(), authority: key.server_name() }.header(version);
        header.append(bytes);
        *bytes = header;
    }

    /// Where this worker listens, if that is one address: then no call has to be made for each connection.
    fn listens_at(&self, worker: u16) -> Option<SocketAddr> {
        let [gate] = &self.workers.get(usize::from(worker))?.gates[..] else { return None };
        let address = gate.at?.address;
        (!address.ip().is_unspecified()).then_some(address)
    }
}

/// The address of this machine at which a client is connected.
fn address_of(client: &Client) -> Option<SocketAddr> {
    getsockname(client.source().ok()?).ok()?.try_into().ok()
}
