//! The PROXY protocol: from whom its header is read, and whether replicas get one.

use clap::Args;
use clap::builder::ValueParser;
use ipnet::IpNet;
use proto::proxy::Version;

use super::Problems;
use super::value::{self, Checked, Several};

/// The flags of the PROXY protocol.
#[derive(Args, Clone, Debug)]
pub(super) struct ProxyFlags {
    /// Proxies (networks or addresses) whose connections begin with a header of the PROXY protocol, version 1 or 2: the address in it is
    /// the client's; repeatable, or several with commas or spaces between them
    #[arg(long = "proxy-protocol-from", help_heading = "Connections", env = "LB_PROXY_PROTOCOL_FROM", value_name = "CIDR", value_parser = ValueParser::new(value::networks))]
    proxy_protocol_from: Vec<Several<IpNet>>,
    /// Send a header of the PROXY protocol, version 1 or 2, to a replica before the bytes of its client, and before a probe; a replica
    /// that takes connections over gets none
    #[arg(long = "send-proxy", help_heading = "Connections", env = "LB_SEND_PROXY", value_name = "v1|v2", value_parser = ValueParser::new(value::proxy_version))]
    send_proxy: Option<Checked<Version>>,
}

/// The version of the header that replicas get. `is_demo`: they are demo servers.
pub(super) fn send(flags: &ProxyFlags, is_demo: bool, problems: &mut Problems) -> Option<Version> {
    let version =
        flags.send_proxy.clone().and_then(|given| problems.take("send-proxy", given.map(Some), None));
    if version.is_some() && is_demo {
        problems.add(
            "--send-proxy: the demo server does not read the header: expected --command CMD, or another --provider",
        );
    }
    version
}

/// The proxies from which a header is read.
pub(super) fn from(flags: ProxyFlags, problems: &mut Problems) -> Vec<IpNet> {
    let given = flags.proxy_protocol_from.into_iter().flat_map(|several| several.0);
    given.filter_map(|network| problems.take("proxy-protocol-from", network.map(Some), None)).collect()
}

#[cfg(test)]
mod tests {
    use proto::proxy::Version;

    use crate::config::tests::{good, problems, words};

    #[test]
    fn replicas_get_a_header_if_they_can_read_one() {
        assert_eq!(good(&[]).limits.send_proxy, None);
        for (given, version) in [("v1", Version::V1), ("v2", Version::V2)] {
            let config = good(&["--command", "serve", "--send-proxy", given]);
            assert_eq!((config.limits.send_proxy, config.health.foreword), (Some(version), Some(version)));
        }
        let wrong = problems(&["--send-proxy", "2"]);
        assert_eq!(wrong, ["--send-proxy: invalid value `2`: expected v1 or v2"]);
        let demo = problems(&["--send-proxy", "v2"]);
        assert!(demo.len() == 1 && demo[0].starts_with("--send-proxy: the demo server"), "{demo:?}");
    }

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
