//! Which server sits in which slot, from one answer to the next. Pure, and for any kind of server.
//!
//! A server keeps its slot while it is there. Of those that come, one that was there before gets the slot back that it had, if that is
//! still free; the others take the slots of those that have gone with this answer, so that one server for another moves no key between
//! the rest; then the lowest free slots. Several `lb`s that begin with the same answer seat it alike; one that goes on for another begins
//! with all that it has seen.

use std::collections::BTreeSet;

/// Who sits where. The chair at position 0 is slot 1.
#[derive(Debug)]
pub(super) struct Seating<G> {
    chairs: Vec<Chair<G>>,
}

#[derive(Debug)]
pub(super) struct Chair<G> {
    /// Who sits here, or was the last to.
    pub(super) guest: G,
    pub(super) is_taken: bool,
}

impl<G: Ord + Clone> Seating<G> {
    /// These chairs, in the order of their slots. At first there is none.
    pub(super) fn new(chairs: Vec<Chair<G>>) -> Self {
        Seating { chairs }
    }

    /// Every chair that has been taken once.
    pub(super) fn chairs(&self) -> &[Chair<G>] {
        &self.chairs
    }

    /// Who sits, each with the index of the slot.
    pub(super) fn guests(&self) -> impl Iterator<Item = (u32, &G)> {
        (1..)
            .zip(&self.chairs)
            .filter(|(_, chair)| chair.is_taken)
            .map(|(index, chair)| (index, &chair.guest))
    }

    /// Seats these guests and no others, and at most `most` of them. Returns how many find no chair.
    pub(super) fn seat(&mut self, guests: &BTreeSet<G>, most: usize) -> usize {
        let mut coming: BTreeSet<&G> = guests.iter().collect();
        let mut vacated = Vec::new();
        for (at, chair) in self.chairs.iter_mut().enumerate().filter(|(_, chair)| chair.is_taken) {
            if !coming.remove(&chair.guest) {
                chair.is_taken = false;
                vacated.push(at);
            }
        }
        let room = most.saturating_sub(guests.len() - coming.len());
        let left_out = coming.len().saturating_sub(room);
        let mut coming: BTreeSet<&G> = coming.into_iter().take(room).collect();
        for chair in self.chairs.iter_mut().filter(|chair| !chair.is_taken) {
            chair.is_taken = coming.remove(&chair.guest);
        }
        let mut free = self.free(&vacated).into_iter();
        for guest in coming.into_iter().cloned() {
            let chair = Chair { guest, is_taken: true };
            match free.next() {
                Some(at) => self.chairs[at] = chair,
                None => self.chairs.push(chair),
            }
        }
        left_out
    }

