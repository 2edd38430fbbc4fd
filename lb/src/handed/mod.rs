//! Listening sockets that another process has bound and handed over. It binds nothing, and accepts nothing.

pub mod activation;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use rustix::net::sockopt::socket_acceptconn;
use serde::{Deserialize, Serialize};
use socket2::{SockRef, Type};

use crate::net::ListenAddress;
use crate::socket_file::SocketFile;

/// The name of a port's sockets, as `FileDescriptorName=` of a socket unit gives it (systemd.socket(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortName {
    /// The data port.
    Data,
    /// The control port.
    Control,
    /// The port for metrics.
    Metrics,
}

impl PortName {
    /// The port of this name.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn read(name: &str) -> anyhow::Result<Self> {
        match name {
            "data" => Ok(PortName::Data),
            "control" => Ok(PortName::Control),
            "metrics" => Ok(PortName::Metrics),
            _ => bail!("invalid name `{name}`: expected data, control or metrics"),
        }
    }

    /// The flag that gives its addresses.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            PortName::Data => "--listen",
            PortName::Control => "--control",
            PortName::Metrics => "--metrics",
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct HandedSocket {
    pub(crate) port: PortName,
    /// What the flag of its port says when it means this socket.
    pub(crate) asked: ListenAddress,
    /// Where it is bound, with its real port.
    pub(crate) bound: ListenAddress,
    /// Whether systemd has bound it, this time or before the first upgrade.
    pub(crate) is_activated: bool,
    pub(crate) socket: OwnedFd,
    /// The file of a Unix socket, if it is for `lb` to remove.
    pub(crate) file: Option<Arc<SocketFile>>,
}

/// An address of this process, to hand it over.
#[derive(Clone, Debug)]
pub(crate) struct SharedAddress {
    /// As the flag has it.
    pub(crate) asked: ListenAddress,
    /// With its real port.
    pub(crate) bound: ListenAddress,
    /// Whether systemd has bound it.
    pub(crate) is_activated: bool,
    /// The file of a Unix socket, if it is for `lb` to remove.
    pub(crate) file: Option<Arc<SocketFile>>,
}

/// A listening socket that this process goes on to use while it hands it over.
#[derive(Clone)]
pub(crate) struct SharedSocket {
    pub(crate) address: SharedAddress,
    pub(crate) socket: Arc<dyn AsFd + Send + Sync>,
}

/// All sockets that were handed over.
#[derive(Debug, Default)]
pub struct Handed(Vec<HandedSocket>);

impl Handed {
    /// These sockets, and no others.
    pub(crate) fn new(sockets: Vec<HandedSocket>) -> Self {
        Handed(sockets)
    }

    /// A socket that listens, as it is.
    ///
    /// # Errors
    /// It is no socket that listens for streams, or is bound to what no flag can say.
    pub(crate) fn socket(port: PortName, socket: OwnedFd) -> anyhow::Result<HandedSocket> {
        let bound = address_of(&socket)?;
        Ok(HandedSocket { port, asked: bound.clone(), bound, is_activated: true, socket, file: None })
    }

    /// Where a port listens: where its flag says if it was `given`, or else at the sockets that were handed over for it.
    ///
    /// # Errors
    /// A flag that was given leaves out a socket that was handed over.
    pub(crate) fn addresses(
        &self,
        port: PortName,
        flag: &[ListenAddress],
        given: bool,
    ) -> anyhow::Result<Vec<ListenAddress>> {
        let mut handed: Vec<ListenAddress> = Vec::new();
        // Those of the lb before this one are closed if the flag has others now.
        for socket in self.0.iter().filter(|socket| socket.port == port && socket.is_activated) {
            if !handed.contains(&socket.asked) {
                handed.push(socket.asked.clone());
            }
        }
        if handed.is_empty() || !given {
            return Ok(if handed.is_empty() { flag.to_vec() } else { handed });
        }
        if let Some(left_out) = handed.iter().find(|address| !flag.contains(address)) {
            let flag = port.flag();
            bail!(
                "{flag}: it does not name {left_out}, whose socket was handed over (LISTEN_FDS): expected that address among its own, \
                 or no {flag}"
            );
        }
        Ok(flag.to_vec())
    }

    /// Takes the sockets of a port that are meant by this address, all bound to one address.
    pub(crate) fn take(&mut self, port: PortName, address: &ListenAddress) -> Vec<HandedSocket> {
        let is_meant = |socket: &HandedSocket| socket.port == port && socket.asked == *address;
        // Several may be asked for as "any port".
        let Some(bound) = self.0.iter().find(|socket| is_meant(socket)).map(|socket| socket.bound.clone())
        else {
            return Vec::new();
        };
        self.0.extract_if(.., |socket| is_meant(socket) && socket.bound == bound).collect()
    }
}

/// Where a socket is bound that listens for streams.
fn address_of(socket: impl AsFd) -> anyhow::Result<ListenAddress> {
    let is_listener = socket_acceptconn(&socket).context("it is no socket")?;
    let socket = SockRef::from(&socket);
    ensure!(socket.r#type()? == Type::STREAM, "it is no socket for streams");
    ensure!(is_listener, "it does not listen (Accept=yes hands over connections)");
    let address = socket.local_addr()?;
    match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) => Ok(ListenAddress::Tcp(address)),
        (None, Some(path)) => Ok(ListenAddress::Unix(path.to_owned())),
        (None, None) => bail!("it is bound neither to a TCP address nor to a path"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn tcp(text: &str) -> ListenAddress {
        ListenAddress::Tcp(text.parse().unwrap())
    }

    fn handed(port: PortName) -> (Handed, ListenAddress) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ListenAddress::Tcp(listener.local_addr().unwrap());
        (Handed::new(vec![Handed::socket(port, listener.into()).unwrap()]), address)
    }

    #[test]
    fn a_flag_that_was_given_names_every_socket_that_was_handed_over() {
        let (sockets, address) = handed(PortName::Data);
        let default = [tcp("0.0.0.0:5000")];
        let wanted = |given: &[ListenAddress], is_given| sockets.addresses(PortName::Data, given, is_given);
        let both = [default[0].clone(), address];
        assert_eq!(wanted(&default, false).unwrap(), both[1..]);
        assert_eq!(wanted(&both, true).unwrap(), both);
        let refusal = wanted(&default, true).unwrap_err().to_string();
        assert!(refusal.starts_with("--listen: it does not name 127.0.0.1:"), "{refusal}");
        assert_eq!(sockets.addresses(PortName::Control, &default, true).unwrap(), default);
    }

    #[test]
    fn a_socket_is_taken_once_for_its_port_and_address() {
        let (mut sockets, address) = handed(PortName::Control);
        assert!(sockets.take(PortName::Data, &address).is_empty());
        assert_eq!(sockets.take(PortName::Control, &address).len(), 1);
        assert!(sockets.take(PortName::Control, &address).is_empty());
    }

    #[test]
    fn what_does_not_listen_for_streams_is_refused() {
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let refusal = Handed::socket(PortName::Data, datagrams.into()).unwrap_err().to_string();
        assert!(refusal.contains("no socket for streams"), "{refusal}");
        let file = Handed::socket(PortName::Data, std::fs::File::open("/dev/null").unwrap().into());
        assert!(file.unwrap_err().to_string().contains("no socket"));
        assert!(
            PortName::read("http").unwrap_err().to_string().contains("expected data, control or metrics")
        );
    }
}
