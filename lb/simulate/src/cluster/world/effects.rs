//! What a balancer's fleet is told, and what it asks for.

use fleet::{CommandId, Effect, Event, ReplicaId, Stopping, Time, View};
use proto::control::{Failure, Hostname};

use super::{Call, Occurrence, World};
use crate::cluster::choices::Routing;
use crate::cluster::delays;
use crate::cluster::engine::{Service, Task};

impl World {
    /// A balancer reads the tasks of a service often for a while, if it has not seen yet that this one is dead.
    pub(super) fn doubts(&mut self, balancer: usize, hostname: &Hostname, task: Task) {
        let doubting = &mut self.balancers[balancer];
        if doubting.known.get(hostname).is_some_and(|known| known.task == task) {
            doubting.pace.doubt(hostname.as_str(), self.clock.now());
            self.hurry(balancer);
        }
    }

    pub(super) fn sees(
        &mut self,
        balancer: usize,
        hostname: Hostname,
        task: Task,
        died: Time,
    ) -> anyhow::Result<()> {
        let seeing = &mut self.balancers[balancer];
        let Some(known) = seeing.known.get(&hostname).copied().filter(|known| known.task == task) else {
            return Ok(());
        };
        seeing.known.remove(&hostname);
        seeing.died.insert(hostname, died);
        self.tell(balancer, Event::Lost(known.id, "it does not respond".to_owned()))
    }

    pub(super) fn tell(&mut self, balancer: usize, event: Event) -> anyhow::Result<()> {
        let effects = self.balancers[balancer].fleet.apply(self.clock.now(), event);
        let (mut is_published, mut changed) = (false, Vec::new());
        for effect in effects {
            match effect {
                Effect::Publish => is_published = true,
                Effect::Changed(view) => changed.push(view),
                effect => self.perform(balancer, effect),
            }
        }
        self.plan_tick(balancer);
        self.route(balancer, is_published.then_some(changed))
    }

    fn perform(&mut self, balancer: usize, effect: Effect) {
        match effect {
            Effect::Start(id, assignment) if assignment.is_urgent => {
                // The service, in case there is one; the record, in case the seat is gone; then it is made.
                let takes = delays::READ * 2 + delays::CREATE;
                self.balancers[balancer].waiting.insert(id, assignment.hostname.clone());
                self.calls(balancer, 3, takes, Call::Create(id, assignment.hostname, assignment.since));
            }
            Effect::Start(id, assignment) => self.wait_for(balancer, id, assignment.hostname),
            Effect::Drain(id, limit) => {
                let last = delays::exponential(delays::SESSION.as_secs_f64(), &mut self.rng);
                self.clock.after(last.min(limit), Occurrence::Tells(balancer, Event::Drained(id)));
            }
            Effect::Stop(id, Stopping::AtOnce) => self.replace(balancer, id),
            Effect::Stop(id, _) => self.balancers[balancer].forget(id),
            Effect::Check(command, demand) => {
                self.clock.after(
                    delays::CHECK,
                    Occurrence::Tells(balancer, Event::Checked(command, demand.check())),
                );
            }
            Effect::Propose(epoch, roster) => {
                self.call(balancer, delays::WRITE / 2, Call::Write(epoch, roster));
            }
            Effect::Remove(epoch, hostname) => {
                self.calls(balancer, 2, delays::READ + delays::CREATE, Call::Remove(epoch, hostname));
            }
            Effect::Answer(command, result) => self.answer(command, &result),
            Effect::Publish | Effect::Changed(_) | Effect::Remember(_) | Effect::Doubt(_) => {}
        }
    }

    /// A replica that is too late is replaced, unless another task of its service runs by now.
    fn replace(&mut self, balancer: usize, id: ReplicaId) {
        let known = self.balancers[balancer].known.iter().find(|(_, known)| known.id == id);
        let Some((hostname, task)) = known.map(|(hostname, known)| (hostname.clone(), known.task)) else {
            return;
        };
        self.balancers[balancer].forget(id);
        let is_it = |service: Service| service.task == task && service.runs;
        if self.engine.is_reachable(balancer) && self.engine.service(&hostname).is_some_and(is_it) {
            self.engine.count(balancer, self.clock.now(), 3);
            self.tell_of_services(Some(&hostname));
            let pause = delays::replace(&mut self.rng);
            self.clock.after(pause, Occurrence::Replaced(hostname));
        }
    }

    fn answer(&mut self, command: CommandId, result: &Result<(), Failure>) {
        let now = self.clock.now();
        match self.open.remove(&command) {
            Some((kind, since)) => {
                let answered = self.figures.commands.entry(kind).or_default();
                if result.is_ok() { &mut answered.done } else { &mut answered.failed }.push(now - since);
            }
            None => self.figures.answered_twice += 1,
        }
    }

    fn plan_tick(&mut self, balancer: usize) {
        let now = self.clock.now();
        let ticking = &mut self.balancers[balancer];
        let Some(due) = ticking.fleet.next_deadline().map(|due| due.max(now + delays::PROBE)) else { return };
        if ticking.tick.is_none_or(|planned| due < planned) {
            ticking.tick = Some(due);
            self.clock.at(due, Occurrence::Ticks(balancer));
        }
    }

    /// Brings the routes of a balancer up to date, and compares them with those before.
    fn route(&mut self, balancer: usize, changed: Option<Vec<View>>) -> anyhow::Result<()> {
        let routing = &mut self.balancers[balancer];
        let epoch = routing.fleet.epoch();
        let after = match changed {
            _ if epoch != routing.epoch => Routing::of(&routing.fleet, &mut self.library)?,
            Some(changed) => routing.routing.after(&changed),
            None => return Ok(()),
        };
        self.figures.needless += routing.routing.needless_moves_to(&after);
        self.figures.moved += routing.routing.moves_to(&after);
        routing.routing = after;
        if epoch != routing.epoch {
            routing.epoch = epoch;
            let choices = routing.routing.choices();
            self.agreement.follows(self.clock.now(), balancer, epoch.unwrap_or_default(), choices);
        }
        Ok(())
    }
}
