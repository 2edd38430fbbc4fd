//! Thousands of random histories, each from its seed: several claims on one fleet, against a model of the engine's volumes.
//!
//! In a *calm* world, calls take up to 40 ms, a machine may be killed at any moment, and there are broken volumes. No two machines may
//! hold the fleet at any time there. In a *rough* world, calls fail, or take seconds, or are carried out after they have failed;
//! machines sleep, volumes are removed, and foreign entries appear. Two machines may hold the fleet there for a while. When the
//! world is healthy again, the older one has to go on alone.

mod engine;
mod machine;

use fleet::SlotId;
use proto::control::{Hostname, Weight};

use engine::Engine;
use machine::{Machine, Wait};

use super::super::record::Labels;
use super::*;

/// The longest call of a healthy engine, in milliseconds.
const LATENCY: u64 = 40;
/// The longest call and the longest sleep in a rough world, in milliseconds.
const SLOW: u64 = 5000;

fn ms(time: u64) -> Time {
    Duration::from_millis(time)
}

/// Seats that differ for each number.
fn seats(number: u64) -> Vec<Seat> {
    let host = |name: String| Hostname::try_from(name).unwrap();
    let slot = SlotId { index: 1, name: host("a".to_owned()) };
    vec![Seat::new(slot, Weight::default(), host(format!("r{number}")))]
}

struct World {
    seed: u64,
    rng: fastrand::Rng,
    is_calm: bool,
    /// Whether no call fails or takes long.
    is_healthy: bool,
    now: Time,
    engine: Engine,
    machines: Vec<Machine>,
    has_replicas: bool,
    /// What the next holder may find: what the last one has written, and what it has to write. Empty if there is no fleet.
    promised: Vec<Vec<Seat>>,
    last_seats: u64,
}

impl World {
    fn new(seed: u64, is_calm: bool) -> Self {
        World {
            seed,
            rng: fastrand::Rng::with_seed(seed),
            is_calm,
            is_healthy: is_calm,
            now: ms(0),
            engine: Engine::default(),
            machines: Vec::new(),
            has_replicas: false,
            promised: Vec::new(),
            last_seats: 0,
        }
    }

    fn fresh_seats(&mut self) -> Vec<Seat> {
        self.last_seats += 1;
        seats(self.last_seats)
    }

    /// Another `lb` starts; its clock may be up to a second fast.
    fn start_machine(&mut self) {
        let some = self.rng.choice([Remains::Alive, Remains::Dead]).unwrap();
        let remains = if self.has_replicas { some } else { Remains::Nothing };
        let since = u64::try_from(self.now.as_millis()).unwrap() + self.rng.u64(0..1000);
        let beginning = self.fresh_seats();
        let (claim, action) = Claim::new(Holder::new(since, self.rng.u64(..)), beginning, remains);
        self.machines.push(Machine::new(claim, self.now));
        self.act(self.machines.len() - 1, action);
    }

    /// A holder lends its fleet to a successor.
    fn lend(&mut self) {
        let lenders = (0..self.machines.len()).filter(|&which| self.machines[which].can_lend());
        let Some(which) = self.rng.choice(lenders.collect::<Vec<_>>()) else { return };
        let lender = self.machines.remove(which);
        let (claim, action) = Claim::succeed(lender.claim.tenure(), lender.orders.seats.clone());
        let number = lender.number;
        self.machines.push(Machine {
            number,
            predecessor: Some(Box::new(lender)),
            ..Machine::new(claim, self.now)
        });
        self.act(self.machines.len() - 1, action);
    }

