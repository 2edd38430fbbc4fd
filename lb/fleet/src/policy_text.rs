//! A mapping policy as values by name. The seed is a secret and is not among them.

use std::collections::BTreeMap;

use mapping::{MappingPolicy, Seed};
use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(policy: &MappingPolicy, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(policy.values())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MappingPolicy, D::Error> {
    let values = BTreeMap::<String, String>::deserialize(deserializer)?;
    let values = values.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    MappingPolicy::of(values, Seed::default()).map_err(|problems| D::Error::custom(problems[0].to_string()))
}
