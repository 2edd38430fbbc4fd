//! The data port: its addresses, bound here or handed over. A Unix socket is made as that of the control port is. It accepts nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use crate::data::binding::{self, At};
use crate::data::{PeerOptions, Worker};
use crate::handed::{Handed, HandedSocket, PortName, SharedAddress};
use crate::net::ListenAddress;
use crate::privileges::Identity;
use crate::socket_file::{self, FOR_ALL, SocketFile};

/// The data port.
pub(crate) struct DataPort {
    /// Where it listens.
    pub(crate) addresses: Vec<SharedAddress>,
    /// For each worker its listeners, at least one for each address.
    pub(crate) listeners: Vec<Vec<TcpListener>>,
    /// The files of its Unix sockets, which are removed when they are dropped.
    pub(crate) files: Vec<Arc<SocketFile>>,
}

impl DataPort {
    /// Binds all addresses whose sockets were not handed over.
    ///
    /// # Errors
    /// One of them cannot be bound; the error names it.
    pub(crate) fn bind(
        wanted: &[ListenAddress],
        workers: usize,
        peer: &PeerOptions,
        handed: &mut Handed,
    ) -> anyhow::Result<Self> {
        let tcp: Vec<SocketAddr> = wanted.iter().filter_map(tcp).collect();
        let listeners = (0..workers).map(|_| Vec::new()).collect();
        let mut bound = DataPort { addresses: Vec::new(), listeners, files: Vec::new() };
        for address in wanted {
            let handed = handed.take(PortName::Data, address);
            let is_activated = handed.first().is_some_and(|socket| socket.is_activated);
            let (listeners, file) = match address {
                _ if !handed.is_empty() => adopt(handed, workers, peer).map_err(Into::into),
                ListenAddress::Tcp(one) => {
                    let bound = binding::bind(At::among(*one, &tcp), workers, peer);
                    bound.map(|listeners| (listeners, None)).map_err(Into::into)
                }
                ListenAddress::Unix(path) => bind_unix(path, workers),
            }
            .with_context(|| format!("cannot listen on {address} (--listen)"))?;
            let first = listeners.first().context("there is no worker")?;
            let real = match address {
                ListenAddress::Tcp(_) => ListenAddress::Tcp(first.local_addr()?),
                ListenAddress::Unix(_) => address.clone(),
            };
            bound.files.extend(file.clone());
            bound.addresses.push(SharedAddress { asked: address.clone(), bound: real, is_activated, file });
            for (at, listener) in listeners.into_iter().enumerate() {
                bound.listeners[at % workers].push(listener);
            }
        }
        Ok(bound)
    }

    /// Where it listens, with real ports.
    pub(crate) fn real(&self) -> Vec<ListenAddress> {
        self.addresses.iter().map(|address| address.bound.clone()).collect()
    }

    /// Gives it to another user.
    ///
    /// # Errors
    /// This process may not, or a socket's file is gone.
    pub(crate) fn give_to(&self, user: Identity) -> io::Result<()> {
        self.listeners.iter().flatten().try_for_each(|listener| user.own(listener))?;
        self.files.iter().try_for_each(|file| file.give_to(user))
    }

    /// The open files that it needs beyond one for each worker: more listeners, and the locks of Unix sockets.
    pub(crate) fn files(&self) -> usize {
        self.listeners.iter().flatten().count().saturating_sub(self.listeners.len()) + self.files.len()
    }
}

/// Listeners that are all bound to one address, and the file of a Unix socket.
type Bound = (Vec<TcpListener>, Option<Arc<SocketFile>>);

/// All workers share the queue of a Unix socket.
fn bind_unix(path: &Path, workers: usize) -> anyhow::Result<Bound> {
    let (socket, file) = socket_file::listen_at(path, FOR_ALL)?;
    let listeners = binding::share(vec![TcpListener::from(OwnedFd::from(socket))], workers)?;
    Ok((listeners, Some(Arc::new(file))))
}

/// Takes over sockets that are all bound to one address.
fn adopt(handed: Vec<HandedSocket>, workers: usize, peer: &PeerOptions) -> io::Result<Bound> {
    let file = handed.iter().find_map(|socket| socket.file.clone());
    let listeners = handed.into_iter().map(|handed| TcpListener::from(handed.socket)).collect();
    Ok((binding::adopt(listeners, workers, peer)?, file))
}

/// The workers, each with its listeners.
///
/// # Errors
/// A socket is not bound.
pub(crate) fn workers(listeners: Vec<Vec<TcpListener>>) -> io::Result<Vec<Worker>> {
    (1..).zip(listeners).map(|(number, listeners)| Worker::new(number, listeners)).collect()
}

/// The address, if it is one over TCP.
pub(crate) fn tcp(address: &ListenAddress) -> Option<SocketAddr> {
    if let ListenAddress::Tcp(address) = address { Some(*address) } else { None }
}

/// All addresses, as the variable of `--listen` takes them.
pub(crate) fn listed(addresses: &[ListenAddress]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
