//! The listeners of the control port. They outlive a port that fails.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use rustix::net::sockopt::socket_acceptconn;
use rustix::net::{bind, connect_unspec, listen};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tracing::info;

use crate::net::ListenAddress;
use crate::privileges::Identity;
use crate::socket_file::{self, SocketFile};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// The listeners of the control port.
pub(crate) struct Listeners {
    tcp: Vec<TcpDoor>,
    unix: Vec<(std::os::unix::net::UnixListener, SocketFile)>,
    addresses: Vec<ListenAddress>,
}

impl Listeners {
    /// Listens on all of these addresses, which this flag gives.
    ///
    /// # Errors
    /// One of them cannot be bound; the error names it.
    pub(crate) fn open(addresses: &[ListenAddress], flag: &str) -> anyhow::Result<Self> {
        let mut listeners = Listeners { tcp: Vec::new(), unix: Vec::new(), addresses: Vec::new() };
        for address in addresses {
            listeners.open_one(address).with_context(|| format!("cannot listen on {address} ({flag})"))?;
        }
        Ok(listeners)
    }

    fn open_one(&mut self, address: &ListenAddress) -> anyhow::Result<()> {
        let bound = match address {
            ListenAddress::Tcp(address) => {
                let listener = listen_at(*address)?;
                let bound = listener.local_addr()?;
                self.tcp.push(TcpDoor { listener: Arc::new(listener), address: bound });
                ListenAddress::Tcp(bound)
            }
            ListenAddress::Unix(path) => {
                self.unix.push(socket_file::listen_at(path, socket_file::OWNER_ONLY)?);
                address.clone()
            }
        };
        self.addresses.push(bound);
        Ok(())
    }

    /// Gives them to another user.
    ///
    /// # Errors
    /// This process may not, or a socket's file is gone.
    pub(crate) fn give_to(&self, user: Identity) -> io::Result<()> {
        self.tcp.iter().try_for_each(|door| user.own(&*door.listener))?;
        self.unix.iter().try_for_each(|(_, file)| file.give_to(user))
    }

    /// The address to tell others, with its real port: the first TCP address, or else the first Unix socket.
    pub(crate) fn address(&self) -> Option<&ListenAddress> {
        let is_tcp = |address: &&ListenAddress| matches!(address, ListenAddress::Tcp(_));
        self.addresses.iter().find(is_tcp).or(self.addresses.first())
    }

    /// Whether clients need a token, if there is one.
    pub(super) fn has_tcp(&self) -> bool {
        !self.tcp.is_empty()
    }

    /// Logs the addresses, where there are several.
    pub(super) fn introduce(&self) {
        if self.addresses.len() > 1 {
            self.tell("control port");
        }
    }

    /// Logs the addresses.
    pub(super) fn tell(&self, what: &str) {
        self.addresses.iter().for_each(|address| info!(%address, "{what}"));
    }

    /// Those over TCP.
    pub(super) fn tcp(&self) -> impl Iterator<Item = TcpDoor> {
        self.tcp.iter().cloned()
    }

    /// Has the runtime report new connections on Unix sockets.
    ///
    /// # Errors
    /// Files or memory are short.
    pub(super) fn watch_unix(&self) -> io::Result<Vec<UnixListener>> {
        self.unix.iter().map(|(listener, _)| UnixListener::from_std(listener.try_clone()?)).collect()
    }

    /// Gives the TCP addresses up, and lets a successor have the paths of the Unix sockets.
    pub(super) fn release(&mut self) {
        self.tcp.clear();
        self.unix.iter().for_each(|(_, file)| file.release());
    }
}

/// A listener over TCP. Its address is given up when all clones are dropped.
#[derive(Clone, Debug)]
pub(super) struct TcpDoor {
    listener: Arc<std::net::TcpListener>,
    address: SocketAddr,
}

impl TcpDoor {
    /// Has the runtime report new connections.
    ///
    /// # Errors
    /// Files or memory are short.
    pub(super) fn watch(&self) -> io::Result<TcpListener> {
        TcpListener::from_std(self.listener.try_clone()?)
    }

    /// Makes the socket listen again if it was destroyed (ss(8), `--kill`). The runtime has to watch it anew then. One that listens is
    /// left as it is.
    pub(super) fn reopen(&self) {
        let socket = &*self.listener;
        if socket_acceptconn(socket) == Ok(true) {
            return;
        }
        // If one of these fails, accepting fails again. What is destroyed is shut down, which new connections would inherit. It has
        // kept its address only if it was bound to a port by its number.
        let _ = connect_unspec(socket);
        let _ = bind(socket, &self.address);
        let _ = listen(socket, BACKLOG);
    }
}

fn listen_at(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpStream;

    use rustix::net::{Shutdown, shutdown};

    use super::*;

    #[test]
    fn a_listener_that_was_closed_under_us_listens_again_at_its_address() {
        let any = listen_at(([127, 0, 0, 1], 0).into()).unwrap().local_addr().unwrap().port();
        for port in [0, any] {
            let listener = Arc::new(listen_at(([127, 0, 0, 1], port).into()).unwrap());
            let address = listener.local_addr().unwrap();
            let door = TcpDoor { listener: Arc::clone(&listener), address };
            for _ in 0..2 {
                let mut client = TcpStream::connect(address).unwrap();
                door.reopen();
                // In a test the listener would not wait.
                listener.set_nonblocking(false).unwrap();
                listener.accept().unwrap().0.write_all(b"served").unwrap();
                assert_eq!(std::io::read_to_string(&mut client).unwrap(), "served");
                shutdown(&listener, Shutdown::Both).unwrap();
                assert!(TcpStream::connect(address).is_err());
                door.reopen();
                assert_eq!(listener.local_addr().unwrap(), address);
            }
        }
    }
}
