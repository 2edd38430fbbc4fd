//! The values of the flags about the DNS. Nothing is asked here.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::control::{is_host_name, read_port};

use super::{Parsed, Several, checked, duration_within, several};
use crate::resolver::ServiceName;

/// The port of DNS servers (RFC 1035, section 4.2).
const DNS_PORT: u16 = 53;
/// The longest time between two questions.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// `NAME:PORT` or `NAME`.
pub(in crate::config) fn service(given: &str) -> Parsed<ServiceName> {
    let value = match given.split_once(':') {
        Some((name, at)) => read_port(at).map(|port| (name, ServiceName::Host(name.to_owned(), port))),
        None => Some((given, ServiceName::Records(given.to_owned()))),
    };
    let value = value.filter(|(name, _)| is_host_name(name)).map(|(_, service)| service);
    let takes = "a name with a port, such as web.example:80, of which each address is a replica, or a name without one, such as \
                 _http._tcp.web.example, of which each target of its SRV records is one";
    checked(value, given, takes)
}

/// Addresses of DNS servers, each with or without a port.
pub(in crate::config) fn dns_servers(given: &str) -> Result<Several<SocketAddr>, Infallible> {
    several(given, |given| {
        let with_port = given.parse::<SocketAddr>().ok().filter(|address| address.port() > 0);
        let without = || given.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, DNS_PORT));
        let value = with_port.or_else(without);
        checked(
            value,
            given,
            "an IP address with or without a port, such as 10.0.0.2, 10.0.0.2:5353 or [2001:db8::2]:53",
        )
    })
}

/// The time between two questions.
pub(in crate::config) fn dns_interval(given: &str) -> Parsed<Duration> {
    let value = duration_within(given, Duration::from_millis(10)..=DAY);
    checked(value, given, "a duration from 10ms to 1d, such as 1s")
}
