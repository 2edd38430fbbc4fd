//! What the scenario does to the engine, the replicas and the balancers.

use fleet::{CommandId, Event, Time};
use proto::control::{Addition, Hostname, Remapping, Removal, Weight};

use super::{Occurrence, World};
use crate::cluster::delays;
use crate::cluster::engine::{Service, Task};
use crate::cluster::eyes::{self, Death};
use crate::cluster::scenario::{Happening, Kind};

impl World {
    pub(super) fn happens(&mut self, what: Happening) -> anyhow::Result<()> {
        match what {
            Happening::Kill(n) => self.lose(n, Death::Killed),
            Happening::Crash(n) => self.lose(n, Death::Crashed),
            Happening::Replace(seats) => {
                let (_, roster) = self.engine.record();
                for seat in roster.seats.get(seats).unwrap_or_default() {
                    self.tell_of_services(Some(&seat.hostname));
                    let pause = delays::replace(&mut self.rng);
                    self.clock.after(pause, Occurrence::Replaced(seat.hostname.clone()));
                }
            }
            Happening::CutOff(balancers) => {
                self.engine.cut_off(&balancers);
                self.reconnect();
            }
            Happening::Away(is_away) => {
                self.engine.set_away(is_away);
                let stopped = if is_away { Vec::new() } else { std::mem::take(&mut self.stopped) };
                stopped.into_iter().for_each(|hostname| self.restart(hostname, Death::Killed));
                self.reconnect();
            }
            Happening::Command(balancer, kind) => return self.command(balancer, kind),
        }
        Ok(())
    }

    /// Random replicas of the seats die, and Swarm starts them again.
    fn lose(&mut self, n: usize, death: Death) {
        let running = self.engine.services().filter(|(_, service)| service.runs);
        let running: Vec<Hostname> = running.map(|(hostname, _)| hostname.clone()).collect();
        for hostname in self.rng.choose_multiple(running, n) {
            self.die(&hostname, death);
            self.restart(hostname, death);
        }
    }

    fn restart(&mut self, hostname: Hostname, death: Death) {
        if self.engine.is_away() {
            return self.stopped.push(hostname);
        }
        let pause = match death {
            Death::Killed | Death::Replaced => delays::start(&mut self.rng),
            Death::Crashed => delays::crash(&mut self.rng),
        };
        self.clock.after(pause, Occurrence::Runs(hostname));
    }

    /// Each balancer that can reach the engine now follows its events again within a second, and reads the record then.
    fn reconnect(&mut self) {
        for balancer in 0..self.balancers.len() {
            let pause = Time::from_secs_f64(self.rng.f64());
            self.clock.after(pause, Occurrence::Hears(balancer));
        }
    }

    fn command(&mut self, balancer: usize, kind: Kind) -> anyhow::Result<()> {
        self.commands += 1;
        let id = CommandId(self.commands);
        let (_, roster) = self.engine.record();
        let Some(seat) = self.rng.choice(&roster.seats) else { return Ok(()) };
        let event = match kind {
            Kind::Add => {
                let name = Hostname::try_from(format!("added{}", id.0)).map_err(anyhow::Error::msg)?;
                let hostnames = vec![name.into()];
                Event::Add(id, Addition { n: 1, hostnames, weights: Vec::new() })
            }
            Kind::Remove => {
                Event::Remove(id, Removal { n: 1, hostnames: vec![seat.slot.name.clone()], drain: None })
            }
            Kind::Weigh => {
                let weight = Weight::try_from(3 - u64::from(seat.weight.get().clamp(1, 2)))
                    .map_err(anyhow::Error::msg)?;
                let mut remapping = Remapping::default();
                remapping.weights.insert(seat.slot.name.clone(), weight);
                Event::Remap(id, remapping)
            }
        };
        self.open.insert(id, (kind, self.clock.now()));
        self.tell(balancer, event)
    }

    /// A replica dies. Every balancer that knows it sees that sooner or later.
    pub(super) fn die(&mut self, hostname: &Hostname, death: Death) {
        if let Some(Service { task, runs: true, .. }) = self.engine.service(hostname) {
            self.engine.end(hostname);
            self.figures.deaths += 1;
            let seen = self.see(hostname, task, death);
            self.figures.seen.extend(seen);
        }
    }

    /// When the balancers that know a task will have seen that it has ended now. Clients meet it until then.
    pub(super) fn see(&mut self, hostname: &Hostname, task: Task, death: Death) -> Vec<Time> {
        let (now, each) = (self.clock.now(), delays::CONNECTIONS / self.balancers.len() as f64);
        let mut seen = Vec::new();
        for (at, balancer) in self.balancers.iter().enumerate() {
            if balancer.known.get(hostname).is_none_or(|known| known.task != task) {
                continue;
            }
            let rate = each * f64::from(balancer.routing.weight_of(hostname.as_str()));
            let sight = eyes::see(death, rate, self.engine.is_reachable(at), &mut self.rng);
            self.figures.refused += sight.refused.len() as u64;
            self.figures.lost += sight.lost.len() as u64;
            self.figures.connects.extend(sight.refused.iter().chain(&sight.lost).map(|at| now + *at));
            seen.push(sight.after);
            self.clock.after(sight.doubted, Occurrence::Doubts(at, hostname.clone(), task));
            self.clock.after(sight.after, Occurrence::Sees(at, hostname.clone(), task, now));
        }
        seen
    }
}
