//! Connections that come by themselves and connections that are handed over, in one loop.

use std::io;

use tokio::net::TcpListener;

use crate::listener::Listener;
use crate::protocol::Metadata;
use crate::stream::Stream;

/// A TCP listener and, where there is one, a [`Listener`] beside it. Probes of `lb` come over TCP, and so may clients.
#[derive(Debug)]
pub struct Either {
    tcp: TcpListener,
    handoff: Option<Listener>,
}

impl Either {
    /// Both of them.
    #[must_use]
    pub fn new(tcp: TcpListener, handoff: Option<Listener>) -> Self {
        Either { tcp, handoff }
    }

    /// The next connection; with what `lb` says about it, if it was handed over. Nothing is lost when the future is
    /// dropped.
    ///
    /// # Errors
    /// Those of accept(2) and of [`Listener::accept`]. After any of them one can go on.
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

    /// Takes no more connections, and returns those that were handed over already: see [`Listener::stop`].
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
