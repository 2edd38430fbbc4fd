//! Binds the listening sockets of the data port. It accepts nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::PeerOptions;

/// How many connections may wait to be accepted; the kernel caps this at `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 4096;

/// Where a listener is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// The address.
    pub(crate) address: SocketAddr,
    /// Whether an IPv6 socket for all addresses takes no connections over IPv4 (ipv6(7), `IPV6_V6ONLY`).
    pub(crate) is_only_v6: bool,
}

impl At {
    /// Where an address is bound that is one of all these. `[::]` is for IPv4 as well, unless the same port of IPv4 is among them.
    pub(crate) fn among(address: SocketAddr, all: &[SocketAddr]) -> Self {
        let port = address.port();
        let has_v4 = port != 0 && all.iter().any(|other| other.is_ipv4() && other.port() == port);
        At { address, is_only_v6: address.is_ipv6() && has_v4 }
    }

    /// Where this one is bound; `None`: at a Unix socket.
    pub(super) fn of(listener: &TcpListener) -> io::Result<Option<Self>> {
        let socket = SockRef::from(listener);
        if socket.domain()? == Domain::UNIX {
            return Ok(None);
        }
        let address = listener.local_addr()?;
        Ok(Some(At { address, is_only_v6: address.is_ipv6() && socket.only_v6()? }))
    }
}

/// Binds one listening socket for each worker, all to one address (`SO_REUSEPORT`, socket(7)); the kernel spreads the
/// connections over them.
///
/// # Errors
/// The address cannot be bound, or another program listens there.
pub(crate) fn bind(at: At, workers: usize, peer: &PeerOptions) -> io::Result<Vec<TcpListener>> {
    // With SO_REUSEPORT alone, a second `lb` would share the port in silence. Binding a socket without it fails then.
    listen(at, false, peer)?;
    let first = listen(at, true, peer)?;
    let at = At { address: first.local_addr()?, ..at };
    let others = (1..workers).map(|_| listen(at, true, peer));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// Takes over listening sockets that are all bound to one address, so that each of this many workers has one. Those that share their
/// port get company where there are too few; others are shared by several workers.
///
/// # Errors
/// The number of open files is at its limit.
pub(crate) fn adopt(
    mut listeners: Vec<TcpListener>,
    workers: usize,
    peer: &PeerOptions,
) -> io::Result<Vec<TcpListener>> {
    for listener in &listeners {
        listener.set_nonblocking(true)?;
        // They fail at a Unix socket, which has none of these.
        let socket = SockRef::from(listener);
        let _ = socket.set_tcp_nodelay(true);
        peer.set(socket);
        peer.set_buffers(listener);
    }
    let first = listeners.first();
    let first = first.map(|first| io::Result::Ok((At::of(first)?, SockRef::from(first).reuse_port()?)));
    if let Some((Some(at), true)) = first.transpose()? {
        // If it cannot be bound once more, such as for want of a privilege, the workers share those that there are.
        while listeners.len() < workers
            && let Ok(more) = listen(at, true, peer)
        {
            listeners.push(more);
        }
    }
    share(listeners, workers)
}

/// At least so many listeners, of which some may be the same socket.
///
/// # Errors
/// The number of open files is at its limit.
pub(crate) fn share(mut listeners: Vec<TcpListener>, workers: usize) -> io::Result<Vec<TcpListener>> {
    for at in 0..workers.saturating_sub(listeners.len()) {
        let another = listeners.get(at).map(TcpListener::try_clone).transpose()?;
        listeners.extend(another);
    }
    Ok(listeners)
}

/// Binds a listening socket. One that is not `shared` only shows that the address is free.
pub(super) fn listen(
    At { address, is_only_v6 }: At,
    shared: bool,
    peer: &PeerOptions,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Whatever the machine's default is (ipv6(7), `bindv6only`).
        socket.set_only_v6(is_only_v6)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit these options, which saves a call for each of them.
    socket.set_tcp_nodelay(true)?;
    peer.set(&socket);
    peer.set_buffers(&socket);
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_ipv6_are_for_ipv4_too_unless_that_has_a_socket_of_its_own() {
        let only_v6 = |texts: &[&str]| -> Vec<bool> {
            let addresses: Vec<SocketAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
            addresses.iter().map(|&address| At::among(address, &addresses).is_only_v6).collect()
        };
        assert_eq!(only_v6(&["[::]:5000"]), [false]);
        assert_eq!(only_v6(&["0.0.0.0:5000", "[::]:5000"]), [false, true]);
        assert_eq!(only_v6(&["[::]:5000", "127.0.0.1:5000"]), [true, false]);
        assert_eq!(only_v6(&["[::]:5000", "127.0.0.1:5001"]), [false, false]);
        assert_eq!(only_v6(&["[::]:0", "127.0.0.1:0"]), [false, false]);
    }
}
