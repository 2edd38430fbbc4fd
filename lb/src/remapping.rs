//! A mapping policy on the wire: a change of it is read, and an answer says what it is.

use mapping::{Algorithm, BalanceFactor, MappingPolicy, Scheme, SlotsShape};
use proto::control::{self as wire, Remapping, Table, Weight};

use crate::config::value::{self, Checked};

/// What it becomes with a change, of which the weights are not its concern.
///
/// # Errors
/// All that is wrong with the change, each with the field, what was given and what it takes.
pub(crate) fn amended(policy: &MappingPolicy, change: &Remapping) -> Result<MappingPolicy, Vec<String>> {
    let mut problems = Vec::new();
    let algorithm = algorithm(policy, change, &mut problems);
    let balance = match &change.balance_factor {
        Some(text) => take("balance_factor", value::balance_factor(text), &mut problems).flatten(),
        None => policy.balance,
    };
    let scheme = Scheme { algorithm, seed: policy.scheme.seed };
    if problems.is_empty() { Ok(MappingPolicy { scheme, balance }) } else { Err(problems) }
}

fn algorithm(policy: &MappingPolicy, change: &Remapping, problems: &mut Vec<String>) -> Algorithm {
    let name = change.mapping.as_ref().and_then(|text| take("mapping", value::mapping(text), problems));
    let mut algorithm = match name {
        Some(name) if name.name() != policy.scheme.algorithm.name() => Algorithm::named(name),
        _ => policy.scheme.algorithm.clone(),
    };
    let name = algorithm.name();
    match &mut algorithm {
        Algorithm::Ring { points } => {
            set(points, "points", change.points.as_deref(), value::points, problems);
        }
        Algorithm::Slots(shape) => amend_table(shape, change, problems),
        Algorithm::Maglev | Algorithm::Rendezvous => {}
    }
    let parameters = [
        ("points", &change.points, "ring"),
        ("slots", &change.slots, "slots"),
        ("virtual", &change.virtuals, "slots"),
        ("probing", &change.probing, "slots"),
        ("request_hash", &change.request_hash, "slots"),
        ("server_hash", &change.server_hash, "slots"),
    ];
    for (field, given, home) in parameters {
        if given.is_some() && home != name {
            problems.push(format!("`{field}` goes with the mapping {home} only, not with {name}"));
        }
    }
    algorithm
}

/// What it is, for an answer.
pub(crate) fn describe(
    policy: &MappingPolicy,
    weights: impl Iterator<Item = (String, Weight)>,
) -> wire::Mapping {
    let algorithm = &policy.scheme.algorithm;
    wire::Mapping {
        mapping: algorithm.name().to_owned(),
        points: if let Algorithm::Ring { points } = algorithm { Some(*points) } else { None },
        table: if let Algorithm::Slots(shape) = algorithm { Some(table(shape)) } else { None },
        balance_factor: policy.balance.map(BalanceFactor::get),
        seeded: policy.scheme.seed.is_set(),
        weights: weights.collect(),
    }
}
fn amend_table(shape: &mut SlotsShape, change: &Remapping, problems: &mut Vec<String>) {
    set(&mut shape.slots, "slots", change.slots.as_deref(), value::slots, problems);
    set(&mut shape.virtuals, "virtual", change.virtuals.as_deref(), value::virtuals, problems);
    set(&mut shape.probing, "probing", change.probing.as_deref(), value::probing, problems);
    let formulas = (change.request_hash.as_deref(), change.server_hash.as_deref());
    set(&mut shape.request_hash, "request_hash", formulas.0, value::request_hash, problems);
    set(&mut shape.server_hash, "server_hash", formulas.1, value::server_hash, problems);
}

fn table(shape: &SlotsShape) -> Table {
    Table {
        slots: shape.slots,
        virtuals: shape.virtuals,
        probing: shape.probing.to_string(),
        request_hash: shape.request_hash.to_string(),
        server_hash: shape.server_hash.to_string(),
    }
}

/// Gives `place` another value, if there is one.
fn set<T>(
    place: &mut T,
    field: &str,
    given: Option<&str>,
    read: impl FnOnce(&str) -> value::Parsed<T>,
    problems: &mut Vec<String>,
) {
    if let Some(value) = given.and_then(|given| take(field, read(given), problems)) {
        *place = value;
    }
}

fn take<T>(field: &str, Ok(Checked(value)): value::Parsed<T>, problems: &mut Vec<String>) -> Option<T> {
    value.map_err(|problem| problems.push(format!("`{field}`: {problem}"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mapping::{Probing, Seed};

    fn ring() -> MappingPolicy {
        let scheme = Scheme { algorithm: Algorithm::Ring { points: 64 }, seed: Seed(7) };
        MappingPolicy { scheme, balance: BalanceFactor::parse("1.5") }
    }

    fn change(fields: &[(&str, &str)]) -> Remapping {
        let fields: serde_json::Map<_, _> =
            fields.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect();
        serde_json::from_value(fields.into()).unwrap()
    }

    #[test]
    fn what_is_not_given_stays_and_the_seed_always_does() {
        assert_eq!(amended(&ring(), &change(&[])), Ok(ring()));
        let changed = amended(&ring(), &change(&[("points", "10"), ("balance_factor", "off")])).unwrap();
        assert_eq!(changed.scheme, Scheme { algorithm: Algorithm::Ring { points: 10 }, seed: Seed(7) });
        assert_eq!(changed.balance, None);
        assert_eq!(amended(&ring(), &change(&[("mapping", "ring")])), Ok(ring()));
    }

    #[test]
    fn another_algorithm_begins_with_its_defaults() {
        let maglev = amended(&ring(), &change(&[("mapping", "maglev")])).unwrap();
        assert_eq!((maglev.scheme.algorithm.clone(), maglev.balance), (Algorithm::Maglev, ring().balance));
        let ring = amended(&maglev, &change(&[("mapping", "ring")])).unwrap();
        assert_eq!(ring.scheme.algorithm, Algorithm::Ring { points: 1000 });
        let fields =
            [("mapping", "slots"), ("virtual", "3"), ("probing", "quadratic"), ("request_hash", "i + 1")];
        let slots = amended(&ring, &change(&fields)).unwrap();
        let Algorithm::Slots(shape) = &slots.scheme.algorithm else { panic!("{slots:?}") };
        assert_eq!((shape.slots, shape.virtuals, shape.probing), (512, 3, Probing::Quadratic));
        assert_eq!(describe(&slots, [].into_iter()).table.unwrap().request_hash, "i + 1");
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let fields = [("points", "0"), ("slots", "5"), ("balance_factor", "0.5")];
        let problems = amended(&ring(), &change(&fields)).unwrap_err();
        assert_eq!(
            problems,
            [
                "`points`: `0` is not allowed; it takes a whole number from 1 to 10000",
                "`slots` goes with the mapping slots only, not with ring",
                "`balance_factor`: `0.5` is not allowed; it takes a number from 1 to 100 with at most three \
                 decimals, such as 1.25, or off",
            ]
        );
        let unknown = amended(&ring(), &change(&[("mapping", "karger")])).unwrap_err();
        let message = "`mapping`: `karger` is not allowed; it takes ring, slots, maglev or rendezvous";
        assert_eq!(unknown, [message]);
    }
}
