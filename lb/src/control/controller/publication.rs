//! Which mapping is published, and which one is built next.
//!
//! To build a mapping may take seconds, so it happens elsewhere, one at a time, and what is published lags behind the fleet until then:
//! the mapping in use keeps its slots and shows their new states, a slot that has left gets no connection, and a new slot enters with
//! the mapping that knows it. A mapping is published when it is built, even if another one is wanted by then: so changes without a
//! pause do not keep each other from being seen. This module builds nothing and does no I/O.

use std::collections::HashSet;
use std::sync::Arc;

use fleet::{Epoch, SlotId, View};
use mapping::{Full, Mapping, Member, Scheme};
use proto::control::State;

use crate::snapshot::Slot;

/// What a mapping is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blueprint {
    pub(super) scheme: Scheme,
    /// By index.
    pub(super) members: Vec<Member>,
}

impl Blueprint {
    /// Builds the mapping. It takes up to some seconds.
    ///
    /// # Errors
    /// The members do not fit, which the fleet has checked.
    pub(super) fn build(&self) -> Result<Mapping, Full> {
        Mapping::build(&self.scheme, &self.members)
    }
}

/// The number of a blueprint that was wanted; a later one has a higher number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u64);

/// A mapping that is published or being built.
#[derive(Debug)]
struct Edition {
    version: Version,
    blueprint: Blueprint,
    /// The newest epoch that it is the mapping of.
    epoch: Option<Epoch>,
    /// The indices of slots that have left the fleet since. A slot that comes back is another one: it enters with the next mapping.
    gone: HashSet<u32>,
}

impl Edition {
    /// Notes which of its slots have left. Both are sorted by index.
    fn compare(&mut self, now: &[Member]) {
        let stays = |member: &Member| {
            let at = now.binary_search_by_key(&member.index, |other| other.index);
            at.is_ok_and(|at| now[at].name == member.name)
        };
        self.gone
            .extend(self.blueprint.members.iter().filter(|member| !stays(member)).map(|member| member.index));
    }
}

/// Which mapping is published, and which one is built next. See the module's documentation.
#[derive(Debug)]
pub(super) struct Publication {
    published: Edition,
    mapping: Arc<Mapping>,
    draft: Option<Edition>,
    wanted: Blueprint,
    /// The epoch of what is wanted.
    epoch: Option<Epoch>,
    /// The versions of the blueprint that is wanted, and of the last one that was built or could not be.
    versions: (Version, Version),
}

impl Publication {
    /// The mapping of no slot is published.
    pub(super) fn new(scheme: Scheme, mapping: Arc<Mapping>) -> Self {
        let wanted = Blueprint { scheme, members: Vec::new() };
        let version = Version::default();
        let published = Edition { version, blueprint: wanted.clone(), epoch: None, gone: HashSet::new() };
        Publication { published, mapping, draft: None, wanted, epoch: None, versions: (version, version) }
    }

    /// Notes what the mapping should be built from now.
    pub(super) fn want(&mut self, blueprint: Blueprint) {
        self.published.compare(&blueprint.members);
        if let Some(draft) = &mut self.draft {
            draft.compare(&blueprint.members);
        }
        if self.wanted != blueprint {
            self.wanted = blueprint;
            self.versions.0.0 += 1;
        }
    }

    /// Notes the epoch of what is wanted now. It may change although the blueprint stays.
    pub(super) fn stamp(&mut self, epoch: Option<Epoch>) {
        self.epoch = epoch;
        let wanted = self.wanted();
        for edition in self.draft.iter_mut().chain([&mut self.published]) {
            if edition.version == wanted {
                edition.epoch = epoch;
            }
        }
    }

