//! A Swarm of the mind: one record that changes by compare-and-set, services that restart their tasks by themselves, and the provider of
//! one `lb` in front of both, which is late, fails and repeats itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use mapping::Mapping;
use proto::control::Hostname;

use crate::{
    Assignment, CommandId, Demand, Effect, Epoch, Event, Fleet, Rejection, ReplicaId, Roster, Seat, Stopping,
    Time, UnixTime,
};

/// What runs under one hostname.
pub(super) struct Service {
    /// The epoch for which it was created.
    pub(super) since: Epoch,
    /// `None` between two tasks.
    pub(super) task: Option<u64>,
}

/// What all `lb`s see in the end.
pub(super) struct Swarm {
    /// The roster of each epoch, from 1 on.
    pub(super) history: Vec<Roster>,
    pub(super) services: BTreeMap<Hostname, Service>,
    tasks: u64,
}

impl Swarm {
    pub(super) fn new(roster: Roster) -> Self {
        let mut swarm = Swarm { history: Vec::new(), services: BTreeMap::new(), tasks: 0 };
        for hostname in roster.hostnames() {
            swarm.services.insert(hostname.clone(), Service { since: Epoch(1), task: None });
        }
        swarm.history.push(roster);
        swarm
    }

    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.history.len() as u64)
    }

    pub(super) fn roster(&self) -> &Roster {
        self.at(self.epoch())
    }

    pub(super) fn at(&self, epoch: Epoch) -> &Roster {
        &self.history[usize::try_from(epoch.0).unwrap() - 1]
    }

    pub(super) fn new_task(&mut self, hostname: &Hostname) {
        self.tasks += 1;
        if let Some(service) = self.services.get_mut(hostname) {
            service.task = Some(self.tasks);
        }
    }

    pub(super) fn task(&self, hostname: &Hostname) -> Option<u64> {
        self.services.get(hostname)?.task
    }

    /// Compare-and-set.
    fn replace(&mut self, expected: Epoch, roster: Roster) -> bool {
        if expected != self.epoch() {
            return false;
        }
        for left in self.roster().hostnames() {
            let is_named = roster.hostnames().any(|hostname| hostname == left);
            assert!(is_named || !self.services.contains_key(left), "{left} is forgotten, but exists");
        }
        self.history.push(roster);
        self.check();
        true
    }

    fn check(&self) {
        let roster = self.roster();
        let names: Vec<&Hostname> = roster.hostnames().collect();
        assert_eq!(
            names.iter().collect::<BTreeSet<_>>().len(),
            names.len(),
            "a name is taken twice: {names:?}"
        );
        assert!(roster.seats.is_sorted_by(|a, b| a.slot.index < b.slot.index), "{:?}", roster.seats);
        assert_eq!(Mapping::check(&roster.mapping.scheme, &roster.future_members()), Ok(()));
    }
}

/// A replica that an `lb` looks after.
pub(super) struct Followed {
    pub(super) hostname: Hostname,
    /// Whether its service has yet to be created, and for which epoch.
    pub(super) to_create: Option<Epoch>,
    /// The task that it is, once it has been started.
    pub(super) task: Option<u64>,
    pub(super) has_passed: bool,
}

/// The way of a proposal.
pub(super) enum Proposal {
    /// It has not reached the record.
    Sent(Epoch, Roster),
    /// The record has decided; the `lb` does not know yet.
    Decided(Result<Epoch, Rejection>, Moved),
}

/// The slots that a proposal has brought into the seats and taken out of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Moved {
    pub(super) entered: Vec<Seat>,
    pub(super) left: Vec<Seat>,
    /// Whether the record changed, whatever the `lb` is told.
    pub(super) is_written: bool,
    /// Whether the `lb` is told that this failed.
    pub(super) is_unknown: bool,
}

impl Moved {
    fn between(before: &Roster, after: &Roster) -> Self {
        let missing = |from: &Roster, seats: &[Seat]| -> Vec<Seat> {
            seats
                .iter()
                .filter(|seat| from.seats.iter().all(|other| other.slot != seat.slot))
                .cloned()
                .collect()
        };
        Moved {
            entered: missing(before, &after.seats),
            left: missing(after, &before.seats),
            is_written: true,
            is_unknown: false,
        }
    }
}

/// One `lb`, with its provider, its probes and its clients.
pub(super) struct Balancer {
    pub(super) fleet: Fleet,
    /// How far its clock is ahead of the others.
    pub(super) ahead: Duration,
    pub(super) followed: BTreeMap<ReplicaId, Followed>,
    pub(super) draining: BTreeSet<ReplicaId>,
    pub(super) proposal: Option<Proposal>,
    pub(super) checks: Vec<(CommandId, Demand)>,
    pub(super) removals: Vec<(Epoch, Hostname)>,
    /// Tasks that it has given up as hung: what it starts next under that hostname is another one.
    hung: HashMap<Hostname, u64>,
    pub(super) published: Roster,
    /// Answers since they were last looked at.
    pub(super) answers: Vec<(CommandId, Result<(), proto::control::Failure>)>,
}

