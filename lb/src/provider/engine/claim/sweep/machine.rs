//! One `lb` of a history.

use std::collections::BTreeSet;

use super::*;

/// What a machine waits for.
#[derive(Debug)]
pub(super) enum Wait {
    /// The engine gets the call at `at`, and its answer comes at `back`.
    Sent {
        at: Time,
        back: Time,
        call: Call,
    },
    Answered(Time, Event),
    /// Orders, or a doubt at this time.
    Rest(Time),
    /// Orders, which come at this time.
    Retry(Time),
}

/// One `lb`.
pub(super) struct Machine {
    pub(super) claim: Claim,
    pub(super) wait: Wait,
    pub(super) asleep_until: Time,
    pub(super) orders: Orders,
    /// The version of the last orders that the claim was told.
    pub(super) heard: u64,
    pub(super) is_holding: bool,
    /// The last number that it has written or found taken, or that is its own by its last list.
    pub(super) number: u64,
    /// The numbers in its last list.
    pub(super) seen: BTreeSet<u64>,
    /// The one that has lent it the fleet, and stands by.
    pub(super) predecessor: Option<Box<Machine>>,
}

impl Machine {
    /// One that has just been started with this claim, and waits for nothing yet.
    pub(super) fn new(claim: Claim, now: Time) -> Self {
        Machine {
            orders: Orders { version: 0, seats: claim.seats().to_vec(), fate: None },
            claim,
            wait: Wait::Rest(now),
            asleep_until: now,
            heard: 0,
            is_holding: false,
            number: 0,
            seen: BTreeSet::new(),
            predecessor: None,
        }
    }

    pub(super) fn due(&self) -> Time {
        match &self.wait {
            Wait::Sent { at, .. } => *at,
            Wait::Rest(_) if self.heard != self.orders.version => self.asleep_until,
            Wait::Answered(at, _) | Wait::Retry(at) | Wait::Rest(at) => self.asleep_until.max(*at),
        }
    }

    /// Whether it believes that it holds the fleet, and goes on.
    pub(super) fn believes(&self) -> bool {
        self.is_holding && self.orders.fate.is_none()
    }

    /// Whether it can lend the fleet: it rests, and its record is written.
    pub(super) fn can_lend(&self) -> bool {
        self.believes() && self.heard == self.orders.version && matches!(self.wait, Wait::Rest(_))
    }

    pub(super) fn give_orders(&mut self, seats: Vec<Seat>, fate: Option<Fate>) {
        self.orders = Orders { version: self.orders.version + 1, seats, fate };
    }

    pub(super) fn see(&mut self, entries: &[Entry]) {
        self.seen = entries.iter().map(|entry| entry.number).collect();
        let own = entries.iter().filter(|entry| entry.holder.as_ref() == Some(&self.claim.holder));
        self.number = own.map(|entry| entry.number).chain([self.number]).max().unwrap_or_default();
    }

    /// Numbers grow, and only what was seen before the own entry is removed, or the own entry.
    pub(super) fn check(&self, call: &Call) {
        match call {
            Call::Append(why, entry) => {
                assert!(entry.number > self.number);
                let holder = (*why != Why::Release).then_some(&self.claim.holder);
                assert_eq!(entry.holder.as_ref(), holder);
                assert!(*why != Why::Claim || !self.is_holding);
            }
            Call::Remove(number) => {
                let is_own = *number == self.number;
                assert!(is_own || *number < self.number && self.seen.contains(number));
                assert!(!is_own || !self.is_holding || self.orders.fate == Some(Fate::Erase));
            }
            Call::Look | Call::Pause(_) => {}
        }
    }
}
