//! The places of the control port's connections: who has one, and who gives it up for a new one.
//!
//! A connection is new until its first command is accepted, and known from then on. Each of the two has places of its own. So
//! connections that never say a command take no place from those that have. A full port does not make clients wait: the connection that
//! has waited longest for its client gives its place up. One whose command is being carried out keeps it.
//!
//! It reads and writes no connection: a connection that has lost its place is told ([`Place::lost`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long a connection may wait for its client while no other needs the place.
const IDLE: Duration = Duration::from_secs(300);
/// How long a connection keeps its place at least: the bytes of a client that has just connected may be on their way.
const GRACE: Duration = Duration::from_millis(20);

/// The places of one group of connections.
#[derive(Debug)]
pub(super) struct Places {
    table: Mutex<Table>,
    /// Notified when a place is given back.
    freed: Notify,
}

#[derive(Debug)]
struct Table {
    /// The most connections of each standing.
    most: usize,
    seats: HashMap<u64, Seat>,
    last: u64,
    is_closed: bool,
}

#[derive(Debug)]
struct Seat {
    standing: Standing,
    /// Since when the connection waits for its client; `None` while its command is carried out.
    idle: Option<Instant>,
    lost: CancellationToken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    New,
    Known,
}

/// The place of one connection; it is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    lost: CancellationToken,
}

/// Keeps the place of a connection that waits for something else than its client.
#[derive(Debug)]
pub(super) struct Pulse {
    places: Arc<Places>,
    number: u64,
}

impl Pulse {
    /// The connection has waited for its client since now.
    pub(super) fn rest(&self) {
        self.places.rest(self.number, Instant::now());
    }
}

impl Places {
    /// Places for `all` connections, half of them for new and half for known ones.
    pub(super) fn new(all: usize) -> Arc<Self> {
        let table = Table { most: (all / 2).max(1), seats: HashMap::new(), last: 0, is_closed: false };
        Arc::new(Places { table: Mutex::new(table), freed: Notify::new() })
    }

    /// A place for a new connection. If all are taken, the one that has waited longest for its client loses its own. It waits while
    /// commands of new connections take all places.
    pub(super) async fn enter(self: &Arc<Self>) -> Place {
        loop {
            let freed = self.freed.notified();
            if let Some(place) = self.try_enter(Instant::now()) {
                return place;
            }
            tokio::select! {
                () = freed => {}
                () = sleep(GRACE) => {}
            }
        }
    }

    fn try_enter(self: &Arc<Self>, now: Instant) -> Option<Place> {
        let mut table = self.table();
        if !table.make_room(Standing::New, now) {
            return None;
        }
        table.last += 1;
        let (number, lost) = (table.last, CancellationToken::new());
        let seat = Seat { standing: Standing::New, idle: Some(now), lost: lost.clone() };
        table.seats.insert(number, seat);
        Some(Place { places: Arc::clone(self), number, lost })
    }

    /// Ends every connection that waits for its client, and from now on each other one after its command.
    pub(super) fn close(&self) {
        let mut table = self.table();
        table.is_closed = true;
        table.seats.values().filter(|seat| seat.idle.is_some()).for_each(|seat| seat.lost.cancel());
    }

