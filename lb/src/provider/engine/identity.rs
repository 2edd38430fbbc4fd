//! What the labels of a replica say about it: its fleet, its hostname, the slot it was started for, its door.
//!
//! The labels of a replica never change. A spare that has moved into a slot still has the labels of a spare; the
//! [`record`](super::record) says which replica has which slot.

use proto::control::Hostname;

use super::record::Labels;
use crate::fleet::{Assignment, SlotId};

/// The label that makes something in an engine part of a fleet.
pub(super) const FLEET: &str = "lb.fleet";
const SLOT_INDEX: &str = "lb.slot.index";
const SLOT_NAME: &str = "lb.slot.name";
const HOSTNAME: &str = "lb.hostname";
const DOOR: &str = "lb.door";

/// The filter for everything that belongs to a fleet.
pub(super) fn fleet_label(fleet: &str) -> String {
    format!("{FLEET}={fleet}")
}

/// What the labels of a replica say. They are foreign bytes: a label of the wrong form counts as missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) hostname: Option<Hostname>,
    /// The slot that it was started for.
    pub(super) slot: Option<SlotId>,
    /// The name of its door, if it was told to take connections over.
    pub(super) door: Option<String>,
}

impl Identity {
    /// The identity of a replica that is started for this assignment, with a door of this name.
    pub(super) fn new(assignment: &Assignment, door: Option<&str>) -> Self {
        let (hostname, slot) = (Some(assignment.hostname.clone()), assignment.slot.clone());
        Identity { hostname, slot, door: door.map(str::to_owned) }
    }

    /// Reads the labels of a replica. `None` if it belongs to another fleet, or to none.
    pub(super) fn read(labels: &Labels, fleet: &str) -> Option<Self> {
        let hostname = |name| Hostname::try_from(labels.get(name)?.clone()).ok();
        let index = labels.get(SLOT_INDEX).and_then(|index| index.parse().ok()).filter(|&index| index > 0);
        let slot = index.zip(hostname(SLOT_NAME)).map(|(index, name)| SlotId { index, name });
        let is_ours = labels.get(FLEET).is_some_and(|label| label == fleet);
        is_ours.then(|| Identity { hostname: hostname(HOSTNAME), slot, door: labels.get(DOOR).cloned() })
    }

    /// The labels that say this identity in this fleet.
    pub(super) fn labels(&self, fleet: &str) -> Labels {
        let slot = self.slot.as_ref();
        let labels = [
            (FLEET, Some(fleet.to_owned())),
            (HOSTNAME, self.hostname.as_ref().map(Hostname::to_string)),
            (SLOT_INDEX, slot.map(|slot| slot.index.to_string())),
            (SLOT_NAME, slot.map(|slot| slot.name.to_string())),
            (DOOR, self.door.clone()),
        ];
        labels.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::hash_map;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn hostname() -> impl Strategy<Value = Hostname> {
        "[A-Za-z0-9][A-Za-z0-9_.-]{0,62}".prop_map(|name| Hostname::try_from(name).unwrap())
    }

    fn identity() -> impl Strategy<Value = Identity> {
        let slot = (1..=u32::MAX, hostname()).prop_map(|(index, name)| SlotId { index, name });
        (option::of(hostname()), option::of(slot), option::of(".*"))
            .prop_map(|(hostname, slot, door)| Identity { hostname, slot, door })
    }

    proptest! {
        #[test]
        fn labels_are_read_back_by_their_own_fleet_only(identity in identity()) {
            let labels = identity.labels("fleet");
            prop_assert_eq!(Identity::read(&labels, "fleet"), Some(identity));
            prop_assert_eq!(Identity::read(&labels, "fleet2"), None);
        }

        #[test]
        fn any_labels_are_an_identity_that_can_be_written_again(
            labels in hash_map(prop_oneof![Just(SLOT_INDEX), Just(SLOT_NAME), Just(HOSTNAME), Just(DOOR)], "\\PC*|[0-9]{0,11}|[a-z]", 0..5)
        ) {
            let mut labels: Labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            prop_assert_eq!(Identity::read(&labels, "fleet"), None, "they belong to no fleet");
            labels.insert(FLEET.to_owned(), "fleet".to_owned());
            let identity = Identity::read(&labels, "fleet").unwrap();
            prop_assert_eq!(Identity::read(&identity.labels("fleet"), "fleet"), Some(identity));
        }
    }

    #[test]
    fn a_slot_needs_an_index_from_1_and_a_name() {
        let slot_of = |index: &str, name: &str| {
            let labels = [(FLEET, "fleet"), (SLOT_INDEX, index), (SLOT_NAME, name)];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            Identity::read(&labels, "fleet").unwrap().slot
        };
        let name = Hostname::try_from("a".to_owned()).unwrap();
        assert_eq!(slot_of("1", "a"), Some(SlotId { index: 1, name }));
        for (index, name) in
            [("0", "a"), ("-1", "a"), ("4294967296", "a"), ("", "a"), ("1", ""), ("1", "../x")]
        {
            assert_eq!(slot_of(index, name), None, "{index}={name}");
        }
    }
}
