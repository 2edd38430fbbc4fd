//! Everything that happens, one thing after the other.
//!
//! [`World`] is what a controller, a provider, the engine and the clients are in earnest. It takes the effects of each balancer's fleet,
//! does what they ask for after the delays of [`delays`], and tells the fleet what came of it. It decides nothing that a fleet decides.
//!
//! - [`script`]: what the scenario does;
//! - [`calls`]: the calls of balancers to the engine;
//! - [`effects`]: what their fleets are told, and what they ask for.

mod calls;
mod effects;
mod script;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use fleet::pace::Next;
use fleet::{CommandId, Epoch, Event, ReplicaId, Roster, Time};
use mapping::MappingPolicy;
use proto::control::Hostname;

use super::agreement::Agreement;
use super::balancer::Balancer;
use super::choices::Library;
use super::clock::Clock;
use super::delays;
use super::engine::{Engine, Task};
use super::eyes::Death;
use super::figures::Figures;
use super::scenario::{Course, Happening, Kind};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct World {
    rng: fastrand::Rng,
    clock: Clock<Occurrence>,
    engine: Engine,
    balancers: Vec<Balancer>,
    library: Library,
    agreement: Agreement,
    /// Tasks that run again when the engine is back.
    stopped: Vec<Hostname>,
    commands: u64,
    open: HashMap<CommandId, (Kind, Time)>,
    figures: Figures,
}

/// What happens at a time.
#[derive(Debug)]
enum Occurrence {
    /// The scenario goes on.
    Happens(Happening),
    /// A task of this service runs.
    Runs(Hostname),
    /// A new task of this service runs, and the old one is stopped.
    Replaced(Hostname),
    /// A call of a balancer, begun then, gets to the engine.
    Arrives(usize, Time, Call),
    /// A call of a balancer, begun then, was not answered in time.
    Fails(usize, Time, Call),
    /// A balancer hears that the record has changed.
    Hears(usize),
    /// A balancer hears that services have changed, and perhaps which one was updated.
    HearsOfServices(usize, Option<Hostname>),
    /// A balancer's fleet is told something.
    Tells(usize, Event),
    /// A first probe of a balancer to this task has failed.
    Doubts(usize, Hostname, Task),
    /// A balancer sees that this task, which died then, is dead.
    Sees(usize, Hostname, Task, Time),
    /// A balancer looks whether there is something to read.
    Looks(usize),
    /// A deadline of a balancer's fleet may have passed.
    Ticks(usize),
}

/// A call to the engine.
#[derive(Clone, Debug)]
enum Call {
    Write(Epoch, Roster),
    /// Read the record.
    Read,
    /// Read the record because a write came too late.
    ReadAfterAll,
    /// Read the service of a replica that is waited for since then.
    Find(ReplicaId, Time),
    /// Make a service for this epoch.
    Create(ReplicaId, Hostname, Epoch),
    /// Remove a service that was made for no later epoch.
    Remove(Epoch, Hostname),
    /// Read tasks, or everything.
    Look(Next),
}

impl World {
    /// A fleet of the roster's seats with that many balancers, where all is well.
    pub(super) fn new(roster: Roster, balancers: usize, seed: u64) -> anyhow::Result<Self> {
        let mapping: MappingPolicy = roster.mapping.clone();
        let (engine, mut library) = (Engine::new(roster, balancers), Library::default());
        let balancer = Balancer::new(mapping, &engine, &mut library)?;
        let mut world = World {
            rng: fastrand::Rng::with_seed(seed),
            clock: Clock::new(),
            agreement: Agreement::new(balancer.routing.choices(), balancers),
            engine,
            balancers: vec![balancer; balancers],
            library,
            stopped: Vec::new(),
            commands: 0,
            open: HashMap::new(),
            figures: Figures::default(),
        };
        for balancer in 0..balancers {
            let first = delays::first_look(&mut world.rng);
            world.clock.after(first, Occurrence::Looks(balancer));
        }
        Ok(world)
    }