    /// The epoch that the published mapping is of: the same epoch is the same choice for every key.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.published.epoch
    }

    /// The version that is wanted.
    pub(super) fn wanted(&self) -> Version {
        self.versions.0
    }

    /// Whether this version, or a later one, has been published (or could not be built).
    pub(super) fn is_settled(&self, version: Version) -> bool {
        self.versions.1 >= version
    }

    /// What to build now, if there is anything, and nothing is being built.
    pub(super) fn next(&mut self) -> Option<Blueprint> {
        if self.draft.is_some() || self.is_settled(self.wanted()) {
            return None;
        }
        let (version, blueprint) = (self.wanted(), self.wanted.clone());
        self.draft =
            Some(Edition { version, blueprint: blueprint.clone(), epoch: self.epoch, gone: HashSet::new() });
        Some(blueprint)
    }

    /// Publishes what was built. If it could not be built, the old mapping stays: that is better than none.
    pub(super) fn complete(&mut self, built: Option<Mapping>) {
        let Some(draft) = self.draft.take() else { return };
        self.versions.1 = draft.version;
        if let Some(mapping) = built {
            self.mapping = Arc::new(mapping);
            self.published = draft;
        }
    }

    /// The mapping that is published.
    pub(super) fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Whether the published mapping leads to this slot.
    pub(super) fn has(&self, slot: &SlotId) -> bool {
        let at = self.members().binary_search_by_key(&slot.index, |member| member.index);
        at.is_ok_and(|at| {
            self.members()[at].name == slot.name.as_str() && !self.published.gone.contains(&slot.index)
        })
    }

    /// What it was built from.
    pub(super) fn members(&self) -> &[Member] {
        &self.published.blueprint.members
    }

    /// The slots of the published mapping, in its order, each as `views` (by index) show it; `None` for one that has left.
    pub(super) fn arrange(&self, views: Vec<View>) -> impl Iterator<Item = (&Member, Option<View>)> {
        let mut views = views.into_iter().peekable();
        self.members().iter().map(move |member| {
            let index = |view: &View| view.slot.as_ref().map_or(0, |slot| slot.index);
            while views.next_if(|view| index(view) < member.index).is_some() {}
            let view = views.next_if(|view| index(view) == member.index);
            (member, view.filter(|_| !self.published.gone.contains(&member.index)))
        })
    }
}

