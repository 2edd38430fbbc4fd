//! Whether balancers agree: how long a new epoch takes to reach all of them, and how many keys they send to different slots meanwhile.
//!
//! It compares choices by the mapping, not health: a balancer that has not seen a death yet differs in that, and its connects to the dead
//! are counted elsewhere.

use std::collections::BTreeMap;
use std::rc::Rc;

use fleet::{Epoch, Time};

use super::choices::{self, Choices};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Agreement {
    /// What each balancer follows.
    followed: Vec<(Epoch, Rc<Choices>)>,
    /// When an epoch was written, and how many balancers have not reached it.
    spreading: BTreeMap<Epoch, (Time, usize)>,
    /// When the present disagreement began, if there is one.
    since: Option<Time>,
    pub(super) found: Found,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// From the write of an epoch until the last balancer follows it.
    pub(super) spreads: Vec<Time>,
    /// How long each disagreement lasted.
    pub(super) disagreements: Vec<Time>,
    /// How many keys balancers disagreed on from then on.
    pub(super) differing: Vec<(Time, usize)>,
    /// Keys that balancers of the same epoch disagreed on. There must be none.
    pub(super) keys_at_one_epoch: usize,
}

impl Agreement {
    /// All balancers follow the first epoch.
    pub(super) fn new(choices: &Rc<Choices>, balancers: usize) -> Self {
        Agreement {
            followed: vec![(Epoch(1), Rc::clone(choices)); balancers],
            spreading: BTreeMap::new(),
            since: None,
            found: Found::default(),
        }
    }

    /// A new epoch is written.
    pub(super) fn written(&mut self, now: Time, epoch: Epoch) {
        self.spreading.insert(epoch, (now, self.followed.len()));
    }

    /// A balancer follows another epoch now.
    pub(super) fn follows(&mut self, now: Time, balancer: usize, epoch: Epoch, choices: &Rc<Choices>) {
        let (before, _) = std::mem::replace(&mut self.followed[balancer], (epoch, Rc::clone(choices)));
        for (_, (written, missing)) in self.spreading.range_mut(Epoch(before.0 + 1)..=epoch) {
            *missing -= 1;
            if *missing == 0 {
                self.found.spreads.push(now - *written);
            }
        }
        self.spreading.retain(|_, (_, missing)| *missing > 0);
        self.compare(now);
    }

    fn compare(&mut self, now: Time) {
        let all = distinct(self.followed.iter().map(|(_, choices)| choices));
        let keys = choices::differing(&all);
        self.found.differing.push((now, keys));
        match (keys > 0, self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(since)) => {
                self.found.disagreements.push(now - since);
                self.since = None;
            }
            _ => {}
        }
        if all.len() > 1 {
            self.found.keys_at_one_epoch += self.differing_at_one_epoch();
        }
    }

    fn differing_at_one_epoch(&self) -> usize {
        let mut by_epoch: BTreeMap<Epoch, Vec<&Rc<Choices>>> = BTreeMap::new();
        self.followed.iter().for_each(|(epoch, choices)| by_epoch.entry(*epoch).or_default().push(choices));
        by_epoch.into_values().map(|all| choices::differing(&distinct(all))).sum()
    }

    /// Whether all follow this epoch now.
    pub(super) fn is_reached(&self, epoch: Epoch) -> bool {
        self.followed.iter().all(|(followed, _)| *followed == epoch) && self.since.is_none()
    }
}

/// Each once.
fn distinct<'a>(all: impl IntoIterator<Item = &'a Rc<Choices>>) -> Vec<&'a Rc<Choices>> {
    let mut distinct: Vec<&Rc<Choices>> = Vec::new();
    for choices in all {
        if distinct.iter().all(|known| !Rc::ptr_eq(known, choices)) {
            distinct.push(choices);
        }
    }
    distinct
}
