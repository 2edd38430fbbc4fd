//! One `accept` for TCP connections and handed-over connections.

use std::io;

use tokio::net::TcpListener;

use crate::listener::Listener;
use crate::protocol::Metadata;
use crate::stream::Stream;

/// A TCP listener with an optional [`Listener`]. Probes of `lb` come over TCP; clients may come over both.
#[derive(Debug)]
pub struct Either {
    tcp: TcpListener,
    handoff: Option<Listener>,
}

impl Either {
    /// Combines a TCP listener with the hand-off listener, if there is one.
    #[must_use]
    pub fn new(tcp: TcpListener, handoff: Option<Listener>) -> Self {
        Either { tcp, handoff }
    }

    /// Returns the next connection, with its metadata if it was handed over. Cancel safe.
    ///
    /// # Errors
    /// Those of accept(2) and of [`Listener::accept`]. Call it again after any of them.
    pub async fn accept(&mut self) -> io::Result<(Stream, Option<Metadata>)> {
        let handed_over = async {
            match &mut self.handoff {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        let tcp = tokio::select! {
            accepted = self.tcp.accept() => accepted?.0,
            accepted = handed_over => return accepted.map(|(stream, metadata)| (stream, Some(metadata))),
        };
        Ok((Stream::new(tcp, self.handoff.as_ref().map(Listener::count)), None))
    }

    /// Stops listening and returns the connections that were handed over already; see [`Listener::stop`].
    #[must_use = "these connections have been handed over, and their clients wait"]
    pub fn stop(self) -> Vec<(Stream, Metadata)> {
        self.handoff.map(Listener::stop).unwrap_or_default()
    }
}

impl From<TcpListener> for Either {
    fn from(tcp: TcpListener) -> Self {
        Either::new(tcp, None)
    }
}
