//! Properties of the models of all peers, and the differences between them.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::testing::{moved, owners, servers, without};
use super::*;

fn build(peer: Peer, servers: &[Server]) -> PeerRing {
    PeerRing::build(peer, servers)
}

/// The address of a key's owner.
fn owner<'a>(ring: &PeerRing, servers: &'a [Server], key: &[u8]) -> Option<&'a str> {
    ring.owner(key).map(|ordinal| servers[ordinal].address.as_str())
}

/// Servers with different numbers and addresses, in any order.
fn any_servers() -> impl Strategy<Value = Vec<Server>> {
    let server = |(id, weight): (u32, u32)| Server { id, address: format!("10.0.0.{}:80", id % 997), weight };
    btree_map(1..997_u32, 1..4_u32, 2..7)
        .prop_map(move |all| all.into_iter().map(server).collect::<Vec<_>>())
        .prop_shuffle()
}

/// Keys as clients send them: six-digit ids and any bytes.
fn keys() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let id = (100_000..=999_999_u32).prop_map(|id| id.to_string().into_bytes());
    vec(prop_oneof![id, vec(any::<u8>(), 1..20)], 20)
}

#[test]
fn peers_have_names_of_their_own() {
    assert_eq!(Peer::ALL.map(Peer::name), ["haproxy", "nginx", "envoy-ring"]);
}

#[test]
fn a_key_has_no_owner_if_no_server_has_a_point() {
    for peer in Peer::ALL {
        for servers in [servers(&[]), servers(&[0]), servers(&[0, 0, 0])] {
            let ring = build(peer, &servers);
            assert_eq!((ring.points(), ring.bytes(), ring.owner(b"132574")), (0, 0, None), "{}", peer.name());
        }
    }
}

#[test]
fn a_server_of_weight_0_is_as_if_absent() {
    for peer in Peer::ALL {
        let (idle, absent) = (servers(&[1, 0, 3]), without(&servers(&[1, 0, 3]), 1));
        assert_eq!(owners(peer, &idle), owners(peer, &absent), "{}", peer.name());
    }
}

#[test]
fn a_point_takes_twelve_bytes() {
    for peer in Peer::ALL {
        let ring = build(peer, &servers(&[1, 2, 3]));
        assert_eq!(ring.bytes(), 12 * ring.points(), "{}", peer.name());
    }
}

#[test]
fn the_first_point_at_or_after_a_position_is_found_and_the_last_is_followed_by_the_first() {
    for (hash, index) in [(0, 0), (100, 0), (101, 1), (200, 1), (201, 0), (u64::MAX, 0)] {
        assert_eq!(first_from(&[100, 200], hash), index, "{hash}");
    }
}

/// The greatest share of the keys, and the mean is 1.
fn peak(peer: Peer, servers: &[Server]) -> f64 {
    let owners = owners(peer, servers);
    let share = |server: &Server| owners.iter().filter(|&&owner| owner == server.address).count();
    let greatest = servers.iter().map(share).max().unwrap();
    greatest as f64 * servers.len() as f64 / owners.len() as f64
}

/// What the other implementation, in Python, gives for the same keys and servers.
#[test]
fn the_greatest_share_agrees_with_an_independent_implementation() {
    let expected = [
        (Peer::HaProxy, 1, [1.0591, 1.1504, 1.1915, 1.1517]),
        (Peer::HaProxy, 100, [1.0467, 1.0360, 1.0190, 1.0323]),
        (Peer::Nginx, 1, [1.0829, 1.1294, 1.1472, 1.1727]),
        (Peer::EnvoyRing, 1, [1.0452, 1.0708, 1.0377, 1.1328]),
    ];
    for (peer, weight, peaks) in expected {
        for (count, expected) in (3..).zip(peaks) {
            let found = peak(peer, &servers(&vec![weight; count]));
            println!("{} N={count} weight {weight}: max/mean {found:.4}", peer.name());
            assert!((found - expected).abs() < 0.0001, "{} N={count}: {found}", peer.name());
        }
    }
}

