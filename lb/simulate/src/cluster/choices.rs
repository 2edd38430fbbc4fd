//! Where sampled keys go: by the mapping alone, and by the health of replicas as one balancer knows it.
//!
//! The mapping is the real one, built from the members that a balancer's fleet has. It is a pure function of them, so a [`Library`] builds
//! it once for equal members and an equal policy. It compares them in full.

use std::collections::VecDeque;
use std::rc::Rc;

use anyhow::Context as _;
use fleet::{Fleet, SlotId, View};
use mapping::{Mapping, MappingPolicy, Member};
use proto::control::State;

/// How many keys are sampled.
pub(super) const SAMPLE: u32 = 10_000;
/// So many replicas are known that a key tries in turn.
const CANDIDATES: usize = 8;
/// So many mappings are kept. Balancers differ by a few epochs, at most by those of a partition.
const KEPT: usize = 64;

/// What a mapping says about the sampled keys.
#[derive(Debug)]
pub(super) struct Choices {
    policy: MappingPolicy,
    /// By index.
    members: Vec<Member>,
    /// The ordinals of the members that each key tries in turn.
    candidates: Vec<Vec<usize>>,
}

/// All mappings of late.
#[derive(Debug, Default)]
pub(super) struct Library {
    kept: VecDeque<Rc<Choices>>,
}

impl Choices {
    fn build(policy: MappingPolicy, members: Vec<Member>) -> anyhow::Result<Self> {
        let mapping =
            Mapping::build(&policy.scheme, &members).context("the mapping has no room for a fleet")?;
        let key = |at: u32| (100_000 + at).to_string();
        let tried = |key: String| mapping.candidates(key.as_bytes()).take(CANDIDATES).collect();
        let candidates = (0..SAMPLE).map(key).map(tried).collect();
        Ok(Choices { policy, members, candidates })
    }

    /// The name of the owner of each key.
    fn owners(&self) -> impl Iterator<Item = Option<&str>> {
        self.candidates.iter().map(|tried| Some(self.members[*tried.first()?].name.as_str()))
    }

    fn ordinal(&self, index: u32, name: &str) -> Option<usize> {
        let at = self.members.binary_search_by_key(&index, |member| member.index).ok()?;
        (self.members[at].name == name).then_some(at)
    }
}

/// How many keys have not the same owner with all of these.
pub(super) fn differing(all: &[&Rc<Choices>]) -> usize {
    let Some((first, others)) = all.split_first() else { return 0 };
    let mut differs = vec![false; SAMPLE as usize];
    for other in others.iter().filter(|other| !Rc::ptr_eq(first, other)) {
        for (differs, (one, other)) in differs.iter_mut().zip(first.owners().zip(other.owners())) {
            *differs |= one != other;
        }
    }
    differs.into_iter().filter(|differs| *differs).count()
}

impl Library {
    fn choices(&mut self, policy: &MappingPolicy, members: Vec<Member>) -> anyhow::Result<Rc<Choices>> {
        let is_it = |choices: &&Rc<Choices>| choices.members == members && choices.policy == *policy;
        if let Some(known) = self.kept.iter().find(is_it) {
            return Ok(Rc::clone(known));
        }
        self.kept.truncate(KEPT - 1);
        self.kept.push_front(Rc::new(Choices::build(policy.clone(), members)?));
        Ok(Rc::clone(&self.kept[0]))
    }
}

/// Where one balancer sends the sampled keys.
#[derive(Clone, Debug)]
pub(super) struct Routing {
    choices: Rc<Choices>,
    /// Whether a slot gets connections, by ordinal.
    is_up: Vec<bool>,
    /// The ordinal of the slot that each key goes to, if there is one.
    routes: Vec<Option<usize>>,
}

impl Routing {
    /// As the fleet of a balancer has it.
    pub(super) fn of(fleet: &Fleet, library: &mut Library) -> anyhow::Result<Self> {
        let views: Vec<View> = fleet.slots().collect();
        let members = views.iter().filter_map(View::member).collect();
        let choices = library.choices(fleet.mapping(), members)?;
        let is_up = views.iter().map(|view| view.state == State::Up).collect();
        Ok(Routing { choices, is_up, routes: Vec::new() }.routed())
    }

    /// After these slots have changed their states, and nothing else.
    pub(super) fn after(&self, changed: &[View]) -> Self {
        let mut routing = self.clone();
        for View { slot, state, .. } in changed {
            let ordinal =
                slot.as_ref().and_then(|SlotId { index, name }| self.choices.ordinal(*index, name.as_str()));
            if let Some(ordinal) = ordinal {
                routing.is_up[ordinal] = *state == State::Up;
            }
        }
        routing.routed()
    }

