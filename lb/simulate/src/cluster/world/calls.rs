//! The calls of a balancer to the engine, and what comes of them: what a provider does between a fleet and the engine.

use fleet::pace::Next;
use fleet::{Epoch, Event, Rejection, ReplicaId, Roster, Time};
use proto::control::Hostname;

use super::{Call, Occurrence, World};
use crate::cluster::balancer::Known;
use crate::cluster::delays;
use crate::cluster::eyes::Death;

impl World {
    /// Sends a call that gets to the engine, or is answered, after this time.
    pub(super) fn call(&mut self, balancer: usize, takes: Time, call: Call) {
        self.calls(balancer, 1, takes, call);
    }

    /// Sends several calls, one after the other; the last one does something.
    pub(super) fn calls(&mut self, balancer: usize, n: u32, takes: Time, last: Call) {
        let now = self.clock.now();
        // Without an answer to the first call there is no second one.
        let n = if self.engine.is_reachable(balancer) { n } else { 1 };
        self.engine.count(balancer, now, n);
        self.clock.after(takes, Occurrence::Arrives(balancer, now, last));
    }

    /// Has a balancer look soon whether there is something to read.
    pub(super) fn hurry(&mut self, balancer: usize) {
        self.plan_look(balancer, self.clock.now());
    }

    fn plan_look(&mut self, balancer: usize, due: Time) {
        let looking = &mut self.balancers[balancer];
        if looking.look.is_none_or(|planned| due < planned) {
            looking.look = Some(due);
            self.clock.at(due, Occurrence::Looks(balancer));
        }
    }

    /// A balancer reads what its pace says, or looks again later.
    pub(super) fn look(&mut self, balancer: usize) {
        let (now, tasks) = (self.clock.now(), self.engine.tasks());
        let looking = &mut self.balancers[balancer];
        // A look that was planned for later has been replaced by this one.
        if looking.look.is_some_and(|planned| planned <= now) {
            looking.look = None;
        }
        if looking.is_reading {
            return;
        }
        let next = looking.pace.next(now);
        let (calls, takes) = match &next {
            Next::Wait(pause) => return self.plan_look(balancer, now + *pause),
            Next::Some(services) => (1, delays::list(services.len())),
            Next::Tasks => (1, delays::list(tasks)),
            // The record, the services, the tasks.
            Next::All => (3, delays::READ + delays::list(tasks) * 2),
        };
        looking.is_reading = true;
        self.calls(balancer, calls, takes, Call::Look(next));
    }

    pub(super) fn arrives(&mut self, balancer: usize, begun: Time, call: Call) -> anyhow::Result<()> {
        match call {
            Call::Write(expected, roster) => self.write(balancer, expected, roster),
            Call::Read => return self.adopt(balancer),
            Call::ReadAfterAll => {
                self.adopt(balancer)?;
                return self.tell(balancer, Event::Proposed(Err(Rejection::Stale)));
            }
            Call::Find(id, ..) => {
                let finding = &mut self.balancers[balancer];
                if let Some(hostname) = finding.waiting.get(&id) {
                    finding.pace.wait_for(hostname.as_str(), self.clock.now());
                    self.hurry(balancer);
                }
            }
            Call::Create(id, hostname, since) => {
                self.engine.create(hostname.clone(), since);
                let pause = delays::start(&mut self.rng);
                self.clock.after(pause, Occurrence::Runs(hostname));
                self.tell_of_services(None);
                return self.arrives(balancer, begun, Call::Find(id, begun));
            }
            Call::Remove(epoch, hostname) => {
                if let Some(service) = self.engine.remove(epoch, &hostname) {
                    // A balancer that is cut off may still send clients there.
                    self.see(&hostname, service.task, Death::Killed);
                    self.tell_of_services(None);
                }
                return self.tell(balancer, Event::Removed(hostname));
            }
            Call::Look(what) => {
                self.balancers[balancer].is_reading = false;
                self.balancers[balancer].pace.was_read(&what, begun, false);
                if what == Next::All {
                    self.adopt(balancer)?;
                }
                self.find_running(balancer, &what)?;
                self.look(balancer);
            }
        }
        Ok(())
    }

