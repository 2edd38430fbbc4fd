//! Which subnet a new overlay network gets: pure.
//!
//! Swarm's own choice is a /24, which has room for 253 tasks and nodes. A fleet may be larger.

use ipnet::Ipv4Net;

/// The length of the prefix of a new overlay: room for 4093 addresses.
const PREFIX: u8 = 20;
/// The most subnets that are tried.
const MOST: usize = 16;

/// The subnets of Swarm's address pools that overlap none of those that are `taken`, in the order in which they are tried. Swarm takes
/// its own from the beginning of a pool, so these come from its end.
pub(super) fn subnets(pools: &[Ipv4Net], taken: &[Ipv4Net]) -> Vec<Ipv4Net> {
    let parts = pools.iter().flat_map(|pool| {
        let prefix = PREFIX.max(pool.prefix_len());
        // At most 2^20 of them, so to go through them takes no time.
        let mut parts: Vec<Ipv4Net> = pool.subnets(prefix).into_iter().flatten().collect();
        parts.reverse();
        parts
    });
    let overlaps = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b) || b.contains(a);
    parts.filter(|part| !taken.iter().any(|other| overlaps(part, other))).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_new_overlay_has_room_and_overlaps_no_other() {
        let pools = nets(&["10.0.0.0/8"]);
        assert_eq!(subnets(&pools, &[])[..2], nets(&["10.255.240.0/20", "10.255.224.0/20"]));
        let taken = nets(&["10.255.241.0/24", "10.128.0.0/9"]);
        assert_eq!(subnets(&pools, &taken)[0], nets(&["10.127.240.0/20"])[0]);
        assert_eq!(subnets(&nets(&["10.1.2.0/24"]), &[]), nets(&["10.1.2.0/24"]));
        assert_eq!(subnets(&nets(&["10.1.2.0/24"]), &nets(&["10.0.0.0/8"])), []);
        assert_eq!(subnets(&nets(&["0.0.0.0/0"]), &[]).len(), MOST);
    }
}
