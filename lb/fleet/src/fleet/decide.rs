//! One decision after the other about the roster.
//!
//! Whatever asks for a change (a command, a lost replica, a replica whose time is over) goes the same way: an [`Intent`] is planned when
//! its turn comes, the planned roster is proposed, and what was agreed on is carried out. An `lb` that is alone agrees with itself at
//! once. Otherwise there is one proposal under way at a time, and the commands behind it wait. If others were faster, the intent is
//! planned again from the roster that they made.
//!
//! Commands stand in a queue. Everything else is found in the state of the fleet whenever a decision can be made, so that it is never
//! forgotten, and never done twice.

mod cancel;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use proto::control::{Addition, Failure, FailureKind, FixedBackend, Hostname, Remapping, Removal};

use serde::{Deserialize, Serialize};

use super::Fleet;
use super::arrival::Arrival;
use super::rest::Rest;
use crate::event::{CommandId, Effect};
use crate::nouns::{Epoch, Time};
use crate::policy::Authority;
use crate::revision::Revision;
use crate::room::{Demand, Room};
use crate::roster::{Coming, Leaving, Rejection, Roster};

/// The most commands that may wait for their turn or for a check.
const MOST_WAITING: usize = 64;
/// How long a command may come too late again and again.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a proposal that could not be written, except for commands.
const PAUSE: Duration = Duration::from_secs(1);

/// What asks for a change of the roster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Intent {
    /// Slots are to come.
    Add(CommandId, Addition, Option<Room>),
    /// The slots of an `add` are ready to enter.
    Enter(CommandId),
    /// Slots are to leave.
    Remove(CommandId, Removal),
    /// Keys are to be mapped in another way.
    Remap(CommandId, Remapping, Option<Room>),
    /// All of that in one step.
    Revise(CommandId, Box<Revision>, Option<Room>),
    /// Ready spares take over slots that have lost their replicas.
    MoveIn,
    /// An `add` has been given up, or nothing is left of a replica.
    TidyUp,
}

impl Intent {
    fn command(&self) -> Option<CommandId> {
        match self {
            Intent::Add(command, ..)
            | Intent::Enter(command)
            | Intent::Remove(command, _)
            | Intent::Remap(command, ..)
            | Intent::Revise(command, ..) => Some(*command),
            Intent::MoveIn | Intent::TidyUp => None,
        }
    }
}

/// An intent, and since when it waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Turn {
    intent: Intent,
    since: Time,
}

/// A roster that an intent leads to, and what follows when it is agreed on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) roster: Roster,
    pub(super) then: Then,
}

/// What follows from a roster that was agreed on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Then {
    /// The replicas of these slots are started. The command is answered later, with the rest of it if it is a revision.
    Start(CommandId, Vec<Coming>, Option<Rest>),
    /// The command is done. These are the fixed addresses from now on, if it has changed them.
    Answer(CommandId, Option<Vec<FixedBackend>>),
    Nothing,
}

/// A plan that the others have yet to agree on.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Proposal {
    turn: Turn,
    plan: Plan,
    /// The epoch that it is to replace.
    basis: Epoch,
}

/// Why there is no plan.
#[derive(Debug)]
pub(super) enum NoPlan {
    Refused(Failure),
    /// It is not known whether the mapping has room.
    Unchecked(Box<Demand>),
}

impl From<Failure> for NoPlan {
    fn from(refusal: Failure) -> Self {
        NoPlan::Refused(refusal)
    }
}

/// What is to be decided.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Docket {
    /// Of the roster that the fleet follows.
    epoch: Epoch,
    queue: VecDeque<Turn>,
    /// Commands whose room is being checked, each with what it demands.
    checking: Vec<(Turn, Demand)>,
    proposal: Option<Proposal>,
    /// Before then, only commands are proposed.
    resume: Time,
    /// The hostnames of an `add` that was given up.
    abandoned: HashSet<Hostname>,
    /// The hostnames of replicas that are being removed, and of those of which nothing is left.
    removing: HashSet<Hostname>,
    removed: HashSet<Hostname>,
}

