//! What a configuration wishes of the fleet, compared with what runs. It is pure.
//!
//! What a command has changed since the last wish, and the configuration says otherwise, is a difference too. What the configuration leaves
//! open is none: weights and names of slots where it cannot say them, and their number and the mapping where it does not.

use std::collections::{BTreeMap, BTreeSet};

use fleet::{Fleet, Revision, View};
use mapping::MappingPolicy;
use proto::control::{
    Addition, Changer, Fate, FixedBackend, Hostname, Newcomer, Plan, Remapping, Removal, SettingChange,
    SlotChange,
};

/// What a configuration wishes of the fleet.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) slots: WishedSlots,
    /// How keys are mapped, if it says that.
    pub(crate) mapping: Option<MappingPolicy>,
    /// The keys whose values are others than when the configuration was last loaded.
    pub(crate) changed: BTreeSet<String>,
}

/// Which slots there should be.
#[derive(Clone, Debug)]
pub(crate) enum WishedSlots {
    /// So many, whatever their names.
    Count(usize),
    /// Fixed servers.
    Named(Named),
    /// Those that there are.
    Unsaid,
}

/// Which fixed servers there should be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named {
    /// Those in the slots.
    pub(crate) slots: Vec<FixedBackend>,
    /// All that are known from then on, if that is news.
    pub(crate) known: Option<Vec<FixedBackend>>,
}

/// How what runs differs from a wish.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// The values of the mapping that differ.
    pub(crate) settings: Vec<SettingChange>,
    pub(crate) slots: Vec<SlotChange>,
    /// The change that the fleet has to make, if there is one.
    pub(crate) revision: Option<Revision>,
    /// What it moves.
    pub(crate) plan: Option<Plan>,
}

impl Wish {
    /// Whether slots come that may be those that are wished. They may still be given up, so it cannot be told yet what differs.
    pub(super) fn is_open(&self, fleet: &Fleet) -> bool {
        let mut coming = fleet.coming();
        match &self.slots {
            WishedSlots::Count(n) => *n > fleet.slots().count() && coming.next().is_some(),
            WishedSlots::Named(Named { slots, .. }) => {
                coming.any(|name| slots.iter().any(|server| server.name == *name))
            }
            WishedSlots::Unsaid => false,
        }
    }

    /// Compares what runs with it. Nothing is planned yet.
    pub(super) fn compare(&self, fleet: &Fleet) -> Compared {
        let mut compared = Compared::default();
        let mut revision = Revision::default();
        match &self.slots {
            WishedSlots::Count(n) => self.compare_count(*n, fleet, &mut compared, &mut revision),
            WishedSlots::Named(named) => self.compare_named(named, fleet, &mut compared.slots, &mut revision),
            WishedSlots::Unsaid => {}
        }
        if let Some(mapping) = &self.mapping {
            self.compare_mapping(mapping, fleet.mapping(), &mut compared.settings, &mut revision.remap);
        }
        let has_news = revision.backends.is_some();
        let differs = has_news || !compared.settings.is_empty() || !compared.slots.is_empty();
        compared.revision = differs.then_some(revision);
        compared
    }

    fn compare_mapping(
        &self,
        wished: &MappingPolicy,
        runs: &MappingPolicy,
        settings: &mut Vec<SettingChange>,
        remap: &mut Remapping,
    ) {
        let so_far = settings.len();
        let before: BTreeMap<&str, String> = runs.values().collect();
        for (name, to) in wished.values() {
            let from = before.get(name);
            if from != Some(&to) {
                let key = name.replace('_', "-");
                let by = self.by(&key);
                settings.push(SettingChange { key, from: from.cloned(), to: Some(to), by });
            }
        }
        if settings.len() > so_far {
            for (name, value) in wished.values() {
                // Each name is there once.
                let _ = remap.set(name, value);
            }
        }
    }

    fn compare_count(&self, n: usize, fleet: &Fleet, compared: &mut Compared, revision: &mut Revision) {
        let mut names: Vec<Hostname> = fleet.slots().filter_map(|view| Some(view.slot?.name)).collect();
        let by = self.by("replicas");
        if n != names.len() {
            let (from, to) = (Some(names.len().to_string()), Some(n.to_string()));
            compared.settings.push(SettingChange { key: "replicas".to_owned(), from, to, by });
        }
        let (more, less) = (n.saturating_sub(names.len()), names.len().saturating_sub(n));
        let new = fleet.vacant_names(more);
        // The names that a start would give stay rather than others, and older slots rather than newer ones.
        let first: BTreeSet<String> = (1..=n).map(|index| format!("server{index}")).collect();
        names.reverse();
        names.sort_by_key(|name| first.contains(name.as_str()));
        names.truncate(less);
        let slots = &mut compared.slots;
        slots.extend(new.iter().map(|name| change(name, Fate::Added, by)));
        slots.extend(names.iter().map(|name| change(name, Fate::Removed, by)));
        revision.add = addition(new.into_iter().map(Newcomer::Named).collect());
        revision.remove = removal(names);
    }