    /// The engine carries out what a machine has sent, dead or alive. One that stands by may take its fleet back.
    fn kill(&mut self, which: usize) {
        let Machine { wait, predecessor, .. } = self.machines.remove(which);
        let call = if let Wait::Sent { at, call, .. } = wait { Some((at, call)) } else { None };
        let Some(mut lender) = predecessor.filter(|_| self.rng.bool()) else {
            self.engine.late.extend(call);
            return;
        };
        if let Some((at, call)) = call {
            // In a calm world, nothing that the dead one has sent is left when the other one looks.
            if self.is_calm {
                self.engine.perform(&call);
            } else {
                self.engine.late.push((at, call));
            }
        }
        self.promised.push(lender.orders.seats.clone());
        lender.wait = Wait::Rest(self.now);
        self.machines.push(*lender);
    }

    fn any_holder(&mut self) -> Option<&mut Machine> {
        let holders = self.machines.iter_mut().filter(|machine| machine.believes());
        self.rng.choice(holders.collect::<Vec<_>>())
    }

    /// Something happens that no claim has asked for.
    fn happen(&mut self) {
        let seats = self.fresh_seats();
        match self.rng.u32(0..100) {
            0..=24 if self.machines.len() < 3 => self.start_machine(),
            25..=49 => {
                let Some(holder) = self.any_holder() else { return };
                holder.give_orders(seats.clone(), None);
                self.promised.push(seats);
            }
            50..=55 => {
                let fate = self.rng.choice([Fate::Erase, Fate::Release]).unwrap();
                let Some(holder) = self.any_holder() else { return };
                holder.give_orders(holder.orders.seats.clone(), Some(fate));
                if fate == Fate::Erase {
                    (self.has_replicas, self.promised) = (false, Vec::new());
                }
            }
            56..=60 if !self.machines.is_empty() => {
                let which = self.rng.usize(0..self.machines.len());
                self.kill(which);
            }
            61..=63 => {
                // A broken volume, perhaps under the number that comes next.
                let number = self.engine.highest + self.rng.u64(1..4);
                self.engine.volumes.entry(number).or_default();
            }
            64..=70 => self.lend(),
            71..=88 if !self.is_calm => self.disturb(seats),
            // The engine tells of a change, whether there was one or not.
            _ => {
                for machine in &mut self.machines {
                    if let Wait::Rest(at) = &mut machine.wait {
                        *at = self.now.min(*at);
                    }
                }
            }
        }
    }

    fn disturb(&mut self, seats: Vec<Seat>) {
        match self.rng.u32(0..20) {
            0..=16 if !self.machines.is_empty() => {
                let which = self.rng.usize(0..self.machines.len());
                self.machines[which].asleep_until = self.now + ms(self.rng.u64(0..SLOW));
            }
            17 => self.engine.volumes.clear(),
            _ => {
                let last = self.engine.last().map_or(0, |last| last.number);
                let (number, since) =
                    (last + self.rng.u64(1..4), self.rng.choice([0, 1000, u64::MAX]).unwrap());
                let holder = self.rng.bool().then(|| Holder::new(since, self.rng.u64(..)));
                let labels = Entry { number, holder, seats }.labels();
                self.engine.volumes.entry(number).or_insert(labels);
            }
        }
    }

    /// Lets this much time pass.
    fn pass(&mut self, time: Time) {
        let end = self.now + time;
        loop {
            let late = self.engine.late.iter().map(|(at, _)| *at).enumerate().min_by_key(|&(_, at)| at);
            let due = self.machines.iter().map(Machine::due).enumerate().min_by_key(|&(_, at)| at);
            match (late, due) {
                (Some((which, at)), next) if at <= end && next.is_none_or(|(_, next)| at <= next) => {
                    self.now = self.now.max(at);
                    let (_, call) = self.engine.late.swap_remove(which);
                    self.engine.perform(&call);
                }
                (_, Some((which, at))) if at <= end => {
                    self.now = self.now.max(at);
                    self.proceed(which);
                }
                _ => break,
            }
            assert!(!self.is_calm || self.believers().len() <= 1, "two hold the fleet");
        }
        self.now = end;
    }