impl Docket {
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Fleet {
    /// Takes a command.
    pub(super) fn file(&mut self, intent: Intent) {
        if let Err(refusal) = self.refuse_if_over() {
            self.refuse(&intent, refusal);
        } else if self.docket.queue.len() + self.docket.checking.len() < MOST_WAITING {
            self.docket.queue.push_back(Turn { intent, since: self.now });
        } else {
            let busy = format!("{MOST_WAITING} other commands wait; try again when they are done");
            self.refuse(&intent, FailureKind::Unavailable.because(busy));
        }
    }

    /// Takes the result of a check.
    pub(super) fn checked(&mut self, command: CommandId, checked: Result<Room, Failure>) {
        let is_it = |(turn, _): &mut (Turn, Demand)| turn.intent.command() == Some(command);
        let Some((mut turn, _)) = self.docket.checking.extract_if(.., is_it).next() else { return };
        match checked {
            Ok(found) => {
                match &mut turn.intent {
                    Intent::Add(.., room) | Intent::Remap(.., room) | Intent::Revise(.., room) => {
                        *room = Some(found);
                        self.docket.queue.push_back(turn);
                    }
                    // It is found again.
                    _ => self.found_room(command, found),
                }
            }
            Err(refusal) => self.refuse(&turn.intent, refusal),
        }
    }

    /// Makes every decision that can be made now.
    pub(super) fn decide(&mut self) {
        while self.docket.proposal.is_none()
            && !self.over
            && let Some(turn) = self.next_turn()
        {
            let mut rng = self.rng.clone();
            match self.plan(&turn.intent, &mut rng) {
                Ok(plan) => {
                    self.rng = rng;
                    self.propose(turn, plan);
                }
                Err(NoPlan::Unchecked(demand)) => {
                    let command = turn.intent.command();
                    self.effects.extend(command.map(|command| Effect::Check(command, (*demand).clone())));
                    self.docket.checking.push((turn, *demand));
                }
                Err(NoPlan::Refused(refusal)) => self.refuse(&turn.intent, refusal),
            }
        }
        self.remove_expired();
    }

    /// What to decide next. To mend comes first.
    fn next_turn(&mut self) -> Option<Turn> {
        let (since, may_propose) = (self.now, self.now >= self.docket.resume);
        let entering = |fleet: &Self| {
            let mut arriving = fleet.arriving.iter().filter(|arrival| !fleet.is_checked(arrival.command));
            arriving
                .find(|arrival| arrival.is_complete() || arrival.broken.is_some())
                .map(|arrival| arrival.command)
        };
        if may_propose && !self.is_in_doubt() && self.can_move_in() {
            Some(Turn { intent: Intent::MoveIn, since })
        } else if let Some(command) = entering(self) {
            Some(Turn { intent: Intent::Enter(command), since })
        } else if may_propose && self.is_untidy() {
            Some(Turn { intent: Intent::TidyUp, since })
        } else {
            self.docket.queue.pop_front()
        }
    }

    fn plan(&self, intent: &Intent, rng: &mut fastrand::Rng) -> Result<Plan, NoPlan> {
        match intent {
            Intent::Add(command, change, room) => self.plan_to_add(*command, change, room.as_ref(), rng),
            Intent::Enter(command) => self.plan_to_enter(*command),
            Intent::Remove(command, change) => self.plan_to_remove(*command, change, rng),
            Intent::Remap(command, change, room) => self.plan_to_remap(*command, change, room.as_ref()),
            Intent::Revise(command, change, room) => {
                self.plan_to_revise(*command, change, room.as_ref(), rng)
            }
            Intent::MoveIn => Ok(Plan { roster: self.with_spares_moved_in(), then: Then::Nothing }),
            Intent::TidyUp => Ok(Plan { roster: self.tidied_up(), then: Then::Nothing }),
        }
    }

    fn propose(&mut self, turn: Turn, plan: Plan) {
        if self.policy.is_shared() {
            self.effects.push(Effect::Propose(self.docket.epoch, plan.roster.clone()));
            self.docket.proposal = Some(Proposal { turn, plan, basis: self.docket.epoch });
        } else {
            self.follow(plan.roster);
            self.conclude(plan.then);
        }
    }

    pub(super) fn proposed(&mut self, outcome: Result<Epoch, Rejection>) {
        let Some(Proposal { turn, plan, basis }) = self.docket.proposal.take() else { return };
        match outcome {
            Ok(epoch) => {
                // Otherwise it has been adopted already, and perhaps a later one.
                if epoch > self.docket.epoch {
                    self.docket.epoch = epoch;
                    self.follow(plan.roster);
                }
                self.conclude(plan.then);
            }
            // It was written after all, and has been adopted.
            Err(_) if self.docket.epoch > basis && self.roster() == plan.roster => self.conclude(plan.then),
            Err(Rejection::Stale) => self.come_again(turn),
            Err(Rejection::Failed(reason)) => self.fail(&turn.intent, &reason),
        }
    }

    /// Others were faster. A command is planned again; everything else is found again if it is still to be done.
    fn come_again(&mut self, turn: Turn) {
        if matches!(turn.intent, Intent::Enter(_) | Intent::MoveIn | Intent::TidyUp) {
            return;
        }
        if turn.since + PATIENCE > self.now {
            return self.docket.queue.push_front(turn);
        }
        let late = format!("other changes have come first for {PATIENCE:?}; try again");
        self.refuse(&turn.intent, FailureKind::Unavailable.because(late));
    }

    /// The roster cannot be written. Commands that wait would fail in the same way, each after some seconds.
    fn fail(&mut self, intent: &Intent, reason: &str) {
        let failure = FailureKind::StartFailed.because(reason);
        self.docket.resume = self.now + PAUSE;
        self.refuse(intent, failure.clone());
        for turn in std::mem::take(&mut self.docket.queue) {
            self.refuse(&turn.intent, failure.clone());
        }
    }

    /// Answers a command that changes nothing.
    fn refuse(&mut self, intent: &Intent, refusal: Failure) {
        match intent {
            Intent::Enter(command) => self.abandon_add(*command, None, refusal),
            intent => {
                let command = intent.command();
                self.effects.extend(command.map(|command| Effect::Answer(command, Err(refusal))));
            }
        }
    }

    /// Answers every command that waits. The proposal that is under way may still be agreed on.
    pub(super) fn close_docket(&mut self, refusal: &Failure) {
        let Docket { queue, checking, proposal, .. } = std::mem::take(&mut self.docket);
        let waiting = queue
            .into_iter()
            .chain(checking.into_iter().map(|(turn, _)| turn))
            .chain(proposal.map(|proposal| proposal.turn));
        waiting.for_each(|turn| self.refuse(&turn.intent, refusal.clone()));
    }

    /// Follows a roster that came from elsewhere.
    pub(super) fn adopted(&mut self, epoch: Epoch, mut roster: Roster) {
        if self.over || epoch <= self.docket.epoch {
            return;
        }
        self.docket.epoch = epoch;
        if self.policy.authority == Authority::Outside {
            self.keep_own(&mut roster);
        }
        self.follow(roster);
    }

    /// What this command demands, if its room is being checked.
    pub(crate) fn demand_under_check(&self, command: CommandId) -> Option<&Demand> {
        let mut checking = self.docket.checking.iter();
        checking.find(|(turn, _)| turn.intent.command() == Some(command)).map(|(_, demand)| demand)
    }

    /// Whether the room for this command is being checked.
    fn is_checked(&self, command: CommandId) -> bool {
        self.demand_under_check(command).is_some()
    }

    /// There is room for the slots of a revision to enter.
    fn found_room(&mut self, command: CommandId, room: Room) {
        let mut arriving = self.arriving.iter_mut();
        let arrival = arriving.find(|arrival| arrival.command == command);
        if let Some(rest) = arrival.and_then(|arrival| arrival.rest.as_mut()) {
            rest.room = Some(room);
        }
    }

    /// Whether the slots of this `add` are proposed for the seats.
    pub(super) fn is_entering(&self, command: CommandId) -> bool {
        let proposed = self.docket.proposal.as_ref().map(|proposal| &proposal.turn.intent);
        matches!(proposed, Some(Intent::Enter(entering)) if *entering == command)
    }

    /// When a decision is due that waits for nothing but time.
    pub(super) fn next_decision(&self) -> Option<Time> {
        let Docket { proposal, resume, removing, .. } = &self.docket;
        let leaving = self.leaving.iter().filter(|leaving| !removing.contains(&leaving.hostname));
        let removals = leaving.map(|leaving| self.time(leaving.until));
        let given_up = self.coming.iter().map(|coming| self.time(coming.until).max(*resume));
        let resume = (*resume > self.now).then_some(*resume);
        let proposals = given_up.chain(resume).filter(|_| proposal.is_none());
        removals.chain(proposals).min()
    }
}

/// What time does to the roster.
impl Fleet {
    /// The names of an `add` are to leave the roster again.
    pub(super) fn withdraw(&mut self, arrival: &Arrival) {
        let coming = self.coming.iter().filter(|coming| arrival.announced(coming));
        self.docket.abandoned.extend(coming.map(|coming| coming.seat.hostname.clone()));
    }

