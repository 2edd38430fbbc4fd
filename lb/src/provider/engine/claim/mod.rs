//! The claim on a fleet, as a pure state machine: how an `lb` becomes the holder of a fleet, keeps its record, and ends.
//!
//! [`Claim::apply`] takes one event and returns the one action that follows from it. The driver performs the action on the
//! engine and comes back with the next event. The claim does no I/O and reads no clock: each event brings the time. It has no
//! randomness. So `sweep/` can drive several claims against one record through thousands of random histories.
//!
//! The record is a log of numbered entries ([`record`](super::record)). An engine has to list them, to remove them by number, and to
//! create them so that the first entry with a number stays: the request for a second one returns the first. So an `lb` that gets
//! back its own entry has written it, and a later list shows whether it still is the last one.
//!
//! That makes the log a claim as well. The holder answers every foreign entry with one of its own. An `lb` that finds a holder (or
//! replicas without a record) writes the next entry in its own name and waits for an answer: this is the *challenge*. Without an
//! answer, the old holder is dead. If two hold a fleet nevertheless (the first one was asleep), the older one continues and the
//! other ends.
//!
//! A program may lend its fleet to a successor that goes on in its name ([`Claim::succeed`]). Its own claim rests until the successor has
//! failed. Then a doubt makes it look, and write again what it has to say.

mod language;
#[cfg(test)]
mod sweep;

use std::cmp::Reverse;
use std::mem;
use std::time::Duration;

use fleet::Seat;

pub(crate) use language::Tenure;
pub(super) use language::{Action, Call, End, Event, Fate, Orders, Remains, Why};

use super::record::{Entry, Holder, last};

/// How long a holder has to answer a challenge: long enough for one that gets no events.
const CHALLENGE: Duration = Duration::from_millis(1500);
/// The pause between two looks for its answer.
const LOOK: Duration = Duration::from_millis(50);
/// How often a holder looks for foreign entries; the engine's events usually tell sooner.
const WATCH: Duration = Duration::from_millis(500);
/// The pause before an entry that could not be written is written again.
const RETRY: Duration = Duration::from_millis(500);

/// Time since any fixed moment.
pub(super) type Time = Duration;

/// What the claim waits for.
#[derive(Debug)]
enum Step {
    /// A look for the entry of an earlier holder.
    Find,
    Append(Why, Entry),
    /// A look for the answer of a holder. The last one is a look that began after the deadline.
    Challenge {
        deadline: Time,
        is_last: bool,
    },
    /// The next look for it.
    Pause {
        deadline: Time,
    },
    /// The removal of the own entry, before this end.
    TakeBack(End),
    /// A look for later entries than the own one, and after a change for earlier ones.
    Defend {
        is_change: bool,
    },
    /// A look for the entries before the last one.
    Tidy,
    /// A look for all entries up to the own one.
    Erase,
    /// The removal of one entry, and then of these.
    Remove(Vec<u64>),
    /// Orders.
    Wait,
    Over,
}

/// The claim of one `lb` on a fleet. See the module's documentation.
#[derive(Debug)]
pub(super) struct Claim {
    holder: Holder,
    remains: Remains,
    step: Step,
    /// The highest number that is known to be taken.
    number: u64,
    /// The number of the last own entry.
    own: u64,
    /// What the record has to say.
    seats: Vec<Seat>,
    /// What it has to say once the fleet is held, instead of what was found.
    beginning: Option<Vec<Seat>>,
    /// The version of the orders that these seats come from.
    version: u64,
    fate: Option<Fate>,
    is_new: bool,
    is_contested: bool,
    is_holding: bool,
    /// Whether the record is released or being removed: only entries are left to remove.
    is_over: bool,
}

impl Claim {
    /// A claim on a fleet with these `remains`, and its first action. `beginning` holds the seats for a fleet without a record.
    pub(super) fn new(holder: Holder, beginning: Vec<Seat>, remains: Remains) -> (Self, Action) {
        let mut claim = Claim {
            holder,
            remains,
            step: Step::Over,
            number: 0,
            own: 0,
            seats: beginning,
            beginning: None,
            version: 0,
            fate: None,
            is_new: true,
            is_contested: remains == Remains::Alive,
            is_holding: false,
            is_over: false,
        };
        let action = claim.look(Step::Find);
        (claim, action)
    }