    /// The chairs that are free: those that have just been `vacated`, then the others.
    fn free(&self, vacated: &[usize]) -> Vec<usize> {
        let is_free = |at: &usize| !self.chairs[*at].is_taken;
        let (first, rest): (Vec<_>, Vec<_>) =
            (0..self.chairs.len()).filter(is_free).partition(|at| vacated.binary_search(at).is_ok());
        [first, rest].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn guests(names: &str) -> BTreeSet<char> {
        names.chars().collect()
    }

    /// The guests by slot, with `.` for a free one.
    fn shown(seating: &Seating<char>) -> String {
        let taken: BTreeMap<u32, char> = seating.guests().map(|(index, guest)| (index, *guest)).collect();
        let last = taken.keys().last().copied().unwrap_or(0);
        (1..=last).map(|index| taken.get(&index).copied().unwrap_or('.')).collect()
    }

    /// The slots after each of these answers.
    fn history(answers: &[&str]) -> Vec<String> {
        let mut seating = Seating::new(Vec::new());
        let after = |answer: &&str| {
            assert_eq!(seating.seat(&guests(answer), 1000), 0);
            shown(&seating)
        };
        answers.iter().map(after).collect()
    }

    #[test]
    fn who_stays_keeps_the_slot_whatever_the_order_of_an_answer() {
        assert_eq!(history(&["cab", "bca", "bc", "cbd"]), ["abc", "abc", ".bc", "dbc"]);
    }

    #[test]
    fn one_for_another_takes_the_slot_of_the_other() {
        assert_eq!(history(&["abc", "axc", "axy"]), ["abc", "axc", "axy"]);
        assert_eq!(history(&["abcd", "acd", "acx", "abx"])[1..], ["a.cd", "a.cx", "ab.x"]);
        assert_eq!(history(&["abc", "xyz"])[1..], ["xyz"]);
    }

    #[test]
    fn who_comes_back_gets_the_old_slot_unless_it_is_taken() {
        assert_eq!(history(&["abcd", "ad", "acd", "abcd"])[1..], ["a..d", "a.cd", "abcd"]);
        assert_eq!(history(&["abc", "ac", "axc", "abxc"])[1..], ["a.c", "axc", "axcb"]);
        assert_eq!(history(&["abc", "", "c", "cx"])[1..], ["", "..c", "x.c"]);
    }

    #[test]
    fn guests_without_room_are_left_out_and_no_seated_guest_goes_for_them() {
        let mut seating = Seating::new(Vec::new());
        assert_eq!(seating.seat(&guests("cdef"), 3), 1);
        assert_eq!(shown(&seating), "cde");
        assert_eq!(seating.seat(&guests("abcdef"), 3), 3);
        assert_eq!(shown(&seating), "cde");
        assert_eq!(seating.seat(&guests("abde"), 3), 1);
        assert_eq!(shown(&seating), "ade");
        assert_eq!(seating.seat(&guests("abde"), 2), 1, "who sits is not sent away");
        assert_eq!(shown(&seating), "ade");
    }

    #[test]
    fn random_histories_move_no_more_than_they_must() {
        for seed in 0..3000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut seating = Seating::new(Vec::new());
            let mut before: BTreeMap<u32, u8> = BTreeMap::new();
            let most = rng.usize(1..20);
            for step in 0..30 {
                let answer: BTreeSet<u8> = (0..rng.usize(0..24)).map(|_| rng.u8(0..40)).collect();
                let left_out = seating.seat(&answer, most);
                let now: BTreeMap<u32, u8> = seating.guests().map(|(index, guest)| (index, *guest)).collect();
                let at = format!("seed {seed}, step {step}: {before:?} -> {now:?} by {answer:?}");
                let seated: BTreeSet<u8> = now.values().copied().collect();
                assert_eq!(seated.len(), now.len(), "one slot each: {at}");
                assert_eq!(
                    (seated.len() + left_out, left_out),
                    (answer.len(), answer.len().saturating_sub(most)),
                    "{at}"
                );
                assert!(seated.is_subset(&answer), "{at}");
                for (index, guest) in before.iter().filter(|(_, guest)| answer.contains(guest)) {
                    assert_eq!(now.get(index), Some(guest), "who is there stays: {at}");
                }
                assert!(now.keys().all(|&index| index as usize <= most), "{at}");
                before = now;
            }
        }
    }

    #[test]
    fn strangers_keep_the_slots_in_use_as_they_are() {
        for seed in 0..1000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut seating, mut next) = (Seating::new(Vec::new()), 0_u32);
            let mut answer = BTreeSet::new();
            for step in 0..30 {
                // No guest comes back, so only the difference in number can change which slots are in use.
                answer.retain(|_: &u32| rng.u8(..3) > 0);
                let coming = next..next + rng.u32(0..6);
                next = coming.end;
                answer.extend(coming);
                let slots = |seating: &Seating<u32>| {
                    seating.guests().map(|(index, _)| index).collect::<BTreeSet<_>>()
                };
                let before = slots(&seating);
                seating.seat(&answer, 1000);
                let now = slots(&seating);
                let changed = before.symmetric_difference(&now).count();
                assert_eq!(
                    changed,
                    before.len().abs_diff(now.len()),
                    "seed {seed}, step {step}: {before:?} -> {now:?}"
                );
            }
        }
    }
}