    /// A machine gets what it has waited for.
    fn proceed(&mut self, which: usize) {
        let machine = &mut self.machines[which];
        let event = match mem::replace(&mut machine.wait, Wait::Rest(self.now)) {
            Wait::Sent { back, call, .. } => {
                if self.is_calm {
                    check_removal(&self.engine, &machine.claim, &call);
                }
                machine.wait = Wait::Answered(back, self.engine.perform(&call));
                return;
            }
            Wait::Answered(_, event) => event,
            Wait::Rest(_) if machine.heard == machine.orders.version => Event::Doubt,
            Wait::Rest(_) | Wait::Retry(_) => Event::Told(machine.orders.clone()),
        };
        match (&event, &machine.claim.step) {
            (Event::Told(orders), _) => machine.heard = orders.version,
            (Event::Seen(entries), _) => machine.see(entries),
            (Event::Appended(_), Step::Append(_, asked)) => machine.number = asked.number,
            _ => {}
        }
        let action = machine.claim.apply(self.now, event);
        self.act(which, action);
    }

    /// A machine does what its claim wants.
    fn act(&mut self, which: usize, action: Action) {
        let machine = &mut self.machines[which];
        match action {
            Action::Do(call) => {
                machine.check(&call);
                if let Call::Append(Why::Change, entry) = &call {
                    self.promised.push(entry.seats.clone());
                }
                self.machines[which].wait = self.send(call);
            }
            Action::Rest(limit) => {
                if !mem::replace(&mut machine.is_holding, true) {
                    let is_free = machine.claim.is_new() || self.promised.is_empty();
                    let is_promised = self.promised.iter().any(|seats| seats == machine.claim.seats());
                    assert!(!self.is_calm || is_free || is_promised, "who sits where is kept");
                    machine.orders.seats = machine.claim.seats().to_vec();
                    self.has_replicas = true;
                }
                assert_eq!(machine.claim.version(), machine.heard);
                if machine.believes() {
                    self.promised = vec![machine.claim.seats().to_vec(), machine.orders.seats.clone()];
                }
                machine.wait = Wait::Rest(self.now + limit);
            }
            Action::Retry(pause, _) => {
                assert!(machine.is_holding, "a claim that fails does not go on");
                machine.wait = Wait::Retry(self.now + pause);
            }
            Action::End(end) => {
                assert!(!matches!(end, End::Failed(reason) if reason.contains("not asked")));
                assert!(
                    !self.is_calm || !machine.believes(),
                    "a holder that answers in time stays the holder"
                );
                self.machines.remove(which);
            }
        }
    }

    /// Sends a call to the engine, as far as the engine lets it.
    fn send(&mut self, call: Call) -> Wait {
        if let Call::Pause(pause) = call {
            return Wait::Answered(self.now + pause, Event::Paused);
        }
        let at = self.now + ms(self.rng.u64(1..=LATENCY / 2));
        let back = at + ms(self.rng.u64(1..=LATENCY / 2));
        let long = ms(self.rng.u64(0..SLOW));
        let failed = Wait::Answered(back, Event::Failed("not today".to_owned()));
        match self.rng.u32(0..20) {
            0 if !self.is_healthy => failed,
            1 if !self.is_healthy => {
                self.engine.late.push((at + long, call));
                failed
            }
            // What it answers is old when it arrives.
            2 if !self.is_healthy => Wait::Sent { at, back: back + long, call },
            3 if !self.is_healthy => Wait::Sent { at: at + long, back: back + long, call },
            _ => Wait::Sent { at, back, call },
        }
    }

    fn believers(&self) -> Vec<Holder> {
        self.machines
            .iter()
            .filter(|machine| machine.believes())
            .map(|machine| machine.claim.holder.clone())
            .collect()
    }

    /// Whether there is a sign of a holder that is older than this one.
    fn knows_older(&self, holder: &Holder) -> bool {
        let late = self.engine.late.iter().filter_map(|(_, call)| match call {
            Call::Append(_, entry) => Some(entry.clone()),
            _ => None,
        });
        let written = late.chain(self.engine.entries()).filter_map(|entry| entry.holder);
        let claiming = self.machines.iter().map(|machine| machine.claim.holder.clone());
        written.chain(claiming).any(|other| other < *holder)
    }

