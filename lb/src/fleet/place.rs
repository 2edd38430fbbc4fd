//! A place for one replica: a slot, or a place outside the mapping where a spare waits.

use mapping::Member;
use proto::control::{Hostname, State, Weight};

use super::ledger::{Fault, Ledger, Loss, Next};
use super::{ReplicaId, SlotId, Time, View};

/// A running server and the name it runs under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Occupant {
    pub(super) id: ReplicaId,
    pub(super) hostname: Hostname,
}

/// What a place holds.
#[derive(Debug)]
pub(super) enum Life {
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
    pub(super) fn occupant(&self) -> Option<&Occupant> {
        match self {
            Life::Starting { occupant, .. }
            | Life::Up(occupant)
            | Life::Down(occupant)
            | Life::Draining(occupant) => Some(occupant),
            Life::Waiting { .. } | Life::Quarantined { .. } => None,
        }
    }

    /// The hostname of the present replica, or of the last one.
    pub(super) fn hostname(&self) -> &Hostname {
        match self {
            Life::Starting { occupant, .. }
            | Life::Up(occupant)
            | Life::Down(occupant)
            | Life::Draining(occupant) => &occupant.hostname,
            Life::Waiting { last, .. } | Life::Quarantined { last, .. } => last,
        }
    }

    pub(super) fn state(&self) -> State {
        match self {
            Life::Starting { .. } => State::Starting,
            Life::Up(_) => State::Up,
            Life::Down(_) | Life::Waiting { .. } => State::Down,
            Life::Draining(_) => State::Draining,
            Life::Quarantined { .. } => State::Quarantined,
        }
    }

    /// Whether its replica has been in rotation, so that it may have sessions.
    pub(super) fn has_served(&self) -> bool {
        matches!(self, Life::Up(_) | Life::Down(_))
    }

    pub(super) fn is_vacant(&self) -> bool {
        self.occupant().is_none()
    }

    /// Sets the deadline of a starting replica.
    pub(super) fn allow_until(&mut self, limit: Option<Time>) {
        if let Life::Starting { deadline, .. } = self {
            *deadline = limit;
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        match self {
            Life::Starting { deadline, .. } => *deadline,
            Life::Waiting { until, .. } | Life::Quarantined { until, .. } => Some(*until),
            Life::Up(_) | Life::Down(_) | Life::Draining(_) => None,
        }
    }

    /// The replica here that has missed its deadline.
    pub(super) fn late(&self, now: Time) -> Option<ReplicaId> {
        match self {
            Life::Starting { occupant, deadline: Some(deadline) } if *deadline <= now => Some(occupant.id),
            _ => None,
        }
    }

    /// Whether the next attempt is due.
    pub(super) fn is_due(&self, now: Time) -> bool {
        self.is_vacant() && self.deadline().is_some_and(|until| until <= now)
    }
}

/// A slot, or without one a spare, with its replica and its history.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) slot: Option<SlotId>,
    pub(super) weight: Weight,
    pub(super) life: Life,
    pub(super) reason: Option<String>,
    pub(super) restarts: u64,
    since: Time,
    ledger: Ledger,
}

impl Place {
    /// A place whose first replica is being started.
    pub(super) fn new(slot: Option<SlotId>, weight: Weight, occupant: Occupant, since: Time) -> Self {
        let life = Life::Starting { occupant, deadline: None };
        Place { slot, weight, life, reason: None, restarts: 0, since, ledger: Ledger::default() }
    }

    pub(super) fn view(&self) -> View {
        View {
            slot: self.slot.clone(),
            weight: self.weight,
            hostname: self.life.hostname().clone(),
            replica: self.replica_id(),
            state: self.life.state(),
            reason: self.reason.clone(),
            since: self.since,
            restarts: self.restarts,
        }
    }

    /// The slot as a mapping sees it.
    pub(super) fn member(&self) -> Option<Member> {
        Some(self.slot.as_ref()?.member(self.weight))
    }

    pub(super) fn enter(&mut self, life: Life, now: Time) {
        self.life = life;
        self.since = now;
    }

    /// Its replica passes its probes. Returns false if that was known.
    pub(super) fn rise(&mut self, now: Time) -> bool {
        let (Life::Starting { occupant, .. } | Life::Down(occupant)) = &self.life else { return false };
        let up = Life::Up(occupant.clone());
        self.enter(up, now);
        self.reason = None;
        self.ledger.rose();
        true
    }

    /// Its replica fails its probes. Returns false if the state stays: a starting replica may fail probes for a while. A fixed
    /// address does not start, so it is down at once.
    pub(super) fn fall(&mut self, now: Time, reason: &str, restartable: bool) -> bool {
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

    /// What to do after a loss: `None` to start the next replica at once, else the state to wait in.
    pub(super) fn next_try(&mut self, fault: Fault, now: Time, rng: &mut fastrand::Rng) -> Option<Life> {
        let last = self.life.hostname().clone();
        let loss = match fault {
            Fault::Replica if self.life.has_served() => Loss::FromRotation,
            Fault::Replica => Loss::FailedStart,
            Fault::Provider => Loss::NoStart,
        };
        match self.ledger.lost(loss, now, rng) {
            Next::AtOnce => None,
            Next::After(delay) => Some(Life::Waiting { last, until: now + delay }),
            Next::Quarantine(delay) => Some(Life::Quarantined { last, until: now + delay }),
        }
    }

    /// The replica that runs here.
    pub(super) fn replica_id(&self) -> Option<ReplicaId> {
        self.life.occupant().map(|occupant| occupant.id)
    }

    /// Whether this replica runs here.
    pub(super) fn holds(&self, id: ReplicaId) -> bool {
        self.replica_id() == Some(id)
    }

    /// The reason for giving up a replica that is not ready within `limit`, with the reason of its last failed probe.
    pub(super) fn overdue(&self, limit: Time) -> String {
        let probe = self.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        format!("{} is not ready within {limit:?}{probe}", self.life.hostname())
    }

    /// Begins to drain its replica. Returns that replica, if one runs.
    pub(super) fn begin_drain(&mut self, now: Time) -> Option<ReplicaId> {
        let occupant = self.life.occupant()?.clone();
        let id = occupant.id;
        self.reason = None;
        self.enter(Life::Draining(occupant), now);
        Some(id)
    }

    /// A ready spare moves in. The reason why the last replica was lost does not apply to it.
    pub(super) fn take_over(&mut self, life: Life, now: Time) {
        self.restarts += 1;
        self.reason = None;
        self.ledger.rose();
        self.enter(life, now);
    }

    /// Takes the replica out, to move it elsewhere. The caller fills the place again at once.
    pub(super) fn vacate(&mut self) -> Life {
        let last = self.life.hostname().clone();
        std::mem::replace(&mut self.life, Life::Waiting { last, until: Time::ZERO })
    }
}
