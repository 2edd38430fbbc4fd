//! Which of the running replicas a new `lb` takes over. These are decisions only; the engine carries them out.

use std::collections::HashSet;

use fleet::{Seat, SlotId};
use proto::control::{Hostname, Weight};

use super::identity::Identity;

/// The seats of a fleet without a record: the replicas that were started for a slot, and new slots for the rest of the `names`.
pub(super) fn beginning<'a>(running: impl Iterator<Item = &'a Identity>, names: &[Hostname]) -> Vec<Seat> {
    let mut seats: Vec<Seat> = Vec::new();
    let started = running.filter_map(|found| Some((found.slot.clone()?, found.hostname.clone()?)));
    let planned = (1..).zip(names).map(|(index, name)| (SlotId { index, name: name.clone() }, name.clone()));
    for (slot, hostname) in started.chain(planned) {
        let is_taken = seats.iter().any(|seat| {
            seat.slot.index == slot.index
                || [&seat.slot.name, &seat.hostname].iter().any(|name| [&slot.name, &hostname].contains(name))
        });
        if !is_taken {
            seats.push(Seat::new(slot, Weight::default(), hostname));
        }
    }
    seats.sort_by_key(|seat| seat.slot.index);
    seats
}

/// Decides for each running replica, one by one, whether it is taken over.
pub(super) struct Takeover<'a> {
    seats: &'a [Seat],
    most_spares: usize,
    taken: HashSet<Hostname>,
    spares: Vec<Hostname>,
}

impl<'a> Takeover<'a> {
    /// A takeover of the replicas in these seats, and of at most `most_spares` spares.
    pub(super) fn new(seats: &'a [Seat], most_spares: usize) -> Self {
        Takeover { seats, most_spares, taken: HashSet::new(), spares: Vec::new() }
    }

    /// The hostname of a replica that is taken over. `None` for the others, which are removed later: unknown ones, doubles,
    /// spares beyond the limit, and those that lost their slot.
    pub(super) fn take(&mut self, found: &Identity) -> Option<Hostname> {
        let hostname = found.hostname.clone()?;
        let is_seated = self.seats.iter().any(|seat| seat.hostname == hostname);
        // A spare may move into any slot, and no record has two seats that share a name.
        let is_free = self.seats.iter().all(|seat| seat.slot.name != hostname);
        let is_spare = !is_seated && is_free && found.slot.is_none() && self.spares.len() < self.most_spares;
        if !(is_seated || is_spare) || !self.taken.insert(hostname.clone()) {
            return None;
        }
        self.spares.extend(is_spare.then(|| hostname.clone()));
        Some(hostname)
    }

    /// The hostnames of the spares that are taken over.
    pub(super) fn spares(self) -> Vec<Hostname> {
        self.spares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Hostname {
        Hostname::try_from(name.to_owned()).unwrap()
    }

    fn slot(index: u32, name: &str) -> SlotId {
        SlotId { index, name: host(name) }
    }

    fn seat(index: u32, name: &str, hostname: &str) -> Seat {
        Seat::new(slot(index, name), Weight::default(), host(hostname))
    }

    fn seated(hostname: &str, index: u32, name: &str) -> Identity {
        Identity { hostname: Some(host(hostname)), slot: Some(slot(index, name)), ..Identity::default() }
    }

    fn spare(hostname: &str) -> Identity {
        Identity { hostname: Some(host(hostname)), ..Identity::default() }
    }

    #[test]
    fn without_replicas_a_fleet_begins_with_the_names() {
        let seats = beginning([].iter(), &[host("a"), host("b")]);
        assert_eq!(seats, [seat(1, "a", "a"), seat(2, "b", "b")]);
    }

    #[test]
    fn replicas_keep_their_slots_and_names_fill_the_rest() {
        let found = [seated("x", 3, "c"), spare("y"), seated("b", 2, "b"), Identity::default()];
        let seats = beginning(found.iter(), &[host("a"), host("b"), host("c")]);
        assert_eq!(seats, [seat(1, "a", "a"), seat(2, "b", "b"), seat(3, "c", "x")]);
        let more = beginning(found.iter(), &[host("a")]);
        assert_eq!(more, [seat(1, "a", "a"), seat(2, "b", "b"), seat(3, "c", "x")]);
    }

    #[test]
    fn no_index_and_no_name_is_given_twice() {
        let found = [seated("a", 1, "s"), seated("b", 1, "t"), seated("s", 2, "u"), seated("v", 3, "a")];
        assert_eq!(beginning(found.iter(), &[]), [seat(1, "s", "a")]);
    }

    #[test]
    fn seated_replicas_and_wanted_spares_are_taken_over_once() {
        let seats = [seat(1, "a", "a"), seat(2, "b", "moved")];
        let mut takeover = Takeover::new(&seats, 1);
        let found = [
            (seated("a", 1, "a"), true),
            (seated("a", 1, "a"), false),
            // The record says where this one is, whatever it was started for.
            (spare("moved"), true),
            (seated("b", 2, "b"), false),
            // A slot has this name.
            (spare("b"), false),
            (spare("x"), true),
            (spare("x"), false),
            (spare("y"), false),
            (Identity::default(), false),
        ];
        for (identity, is_taken) in found {
            let expected = identity.hostname.clone().filter(|_| is_taken);
            assert_eq!(takeover.take(&identity), expected, "{identity:?}");
        }
        assert_eq!(takeover.spares(), [host("x")]);
    }
}
