//! Incidents: from the loss of a replica in rotation until its slot is in rotation again.
//!
//! It watches the views of the slots as they change, and decides nothing. What it tells about connections it reads from the lost replica
//! itself, which sessions may still use.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fleet::{ReplicaId, Time, View};
use proto::control::State;
use proto::incident::{Incident, Phases};

use super::Clock;
use crate::replica::Replica;

/// The most incidents that are kept.
const MOST: usize = 1000;

/// What is seen of a slot when it changes.
pub(super) struct Sight<'a> {
    pub(super) now: Time,
    pub(super) view: &'a View,
    /// The replica that runs there, if it has been started.
    pub(super) replica: Option<&'a Arc<Replica>>,
    /// Whether the sessions of a replica that is out of rotation are reset.
    pub(super) resets: bool,
    /// How many clients have got no replica so far.
    pub(super) refused: u64,
}

/// All slots that have been in rotation, and what has happened to them.
#[derive(Debug)]
pub(super) struct Incidents {
    clock: Clock,
    /// By index.
    slots: HashMap<u32, Slot>,
    ended: VecDeque<Incident>,
}

#[derive(Debug)]
enum Slot {
    /// In rotation.
    Well(Well),
    /// It has lost its replica.
    Lost(Box<Loss>),
}

/// A replica in rotation.
#[derive(Clone, Debug)]
struct Well {
    id: ReplicaId,
    hostname: String,
    replica: Arc<Replica>,
    /// How many connects to it had failed before.
    failed: u64,
}

/// An incident that has not ended.
#[derive(Clone, Debug)]
struct Loss {
    slot: String,
    lost: Well,
    cause: String,
    began: Time,
    out: Time,
    /// The replica that is started there, and since when it runs.
    next: Option<(ReplicaId, Option<Time>)>,
    starts: u32,
    /// Whether the lost replica has been given up.
    is_gone: bool,
    cut: u64,
    /// How many clients had got no replica before.
    refused: u64,
}

impl Well {
    fn of(sight: &Sight<'_>) -> Option<Self> {
        let (id, replica) = (sight.view.replica?, Arc::clone(sight.replica?));
        let failed = failed(&replica);
        Some(Well { id, hostname: sight.view.hostname.to_string(), replica, failed })
    }
}

fn failed(replica: &Replica) -> u64 {
    let failed = replica.connections().failed;
    failed.refused + failed.timeout + failed.other
}

impl Incidents {
    /// Goes on after incidents that have ended under the `lb` before this one.
    pub(super) fn after(ended: Vec<Incident>, clock: Clock) -> Self {
        let too_many = ended.len().saturating_sub(MOST);
        Incidents { clock, slots: HashMap::new(), ended: ended.into_iter().skip(too_many).collect() }
    }

    /// A slot has changed. Returns the incident that has ended with this.
    pub(super) fn see(&mut self, sight: &Sight<'_>) -> Option<&Incident> {
        let index = sight.view.slot.as_ref()?.index;
        let ended = match (self.slots.remove(&index), sight.view.state) {
            (before, State::Up) => {
                let well = Well::of(sight)?;
                let loss = match before {
                    Some(Slot::Lost(loss)) => Some(loss.seen(sight)),
                    // A spare has moved in at once.
                    Some(Slot::Well(lost)) if lost.id != well.id => Some(self.loss(lost, sight)),
                    Some(Slot::Well(_)) | None => None,
                };
                let ended =
                    loss.map(|loss| self.told(&loss, Some((sight.now, &well.hostname)), sight.refused));
                self.slots.insert(index, Slot::Well(well));
                ended?
            }
            (Some(Slot::Lost(loss)), State::Draining) => {
                Incident { removed: true, ..self.told(&loss, None, sight.refused) }
            }
            (Some(before), State::Starting | State::Down | State::Quarantined) => {
                let loss = match before {
                    Slot::Lost(loss) => loss.seen(sight),
                    Slot::Well(lost) => self.loss(lost, sight),
                };
                self.slots.insert(index, Slot::Lost(Box::new(loss)));
                return None;
            }
            (Some(Slot::Well(_)) | None, _) => return None,
        };
        self.keep(ended)
    }

    /// A replica runs.
    pub(super) fn started(&mut self, id: ReplicaId, now: Time) {
        let losses = self.slots.values_mut().filter_map(|slot| match slot {
            Slot::Lost(loss) => loss.next.as_mut(),
            Slot::Well(_) => None,
        });
        losses.filter(|(next, _)| *next == id).for_each(|(_, started)| *started = Some(now));
    }

    /// Only slots with these indices are left. Returns the incidents that have ended with this.
    pub(super) fn retain(&mut self, is_left: impl Fn(u32) -> bool, refused: u64) -> Vec<Incident> {
        let gone: Vec<Slot> =
            self.slots.extract_if(|&index, _| !is_left(index)).map(|(_, slot)| slot).collect();
        let lost = gone.iter().filter_map(Slot::loss);
        let ended = lost.map(|loss| Incident { removed: true, ..self.told(loss, None, refused) });
        let ended: Vec<Incident> = ended.collect();
        for incident in &ended {
            self.keep(incident.clone());
        }
        ended
    }

