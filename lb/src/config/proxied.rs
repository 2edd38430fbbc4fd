//! The PROXY protocol: from whom its header is read.

use clap::Args;
use clap::builder::ValueParser;
use ipnet::IpNet;

use super::Problems;
use super::value::{self, Several};

/// The flags of the PROXY protocol.
#[derive(Args, Clone, Debug)]
pub(super) struct ProxyFlags {
    /// Proxies (networks or addresses) whose connections begin with a header of the PROXY protocol, version 1 or 2: the address in it is
    /// the client's; repeatable, or several with commas or spaces between them
    #[arg(long = "proxy-protocol-from", help_heading = "Connections", env = "LB_PROXY_PROTOCOL_FROM", value_name = "CIDR", value_parser = ValueParser::new(value::networks))]
    from: Vec<Several<IpNet>>,
}

/// The proxies from which a header is read.
pub(super) fn from(flags: ProxyFlags, problems: &mut Problems) -> Vec<IpNet> {
    let given = flags.from.into_iter().flat_map(|several| several.0);
    given.filter_map(|network| problems.take("proxy-protocol-from", network.map(Some), None)).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{good, problems, words};

    #[test]
    fn proxies_may_be_given_several_times() {
        assert!(good(&[]).proxies.is_empty());
        let config = good(&words("--proxy-protocol-from 10.0.0.0/8,::1 --proxy-protocol-from 192.0.2.7"));
        let shown: Vec<String> = config.proxies.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "::1/128", "192.0.2.7/32"]);
        let found = problems(&["--proxy-protocol-from", "10.0.0.0/33", "--proxy-protocol-from", ""]);
        assert!(found.len() == 2, "{found:?}");
        for problem in found {
            assert!(problem.starts_with("--proxy-protocol-from: invalid value `"), "{problem}");
            assert!(problem.contains("expected a network or an address"), "{problem}");
        }
    }
}