    /// A healthy world comes to one holder at most, the oldest one, with a record that is right.
    fn settle(&mut self) {
        self.is_healthy = true;
        for machine in &mut self.machines {
            machine.asleep_until = self.now;
        }
        let oldest = self.believers().into_iter().min();
        let has_to_hold = oldest.as_ref().is_some_and(|oldest| !self.knows_older(oldest));
        self.pass(ms(4 * SLOW));
        let left = self.believers();
        assert!(left.len() <= 1, "two hold the fleet: {left:?}");
        assert!(!has_to_hold || left.first() == oldest.as_ref(), "the oldest one goes on");
        if let Some(holder) = self.machines.iter().find(|machine| machine.believes()) {
            let last = self.engine.last().unwrap();
            assert_eq!(last.holder.as_ref(), Some(&holder.claim.holder));
            assert_eq!((&last.seats, holder.heard), (&holder.orders.seats, holder.orders.version));
        }
    }

    /// When all machines are dead, the next one gets the fleet as it was, unless the number that comes next is taken.
    fn succeed(&mut self) {
        while !self.machines.is_empty() {
            self.kill(0);
        }
        self.pass(ms(2 * SLOW));
        let last = self.engine.last().map_or(0, |last| last.number);
        if !self.engine.volumes.contains_key(&(last + 1)) {
            self.start_machine();
            self.pass(2 * CHALLENGE);
            assert!(self.machines[0].is_holding);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the world of seed {} (calm: {})", self.seed, self.is_calm);
        }
    }
}

/// Broken volumes stay, and so does the last entry unless it is the own one.
fn check_removal(engine: &Engine, claim: &Claim, call: &Call) {
    let Call::Remove(number) = call else { return };
    let Some(there) = engine.volumes.get(number) else { return };
    let entry = Entry::read(there).expect("a broken volume is no business of ours");
    let is_own = entry.holder.as_ref() == Some(&claim.holder);
    assert!(is_own || engine.last() != Some(entry), "the last entry of another lb is removed");
}

fn history(seed: u64, is_calm: bool) -> World {
    let mut world = World::new(seed, is_calm);
    for _ in 0..60 {
        world.happen();
        let longest = world.rng.choice([1, 10, 100, 600, 3000]).unwrap();
        let pause = ms(world.rng.u64(0..longest));
        world.pass(pause);
    }
    world
}

#[test]
fn in_a_calm_world_no_two_hold_a_fleet_and_the_next_one_finds_it_as_it_was() {
    for seed in 0..2000 {
        let mut world = history(seed, true);
        world.settle();
        world.succeed();
    }
}

#[test]
fn in_a_rough_world_the_oldest_goes_on() {
    for seed in 0..2000 {
        let mut world = history(seed, false);
        world.settle();
        world.succeed();
    }
}

#[test]
fn a_record_without_a_number_left_is_not_claimed_and_not_given_up() {
    let last = |holder| Event::Seen(vec![Entry { number: u64::MAX, holder, seats: seats(1) }]);
    let (mut claim, _) = Claim::new(Holder::new(1, 1), seats(1), Remains::Dead);
    assert!(matches!(claim.apply(ms(0), last(None)), Action::End(End::Failed(_))));

    let (mut claim, _) = Claim::new(Holder::new(1, 1), seats(1), Remains::Nothing);
    let Action::Do(Call::Append(_, own)) = claim.apply(ms(0), Event::Seen(Vec::new())) else { panic!() };
    claim.apply(ms(0), Event::Appended(Some(own.clone())));
    assert_eq!(claim.apply(ms(0), Event::Seen(vec![own])), Action::Rest(WATCH));
    claim.apply(ms(0), Event::Doubt);
    assert!(matches!(claim.apply(ms(0), last(Some(Holder::new(2, 2)))), Action::Retry(..)));
}