    fn compare_named(
        &self,
        Named { slots: wished, known }: &Named,
        fleet: &Fleet,
        slots: &mut Vec<SlotChange>,
        revision: &mut Revision,
    ) {
        let views: Vec<View> = fleet.slots().collect();
        let there: BTreeMap<&Hostname, &View> =
            views.iter().filter_map(|view| Some((&view.slot.as_ref()?.name, view))).collect();
        let names: BTreeSet<&Hostname> = wished.iter().map(|server| &server.name).collect();
        let keys = ["backend", "backends-file", "replicas"].map(|key| self.by(key));
        let by = if keys.contains(&Changer::File) { Changer::File } else { Changer::Command };
        let new: Vec<&FixedBackend> =
            wished.iter().filter(|server| !there.contains_key(&server.name)).collect();
        let gone: Vec<Hostname> =
            there.keys().filter(|name| !names.contains(*name)).map(|name| (*name).clone()).collect();
        slots.extend(new.iter().map(|server| change(&server.name, Fate::Added, by)));
        slots.extend(gone.iter().map(|name| change(name, Fate::Removed, by)));
        let stay = wished.iter().filter_map(|server| Some((server, *there.get(&server.name)?)));
        for (server, _) in
            stay.clone().filter(|(server, view)| view.location.as_ref() != Some(&server.location))
        {
            slots.push(change(&server.name, Fate::Replaced, by));
            revision.replace.push(Newcomer::Server(FixedBackend { weight: None, ..server.clone() }));
        }
        for (server, view) in stay {
            let (name, from, to) = (&server.name, view.weight, server.weight());
            if from != to {
                slots.push(change(name, Fate::Weighed { from: from.get(), to: to.get() }, by));
                revision.remap.weights.insert(name.clone(), to);
            }
        }
        revision.add = addition(new.into_iter().cloned().map(Newcomer::Server).collect());
        revision.backends.clone_from(known);
        revision.remove = removal(gone);
    }

    /// Why the value of a key differs from what runs: where it is the same as before, a command has changed what runs.
    fn by(&self, key: &str) -> Changer {
        if self.changed.contains(key) { Changer::File } else { Changer::Command }
    }
}

fn change(name: &Hostname, change: Fate, by: Changer) -> SlotChange {
    SlotChange { slot: name.to_string(), change, by }
}

fn addition(hostnames: Vec<Newcomer>) -> Option<Addition> {
    let n = u32::try_from(hostnames.len()).ok().filter(|&n| n > 0)?;
    Some(Addition { n, hostnames, weights: Vec::new() })
}

