//! The data port: its addresses, bound. A Unix socket is made as that of the control port is. It accepts nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context as _;

use crate::data::binding::{self, At};
use crate::data::{PeerOptions, Worker};
use crate::net::ListenAddress;
use crate::privileges::Identity;
use crate::socket_file::{self, FOR_ALL, SocketFile};

/// The data port.
pub(crate) struct DataPort {
    /// Where it listens, with real ports.
    pub(crate) addresses: Vec<ListenAddress>,
    /// For each address a listener for each worker.
    pub(crate) listeners: Vec<Vec<TcpListener>>,
    /// The files of its Unix sockets, which are removed when they are dropped.
    pub(crate) files: Vec<SocketFile>,
}

impl DataPort {
    /// Binds all addresses.
    ///
    /// # Errors
    /// One of them cannot be bound; the error names it.
    pub(crate) fn bind(wanted: &[ListenAddress], workers: usize, peer: &PeerOptions) -> anyhow::Result<Self> {
        let tcp: Vec<SocketAddr> = wanted.iter().filter_map(tcp).collect();
        let mut bound = DataPort { addresses: Vec::new(), listeners: Vec::new(), files: Vec::new() };
        for address in wanted {
            let listeners = match address {
                ListenAddress::Tcp(one) => {
                    binding::bind(At::among(*one, &tcp), workers, peer).map_err(Into::into)
                }
                ListenAddress::Unix(path) => bound.bind_unix(path, workers),
            };
            let listeners = listeners.with_context(|| format!("cannot listen on {address} (--listen)"))?;
            let first = listeners.first().context("there is no worker")?;
            bound.addresses.push(match address {
                ListenAddress::Tcp(_) => ListenAddress::Tcp(first.local_addr()?),
                ListenAddress::Unix(_) => address.clone(),
            });
            bound.listeners.push(listeners);
        }
        Ok(bound)
    }

    /// All workers share the queue of a Unix socket.
    fn bind_unix(&mut self, path: &Path, workers: usize) -> anyhow::Result<Vec<TcpListener>> {
        let (socket, file) = socket_file::listen_at(path, FOR_ALL)?;
        self.files.push(file);
        let shared = (0..workers).map(|_| Ok(TcpListener::from(OwnedFd::from(socket.try_clone()?))));
        Ok(shared.collect::<io::Result<_>>()?)
    }

    /// Gives it to another user.
    ///
    /// # Errors
    /// This process may not, or a socket's file is gone.
    pub(crate) fn give_to(&self, user: Identity) -> io::Result<()> {
        self.listeners.iter().flatten().try_for_each(|listener| user.own(listener))?;
        self.files.iter().try_for_each(|file| file.give_to(user))
    }
}

/// The workers, each with one listener of each address.
///
/// # Errors
/// A socket is not bound.
pub(crate) fn workers(listeners: Vec<Vec<TcpListener>>, workers: usize) -> io::Result<Vec<Worker>> {
    let mut listeners: Vec<_> = listeners.into_iter().map(Vec::into_iter).collect();
    let worker = |number| Worker::new(number, listeners.iter_mut().filter_map(Iterator::next).collect());
    (1..=workers).map(worker).collect()
}

/// The most files that it has open beyond one for each worker: more addresses, and the locks of Unix sockets.
pub(crate) fn files(listeners: &[Vec<TcpListener>]) -> usize {
    listeners.iter().skip(1).map(|all| all.len() + 1).sum()
}

/// The address, if it is one over TCP.
pub(crate) fn tcp(address: &ListenAddress) -> Option<SocketAddr> {
    if let ListenAddress::Tcp(address) = address { Some(*address) } else { None }
}

/// All addresses, as the variable of `--listen` takes them.
pub(crate) fn listed(addresses: &[ListenAddress]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
