//! Addresses as values of flags: where `lb` listens, where its servers and its clients are, and which networks may connect. Nothing
//! here connects; an address of this machine may be looked up.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};

use ipnet::IpNet;
use proto::control::{FixedBackend, LONGEST_SOCKET_PATH, Location, Weight};

use super::{Checked, Parsed, Several, checked, several};
use crate::client;
use crate::net::ListenAddress;

/// A part of `--backend`; parts are separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum BackendPart {
    /// `NAME=HOST:PORT`.
    Backend(FixedBackend),
    /// `weight=W`, of the backend before it.
    Weight(Weight),
}

pub(in crate::config) fn address(given: &str) -> Parsed<SocketAddr> {
    let value = given.to_socket_addrs().ok().and_then(|mut found| found.next());
    checked(value, given, "an address and a port, such as 127.0.0.1:5000")
}

/// A TCP address, or `unix:PATH`.
pub(in crate::config) fn control(given: &str) -> Parsed<ListenAddress> {
    let value = match given.strip_prefix("unix:") {
        Some(path) => is_socket_path(path).then(|| ListenAddress::Unix(path.into())),
        None => given.to_socket_addrs().ok().and_then(|mut found| found.next()).map(ListenAddress::Tcp),
    };
    let takes = format_args!(
        "an address and a port, such as 127.0.0.1:5000, or unix:PATH with a path of at most {LONGEST_SOCKET_PATH} bytes"
    );
    checked(value, given, takes)
}

/// An address of the data port: as one of the control port, and `:PORT`, which is `[::]:PORT`.
pub(in crate::config) fn listen(given: &str) -> Parsed<ListenAddress> {
    let all = given.strip_prefix(':').map(|port| {
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_number)?;
        Some(ListenAddress::Tcp((Ipv6Addr::UNSPECIFIED, port).into()))
    });
    let Ok(Checked(other)) = control(given);
    let takes = format_args!(
        "an address and a port, such as 127.0.0.1:5000 or [::1]:5000, :5000 for all addresses, or unix:PATH with a path of at most \
         {LONGEST_SOCKET_PATH} bytes"
    );
    checked(all.unwrap_or_else(|| other.ok()), given, takes)
}

fn is_socket_path(path: &str) -> bool {
    (1..=LONGEST_SOCKET_PATH).contains(&path.len()) && !path.contains('\0')
}

pub(in crate::config) fn networks(given: &str) -> Result<Several<IpNet>, Infallible> {
    several(given, |given| {
        let address = || given.parse::<IpAddr>().ok().map(IpNet::from);
        checked(
            given.parse().ok().or_else(address),
            given,
            "a network or an address, such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7",
        )
    })
}

/// Where a client finds a running `lb`. Of several, as in the variable of that `lb`, it is the first.
pub(in crate::config) fn where_to_ask(given: &str) -> Result<client::Address, String> {
    let first = given.split(',').next().unwrap_or_default();
    let address = match first.strip_prefix("unix:") {
        Some(path) => is_socket_path(path).then(|| client::Address::Unix(path.into())),
        None => Some(first).filter(is_host_and_port).map(|address| client::Address::Tcp(address.to_owned())),
    };
    address.ok_or_else(|| {
        format!("expected HOST:PORT, such as 127.0.0.1:5001, or unix:PATH with a path of at most {LONGEST_SOCKET_PATH} bytes")
    })
}

fn is_host_and_port(address: &&str) -> bool {
    Location::read(address).is_some()
}

pub(in crate::config) fn backends(given: &str) -> Result<Several<BackendPart>, Infallible> {
    several(given, backend)
}

/// `NAME=HOST:PORT`, or the `weight=W` that may follow it.
fn backend(given: &str) -> Parsed<BackendPart> {
    if let Some(weight) = given.strip_prefix("weight=").filter(|weight| !weight.contains(':')) {
        let value = weight.parse::<u64>().ok().and_then(|weight| Weight::try_from(weight).ok());
        return checked(value.map(BackendPart::Weight), given, format_args!("as weight {}", Weight::ALLOWED));
    }
    let value = FixedBackend::without_weight(given).map(BackendPart::Backend);
    let takes = format_args!("{}; several have commas or spaces between them", FixedBackend::form());
    checked(value, given, takes)
}