    /// Those that have ended, and then those that have not, in the order in which they began.
    pub(super) fn all(&self, refused: u64) -> Vec<Incident> {
        let mut open: Vec<&Loss> = self.slots.values().filter_map(Slot::loss).collect();
        open.sort_by_key(|loss| loss.began);
        let open = open.into_iter().map(|loss| self.told(loss, None, refused));
        self.ended.iter().cloned().chain(open).collect()
    }

    /// A replica has just been lost.
    fn loss(&self, lost: Well, sight: &Sight<'_>) -> Loss {
        let suspected = lost.replica.suspicion.since().map(|since| self.clock.time(since));
        let loss = Loss {
            slot: sight.view.slot.as_ref().map(|slot| slot.name.to_string()).unwrap_or_default(),
            cause: sight.view.reason.clone().unwrap_or_else(|| "a spare has moved in".to_owned()),
            began: suspected.unwrap_or(sight.now).min(sight.now),
            out: sight.now,
            next: None,
            starts: 0,
            is_gone: false,
            cut: if sight.resets { lost.replica.open() as u64 } else { 0 },
            refused: sight.refused,
            lost,
        };
        loss.seen(sight)
    }

    fn told(&self, loss: &Loss, end: Option<(Time, &str)>, refused: u64) -> Incident {
        let between = |from: Time, to: Time| to.saturating_sub(from).as_secs_f64();
        let up = end.map(|(up, _)| up);
        let started = loss.next.and_then(|(_, started)| started);
        let phases = Phases {
            notice: Some(between(loss.began, loss.out)),
            start: started.map(|started| between(loss.out, started)),
            ready: started.zip(up).map(|(started, up)| between(started, up)),
            total: up.map(|up| between(loss.began, up)),
        };
        Incident {
            slot: loss.slot.clone(),
            hostname: loss.lost.hostname.clone(),
            began: self.clock.rfc3339(loss.began),
            cause: loss.cause.clone(),
            phases,
            replaced_by: end.map(|(_, hostname)| hostname.to_owned()),
            starts: loss.starts,
            removed: false,
            cut: loss.cut,
            refused: refused.saturating_sub(loss.refused),
            retried: failed(&loss.lost.replica).saturating_sub(loss.lost.failed),
        }
    }

    fn keep(&mut self, ended: Incident) -> Option<&Incident> {
        if self.ended.len() == MOST {
            self.ended.pop_front();
        }
        self.ended.push_back(ended);
        self.ended.back()
    }
}

impl Slot {
    fn loss(&self) -> Option<&Loss> {
        match self {
            Slot::Lost(loss) => Some(loss),
            Slot::Well(_) => None,
        }
    }
}

