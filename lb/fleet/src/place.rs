//! A place for one replica: a slot, or a place outside the mapping where a spare waits.

use mapping::Member;
use proto::control::{Hostname, Location, State, Weight};
use serde::{Deserialize, Serialize};

use crate::event::View;
use crate::ledger::{Fault, Ledger, Loss, Next};
use crate::nouns::{ReplicaId, SlotId, Time};

/// A running server and the name it runs under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Occupant {
    pub(crate) id: ReplicaId,
    pub(crate) hostname: Hostname,
}

/// What a place holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Life {
    /// A replica whose probes have not passed yet. It has a `deadline` from its start on.
    Starting { occupant: Occupant, deadline: Option<Time> },
    /// A replica in rotation.
    Up(Occupant),
    /// A replica that runs and fails its probes.
    Down(Occupant),
    /// A replica that gets no new sessions and is stopped when its old ones have ended.
    Draining(Occupant),
    /// No replica, until the backoff is over.
    Waiting { last: Hostname, until: Time },
    /// No replica, because too many failed here. The next attempt is at `until`.
    Quarantined { last: Hostname, until: Time },
}

impl Life {
    pub(crate) fn occupant(&self) -> Option<&Occupant> {
        match self {
            Life::Starting { occupant, .. }
            | Life::Up(occupant)
            | Life::Down(occupant)
            | Life::Draining(occupant) => Some(occupant),
            Life::Waiting { .. } | Life::Quarantined { .. } => None,
        }
    }

    /// The hostname of the present replica, or of the last one.
    pub(crate) fn hostname(&self) -> &Hostname {
        match self {
            Life::Starting { occupant, .. }
            | Life::Up(occupant)
            | Life::Down(occupant)
            | Life::Draining(occupant) => &occupant.hostname,
            Life::Waiting { last, .. } | Life::Quarantined { last, .. } => last,
        }
    }

    pub(crate) fn state(&self) -> State {
        match self {
            Life::Starting { .. } => State::Starting,
            Life::Up(_) => State::Up,
            Life::Down(_) | Life::Waiting { .. } => State::Down,
            Life::Draining(_) => State::Draining,
            Life::Quarantined { .. } => State::Quarantined,
        }
    }

    /// Whether its replica has been in rotation, so that it may have sessions.
    pub(crate) fn has_served(&self) -> bool {
        matches!(self, Life::Up(_) | Life::Down(_))
    }

    /// Whether its replica runs and fails its probes.
    pub(crate) fn fails(&self) -> bool {
        matches!(self, Life::Down(_))
    }

    /// Whether its replica runs and is not heard: it fails its probes, or has been started and has not passed one.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Life::Down(_) | Life::Starting { deadline: Some(_), .. })
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.occupant().is_none()
    }

    /// Sets the deadline of a starting replica.
    pub(crate) fn allow_until(&mut self, limit: Option<Time>) {
        if let Life::Starting { deadline, .. } = self {
            *deadline = limit;
        }
    }

    /// When the next replica is started.
    pub(crate) fn next_start(&self) -> Option<Time> {
        match self {
            Life::Waiting { until, .. } | Life::Quarantined { until, .. } => Some(*until),
            Life::Starting { .. } | Life::Up(_) | Life::Down(_) | Life::Draining(_) => None,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        match self {
            Life::Starting { deadline, .. } => *deadline,
            _ => self.next_start(),
        }
    }

    /// The replica here that has missed its deadline.
    pub(crate) fn late(&self, now: Time) -> Option<ReplicaId> {
        match self {
            Life::Starting { occupant, deadline: Some(deadline) } if *deadline <= now => Some(occupant.id),
            _ => None,
        }
    }

    /// Whether the next attempt is due.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.next_start().is_some_and(|until| until <= now)
    }
}

/// A slot, or without one a spare, with its replica and its history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) slot: Option<SlotId>,
    pub(crate) weight: Weight,
    /// Where its replica is, if that is given.
    pub(crate) location: Option<Location>,
    pub(crate) life: Life,
    pub(crate) reason: Option<String>,
    pub(crate) restarts: u64,
    /// Whether it is a slot that lost its replica, and a spare may take it over. In a storm of losses none does: it would most likely be
    /// lost as well.
    pub(crate) wants_spare: bool,
    since: Time,
    ledger: Ledger,
}

impl Place {
    /// A place whose first replica is being started.
    pub(crate) fn new(slot: Option<SlotId>, weight: Weight, occupant: Occupant, since: Time) -> Self {
        let life = Life::Starting { occupant, deadline: None };
        Place {
            slot,
            weight,
            location: None,
            life,
            reason: None,
            restarts: 0,
            wants_spare: false,
            since,
            ledger: Ledger::default(),
        }
    }

    /// The same place, whose replica is there.
    pub(crate) fn located(self, location: Option<Location>) -> Self {
        Place { location, ..self }
    }