    /// Plays a course, and goes on for a while so that all can be settled.
    pub(super) fn play(mut self, course: Course, settle: Time) -> anyhow::Result<Figures> {
        let end = course.last().map_or(Time::ZERO, |(at, _)| *at);
        course.into_iter().for_each(|(at, what)| self.clock.at(at, Occurrence::Happens(what)));
        while let Some(occurrence) = self.clock.next(end + settle) {
            self.occurs(occurrence)?;
        }
        let problems = self.problems();
        let World { figures, agreement, engine, .. } = self;
        Ok(Figures {
            length: end,
            agreement: agreement.found,
            calls: engine.calls().to_vec(),
            problems,
            ..figures
        })
    }

    fn occurs(&mut self, occurrence: Occurrence) -> anyhow::Result<()> {
        match occurrence {
            Occurrence::Happens(what) => return self.happens(what),
            Occurrence::Runs(hostname) => self.engine.run(&hostname),
            Occurrence::Replaced(hostname) => {
                self.die(&hostname, Death::Replaced);
                self.engine.run(&hostname);
            }
            Occurrence::Arrives(balancer, begun, call) if self.engine.is_reachable(balancer) => {
                return self.arrives(balancer, begun, call);
            }
            Occurrence::Arrives(balancer, begun, call) => {
                let limit =
                    if matches!(call, Call::Write(..)) { delays::WRITE_LIMIT } else { delays::CALL_LIMIT };
                self.clock.at(begun + limit, Occurrence::Fails(balancer, begun, call));
            }
            Occurrence::Fails(balancer, begun, call) => return self.fails(balancer, begun, call),
            Occurrence::Hears(balancer) if self.engine.is_reachable(balancer) => {
                self.call(balancer, delays::READ, Call::Read);
            }
            Occurrence::HearsOfServices(balancer, updated) if self.engine.is_reachable(balancer) => {
                self.hears_of_services(balancer, updated.as_ref());
            }
            Occurrence::Hears(_) | Occurrence::HearsOfServices(..) => {}
            Occurrence::Tells(balancer, event) => return self.tell(balancer, event),
            Occurrence::Doubts(balancer, hostname, task) => self.doubts(balancer, &hostname, task),
            Occurrence::Sees(balancer, hostname, task, died) => {
                return self.sees(balancer, hostname, task, died);
            }
            Occurrence::Looks(balancer) => self.look(balancer),
            Occurrence::Ticks(balancer) => {
                self.balancers[balancer].tick = None;
                return self.tell(balancer, Event::Tick);
            }
        }
        Ok(())
    }

    /// What ought not to be when all is settled.
    fn problems(&self) -> Vec<String> {
        let (epoch, roster) = self.engine.record();
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_owned());
            }
        };
        check(self.agreement.is_reached(epoch), "the balancers do not all follow the last epoch");
        check(
            self.balancers.iter().all(|balancer| balancer.fleet.roster() == *roster),
            "a fleet is not as the record",
        );
        check(
            self.balancers.iter().all(|balancer| balancer.routing.is_whole()),
            "a slot is not up everywhere",
        );
        let mut expected: Vec<&Hostname> = roster.hostnames().collect();
        expected.sort();
        check(
            self.engine.services().map(|(name, _)| name).eq(expected),
            "the services are not those of the record",
        );
        check(self.engine.services().all(|(_, service)| service.runs), "a task does not run");
        check(roster.coming.is_empty() && roster.leaving.is_empty(), "something still comes or leaves");
        check(self.open.is_empty(), "a command is not answered");
        check(self.figures.answered_twice == 0, "a command is answered twice");
        check(self.figures.needless == 0, "keys have moved needlessly");
        check(self.agreement.found.keys_at_one_epoch == 0, "balancers of one epoch disagree");
        problems
    }
}