/// A slot that has left the fleet, and is in the mapping until the next one is built.
pub(super) fn left(Member { index, name, weight }: &Member) -> Slot {
    Slot {
        index: *index,
        name: name.clone(),
        weight: *weight,
        hostname: name.clone(),
        state: State::Draining,
        reason: Some("it has been removed".to_owned()),
        replica: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fleet::SlotId;
    use mapping::Algorithm;
    use proto::control::{Hostname, Weight};

    use super::*;

    fn name(index: u32) -> Hostname {
        Hostname::try_from(format!("server{index}")).unwrap()
    }

    fn blueprint(indices: &[u32]) -> Blueprint {
        let member = |&index: &u32| Member { index, name: name(index).to_string(), weight: 1 };
        let scheme = Scheme::from(Algorithm::Ring { points: 10 });
        Blueprint { scheme, members: indices.iter().map(member).collect() }
    }

    fn view(index: u32) -> View {
        View {
            slot: Some(SlotId { index, name: name(index) }),
            weight: Weight::default(),
            hostname: name(index),
            location: None,
            replica: None,
            state: State::Up,
            reason: None,
            since: Duration::ZERO,
            restarts: 0,
            next_start: None,
        }
    }

    /// A publication of these slots.
    fn published(indices: &[u32]) -> Publication {
        let empty = blueprint(&[]);
        let mapping = Arc::new(empty.build().unwrap());
        let mut publication = Publication::new(empty.scheme, mapping);
        publication.want(blueprint(indices));
        build(&mut publication);
        publication
    }

    fn build(publication: &mut Publication) {
        let blueprint = publication.next().expect("there is something to build");
        publication.complete(Some(blueprint.build().unwrap()));
    }

    /// The published slots, and whether each is still there.
    fn seen(publication: &Publication, fleet: &[u32]) -> Vec<(u32, bool)> {
        let views = fleet.iter().copied().map(view).collect();
        publication.arrange(views).map(|(member, view)| (member.index, view.is_some())).collect()
    }

    #[test]
    fn a_new_slot_enters_when_the_mapping_is_built() {
        let mut publication = published(&[1, 3]);
        publication.want(blueprint(&[1, 2, 3]));
        assert_eq!(seen(&publication, &[1, 2, 3]), [(1, true), (3, true)]);
        assert!(!publication.is_settled(publication.wanted()));
        build(&mut publication);
        assert_eq!(seen(&publication, &[1, 2, 3]), [(1, true), (2, true), (3, true)]);
        assert!(publication.is_settled(publication.wanted()) && publication.next().is_none());
    }

    #[test]
    fn an_epoch_is_shown_with_its_mapping() {
        let mut publication = published(&[1]);
        publication.stamp(Some(Epoch(1)));
        publication.want(blueprint(&[1, 2]));
        let underway = publication.next().unwrap();
        publication.stamp(Some(Epoch(2)));
        let slot = |index| SlotId { index, name: name(index) };
        assert_eq!(
            (publication.epoch(), publication.has(&slot(1)), publication.has(&slot(2))),
            (Some(Epoch(1)), true, false)
        );
        // The next epoch is known before the mapping of this one is built.
        publication.want(blueprint(&[2]));
        publication.stamp(Some(Epoch(3)));
        publication.complete(Some(underway.build().unwrap()));
        assert_eq!(
            (publication.epoch(), publication.has(&slot(1)), publication.has(&slot(2))),
            (Some(Epoch(2)), false, true)
        );
        build(&mut publication);
        assert_eq!(publication.epoch(), Some(Epoch(3)));
        // A change of something else.
        publication.stamp(Some(Epoch(4)));
        assert_eq!(publication.epoch(), Some(Epoch(4)));
        assert!(!publication.has(&SlotId { index: 2, name: name(7) }));
    }

    #[test]
    fn a_slot_that_leaves_is_gone_at_once_and_does_not_come_back_before_its_mapping() {
        let mut publication = published(&[1, 2, 3]);
        publication.want(blueprint(&[1, 3]));
        assert_eq!(seen(&publication, &[1, 3]), [(1, true), (2, false), (3, true)]);
        // Another slot of the same name and index comes together with a fourth one.
        let underway = publication.next().unwrap();
        publication.want(blueprint(&[1, 2, 3, 4]));
        assert_eq!(seen(&publication, &[1, 2, 3, 4]), [(1, true), (2, false), (3, true)]);
        publication.complete(Some(underway.build().unwrap()));
        assert_eq!(seen(&publication, &[1, 2, 3, 4]), [(1, true), (3, true)]);
        build(&mut publication);
        assert_eq!(seen(&publication, &[1, 2, 3, 4]), [(1, true), (2, true), (3, true), (4, true)]);
    }

    #[test]
    fn a_slot_that_leaves_during_a_build_is_gone_when_that_is_published() {
        let mut publication = published(&[1]);
        publication.want(blueprint(&[1, 2]));
        let underway = publication.next().unwrap();
        publication.want(blueprint(&[2]));
        assert_eq!(publication.next(), None, "one build at a time");
        publication.complete(Some(underway.build().unwrap()));
        assert_eq!(seen(&publication, &[2]), [(1, false), (2, true)]);
    }

    #[test]
    fn a_build_that_is_overtaken_is_published_and_the_next_one_follows() {
        let mut publication = published(&[1]);
        publication.want(blueprint(&[1, 2]));
        let (first, underway) = (publication.wanted(), publication.next().unwrap());
        publication.want(blueprint(&[1, 2, 3]));
        publication.complete(Some(underway.build().unwrap()));
        assert!(publication.is_settled(first) && !publication.is_settled(publication.wanted()));
        assert_eq!(seen(&publication, &[1, 2, 3]), [(1, true), (2, true)]);
        assert_eq!(publication.next(), Some(blueprint(&[1, 2, 3])));
    }

    #[test]
    fn a_mapping_that_cannot_be_built_is_not_tried_again() {
        let mut publication = published(&[1]);
        publication.want(blueprint(&[1, 2]));
        publication.next().unwrap();
        publication.complete(None);
        assert!(publication.is_settled(publication.wanted()) && publication.next().is_none());
        assert_eq!(seen(&publication, &[1, 2]), [(1, true)], "the old mapping stays");
    }

    #[test]
    fn the_same_slots_need_no_build() {
        let mut publication = published(&[1, 2]);
        publication.want(blueprint(&[1, 2]));
        assert!(publication.next().is_none() && publication.is_settled(publication.wanted()));
    }
}
