//! The networks whose addresses are let in, and those whose addresses are not.

use std::net::IpAddr;

use ipnet::IpNet;

/// Denied networks come first; then, if there are allowed ones, an address has to be in one of them.
#[derive(Debug)]
pub(super) struct Lists {
    allow: Networks,
    deny: Networks,
}

impl Lists {
    /// `None` if both lists are empty.
    pub(super) fn new(allow: &[IpNet], deny: &[IpNet]) -> Option<Self> {
        let is_needed = !allow.is_empty() || !deny.is_empty();
        is_needed.then(|| Lists { allow: Networks::new(allow), deny: Networks::new(deny) })
    }

    /// Whether this canonical address is in one of the denied networks.
    pub(super) fn deny(&self, address: IpAddr) -> bool {
        self.deny.contain(address)
    }

    /// Whether this canonical address is let in.
    pub(super) fn let_in(&self, address: IpAddr) -> bool {
        !self.deny(address) && (self.allow.0.is_empty() || self.allow.contain(address))
    }
}

/// Networks that do not overlap, in rising order.
#[derive(Debug)]
pub(crate) struct Networks(Vec<IpNet>);

impl Networks {
    /// `None` if there are none.
    pub(crate) fn some(networks: &[IpNet]) -> Option<Self> {
        (!networks.is_empty()).then(|| Networks::new(networks))
    }

    fn new(networks: &[IpNet]) -> Self {
        let networks: Vec<IpNet> = networks.iter().map(canonical).collect();
        let mut disjoint = IpNet::aggregate(&networks);
        disjoint.sort_unstable();
        Networks(disjoint)
    }

    /// Whether this canonical address is in one of them.
    pub(in crate::data) fn contain(&self, address: IpAddr) -> bool {
        let after = self.0.partition_point(|network| network.network() <= address);
        after.checked_sub(1).is_some_and(|at| self.0[at].contains(&address))
    }
}

/// A network of IPv4-mapped addresses (RFC 4291, section 2.5.5.2) is one of IPv4 addresses, as the clients in it are.
fn canonical(network: &IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(net) if net.prefix_len() >= 96 => {
            net.network().to_ipv4_mapped().zip(Some(net.prefix_len() - 96))
        }
        _ => None,
    };
    let mapped = mapped.and_then(|(address, prefix)| IpNet::new(address.into(), prefix).ok());
    mapped.unwrap_or(*network).trunc()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[track_caller]
    fn check(allow: &[&str], deny: &[&str], let_in: &[&str], refused: &[&str]) {
        let lists = Lists::new(&networks(allow), &networks(deny)).unwrap();
        for (texts, expected) in [(let_in, true), (refused, false)] {
            for text in texts {
                assert_eq!(lists.let_in(text.parse::<IpAddr>().unwrap().to_canonical()), expected, "{text}");
            }
        }
    }

    #[test]
    fn denied_networks_come_first_and_allowed_ones_shut_the_rest_out() {
        assert!(Lists::new(&[], &[]).is_none());
        check(&[], &["10.0.0.0/8"], &["11.0.0.0", "::1"], &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"]);
        check(&["10.0.0.0/8"], &[], &["10.1.2.3", "::ffff:10.1.2.3"], &["9.255.255.255", "::1", "::a01:203"]);
        check(&["10.0.0.0/8"], &["10.1.0.0/16"], &["10.0.0.1", "10.2.0.0"], &["10.1.0.0", "10.1.255.255"]);
        // Denied is denied, even where the allowed network is the smaller one.
        check(&["10.1.1.1/32"], &["10.0.0.0/8"], &[], &["10.1.1.1"]);
        check(
            &["2001:db8::/32", "192.0.2.7/32"],
            &[],
            &["2001:db8:f::1", "192.0.2.7"],
            &["2001:db9::", "192.0.2.8"],
        );
        // Bits behind the prefix mean nothing, and a mapped network is one of IPv4.
        check(&["10.1.2.3/8", "::ffff:192.0.2.0/120"], &[], &["10.9.9.9", "192.0.2.255"], &["192.0.3.0"]);
        check(&[], &["::/0"], &["1.2.3.4"], &["::1", "2001:db8::"]);
        check(&[], &["0.0.0.0/0"], &["::1"], &["1.2.3.4", "255.255.255.255"]);
    }

    proptest! {
        #[test]
        fn any_lists_agree_with_a_look_at_each_network(
            nets in prop::collection::vec((any::<u32>(), 0..=32_u8), 1..20), address in any::<u32>(), near in any::<bool>(),
        ) {
            // Half of the addresses lie in the first network.
            let address = if near { nets[0].0 ^ (address & u32::MAX.checked_shr(nets[0].1.into()).unwrap_or(0)) } else { address };
            let nets: Vec<IpNet> =
                nets.iter().map(|&(bits, prefix)| IpNet::new(IpAddr::V4(bits.into()), prefix).unwrap()).collect();
            let address = IpAddr::V4(address.into());
            let expected = nets.iter().any(|net| net.contains(&address));
            prop_assert_eq!(Networks::new(&nets).contain(address), expected);
            prop_assert!(!near || expected);
        }
    }
}