impl Loss {
    /// With what is seen of the slot now.
    fn seen(mut self, sight: &Sight<'_>) -> Loss {
        let now_there = sight.view.replica;
        if !self.is_gone && now_there != Some(self.lost.id) {
            self.is_gone = true;
            self.cut += self.lost.replica.open() as u64;
        }
        if sight.view.state == State::Starting
            && let Some(next) = now_there.filter(|&next| self.next.is_none_or(|(last, _)| last != next))
        {
            self.next = Some((next, None));
            self.starts += 1;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use fleet::SlotId;
    use proto::control::{Hostname, Weight};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::replica::Dialled;

    fn replica(name: &str) -> Arc<Replica> {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Arc::new(Replica::new(name.to_owned(), address.into(), CancellationToken::new()))
    }

    fn name(name: &str) -> Hostname {
        Hostname::try_from(name.to_owned()).unwrap()
    }

    /// A slot that is seen after so many milliseconds.
    struct World {
        incidents: Incidents,
        refused: u64,
    }

    impl World {
        fn new() -> World {
            World { incidents: Incidents::after(Vec::new(), Clock::start()), refused: 0 }
        }

        fn see(
            &mut self,
            milliseconds: u64,
            state: State,
            (id, replica): (u64, &Arc<Replica>),
            reason: Option<&str>,
        ) -> Option<Incident> {
            let view = View {
                slot: Some(SlotId { index: 1, name: name("a") }),
                weight: Weight::default(),
                hostname: name(&replica.hostname),
                location: None,
                replica: (id > 0).then_some(ReplicaId(id)),
                state,
                reason: reason.map(str::to_owned),
                since: Duration::ZERO,
                restarts: 0,
                next_start: None,
            };
            let (now, refused) = (Duration::from_millis(milliseconds), self.refused);
            let replica = (id > 0).then_some(replica);
            self.incidents.see(&Sight { now, view: &view, replica, resets: false, refused }).cloned()
        }
    }

    #[test]
    fn a_replacement_has_its_phases_and_what_was_lost() {
        let (mut world, first, second) = (World::new(), replica("a"), replica("b"));
        assert_eq!(world.see(0, State::Starting, (1, &first), None), None, "a start is no incident");
        first.counters.dialled(Dialled::Refused);
        assert_eq!(world.see(10, State::Up, (1, &first), None), None);
        let session = first.lease(b"7");
        first.counters.dialled(Dialled::Refused);
        first.counters.dialled(Dialled::Local);
        world.refused = 5;
        assert_eq!(world.see(1000, State::Starting, (2, &second), Some("exited")), None);
        drop(session);
        world.refused = 8;
        world.incidents.started(ReplicaId(2), Duration::from_millis(1250));
        let open = world.incidents.all(world.refused);
        assert_eq!((open[0].phases.start, open[0].phases.total), (Some(0.25), None));
        let ended = world.see(2000, State::Up, (2, &second), None).unwrap();
        let phases = Phases { notice: Some(0.0), start: Some(0.25), ready: Some(0.75), total: Some(1.0) };
        assert_eq!(ended.phases, phases);
        assert_eq!(
            (ended.slot.as_str(), ended.hostname.as_str(), ended.cause.as_str()),
            ("a", "a", "exited")
        );
        assert_eq!((ended.replaced_by.as_deref(), ended.starts), (Some("b"), 1));
        assert_eq!((ended.cut, ended.refused, ended.retried), (1, 3, 1));
        assert_eq!(world.incidents.all(9), [ended]);
    }

    #[test]
    fn a_start_that_fails_is_part_of_the_incident() {
        let (mut world, first, second) = (World::new(), replica("a"), replica("b"));
        world.see(0, State::Up, (1, &first), None);
        world.see(100, State::Starting, (2, &second), Some("exited"));
        world.incidents.started(ReplicaId(2), Duration::from_millis(200));
        world.see(300, State::Down, (0, &second), Some("it does not start"));
        world.see(400, State::Starting, (3, &second), Some("it does not start"));
        world.incidents.started(ReplicaId(2), Duration::from_millis(450));
        world.incidents.started(ReplicaId(3), Duration::from_millis(500));
        let ended = world.see(600, State::Up, (3, &second), None).unwrap();
        assert_eq!((ended.starts, ended.cause.as_str()), (2, "exited"));
        assert_eq!((ended.phases.start, ended.phases.total), (Some(0.4), Some(0.5)));
    }

    #[test]
    fn a_replica_that_comes_back_by_itself_needs_no_start() {
        let (mut world, first) = (World::new(), replica("a"));
        world.see(0, State::Up, (1, &first), None);
        let session = first.lease(b"7");
        world.see(100, State::Down, (1, &first), Some("no answer"));
        let ended = world.see(300, State::Up, (1, &first), None).unwrap();
        assert_eq!((ended.starts, ended.cut, ended.replaced_by.as_deref()), (0, 0, Some("a")));
        assert_eq!((ended.phases.start, ended.phases.total), (None, Some(0.2)));
        drop(session);
    }

    #[test]
    fn a_spare_that_moves_in_is_an_incident_without_a_start() {
        let (mut world, first, spare) = (World::new(), replica("a"), replica("b"));
        world.see(0, State::Up, (1, &first), None);
        let ended = world.see(100, State::Up, (9, &spare), None).unwrap();
        assert_eq!(
            (ended.starts, ended.replaced_by.as_deref(), ended.phases.total),
            (0, Some("b"), Some(0.0))
        );
        assert_eq!(world.see(200, State::Up, (9, &spare), None), None);
    }

    #[test]
    fn a_slot_that_is_removed_ends_its_incident() {
        let (mut world, first) = (World::new(), replica("a"));
        world.see(0, State::Up, (1, &first), None);
        assert_eq!(world.see(50, State::Draining, (1, &first), None), None, "it was well");
        for removal in [true, false] {
            let mut world = World::new();
            world.see(0, State::Up, (1, &first), None);
            world.see(100, State::Quarantined, (0, &first), Some("exited"));
            if removal {
                let ended = world.incidents.retain(|index| index != 1, 0);
                assert_eq!(ended, world.incidents.all(0));
            } else {
                world.see(200, State::Draining, (0, &first), None);
            }
            let all = world.incidents.all(0);
            assert_eq!((all.len(), all[0].removed, all[0].phases.total), (1, true, None));
        }
    }

    #[test]
    fn the_first_sign_is_the_beginning() {
        let (mut world, first) = (World::new(), replica("a"));
        world.see(0, State::Up, (1, &first), None);
        first.suspicion.raise();
        let since = world.incidents.clock.time(first.suspicion.since().unwrap());
        let out = since + Duration::from_millis(700);
        world.see(u64::try_from(out.as_millis()).unwrap() + 1, State::Down, (1, &first), Some("no answer"));
        let notice = world.incidents.all(0)[0].phases.notice.unwrap();
        assert!((0.699..=0.702).contains(&notice), "{notice}");
    }
}
