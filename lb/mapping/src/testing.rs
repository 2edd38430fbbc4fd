//! What the tests of all mappings share.

use std::ops::Range;

use proptest::collection::{btree_set, size_range, vec};
use proptest::prelude::*;

use crate::algorithm::Algorithm;
use crate::mapping::Mapping;
use crate::member::Member;
use crate::probing::Probing;
use crate::slots::SlotsShape;

/// Members with the indices 1, 2, 3 ...
pub(crate) fn named<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Vec<Member> {
    names.into_iter().zip(1..).map(|(name, index)| Member { index, name: name.into(), weight: 1 }).collect()
}

impl Algorithm {
    /// One of each.
    pub(crate) fn examples() -> [Algorithm; 5] {
        let linear = SlotsShape::default();
        let quadratic = SlotsShape { probing: Probing::Quadratic, ..linear.clone() };
        let [linear, quadratic] = [linear, quadratic].map(Algorithm::Slots);
        [Algorithm::Ring { points: 40 }, linear, quadratic, Algorithm::Maglev, Algorithm::Rendezvous]
    }

    /// The mapping of these members, without a seed.
    pub(crate) fn of(&self, members: &[Member]) -> Mapping {
        Mapping::build(&self.clone().into(), members).unwrap()
    }
}

/// The members with these weights instead of their own.
pub(crate) fn weighing(members: Vec<Member>, weights: &[u32]) -> Vec<Member> {
    members.into_iter().zip(weights).map(|(member, &weight)| Member { weight, ..member }).collect()
}

/// The names of the candidates of `key`.
pub(crate) fn order<'a>(mapping: &Mapping, members: &'a [Member], key: &[u8]) -> Vec<&'a str> {
    mapping.candidates(key).map(|ordinal| members[ordinal].name.as_str()).collect()
}

/// The members but the one with this name.
pub(crate) fn without(members: &[Member], gone: &str) -> Vec<Member> {
    members.iter().filter(|member| member.name != gone).cloned().collect()
}

/// Different names that the control port would take, in any order.
pub(crate) fn names(count: Range<usize>) -> impl Strategy<Value = Vec<String>> {
    btree_set("[A-Za-z0-9][A-Za-z0-9_.-]{0,12}", size_range(count))
        .prop_map(|names| names.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

/// Keys as clients send them: six-digit ids and any bytes.
pub(crate) fn keys() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let id = (100_000..=999_999_u32).prop_map(|id| id.to_string().into_bytes());
    vec(prop_oneof![id, vec(any::<u8>(), 0..20)], 20)
}
