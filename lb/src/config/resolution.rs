//! How names are resolved: the flags about the DNS, checked together.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Problems, Serve};
use crate::resolver::Rules;

/// How names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The servers to ask; none: those of this machine.
    pub servers: Vec<SocketAddr>,
    /// How often they are asked, and what is believed.
    pub rules: Rules,
}

pub(super) fn read(serve: &Serve, problems: &mut Problems) -> Resolution {
    let servers = serve.dns_server.iter().flat_map(|several| several.0.iter().cloned());
    let servers = servers.filter_map(|server| problems.take("dns-server", server.map(Some), None)).collect();
    let least = problems.take("dns-min-interval", serve.dns_min_interval.clone(), Duration::ZERO);
    let most = problems.take("dns-max-interval", serve.dns_max_interval.clone(), Duration::MAX);
    if most < least {
        problems.add(format!("--dns-max-interval: {most:?} is less than --dns-min-interval, {least:?}"));
    }
    let empty_after = problems.take("dns-empty-after", serve.dns_empty_after.clone(), None);
    Resolution { servers, rules: Rules { least, most, empty_after } }
}