    fn routed(mut self) -> Self {
        let route = |tried: &Vec<usize>| tried.iter().copied().find(|&ordinal| self.is_up[ordinal]);
        self.routes = self.choices.candidates.iter().map(route).collect();
        self
    }

    pub(super) fn choices(&self) -> &Rc<Choices> {
        &self.choices
    }

    /// The slot's weight, if it gets connections.
    fn weight(&self, slot: &Member) -> Option<u32> {
        let ordinal = self.choices.ordinal(slot.index, &slot.name)?;
        self.is_up[ordinal].then(|| self.choices.members[ordinal].weight)
    }

    fn slot(&self, ordinal: usize) -> &Member {
        &self.choices.members[ordinal]
    }

    /// The slot's share of the keys against the others', if it gets connections.
    pub(super) fn weight_of(&self, name: &str) -> u32 {
        let ordinal = self.choices.members.iter().position(|member| member.name == name);
        ordinal.and_then(|ordinal| self.weight(self.slot(ordinal))).unwrap_or(0)
    }

    /// Whether every slot gets connections.
    pub(super) fn is_whole(&self) -> bool {
        self.is_up.iter().all(|is_up| *is_up)
    }

    /// How many keys go elsewhere now.
    pub(super) fn moves_to(&self, after: &Routing) -> u64 {
        self.moves(after).count() as u64
    }

    /// How many keys go elsewhere now although the slot that they leave serves on and has lost no weight, and the one that they go to served
    /// before and has gained none.
    pub(super) fn needless_moves_to(&self, after: &Routing) -> u64 {
        self.moves(after).filter(|&(from, to)| self.is_needless(from, after, to)).count() as u64
    }

    /// The slots that keys leave and go to.
    fn moves<'a>(&'a self, after: &'a Routing) -> impl Iterator<Item = (&'a Member, &'a Member)> {
        let routes = self.routes.iter().zip(&after.routes);
        let is_same = Rc::ptr_eq(&self.choices, &after.choices);
        let routes = routes.filter(move |(from, to)| !is_same || from != to);
        let slots = routes.filter_map(|(&from, &to)| Some((self.slot(from?), after.slot(to?))));
        slots.filter(|(from, to)| (from.index, &from.name) != (to.index, &to.name))
    }

    fn is_needless(&self, from: &Member, after: &Routing, to: &Member) -> bool {
        after.weight(from).is_some_and(|weight| weight >= from.weight)
            && self.weight(to).is_some_and(|weight| weight >= to.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::fleet;
    use mapping::Algorithm;

    fn routing(algorithm: Algorithm, members: &[Member]) -> Routing {
        let policy = MappingPolicy { scheme: algorithm.into(), balance: None };
        let choices = Rc::new(Choices::build(policy, members.to_vec()).unwrap());
        Routing { is_up: vec![true; members.len()], choices, routes: Vec::new() }.routed()
    }

    fn without(mut routing: Routing, down: usize) -> Routing {
        routing.is_up[down] = false;
        routing.routed()
    }

    #[test]
    fn the_keys_of_a_lost_replica_go_elsewhere_and_come_back_and_no_others_move() {
        let all = routing(Algorithm::Ring { points: 100 }, &fleet(5));
        let four = without(all.clone(), 2);
        let moved = all.routes.iter().zip(&four.routes).filter(|(before, after)| before != after).count();
        assert!((1000..3000).contains(&moved), "{moved}");
        assert_eq!((all.needless_moves_to(&four), four.needless_moves_to(&all)), (0, 0));
    }

    #[test]
    fn a_mapping_that_moves_more_than_it_has_to_is_found_out() {
        let needless = |algorithm: Algorithm| {
            let (six, five) = (fleet(6), fleet(6).split_off(1));
            let [before, after] = [six, five].map(|members| routing(algorithm.clone(), &members));
            (before.needless_moves_to(&after), differing(&[before.choices(), after.choices()]))
        };
        let (none, ring) = needless(Algorithm::Ring { points: 100 });
        assert!(none == 0 && (1000..2500).contains(&ring), "{none} {ring}");
        assert!(needless(Algorithm::named(mapping::MappingName::Slots)).0 > 0);
    }

    #[test]
    fn equal_members_share_a_mapping_and_others_do_not() {
        let mut library = Library::default();
        let policy = MappingPolicy { scheme: Algorithm::Maglev.into(), balance: None };
        let mut choices = |n| library.choices(&policy, fleet(n)).unwrap();
        let [three, four, again] = [3, 4, 3].map(&mut choices);
        assert!(Rc::ptr_eq(&three, &again) && !Rc::ptr_eq(&three, &four));
        assert_eq!(differing(&[&three, &again]), 0);
    }
}