fn removal(hostnames: Vec<Hostname>) -> Option<Removal> {
    let n = u32::try_from(hostnames.len()).ok().filter(|&n| n > 0)?;
    Some(Removal { n, hostnames, drain: None })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fleet::{Authority, CommandId, Effect, Event, Lineup, Names, Policy};
    use mapping::Seed;
    use proto::control::Weight;

    use super::*;

    fn host(name: &str) -> Hostname {
        Hostname::try_from(name.to_owned()).unwrap()
    }

    fn weight(weight: u64) -> Weight {
        Weight::try_from(weight).unwrap()
    }

    fn mapping(values: &[(&str, &str)]) -> MappingPolicy {
        MappingPolicy::of(values.iter().copied(), Seed::default()).unwrap()
    }

    fn fleet(names: &[&str]) -> Fleet {
        begun(Lineup::new(names.iter().map(|name| (host(name), weight(1))).collect(), 0))
    }

    fn begun(lineup: Lineup) -> Fleet {
        let policy = Policy {
            mapping: mapping(&[("mapping", "maglev")]),
            start_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(30),
            authority: Authority::Alone { same_name: false, restartable: true, keep: false },
            born: Duration::ZERO,
        };
        Fleet::new(policy, Names::Random, lineup, 1).0
    }

    fn wish(slots: WishedSlots, changed: &[&str]) -> Wish {
        let changed = changed.iter().map(|&key| key.to_owned()).collect();
        Wish { slots, mapping: None, changed }
    }

    fn shown(compared: &Compared) -> Vec<String> {
        let slots = compared.slots.iter();
        slots.map(|slot| format!("{} {:?} {:?}", slot.slot, slot.change, slot.by)).collect()
    }

    #[test]
    fn nothing_differs_where_the_wish_is_fulfilled() {
        for slots in [WishedSlots::Count(2), WishedSlots::Unsaid] {
            let compared = wish(slots, &["replicas"]).compare(&fleet(&["a", "server1"]));
            assert!(compared.revision.is_none() && shown(&compared).is_empty());
        }
    }

    #[test]
    fn where_slots_come_it_is_open_whether_more_are_needed() {
        let mut fleet = fleet(&["a"]);
        let is_open = |fleet: &Fleet, slots| wish(slots, &[]).is_open(fleet);
        assert!(!is_open(&fleet, WishedSlots::Count(2)));
        let add = Addition { n: 1, hostnames: vec!["b".parse().unwrap()], weights: Vec::new() };
        let mut effects = fleet.apply(Duration::ZERO, Event::Add(CommandId(1), add));
        while let Some(Effect::Check(command, demand)) = effects.pop() {
            effects = fleet.apply(Duration::ZERO, Event::Checked(command, demand.check()));
        }
        assert_eq!(fleet.coming().map(Hostname::as_str).collect::<Vec<_>>(), ["b"]);
        assert_eq!([0, 1, 2, 3].map(|n| is_open(&fleet, WishedSlots::Count(n))), [false, false, true, true]);
        assert!(!is_open(&fleet, WishedSlots::Unsaid));
        let named =
            |server: &str| WishedSlots::Named(Named { slots: vec![server.parse().unwrap()], known: None });
        assert!(is_open(&fleet, named("b=h:1")) && !is_open(&fleet, named("c=h:1")));
    }

    #[test]
    fn a_count_adds_the_names_of_a_start_and_removes_others_first_and_new_ones_before_old_ones() {
        let compared = wish(WishedSlots::Count(4), &["replicas"]).compare(&fleet(&["server2", "a"]));
        assert_eq!(shown(&compared), ["server1 Added File", "server3 Added File"]);
        let now = fleet(&["server1", "a", "server2", "b", "server9"]);
        let compared = wish(WishedSlots::Count(2), &[]).compare(&now);
        assert_eq!(shown(&compared), ["server9", "b", "a"].map(|name| format!("{name} Removed Command")));
        let revision = compared.revision.unwrap();
        assert_eq!((revision.add, revision.remove.unwrap().n), (None, 3));
        let compared = wish(WishedSlots::Count(1), &[]).compare(&fleet(&["server1", "server2"]));
        assert_eq!(shown(&compared), ["server2 Removed Command"]);
    }

    #[test]
    fn named_slots_come_go_and_get_other_weights() {
        let servers = |texts: &[&str]| -> Vec<FixedBackend> {
            texts.iter().map(|server| server.parse().unwrap()).collect()
        };
        let slots = servers(&["b=h:9,weight=3", "c=h:3,weight=2", "d=h:4"]);
        let named = Named { known: Some(slots.clone()), slots };
        let runs = servers(&["a=h:1", "b=h:2", "d=h:4"]);
        let compared = wish(WishedSlots::Named(named), &["backend"]).compare(&begun(Lineup::fixed(&runs)));
        let expected =
            ["c Added File", "a Removed File", "b Replaced File", "b Weighed { from: 1, to: 3 } File"];
        assert_eq!(shown(&compared), expected);
        let revision = compared.revision.unwrap();
        assert_eq!(revision.add.unwrap().hostnames, ["c=h:3,weight=2".parse().unwrap()]);
        assert_eq!(revision.replace, ["b=h:9".parse().unwrap()]);
        assert_eq!(revision.remap.weights, [(host("b"), weight(3))].into());
    }

    #[test]
    fn another_mapping_is_a_change_of_each_value_and_is_asked_for_as_a_whole() {
        let wish =
            Wish { mapping: Some(mapping(&[("points", "64")])), ..wish(WishedSlots::Unsaid, &["points"]) };
        let compared = wish.compare(&fleet(&["a"]));
        let changes = compared.settings.iter().map(|one| (one.key.as_str(), one.from.as_deref(), one.by));
        let expected = [("mapping", Some("maglev"), Changer::Command), ("points", None, Changer::File)];
        assert_eq!(changes.collect::<Vec<_>>(), expected);
        let remap = compared.revision.unwrap().remap;
        assert_eq!((remap.get("mapping"), remap.get("points")), (Some("ring"), Some("64")));
    }
}