    pub(crate) fn view(&self) -> View {
        View {
            slot: self.slot.clone(),
            weight: self.weight,
            hostname: self.life.hostname().clone(),
            location: self.location.clone(),
            replica: self.replica_id(),
            state: self.life.state(),
            reason: self.reason.clone(),
            since: self.since,
            restarts: self.restarts,
            next_start: self.life.next_start(),
        }
    }

    /// Where it stands among the others: by the index of its slot, and spares last.
    pub(crate) fn order(&self) -> u32 {
        self.slot.as_ref().map_or(u32::MAX, |slot| slot.index)
    }

    /// The slot as a mapping sees it.
    pub(crate) fn member(&self) -> Option<Member> {
        Some(self.slot.as_ref()?.member(self.weight))
    }

    pub(crate) fn enter(&mut self, life: Life, now: Time) {
        self.life = life;
        self.since = now;
    }

    /// Its replica passes its probes. Returns false if that was known.
    pub(crate) fn rise(&mut self, now: Time) -> bool {
        let (Life::Starting { occupant, .. } | Life::Down(occupant)) = &self.life else { return false };
        let up = Life::Up(occupant.clone());
        self.enter(up, now);
        self.recovered();
        true
    }

    /// Its replica fails its probes. Returns false if the state stays: a starting replica may fail probes for a while. A fixed
    /// address does not start, so it is down at once.
    pub(crate) fn fall(&mut self, now: Time, reason: &str, restartable: bool) -> bool {
        let down = match &self.life {
            Life::Up(occupant) => Some(Life::Down(occupant.clone())),
            Life::Starting { occupant, .. } if !restartable => Some(Life::Down(occupant.clone())),
            _ => None,
        };
        if matches!(self.life, Life::Starting { .. } | Life::Up(_) | Life::Down(_)) {
            self.reason = Some(reason.to_owned());
        }
        down.map(|life| self.enter(life, now)).is_some()
    }

    /// Its replica is lost. The next one is started when the ledger says so, unless a spare takes the place over; with `returns` it comes
    /// back by itself, so that it is waited for at once.
    pub(crate) fn lose(
        &mut self,
        reason: &str,
        fault: Fault,
        returns: bool,
        now: Time,
        rng: &mut fastrand::Rng,
    ) {
        let last = self.life.hostname().clone();
        let loss = match fault {
            Fault::Replica if self.life.has_served() => Loss::FromRotation,
            Fault::Replica => Loss::FailedStart,
            Fault::Provider => Loss::NoStart,
        };
        let next = self.ledger.lost(loss, now, rng);
        self.reason = Some(reason.to_owned());
        self.wants_spare = self.slot.is_some() && !matches!(next, Next::Quarantine(_));
        let life = match next {
            Next::Quarantine(delay) if !returns => Life::Quarantined { last, until: now + delay },
            Next::After(delay) if !returns || loss == Loss::NoStart => {
                Life::Waiting { last, until: now + delay }
            }
            _ => Life::Waiting { last, until: now },
        };
        self.enter(life, now);
    }

    /// Without a replica: the next one may be started from then on.
    pub(crate) fn retry_at(&mut self, until: Time) {
        let last = self.life.hostname().clone();
        self.life = Life::Waiting { last, until };
    }

    /// Its replica is not ready in time, and stays.
    pub(crate) fn miss(&mut self, limit: Time, now: Time) {
        if let Life::Starting { occupant, .. } = &self.life {
            let down = Life::Down(occupant.clone());
            self.reason = Some(self.overdue(limit));
            self.enter(down, now);
        }
    }

    /// The replica that runs here.
    pub(crate) fn replica_id(&self) -> Option<ReplicaId> {
        self.life.occupant().map(|occupant| occupant.id)
    }

    /// Whether this replica runs here.
    pub(crate) fn holds(&self, id: ReplicaId) -> bool {
        self.replica_id() == Some(id)
    }

    /// The reason for giving up a replica that is not ready within `limit`, with the reason of its last failed probe.
    pub(crate) fn overdue(&self, limit: Time) -> String {
        let probe = self.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        format!("{} is not ready within {limit:?}{probe}", self.life.hostname())
    }

    /// Begins to drain its replica. Returns that replica, if one runs.
    pub(crate) fn begin_drain(&mut self, now: Time) -> Option<ReplicaId> {
        let occupant = self.life.occupant()?.clone();
        let id = occupant.id;
        self.reason = None;
        self.enter(Life::Draining(occupant), now);
        Some(id)
    }

    /// Changes replicas with another place: a spare moves into a slot, and the slot's replica is the spare from now on.
    pub(crate) fn swap(&mut self, other: &mut Place, now: Time) {
        std::mem::swap(&mut self.life, &mut other.life);
        for place in [self, other] {
            place.since = now;
            if place.slot.is_some() {
                // The reason why the last replica was lost does not apply to this one.
                place.restarts += 1;
                place.recovered();
            }
        }
    }

    fn recovered(&mut self) {
        self.reason = None;
        self.wants_spare = false;
        self.ledger.rose();
    }
}
