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

use crate::handed::{Handed, HandedSocket, PortName, SharedAddress, SharedSocket};
use crate::net::ListenAddress;
use crate::privileges::Identity;
use crate::socket_file::{self, SocketFile};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// The listeners of the control port.
pub(crate) struct Listeners {
    tcp: Vec<TcpDoor>,
    /// The file is that of a socket which was made here.
    unix: Vec<(Arc<std::os::unix::net::UnixListener>, Option<Arc<SocketFile>>)>,
    addresses: Vec<ListenAddress>,
    shared: Vec<SharedSocket>,
}

impl Listeners {
    /// Listens on all of these addresses of a port, at those sockets that were handed over or else at new ones.
    ///
    /// # Errors
    /// One of them cannot be bound; the error names it.
    pub(crate) fn open(
        addresses: &[ListenAddress],
        port: PortName,
        handed: &mut Handed,
    ) -> anyhow::Result<Self> {
        let (tcp, unix, shared) = (Vec::new(), Vec::new(), Vec::new());
        let mut listeners = Listeners { tcp, unix, addresses: Vec::new(), shared };
        for address in addresses {
            let opened = match handed.take(port, address).pop() {
                Some(handed) => listeners.adopt(handed),
                None => listeners.bind(address),
            };
            opened.with_context(|| format!("cannot listen on {address} ({})", port.flag()))?;
        }
        Ok(listeners)
    }

    fn bind(&mut self, address: &ListenAddress) -> anyhow::Result<()> {
        match address {
            ListenAddress::Tcp(tcp) => self.add_tcp(address, listen_at(*tcp)?, false)?,
            ListenAddress::Unix(path) => {
                let (listener, file) = socket_file::listen_at(path, socket_file::OWNER_ONLY)?;
                self.add_unix(address, listener, Some(Arc::new(file)));
            }
        }
        Ok(())
    }

    fn adopt(&mut self, handed: HandedSocket) -> anyhow::Result<()> {
        let HandedSocket { socket, asked, file, is_activated, .. } = handed;
        rustix::io::ioctl_fionbio(&socket, true)?;
        match asked {
            ListenAddress::Tcp(_) => self.add_tcp(&asked, socket.into(), is_activated)?,
            ListenAddress::Unix(_) => self.add_unix(&asked, socket.into(), file),
        }
        Ok(())
    }

    fn add_tcp(
        &mut self,
        asked: &ListenAddress,
        listener: std::net::TcpListener,
        is_activated: bool,
    ) -> io::Result<()> {
        let (address, listener) = (listener.local_addr()?, Arc::new(listener));
        let (asked, bound) = (asked.clone(), ListenAddress::Tcp(address));
        self.addresses.push(bound.clone());
        let shared = SharedAddress { asked, bound, is_activated, file: None };
        self.shared.push(SharedSocket { address: shared, socket: Arc::clone(&listener) as _ });
        self.tcp.push(TcpDoor { listener, address });
        Ok(())
    }

    fn add_unix(
        &mut self,
        address: &ListenAddress,
        listener: std::os::unix::net::UnixListener,
        file: Option<Arc<SocketFile>>,
    ) {
        let (asked, bound, listener) = (address.clone(), address.clone(), Arc::new(listener));
        let is_activated = file.is_none();
        self.addresses.push(bound.clone());
        let shared = SharedAddress { asked, bound, is_activated, file: file.clone() };
        self.shared.push(SharedSocket { address: shared, socket: Arc::clone(&listener) as _ });
        self.unix.push((listener, file));
    }

    /// Gives them to another user.
    ///
    /// # Errors
    /// This process may not, or a socket's file is gone.
    pub(crate) fn give_to(&self, user: Identity) -> io::Result<()> {
        self.tcp.iter().try_for_each(|door| user.own(&*door.listener))?;
        self.unix.iter().filter_map(|(_, file)| file.as_ref()).try_for_each(|file| file.give_to(user))
    }

    /// The address to tell others, with its real port: the first TCP address, or else the first Unix socket.
    pub(crate) fn address(&self) -> Option<&ListenAddress> {
        let is_tcp = |address: &&ListenAddress| matches!(address, ListenAddress::Tcp(_));
        self.addresses.iter().find(is_tcp).or(self.addresses.first())
    }

    /// The sockets, to hand them over.
    pub(crate) fn shared(&self) -> Vec<SharedSocket> {
        self.shared.clone()
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
        self.shared.clear();
        self.unix.iter().filter_map(|(_, file)| file.as_ref()).for_each(|file| file.release());
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
