//! Servers that have names or addresses, and that `lb` neither starts nor stops: to start one is to know its addresses.

use std::path::PathBuf;
use std::time::Duration;

use fleet::ReplicaId;

use super::{Inspector, Reach, Report, Reports};
use crate::resolver::Followed;

/// How long to wait for the first addresses of a name.
const FIRST: Duration = Duration::from_secs(5);

/// Reports where a server is as soon as that is known.
pub(super) fn start(id: ReplicaId, mut name: Followed, door: Option<PathBuf>, reports: Reports) {
    tokio::spawn(async move {
        let report = match name.addresses(FIRST).await {
            Ok(addresses) => Report::Started(
                id,
                Reach { addresses, door, carrier: None, inspector: Inspector::Named(name) },
            ),
            Err(why) => {
                name.ask_soon();
                Report::Hindered(id, why)
            }
        };
        // It fails only if the program ends.
        let _ = reports.send(report).await;
    });
}
