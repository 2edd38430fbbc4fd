//! What the labels of a replica say about it: its fleet, its hostname, the slot it was started for, its door.
//!
//! A container also inherits the labels of its image, so labels alone say nothing about who has made it: [`Identity::is_own`].
//!
//! The labels of a replica never change. A spare that has moved into a slot still has the labels of a spare; the
//! [`record`](super::record) says which replica has which slot.

use fleet::{Assignment, SlotId};
use proto::control::Hostname;

use super::record::Labels;

/// The label that makes something in an engine part of a fleet.
pub(super) const FLEET: &str = "lb.fleet";
const SLOT_INDEX: &str = "lb.slot.index";
const SLOT_NAME: &str = "lb.slot.name";
/// The hostname of a replica.
pub(super) const HOSTNAME: &str = "lb.hostname";
const DOOR: &str = "lb.door";
/// A random number that no other container gets. An image cannot hold it before the container exists.
const NONCE: &str = "lb.nonce";

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
    /// What distinguishes it from all other replicas; `None` for one of an earlier version.
    pub(super) nonce: Option<String>,
}

impl Identity {
    /// The identity of a replica that is started for this assignment, with a door of this name. `nonce` is a random number.
    pub(super) fn new(assignment: &Assignment, door: Option<&str>, nonce: u64) -> Self {
        let (hostname, slot) = (Some(assignment.hostname.clone()), assignment.slot.clone());
        Identity { hostname, slot, door: door.map(str::to_owned), nonce: Some(format!("{nonce:016x}")) }
    }

    /// Reads the labels of a replica. `None` if it belongs to another fleet, or to none.
    pub(super) fn read(labels: &Labels, fleet: &str) -> Option<Self> {
        let hostname = |name| Hostname::try_from(labels.get(name)?.clone()).ok();
        let index = labels.get(SLOT_INDEX).and_then(|index| index.parse().ok()).filter(|&index| index > 0);
        let slot = index.zip(hostname(SLOT_NAME)).map(|(index, name)| SlotId { index, name });
        let text = |name| labels.get(name).filter(|text: &&String| !text.is_empty()).cloned();
        let is_labelled = labels.get(FLEET).is_some_and(|label| label == fleet);
        is_labelled.then(|| Identity {
            hostname: hostname(HOSTNAME),
            slot,
            door: text(DOOR),
            nonce: text(NONCE),
        })
    }

    /// Whether a container with this identity got it itself, and did not inherit it from an image with these labels. Its nonce is
    /// its own, or, for one of an earlier version, its fleet is.
    pub(super) fn is_own(&self, fleet: &str, image: &Labels) -> bool {
        let has_own_nonce = self.nonce.is_some() && image.get(NONCE) != self.nonce.as_ref();
        has_own_nonce || image.get(FLEET).is_none_or(|label| label != fleet)
    }

    /// The labels that say this identity in this fleet. What is missing is said as well, with an empty value: otherwise the label
    /// of the image would hold.
    pub(super) fn labels(&self, fleet: &str) -> Labels {
        let slot = self.slot.as_ref();
        let labels = [
            (FLEET, Some(fleet.to_owned())),
            (HOSTNAME, self.hostname.as_ref().map(Hostname::to_string)),
            (SLOT_INDEX, slot.map(|slot| slot.index.to_string())),
            (SLOT_NAME, slot.map(|slot| slot.name.to_string())),
            (DOOR, self.door.clone()),
            (NONCE, self.nonce.clone()),
        ];
        labels.into_iter().map(|(name, value)| (name.to_owned(), value.unwrap_or_default())).collect()
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
        (option::of(hostname()), option::of(slot), option::of(".+"), option::of("[0-9a-f]{16}"))
            .prop_map(|(hostname, slot, door, nonce)| Identity { hostname, slot, door, nonce })
    }

    /// Labels as an image may have them, also those of another replica or of this one.
    fn of_an_image() -> impl Strategy<Value = Labels> {
        let value = prop_oneof![Just("fleet"), Just("a"), Just("00000000000000aa"), Just("")];
        hash_map(
            prop_oneof![Just(FLEET), Just(HOSTNAME), Just(SLOT_INDEX), Just(DOOR), Just(NONCE)],
            value,
            0..5,
        )
        .prop_map(|labels| {
            labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        })
    }

    proptest! {
        #[test]
        fn labels_are_read_back_by_their_own_fleet_only(identity in identity()) {
            let labels = identity.labels("fleet");
            prop_assert_eq!(Identity::read(&labels, "fleet"), Some(identity));
            prop_assert_eq!(Identity::read(&labels, "fleet2"), None);
        }

        #[test]
        fn labels_that_come_from_the_image_alone_are_never_own(image in of_an_image()) {
            let inherited = Identity::read(&image, "fleet");
            prop_assert!(inherited.is_none_or(|identity| !identity.is_own("fleet", &image)));
        }

        #[test]
        fn the_labels_of_a_new_replica_are_own_and_say_the_same_whatever_its_image_has(
            image in of_an_image(), mut identity in identity()
        ) {
            identity.nonce = Some("00000000000000bb".to_owned());
            let mut labels = image.clone();
            labels.extend(identity.labels("fleet"));
            let read = Identity::read(&labels, "fleet").unwrap();
            prop_assert!(read.is_own("fleet", &image));
            prop_assert_eq!(read, identity);
        }

        #[test]
        fn any_labels_are_an_identity_that_can_be_written_again(
            labels in hash_map(prop_oneof![Just(SLOT_INDEX), Just(SLOT_NAME), Just(HOSTNAME), Just(DOOR), Just(NONCE)], "\\PC*|[0-9]{0,11}|[a-z]", 0..5)
        ) {
            let mut labels: Labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            prop_assert_eq!(Identity::read(&labels, "fleet"), None, "they belong to no fleet");
            labels.insert(FLEET.to_owned(), "fleet".to_owned());
            let identity = Identity::read(&labels, "fleet").unwrap();
            prop_assert_eq!(Identity::read(&identity.labels("fleet"), "fleet"), Some(identity));
        }
    }

    #[test]
    fn a_replica_of_an_earlier_version_is_own_if_its_image_has_not_the_label_of_the_fleet() {
        let earlier = Identity::default();
        let image = |name: &str, value: &str| Labels::from([(name.to_owned(), value.to_owned())]);
        assert!(earlier.is_own("fleet", &Labels::new()) && earlier.is_own("fleet", &image(FLEET, "other")));
        assert!(!earlier.is_own("fleet", &image(FLEET, "fleet")));
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