impl Balancer {
    pub(super) fn new(
        (mut fleet, effects): (Fleet, Vec<Effect>),
        now: Time,
        ahead: Duration,
        swarm: &mut Swarm,
    ) -> Self {
        let adopted = fleet.apply(now, Event::Adopted(swarm.epoch(), swarm.roster().clone()));
        let mut balancer = Balancer {
            published: fleet.roster(),
            fleet,
            ahead,
            followed: BTreeMap::new(),
            draining: BTreeSet::new(),
            proposal: None,
            checks: Vec::new(),
            removals: Vec::new(),
            hung: HashMap::new(),
            answers: Vec::new(),
        };
        balancer.perform(effects.into_iter().chain(adopted).collect(), swarm);
        balancer
    }

    pub(super) fn apply(&mut self, now: Time, event: Event, swarm: &mut Swarm) {
        let effects = self.fleet.apply(now, event);
        self.perform(effects, swarm);
    }

    fn perform(&mut self, effects: Vec<Effect>, swarm: &mut Swarm) {
        for effect in effects {
            match effect {
                Effect::Publish => self.published = self.fleet.roster(),
                Effect::Start(id, assignment) => self.follow(id, assignment),
                Effect::Drain(id, _) => assert!(self.followed.contains_key(&id) && self.draining.insert(id)),
                Effect::Stop(id, how) => self.stop(id, how, swarm),
                Effect::Check(command, demand) => self.checks.push((command, demand)),
                Effect::Propose(epoch, roster) => {
                    let proposal = self.proposal.replace(Proposal::Sent(epoch, roster));
                    assert!(proposal.is_none(), "one proposal at a time");
                }
                Effect::Remove(epoch, hostname) => self.removals.push((epoch, hostname)),
                Effect::Answer(command, result) => self.answers.push((command, result)),
                Effect::Changed(_) | Effect::Doubt(_) => {}
                Effect::Remember(_) => panic!("the roster is remembered elsewhere"),
            }
        }
    }

    fn follow(&mut self, id: ReplicaId, Assignment { hostname, is_urgent, since, .. }: Assignment) {
        let to_create = is_urgent.then_some(since);
        let followed = Followed { hostname, to_create, task: None, has_passed: false };
        assert!(self.followed.insert(id, followed).is_none(), "{id:?} is started twice");
    }

    fn stop(&mut self, id: ReplicaId, how: Stopping, swarm: &mut Swarm) {
        let Some(Followed { hostname, task, .. }) = self.followed.remove(&id) else {
            panic!("{id:?} does not run")
        };
        self.draining.remove(&id);
        match how {
            Stopping::Release => {}
            Stopping::Gently => panic!("{hostname} is stopped, but others may use it"),
            Stopping::AtOnce => {
                self.hung.extend(task.map(|task| (hostname.clone(), task)));
                // Another lb may have had it replaced already.
                if task.is_some() && swarm.task(&hostname) == task {
                    swarm.new_task(&hostname);
                }
            }
        }
    }

    /// The task that a replica is or will be.
    pub(super) fn next_task(&self, followed: &Followed, swarm: &Swarm) -> Option<u64> {
        swarm.task(&followed.hostname).filter(|task| self.hung.get(&followed.hostname) != Some(task))
    }

    /// Creates a service, if one has yet to be created.
    pub(super) fn create(&mut self, id: ReplicaId, swarm: &mut Swarm) {
        let Some(followed) = self.followed.get_mut(&id) else { return };
        let Some(since) = followed.to_create.take() else { return };
        let hostname = followed.hostname.clone();
        // One whose add is no longer known is not created: its time is over.
        if swarm.roster().coming.iter().any(|coming| coming.seat.hostname == hostname) {
            let earlier = swarm.services.insert(hostname.clone(), Service { since, task: None });
            assert!(earlier.is_none(), "{hostname} exists already");
        }
    }

    /// The proposal reaches the record.
    pub(super) fn decide(&mut self, fails: bool, answer_is_lost: bool, swarm: &mut Swarm) {
        let is_sent = |proposal: &mut Proposal| matches!(proposal, Proposal::Sent(..));
        let Some(Proposal::Sent(epoch, roster)) = self.proposal.take_if(is_sent) else { return };
        let failed = || Err(Rejection::Failed("no quorum".into()));
        let moved = Moved::between(swarm.at(epoch), &roster);
        let decided = if fails {
            Proposal::Decided(failed(), Moved::default())
        } else if !swarm.replace(epoch, roster) {
            Proposal::Decided(Err(Rejection::Stale), Moved::default())
        } else {
            let told = if answer_is_lost { failed() } else { Ok(swarm.epoch()) };
            Proposal::Decided(told, Moved { is_unknown: answer_is_lost, ..moved })
        };
        self.proposal = Some(decided);
    }

    /// Removes a service for good, if it is the one that was meant.
    pub(super) fn remove(&self, (epoch, hostname): &(Epoch, Hostname), wall: UnixTime, swarm: &mut Swarm) {
        let is_meant = swarm.services.get(hostname).is_some_and(|service| service.since <= *epoch);
        if is_meant {
            let leaving = swarm.roster().leaving.iter().find(|leaving| leaving.hostname == *hostname);
            let until = leaving.unwrap_or_else(|| panic!("{hostname} is removed, but has not left")).until;
            assert!(until <= wall + self.ahead, "{hostname} is removed too early");
            swarm.services.remove(hostname);
        }
    }
}
