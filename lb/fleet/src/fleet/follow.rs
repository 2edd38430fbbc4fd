//! What a roster makes of the places: one way for what this `lb` has decided and for what others have.

use std::time::Duration;

use proto::control::{Hostname, State};

use super::Fleet;
use crate::event::Effect;
use crate::nouns::{Seat, SlotId};
use crate::place::Place;
use crate::roster::{Coming, Leaving, Roster};

impl Fleet {
    /// Makes the places as the roster has them. A slot that leaves is drained, and one that is new and not ready gets no connection yet.
    /// Everything is published at once.
    pub(super) fn follow(&mut self, roster: Roster) {
        let Roster { mapping, seats, spares, coming, leaving } = roster;
        self.publish |= self.policy.mapping != mapping;
        self.policy.mapping = mapping;
        self.take_out(&leaving, |place| place.slot.as_ref().is_some_and(|slot| !has_seat(&seats, slot)));
        for seat in seats {
            self.take_seat(seat, &leaving, &coming);
        }
        self.take_out(&leaving, |place| place.slot.is_none() && !spares.contains(place.life.hostname()));
        for hostname in spares {
            if self.spares().all(|spare| spare.hostname != hostname) {
                self.open_spare(hostname);
            }
        }
        self.places.sort_by_key(Place::order);
        self.coming = coming;
        // Alone, `lb` stops what it has drained, and the name is free at once.
        self.leaving = if self.policy.is_shared() { leaving } else { Vec::new() };
        self.settle();
    }

    /// Makes one slot as the roster has it.
    fn take_seat(&mut self, seat: Seat, leaving: &[Leaving], coming: &[Coming]) {
        let Some(at) = self.find_place(&seat.slot) else {
            return self.open_seat(seat);
        };
        let comes = || coming.iter().any(|coming| coming.seat.slot == seat.slot);
        if self.has_newcomer_for(&seat.slot) && !comes() {
            return self.give_seat(seat, leaving);
        }
        self.publish |= self.places[at].weight != seat.weight;
        self.places[at].weight = seat.weight;
        if *self.places[at].life.hostname() == seat.hostname {
            return;
        }
        match self.places.iter().position(|place| *place.life.hostname() == seat.hostname) {
            Some(other) => self.swap(at, other),
            None => self.give_seat(seat, leaving),
        }
    }

    /// A slot gets another replica.
    fn give_seat(&mut self, seat: Seat, leaving: &[Leaving]) {
        let restarts = self.find_place(&seat.slot).map_or(0, |at| self.places[at].restarts);
        self.take_out(leaving, |place| place.slot.as_ref() == Some(&seat.slot));
        self.open_seat(seat);
        if let Some(place) = self.places.last_mut() {
            place.restarts = restarts;
        }
    }

    fn has_newcomer_for(&self, slot: &SlotId) -> bool {
        let mut newcomers = self.arriving.iter().flat_map(|arrival| &arrival.places);
        newcomers.any(|place| place.slot.as_ref() == Some(slot))
    }

    /// Where the place of a slot is. Places are in the order of their slots, but for those that have just entered: those are searched one
    /// by one.
    fn find_place(&self, slot: &SlotId) -> Option<usize> {
        let is_it = |place: &Place| place.slot.as_ref() == Some(slot);
        let at = self.places.binary_search_by_key(&slot.index, Place::order).ok();
        at.filter(|&at| is_it(&self.places[at])).or_else(|| self.places.iter().position(is_it))
    }

    /// A new slot enters, with the replica that this `lb` has started for it, or with one that has to be found.
    fn open_seat(&mut self, seat: Seat) {
        match self.newcomer_for(&seat.slot) {
            Some(mut place) => {
                place.weight = seat.weight;
                self.places.push(place);
            }
            None => self.open_slot(seat),
        }
        self.note(self.places.len() - 1);
    }

    fn newcomer_for(&mut self, slot: &SlotId) -> Option<Place> {
        let is_it = |place: &mut Place| place.slot.as_ref() == Some(slot);
        self.arriving.iter_mut().find_map(|arrival| arrival.places.extract_if(.., is_it).next())
    }

    /// A spare takes over a slot, and the slot's replica is the spare from now on.
    fn swap(&mut self, slot: usize, spare: usize) {
        let Ok([slot_place, spare_place]) = self.places.get_disjoint_mut([slot, spare]) else { return };
        slot_place.swap(spare_place, self.now);
        self.note(slot);
        if self.places[spare].life.is_vacant() {
            // It need not wait for what its last replica has done in the slot.
            self.places[spare].retry_at(self.now);
        } else {
            self.note(spare);
        }
    }

    /// Takes places out of the fleet. Their replicas are stopped when their sessions have ended, or when their time is over.
    fn take_out(&mut self, leaving: &[Leaving], which: impl Fn(&Place) -> bool) {
        let gone: Vec<Place> = self.places.extract_if(.., |place| which(place)).collect();
        for place in gone {
            self.publish |= place.slot.is_some();
            let notice = leaving.iter().find(|leaving| leaving.hostname == *place.life.hostname());
            let left = notice.map(|leaving| leaving.until.saturating_sub(self.wall()));
            self.retire(place, left.unwrap_or(self.policy.drain_timeout));
        }
    }

    /// Drains the replica of a place that has left, for at most this long.
    fn retire(&mut self, mut place: Place, limit: Duration) {
        let has_served = place.life.has_served();
        let Some(id) = place.begin_drain(self.now) else { return };
        self.effects.push(Effect::Changed(place.view()));
        if has_served {
            self.draining.push(place);
            self.effects.push(Effect::Drain(id, limit));
        } else {
            self.effects.push(Effect::Stop(id, self.policy.farewell()));
        }
    }

    /// Ready spares take over slots that have lost their replicas: the roster after that.
    pub(super) fn with_spares_moved_in(&self) -> Roster {
        let mut roster = self.roster();
        let lost = self.places.iter().filter(|place| place.wants_spare).map(|place| place.life.hostname());
        for (lost, ready) in lost.zip(self.ready_spares()) {
            if let Some(seat) = roster.seats.iter_mut().find(|seat| seat.hostname == *lost)
                && let Some(spare) = roster.spares.take(ready)
            {
                roster.spares.insert(std::mem::replace(&mut seat.hostname, spare));
            }
        }
        roster
    }

    /// Whether there is a slot that lost its replica, and a spare that can take it over.
    pub(super) fn can_move_in(&self) -> bool {
        self.places.iter().any(|place| place.wants_spare) && self.ready_spares().next().is_some()
    }

    fn ready_spares(&self) -> impl Iterator<Item = &Hostname> {
        let is_ready = |place: &&Place| place.slot.is_none() && place.life.state() == State::Up;
        self.places.iter().filter(is_ready).map(|place| place.life.hostname())
    }

    /// A roster from outside decides who is there; how keys are mapped, and the weights of slots that are known, are this `lb`'s own.
    pub(super) fn keep_own(&self, roster: &mut Roster) {
        roster.mapping.clone_from(&self.policy.mapping);
        for seat in &mut roster.seats {
            let known = self.places.iter().find(|place| place.slot.as_ref() == Some(&seat.slot));
            seat.weight = known.map_or(seat.weight, |place| place.weight);
        }
    }
}

fn has_seat(seats: &[Seat], slot: &SlotId) -> bool {
    let at = seats.binary_search_by_key(&slot.index, |seat| seat.slot.index);
    at.is_ok_and(|at| seats[at].slot == *slot)
}