    pub(super) fn removed(&mut self, hostname: Hostname) {
        if self.leaving.iter().any(|leaving| leaving.hostname == hostname) {
            self.docket.removed.insert(hostname);
        }
    }

    /// Has those removed whose time is over.
    fn remove_expired(&mut self) {
        let wall = self.wall();
        for leaving in self.leaving.iter().filter(|leaving| leaving.until <= wall) {
            if self.docket.removing.insert(leaving.hostname.clone()) {
                self.effects.push(Effect::Remove(self.docket.epoch, leaving.hostname.clone()));
            }
        }
    }

    fn is_untidy(&self) -> bool {
        let (wall, Docket { abandoned, removed, .. }) = (self.wall(), &self.docket);
        !removed.is_empty() || !abandoned.is_empty() || self.coming.iter().any(|coming| coming.until <= wall)
    }

    /// The roster with each `add` that was given up among what leaves, and without those of whom nothing is left.
    fn tidied_up(&self) -> Roster {
        let (wall, mut roster) = (self.wall(), self.roster());
        let Docket { abandoned, removed, .. } = &self.docket;
        roster.leaving.retain(|leaving| !removed.contains(&leaving.hostname));
        let given_up = |coming: &Coming| coming.until <= wall || abandoned.contains(&coming.seat.hostname);
        let (gone, coming) = roster.coming.into_iter().partition(given_up);
        roster.coming = coming;
        let gone: Vec<Coming> = gone;
        roster
            .leaving
            .extend(gone.into_iter().map(|coming| Leaving { hostname: coming.seat.hostname, until: wall }));
        roster
    }

    /// Forgets what a roster has settled.
    pub(super) fn settle(&mut self) {
        let coming: HashSet<&Hostname> = self.coming.iter().map(|coming| &coming.seat.hostname).collect();
        let leaving: HashSet<&Hostname> = self.leaving.iter().map(|leaving| &leaving.hostname).collect();
        let Docket { abandoned, removing, removed, .. } = &mut self.docket;
        abandoned.retain(|hostname| coming.contains(hostname));
        removing.retain(|hostname| leaving.contains(hostname));
        removed.retain(|hostname| leaving.contains(hostname));
    }
}
