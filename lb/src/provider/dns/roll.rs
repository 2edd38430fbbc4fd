//! From the servers that a service has to the seats of the fleet. Pure.
//!
//! A target of a service record gives its name to its slot: the first label, so that keys stay with names, wherever these move. An
//! address has no name, so its slot has a number, and the replica in it is called by the address.

use std::collections::{BTreeMap, BTreeSet};

use fleet::{Seat, SlotId};
use proto::control::{Hostname, Weight};
use serde::{Deserialize, Serialize};

use super::naming::Naming;
use super::seating::{Chair, Seating};

/// A server that can be seated.
pub(super) trait Guest: Ord + Clone {
    /// What it may be called, the best name first.
    fn names(&self) -> Vec<String>;
    /// Whether its slot is called as it is; otherwise the slot has a number.
    fn names_its_slot(&self) -> bool;
}

/// Who has which seat, from one answer to the next.
#[derive(Debug)]
pub(super) struct Roll<G> {
    seating: Seating<G>,
    naming: Naming<G>,
    most: usize,
}

/// What is known of one slot: who was the last in it, and under which name, if it is still there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known<G> {
    guest: G,
    hostname: Option<Hostname>,
}

/// What an answer comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seated<G> {
    /// The seats, by index.
    pub(super) seats: Vec<Seat>,
    /// Who is called how.
    pub(super) guests: BTreeMap<Hostname, G>,
    /// How many found no seat.
    pub(super) left_out: usize,
}

impl<G: Guest> Roll<G> {
    /// A roll with at most `most` seats, that begins with what is `known` of the first of them.
    pub(super) fn new(most: usize, known: Vec<Known<G>>) -> Self {
        let named = known.iter().filter_map(|known| Some((known.guest.clone(), known.hostname.clone()?)));
        let naming = Naming::new(named.collect());
        let chair = |Known { guest, hostname }: Known<G>| Chair { guest, is_taken: hostname.is_some() };
        Roll { seating: Seating::new(known.into_iter().map(chair).collect()), naming, most }
    }

    /// What another roll needs to go on in the same way.
    pub(super) fn known(&self) -> Vec<Known<G>> {
        let known = |Chair { guest, is_taken }: &Chair<G>| Known {
            guest: guest.clone(),
            hostname: self.naming.of(guest).filter(|_| *is_taken).cloned(),
        };
        self.seating.chairs().iter().map(known).collect()
    }

    /// Seats these guests and no others.
    pub(super) fn call(&mut self, guests: &BTreeSet<G>) -> Seated<G> {
        let left_out = self.seating.seat(guests, self.most);
        let wanted = self.seating.guests().map(|(_, guest)| (guest, guest.names())).collect();
        self.naming.name(&wanted);
        let named = self.seating.guests().filter_map(|(index, guest)| {
            let hostname = self.naming.of(guest)?.clone();
            let numbered = Hostname::try_from(format!("server{index}")).ok()?;
            let name = if guest.names_its_slot() { hostname.clone() } else { numbered };
            let seat = Seat::new(SlotId { index, name }, Weight::default(), hostname.clone());
            Some((seat, (hostname, guest.clone())))
        });
        let (seats, guests) = named.unzip();
        Seated { seats, guests, left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Server {
        Address(&'static str),
        Target(&'static str),
    }

    impl Guest for Server {
        fn names(&self) -> Vec<String> {
            let (Server::Address(name) | Server::Target(name)) = self;
            vec![(*name).to_owned()]
        }

        fn names_its_slot(&self) -> bool {
            matches!(self, Server::Target(_))
        }
    }

    /// `INDEX NAME HOSTNAME` of each seat.
    fn seats(roll: &mut Roll<Server>, guests: &[Server]) -> Vec<String> {
        let Seated { seats, guests: by_name, left_out } = roll.call(&guests.iter().cloned().collect());
        assert_eq!((by_name.len(), left_out), (guests.len(), 0));
        let shown = |Seat { slot, weight, hostname, .. }: Seat| {
            assert!(weight.is_usual() && by_name.contains_key(&hostname));
            format!("{} {} {hostname}", slot.index, slot.name)
        };
        seats.into_iter().map(shown).collect()
    }

    #[test]
    fn targets_name_their_slots() {
        use Server::Target;
        let mut roll = Roll::new(10, Vec::new());
        assert_eq!(seats(&mut roll, &[Target("web-1"), Target("web-0")]), ["1 web-0 web-0", "2 web-1 web-1"]);
        assert_eq!(seats(&mut roll, &[Target("web-1"), Target("web-2")]), ["1 web-2 web-2", "2 web-1 web-1"]);
    }

    #[test]
    fn addresses_sit_in_numbered_slots() {
        use Server::Address;
        let mut roll = Roll::new(10, Vec::new());
        let (a, b, c) = (Address("10.0.0.1"), Address("10.0.0.2"), Address("10.0.0.3"));
        assert_eq!(seats(&mut roll, &[b.clone(), a.clone()]), ["1 server1 10.0.0.1", "2 server2 10.0.0.2"]);
        assert_eq!(seats(&mut roll, &[b.clone(), c.clone()]), ["1 server1 10.0.0.3", "2 server2 10.0.0.2"]);
        assert_eq!(seats(&mut roll, &[b]), ["2 server2 10.0.0.2"]);
        assert_eq!(seats(&mut roll, &[c, a])[0], "1 server1 10.0.0.3", "it comes back to its seat");
    }

    #[test]
    fn another_roll_goes_on_as_the_one_before_it_would() {
        for seed in 0..1000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let servers: Vec<Server> = ["a", "b", "c", "d", "e", "f"]
                .into_iter()
                .flat_map(|name| [Server::Address(name), Server::Target(name)])
                .collect();
            let mut roll = Roll::new(5, Vec::new());
            for step in 0..20 {
                let answer: BTreeSet<Server> = servers.iter().filter(|_| rng.bool()).cloned().collect();
                let mut other = Roll::new(5, roll.known());
                assert_eq!(other.call(&answer), roll.call(&answer), "seed {seed}, step {step}");
                assert_eq!(other.known(), roll.known(), "seed {seed}, step {step}");
            }
        }
    }
}