    /// A claim that goes on where a claim with this tenure rests, and its first action. That one must neither be told anything meanwhile,
    /// nor doubt.
    pub(super) fn succeed(Tenure { holder, number }: Tenure, seats: Vec<Seat>) -> (Self, Action) {
        let (mut claim, _) = Claim::new(holder, seats, Remains::Alive);
        (claim.number, claim.is_new, claim.is_contested) = (number, false, false);
        let action = claim.look(Step::Defend { is_change: false });
        (claim, action)
    }

    /// What a successor needs to go on in its place, while the claim rests.
    pub(super) fn tenure(&self) -> Tenure {
        Tenure { holder: self.holder.clone(), number: self.number }
    }

    /// What the record says while the claim rests.
    pub(super) fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// The version of the orders that the record follows while the claim rests.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether there was no record before this claim, or one of a fleet that was gone.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether there may have been another holder, who did not answer.
    pub(super) fn is_contested(&self) -> bool {
        self.is_contested
    }

    /// Applies one event that happened at `now`, and returns the action that follows from it. An event that does not answer the last
    /// action ends the claim.
    pub(super) fn apply(&mut self, now: Time, event: Event) -> Action {
        match (mem::replace(&mut self.step, Step::Over), event) {
            (Step::Find, Event::Seen(entries)) => self.found(entries),
            (Step::Append(why, asked), Event::Appended(there)) => {
                self.appended(now, why, &asked, there.as_ref())
            }
            (Step::Challenge { deadline, is_last }, Event::Seen(entries)) => {
                match (self.is_own(last(&entries)), is_last) {
                    (false, _) => self.take_back(End::Held),
                    (true, false) => self.call(Step::Pause { deadline }, Call::Pause(LOOK)),
                    (true, true) => self.tidy(&entries),
                }
            }
            (Step::Challenge { .. }, Event::Failed(reason)) => self.take_back(End::Failed(reason)),
            (Step::Pause { deadline }, Event::Paused) => self.challenge(now, deadline),
            // If the own entry stays, it costs the next lb a challenge.
            (Step::TakeBack(end), Event::Removed | Event::Failed(_)) => self.end(end),
            (Step::Defend { is_change }, Event::Seen(entries)) => self.defend(&entries, is_change),
            (Step::Tidy, Event::Seen(entries)) => self.tidy(&entries),
            // A later entry belongs to an lb that waits for an answer, and gets none.
            (Step::Erase, Event::Seen(entries)) => self.remove_all(&entries, |number, own| number <= own),
            (Step::Remove(rest), Event::Removed) => self.remove(rest),
            // Entries before the last one may stay.
            (Step::Remove(rest), Event::Failed(_)) if self.fate != Some(Fate::Erase) => self.remove(rest),
            (Step::Tidy, Event::Failed(_)) => self.settled(),
            (Step::Wait, Event::Told(orders)) => self.told(orders),
            (Step::Wait, Event::Doubt) => self.look(Step::Defend { is_change: false }),
            (_, Event::Failed(reason)) => self.failed(reason),
            _ => self.end(End::Failed("the record answers what was not asked".to_owned())),
        }
    }

    fn call(&mut self, step: Step, call: Call) -> Action {
        self.step = step;
        Action::Do(call)
    }

    fn look(&mut self, step: Step) -> Action {
        self.call(step, Call::Look)
    }

    fn end(&mut self, end: End) -> Action {
        self.step = Step::Over;
        Action::End(end)
    }

    /// Retries while the fleet is held; gives up during the claim and at the end.
    fn failed(&mut self, reason: String) -> Action {
        if !self.is_holding || self.fate.is_some() {
            return self.end(End::Failed(reason));
        }
        self.step = Step::Wait;
        Action::Retry(RETRY, reason)
    }

    /// Takes over what the record says, and claims the fleet.
    fn found(&mut self, entries: Vec<Entry>) -> Action {
        if let Some(last) = entries.into_iter().max_by_key(|entry| entry.number) {
            self.is_contested = last.holder.is_some();
            // The earlier holder is the older one, whatever the clocks say.
            let later = last.holder.map_or(0, |holder| holder.since.saturating_add(1));
            self.holder.since = self.holder.since.max(later);
            (self.number, self.is_new) = (last.number, self.remains == Remains::Nothing);
            // Until the fleet is held, the record keeps its seats.
            let beginning = mem::replace(&mut self.seats, last.seats);
            self.beginning = Some(beginning).filter(|seats| self.is_new && *seats != self.seats);
        }
        self.append(Why::Claim)
    }