    /// The record is replaced, unless others were faster.
    fn write(&mut self, balancer: usize, expected: Epoch, roster: Roster) {
        let back = delays::WRITE / 2;
        let Some(epoch) = self.engine.write(expected, roster) else {
            return self.call(balancer, back + delays::READ, Call::ReadAfterAll);
        };
        self.agreement.written(self.clock.now(), epoch);
        self.clock.after(back, Occurrence::Tells(balancer, Event::Proposed(Ok(epoch))));
        for other in 0..self.balancers.len() {
            let pause = delays::event(&mut self.rng);
            self.clock.after(pause, Occurrence::Hears(other));
        }
    }

    /// All balancers hear that services have changed; a task of `updated` is replaced.
    pub(super) fn tell_of_services(&mut self, updated: Option<&Hostname>) {
        for balancer in 0..self.balancers.len() {
            let pause = delays::event(&mut self.rng);
            self.clock.after(pause, Occurrence::HearsOfServices(balancer, updated.cloned()));
        }
    }

    pub(super) fn hears_of_services(&mut self, balancer: usize, updated: Option<&Hostname>) {
        let (now, pace) = (self.clock.now(), &mut self.balancers[balancer].pace);
        pace.is_stale();
        if let Some(hostname) = updated {
            pace.doubt(hostname.as_str(), now);
        }
        self.hurry(balancer);
    }

    fn adopt(&mut self, balancer: usize) -> anyhow::Result<()> {
        let (epoch, roster) = self.engine.record();
        if self.balancers[balancer].epoch >= Some(epoch) {
            return Ok(());
        }
        self.tell(balancer, Event::Adopted(epoch, Roster::clone(&roster)))
    }

    /// A balancer waits for a replica whose service is there already, as far as it knows.
    pub(super) fn wait_for(&mut self, balancer: usize, id: ReplicaId, hostname: Hostname) {
        self.balancers[balancer].waiting.insert(id, hostname);
        self.call(balancer, delays::READ, Call::Find(id, self.clock.now()));
    }

    /// Tasks were read. Those that run and are waited for are probed.
    fn find_running(&mut self, balancer: usize, read: &Next) -> anyhow::Result<()> {
        let is_read = |hostname: &Hostname| match read {
            Next::Some(services) => services.iter().any(|service| service == hostname.as_str()),
            _ => true,
        };
        let running = |(&id, hostname): (&ReplicaId, &Hostname)| {
            let service = self.engine.service(hostname).filter(|service| service.runs)?;
            is_read(hostname).then_some(Known { id, task: service.task })
        };
        let running: Vec<Known> = self.balancers[balancer].waiting.iter().filter_map(running).collect();
        for known in running {
            let found = &mut self.balancers[balancer];
            let Some(hostname) = found.no_longer_waits_for(known.id) else { continue };
            let died = found.died.remove(&hostname);
            found.known.insert(hostname, known);
            self.figures.back.extend(died.map(|died| self.clock.now() + delays::PROBE - died));
            self.clock.after(delays::PROBE, Occurrence::Tells(balancer, Event::Passed(known.id)));
            self.tell(balancer, Event::Started(known.id))?;
        }
        Ok(())
    }

    /// A call that was begun then is not answered in time.
    pub(super) fn fails(&mut self, balancer: usize, begun: Time, call: Call) -> anyhow::Result<()> {
        let reason = || "the Swarm has not answered in time".to_owned();
        match call {
            Call::Write(..) | Call::ReadAfterAll => {
                self.tell(balancer, Event::Proposed(Err(Rejection::Failed(reason()))))
            }
            Call::Find(id, since) if self.clock.now() - since < delays::PATIENCE => {
                self.call(balancer, delays::RETRY, Call::Find(id, since));
                Ok(())
            }
            Call::Find(id, _) | Call::Create(id, ..) => {
                match self.balancers[balancer].no_longer_waits_for(id) {
                    Some(_) => self.tell(balancer, Event::Hindered(id, reason())),
                    None => Ok(()),
                }
            }
            Call::Remove(..) => {
                self.call(balancer, delays::RETRY, call);
                Ok(())
            }
            Call::Look(what) => {
                self.balancers[balancer].is_reading = false;
                self.balancers[balancer].pace.was_read(&what, begun, true);
                self.look(balancer);
                Ok(())
            }
            // The next read of everything will do.
            Call::Read => Ok(()),
        }
    }
}