/// The more points, the less a share deviates: by about one by the root of their number. The lightest server has
/// 103 in Envoy and 160 or more elsewhere, so that is a tenth at most, and a fifth is twice that.
#[test]
fn shares_follow_the_weights_within_a_fifth() {
    for peer in Peer::ALL {
        let servers = servers(&[10, 20, 30, 40]);
        let owners = owners(peer, &servers);
        for server in &servers {
            let share = owners.iter().filter(|&&owner| owner == server.address).count() as f64;
            let due = owners.len() as f64 * f64::from(server.weight) / 100.0;
            println!("{} weight {} of 100: {:.4} of its due", peer.name(), server.weight, share / due);
            assert!((share / due - 1.0).abs() <= 0.2, "{} {server:?}: {share}", peer.name());
        }
    }
}

#[test]
fn a_loss_disturbs_the_keys_of_others_in_envoy_alone() {
    for peer in Peer::ALL {
        let all = servers(&[1; 4]);
        let before = owners(peer, &all);
        for (gone, server) in all.iter().enumerate() {
            let rest = without(&all, gone);
            let share = moved(&before, &owners(peer, &rest), &server.address);
            println!("{}: {} of 4 leaves: {share:.4} of the others' keys move", peer.name(), gone + 1);
            match peer {
                Peer::HaProxy | Peer::Nginx => assert_eq!(share, 0.0, "{}", peer.name()),
                Peer::EnvoyRing => assert!((0.12..0.17).contains(&share), "{share}"),
            }
        }
    }
}

proptest! {
    /// Where two points coincide nginx keeps the first, so there it is not so; it is rare, and such a case is
    /// passed over. Envoy's odd points go by the order, so its hosts weigh the same here.
    #[test]
    fn the_order_of_the_servers_plays_no_part(
        (one, other) in any_servers().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        keys in keys(),
    ) {
        let even = |all: &[Server]| -> Vec<Server> {
            all.iter().map(|server| Server { weight: 1, ..server.clone() }).collect()
        };
        for peer in Peer::ALL {
            let is_even = peer == Peer::EnvoyRing;
            let [one, other] = [&one, &other].map(|all| if is_even { even(all) } else { all.clone() });
            let (first, second) = (build(peer, &one), build(peer, &other));
            let weights: u32 = one.iter().map(|server| server.weight).sum();
            prop_assume!(peer != Peer::Nginx || first.points() == 160 * weights as usize);
            for key in &keys {
                prop_assert_eq!(owner(&first, &one, key), owner(&second, &other, key), "{}", peer.name());
            }
        }
    }

    #[test]
    fn in_haproxy_and_nginx_only_the_keys_of_the_lost_server_move(all in any_servers(), keys in keys()) {
        for peer in [Peer::HaProxy, Peer::Nginx] {
            let before = build(peer, &all);
            let (rest, lost) = (without(&all, 0), Some(all[0].address.as_str()));
            let after = build(peer, &rest);
            for key in &keys {
                let (was, is) = (owner(&before, &all, key), owner(&after, &rest, key));
                prop_assert!(was == is || was == lost, "{}: {:?} {:?}", peer.name(), was, is);
            }
        }
    }

    #[test]
    fn more_weight_takes_keys_and_gives_none_away(all in any_servers(), keys in keys()) {
        for peer in [Peer::HaProxy, Peer::Nginx] {
            let mut heavier = all.clone();
            heavier[0].weight += 2;
            let grown = Some(all[0].address.as_str());
            let (before, after) = (build(peer, &all), build(peer, &heavier));
            for key in &keys {
                let (was, is) = (owner(&before, &all, key), owner(&after, &heavier, key));
                prop_assert!(was == is || is == grown, "{}: {:?} {:?}", peer.name(), was, is);
            }
        }
    }
}
