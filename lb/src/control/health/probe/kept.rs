//! The connection that is kept for the probes of one replica, and when it is not used.
//!
//! A new client needs a listener and a server that accepts; a connection that is kept shows neither. So it serves only a replica that is known to
//! be healthy and of which no session complains, and one probe in [`ROUND`] makes a new one. A server may serve one connection after the
//! other, and would serve no client beside a connection that stays. So before the first one is kept, a second one has to be answered beside it; and again
//! after a failure or another address, where another server may answer. One that says more than it was asked (a greeting, and then an answer), or
//! ends the connection, is not asked on it again, nor on another one that is kept. A server with a few threads, one for each connection, gives one of them to
//! the probes.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Asked, Connection, Deadline, Kind, Probe, Runner};
use crate::net::{Endpoint, is_local};

/// How many probes a connection is kept for.
const ROUND: u32 = 20;

/// Probes one replica.
pub(in crate::control::health) struct Prober {
    runner: Runner,
    kept: Option<Kept>,
    /// Where the server is that answered last, and what is known of it.
    server: Option<(Endpoint, Keeps)>,
}

struct Kept {
    connection: Connection,
    address: Endpoint,
    probes: u32,
}

/// Whether the server can be asked on a connection that is kept: it answers beside it, and takes a second question on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeps {
    Unknown,
    Yes,
    No,
}

impl Prober {
    pub(in crate::control::health) fn new(runner: Runner) -> Self {
        Prober { runner, kept: None, server: None }
    }

    /// What is known of the server holds no longer: another probe follows.
    pub(in crate::control::health) fn forget(&mut self) {
        (self.kept, self.server) = (None, None);
    }

    /// Sends one probe. It passes if the result is `Ok`.
    ///
    /// # Errors
    /// Why the probe failed, or a shortage on this machine ([`is_local`]).
    pub(in crate::control::health) async fn ask(
        &mut self,
        probe: &Probe,
        mut asked: Asked<'_>,
        limit: Duration,
    ) -> io::Result<()> {
        let elsewhere = match (probe.port, asked.address) {
            (Some(port), Endpoint::Tcp(address)) => Some(SocketAddr::new(address.ip(), port).into()),
            _ => None,
        };
        asked.address = elsewhere.as_ref().unwrap_or(asked.address);
        let deadline = Deadline::after(limit);
        // Another server may answer there now.
        self.server.take_if(|(address, _)| asked.in_doubt || address != asked.address);
        let mut old = self.kept.take().filter(|kept| kept.address == *asked.address && !asked.in_doubt);
        let spent = old.take_if(|kept| !kept.connection.is_silent());
        if spent.is_some() {
            self.keep_none(asked);
        }
        let (connection, probes) = match old {
            Some(Kept { connection, probes, .. }) if probes < ROUND => {
                match probe.ask_again(connection, asked, deadline).await {
                    Err(error) if error.kind() == ErrorKind::TimedOut => return Err(error),
                    // The server may have closed it, or says another thing to a new client.
                    Err(_) => {
                        if matches!(probe.kind, Kind::Talk(_)) {
                            self.keep_none(asked);
                        }
                        let keeps = self.keeps() == Keeps::Yes;
                        (probe.ask_anew((asked, &self.runner), keeps, deadline).await?, 1)
                    }
                    Ok(connection) => (connection, probes + 1),
                }
            }
            _ if asked.in_doubt || !probe.goes_on() || self.keeps() == Keeps::No => {
                (probe.ask_anew((asked, &self.runner), false, deadline).await?, 1)
            }
            _ if self.keeps() == Keeps::Unknown => (self.ask_two(probe, asked, deadline).await?, 1),
            _ => (probe.ask_anew((asked, &self.runner), true, deadline).await?, 1),
        };
        self.kept = connection.map(|connection| Kept { connection, address: asked.address.clone(), probes });
        if let Some(Kept { connection, .. }) = spent {
            connection.leave(deadline).await;
        }
        Ok(())
    }

    /// The server takes no second question on a connection.
    fn keep_none(&mut self, asked: Asked<'_>) {
        self.server = Some((asked.address.clone(), Keeps::No));
    }

    fn keeps(&self) -> Keeps {
        self.server.as_ref().map_or(Keeps::Unknown, |(_, keeps)| *keeps)
    }

    /// Asks on a connection, and beside it on another one, which may be kept.
    async fn ask_two(
        &mut self,
        probe: &Probe,
        asked: Asked<'_>,
        deadline: Deadline,
    ) -> io::Result<Option<Connection>> {
        let Some(first) = probe.ask_anew((asked, &self.runner), true, deadline).await? else {
            return Ok(None);
        };
        let second = probe.ask_anew((asked, &self.runner), true, Deadline::after(deadline.limit)).await;
        first.leave(Deadline::after(deadline.limit)).await;
        match second {
            Ok(second) => {
                self.server = Some((asked.address.clone(), Keeps::Yes));
                return Ok(second);
            }
            Err(error) if is_local(&error) => return Ok(None),
            Err(_) => {}
        }
        // Without the first one it is as it was before.
        let alone = probe.ask_anew((asked, &self.runner), false, Deadline::after(deadline.limit)).await;
        if alone.is_ok() {
            self.keep_none(asked);
        }
        alone
    }
}