    fn rest(&self, number: u64, now: Instant) {
        if let Some(seat) = self.table().seats.get_mut(&number) {
            seat.idle = Some(now);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No code panics while it holds the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Whether there is room for one more connection of this standing, which another may have lost its place for.
    fn make_room(&mut self, standing: Standing, now: Instant) -> bool {
        let peers = self.seats.iter().filter(|(_, seat)| seat.standing == standing);
        if peers.clone().count() < self.most {
            return true;
        }
        let idle = peers.filter_map(|(number, seat)| Some((seat.idle?, *number)));
        let oldest = idle.min().filter(|(since, _)| now.duration_since(*since) >= GRACE);
        let Some(seat) = oldest.and_then(|(_, number)| self.seats.remove(&number)) else { return false };
        seat.lost.cancel();
        true
    }
}

impl Place {
    /// A command of this connection has been accepted and is being carried out: the connection is known, if there is room among those,
    /// and keeps its place until [`Place::rest`].
    pub(super) fn work(&self) {
        self.work_at(Instant::now());
    }

    fn work_at(&self, now: Instant) {
        let mut table = self.places.table();
        let is_new = table.seats.get(&self.number).is_some_and(|seat| seat.standing == Standing::New);
        let becomes_known = is_new && table.make_room(Standing::Known, now);
        let Some(seat) = table.seats.get_mut(&self.number) else { return };
        seat.idle = None;
        if becomes_known {
            seat.standing = Standing::Known;
            self.places.freed.notify_one();
        }
    }

    /// The command is done: the connection waits for its client again.
    pub(super) fn rest(&self) {
        self.rest_at(Instant::now());
    }

    fn rest_at(&self, now: Instant) {
        self.places.rest(self.number, now);
    }

    /// Keeps this place while it is called again and again, however long the client says nothing.
    pub(super) fn pulse(&self) -> Pulse {
        Pulse { places: Arc::clone(&self.places), number: self.number }
    }

    /// Whether the connection has to end after its command.
    pub(super) fn is_closing(&self) -> bool {
        self.places.table().is_closed
    }

    /// Completes when the connection has lost its place, or has waited for its client too long.
    pub(super) async fn lost(&self) {
        tokio::select! {
            () = self.lost.cancelled() => {}
            () = self.expired() => {}
        }
    }

    async fn expired(&self) {
        loop {
            let since = self.idle_since();
            sleep_until(since.unwrap_or_else(Instant::now) + IDLE).await;
            if since.is_some() && self.idle_since() == since {
                return;
            }
        }
    }

    fn idle_since(&self) -> Option<Instant> {
        self.places.table().seats.get(&self.number)?.idle
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.table().seats.remove(&self.number);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two places for new connections, two for known ones.
    fn two_and_two() -> (Arc<Places>, Instant) {
        (Places::new(4), Instant::now())
    }

    fn later(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_new_connection_gets_the_place_of_the_one_that_has_waited_longest() {
        let (places, start) = two_and_two();
        let [first, second] = [0, 1].map(|at| places.try_enter(later(start, at)).unwrap());
        let third = places.try_enter(later(start, 100)).unwrap();
        assert_eq!([&first, &second, &third].map(|place| place.lost.is_cancelled()), [true, false, false]);
        drop(first);
        assert!(
            places.try_enter(later(start, 101)).is_some_and(|_| second.lost.is_cancelled()),
            "given up once"
        );
    }

    #[test]
    fn a_connection_that_has_just_come_keeps_its_place() {
        let (places, start) = two_and_two();
        let both = [0, 1].map(|at| places.try_enter(later(start, at)).unwrap());
        assert!(places.try_enter(later(start, 19)).is_none());
        assert!(places.try_enter(later(start, 20)).is_some() && both[0].lost.is_cancelled());
    }

    #[test]
    fn a_command_that_is_carried_out_keeps_its_place() {
        let (places, start) = two_and_two();
        // The first two become known, the others stay new, because there is no room.
        let busy = [0, 1, 2, 3].map(|at| {
            let place = places.try_enter(later(start, at)).unwrap();
            place.work();
            place
        });
        assert!(places.try_enter(later(start, 10_000)).is_none());
        busy[3].rest();
        assert!(places.try_enter(later(start, 20_000)).is_some() && busy[3].lost.is_cancelled());
        assert!(busy[..3].iter().all(|place| !place.lost.is_cancelled()));
    }

    #[test]
    fn known_connections_lose_no_place_to_new_ones() {
        let (places, start) = two_and_two();
        let known = [0, 1].map(|at| {
            let place = places.try_enter(later(start, at)).unwrap();
            place.work();
            place.rest();
            place
        });
        let crowd: Vec<Place> = (1..100).filter_map(|at| places.try_enter(later(start, 100 * at))).collect();
        assert_eq!(crowd.iter().filter(|place| !place.lost.is_cancelled()).count(), 2);
        assert!(known.iter().all(|place| !place.lost.is_cancelled()));
    }

    #[test]
    fn a_known_connection_that_waits_makes_room_for_the_next_one() {
        let (places, start) = two_and_two();
        let known = [0, 100, 200].map(|at| {
            let place = places.try_enter(later(start, at)).unwrap();
            place.work_at(later(start, at));
            place.rest_at(later(start, at));
            place
        });
        assert_eq!(known.each_ref().map(|place| place.lost.is_cancelled()), [true, false, false]);
    }

    #[test]
    fn a_closed_port_ends_those_who_wait() {
        let (places, start) = two_and_two();
        let [waits, works] = [0, 1].map(|at| places.try_enter(later(start, at)).unwrap());
        works.work_at(start);
        places.close();
        assert!(waits.lost.is_cancelled());
        assert!(!works.lost.is_cancelled() && works.is_closing());
    }
}