    /// Writes the next entry.
    fn append(&mut self, why: Why) -> Action {
        let Some(number) = self.number.checked_add(1) else {
            return self.failed("the record of the fleet has no number left".to_owned());
        };
        let holder = (why != Why::Release).then(|| self.holder.clone());
        let entry = Entry { number, holder, seats: self.seats.clone() };
        self.call(Step::Append(why, entry.clone()), Call::Append(why, entry))
    }

    fn appended(&mut self, now: Time, why: Why, asked: &Entry, there: Option<&Entry>) -> Action {
        self.number = asked.number;
        let is_written = there == Some(asked);
        if is_written {
            self.own = asked.number;
        }
        match (why, is_written) {
            (Why::Claim, true) => self.challenge(now, if self.is_contested { now + CHALLENGE } else { now }),
            (Why::Claim, false) => self.end(End::Held),
            (Why::Release, true) => {
                self.is_over = true;
                self.look(Step::Tidy)
            }
            // Another lb may have been faster with this number, or with a later one: it has to be answered.
            _ => self.look(Step::Defend { is_change: true }),
        }
    }

    /// Looks whether a holder has answered.
    fn challenge(&mut self, now: Time, deadline: Time) -> Action {
        self.look(Step::Challenge { deadline, is_last: now >= deadline })
    }

    fn is_own(&self, entry: Option<&Entry>) -> bool {
        entry.is_some_and(|entry| entry.holder.as_ref() == Some(&self.holder))
    }

    fn take_back(&mut self, end: End) -> Action {
        self.call(Step::TakeBack(end), Call::Remove(self.own))
    }

    /// Removes the entries before the own one.
    fn tidy(&mut self, entries: &[Entry]) -> Action {
        self.remove_all(entries, |number, own| number < own)
    }

    fn remove_all(&mut self, entries: &[Entry], is_due: impl Fn(u64, u64) -> bool) -> Action {
        let numbers = entries.iter().map(|entry| entry.number);
        let mut due: Vec<u64> = numbers.filter(|&number| is_due(number, self.own)).collect();
        // The last one goes last: if this ended half-way, an earlier one would be valid again.
        due.sort_unstable_by_key(|&number| Reverse(number));
        self.remove(due)
    }

    fn remove(&mut self, mut rest: Vec<u64>) -> Action {
        match rest.pop() {
            Some(number) => self.call(Step::Remove(rest), Call::Remove(number)),
            None => self.settled(),
        }
    }

    /// The record says what it has to.
    fn settled(&mut self) -> Action {
        if self.is_over {
            return self.end(End::Concluded);
        }
        if let Some(seats) = self.beginning.take() {
            self.seats = seats;
            return self.append(Why::Change);
        }
        if self.fate == Some(Fate::Release) {
            return self.append(Why::Release);
        }
        (self.is_holding, self.step) = (true, Step::Wait);
        Action::Rest(WATCH)
    }

    fn told(&mut self, orders: Orders) -> Action {
        let is_change = orders.fate.is_none() || orders.seats != self.seats;
        (self.version, self.seats, self.fate) = (orders.version, orders.seats, orders.fate);
        match orders.fate {
            Some(Fate::Erase) => {
                self.is_over = true;
                self.look(Step::Erase)
            }
            Some(Fate::Release) if !is_change => self.append(Why::Release),
            Some(Fate::Release) | None => self.append(Why::Change),
        }
    }

    /// Answers entries that others have written meanwhile, unless their holder is older.
    fn defend(&mut self, entries: &[Entry], is_change: bool) -> Action {
        let Some(last) = last(entries) else { return self.append(Why::Restore) };
        self.number = self.number.max(last.number);
        if self.is_own(Some(last)) {
            self.own = last.number;
            match last.seats == self.seats {
                true if is_change => self.tidy(entries),
                true => self.settled(),
                false => self.append(Why::Change),
            }
        } else if last.holder.as_ref().is_some_and(|other| *other < self.holder) {
            self.end(End::Held)
        } else {
            self.append(Why::Answer)
        }
    }
}
