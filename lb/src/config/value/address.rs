//! Addresses as values of flags: where `lb` listens, where its servers and its clients are, and which networks may connect. Nothing
//! here connects; an address of this machine may be looked up.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};

use ipnet::IpNet;
use proto::control::{Hostname, Weight};

use super::{Checked, Parsed, Several, checked, several};
use crate::client;
use crate::net::ListenAddress;
use crate::provider::fixed::Location;

/// A part of `--backend`; parts are separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum BackendPart {
    /// `NAME=HOST:PORT`.
    Backend(Hostname, Location),
    /// `weight=W`, of the backend before it.
    Weight(Weight),
}

pub(in crate::config) fn address(given: &str) -> Parsed<SocketAddr> {
    let value = given.to_socket_addrs().ok().and_then(|mut found| found.next());
    checked(value, given, "an address and a port, such as 127.0.0.1:5000")
}

/// The longest path of a Unix socket, in bytes (unix(7), `sun_path`, without its last NUL).
const LONGEST_PATH: usize = 107;

/// A TCP address, or `unix:PATH`.
pub(in crate::config) fn control(given: &str) -> Parsed<ListenAddress> {
    let value = match given.strip_prefix("unix:") {
        Some(path) => is_socket_path(path).then(|| ListenAddress::Unix(path.into())),
        None => given.to_socket_addrs().ok().and_then(|mut found| found.next()).map(ListenAddress::Tcp),
    };
    let takes = format_args!(
        "an address and a port, such as 127.0.0.1:5000, or unix:PATH with a path of at most {LONGEST_PATH} bytes"
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
         {LONGEST_PATH} bytes"
    );
    checked(all.unwrap_or_else(|| other.ok()), given, takes)
}

fn is_socket_path(path: &str) -> bool {
    (1..=LONGEST_PATH).contains(&path.len()) && !path.contains('\0')
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
        format!("expected HOST:PORT, such as 127.0.0.1:5001, or unix:PATH with a path of at most {LONGEST_PATH} bytes")
    })
}

fn is_host_and_port(address: &&str) -> bool {
    location(address).is_some()
}

/// `HOST:PORT`: a name, an IPv4 address, or an IPv6 address in brackets, and a port that is not 0.
fn location(given: &str) -> Option<Location> {
    if let Ok(address) = given.parse::<SocketAddr>() {
        return (address.port() > 0).then_some(Location::Address(address));
    }
    let (host, port) = given.rsplit_once(':')?;
    Some(Location::Host(Some(host).filter(|host| is_name(host))?.to_owned(), self::port(port)?))
}

/// A port that is not 0.
pub(super) fn port(given: &str) -> Option<u16> {
    let is_number = given.bytes().all(|byte| byte.is_ascii_digit());
    given.parse().ok().filter(|&port: &u16| is_number && port > 0)
}

/// Whether it is the name of a host: RFC 1123, section 2.1, and `_`, which names of containers hold. A name whose last part is a
/// number would be a damaged IPv4 address.
pub(super) fn is_name(host: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_part = |part: &str| (1..=63).contains(&part.len()) && part.bytes().all(is_sound);
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(is_part) && !last.bytes().all(|byte| byte.is_ascii_digit())
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
    let value = given.split_once('=').and_then(|(name, address)| {
        Some(BackendPart::Backend(Hostname::try_from(name.to_owned()).ok()?, location(address)?))
    });
    let takes = format_args!(
        "NAME=HOST:PORT, or NAME=HOST:PORT,weight=W, with a NAME of the form {}, and as HOST a name, an IPv4 address, or an \
         IPv6 address in brackets; several have commas or spaces between them",
        Hostname::PATTERN
    );
    checked(value, given, takes)
}
