//! The provider of fixed servers, each at an address or a name of its own.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use fleet::{Assignment, ReplicaId};
use proto::control::{Location, Resolutions};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::doors::Doors;
use super::{Report, Reports, named};
use crate::net::Endpoint;
use crate::resolver::{Followed, Resolver};

/// How names are resolved, and the folder in which servers take connections over. Where each server is, its seat says.
#[derive(Debug)]
pub(crate) struct Fixed {
    names: Arc<Names>,
    doors: Option<Doors>,
}

/// The resolver, once a server has a name.
struct Names {
    resolver: OnceCell<Resolver>,
    make: Box<dyn Fn() -> anyhow::Result<Resolver> + Send + Sync>,
}

impl Fixed {
    /// Servers that come later may have names, even if none `has_names` now. The resolver is made when it is needed.
    ///
    /// # Errors
    /// There are names, and no resolver can be made.
    pub(crate) fn new(
        has_names: bool,
        doors: Option<Doors>,
        make: impl Fn() -> anyhow::Result<Resolver> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let resolver = OnceCell::new_with(has_names.then(&make).transpose()?);
        Ok(Fixed { names: Arc::new(Names { resolver, make: Box::new(make) }), doors })
    }

    pub(super) fn start(&self, id: ReplicaId, assignment: Assignment, reports: Reports) {
        let Assignment { hostname, location, .. } = assignment;
        let door = self.doors.as_ref().map(|doors| doors.of(&hostname));
        match location {
            Some(Location::Address(address)) => {
                named::start(id, Followed::fixed(address.into()), door, reports);
            }
            Some(Location::Unix(path)) => {
                let address = Endpoint::Unix(Path::new(&path).into());
                named::start(id, Followed::fixed(address), door, reports);
            }
            Some(Location::Host(host, port)) => {
                let names = Arc::clone(&self.names);
                tokio::spawn(async move {
                    match names.resolver().await {
                        Ok(resolver) => named::start(id, resolver.follow_host(&host, port), door, reports),
                        // It fails only if the program ends.
                        Err(error) => _ = reports.send(Report::Hindered(id, format!("{error:#}"))).await,
                    }
                });
            }
            // A fleet of fixed servers has no such seat.
            None => {
                let hindered = Report::Hindered(id, "it is not known where it is".to_owned());
                tokio::spawn(async move { reports.send(hindered).await });
            }
        }
    }

    pub(super) fn resolutions(&self) -> Option<Resolutions> {
        self.names.resolver.get().map(Resolver::resolutions)
    }
}

impl Names {
    async fn resolver(self: &Arc<Self>) -> anyhow::Result<&Resolver> {
        let names = Arc::clone(self);
        // It reads files.
        self.resolver.get_or_try_init(|| async { spawn_blocking(move || (names.make)()).await? }).await
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("resolver", &self.resolver).finish_non_exhaustive()
    }
}
