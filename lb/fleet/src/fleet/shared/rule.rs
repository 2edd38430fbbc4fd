//! What runs the replicas takes some names only.

use proto::control::FailureKind;

use super::{add, apply, proposal, roster, shared};
use crate::{CommandId, Effect, Epoch, Event, Fleet, Lineup, Names, Rule, Time};

#[test]
fn a_name_against_the_rule_is_refused_and_nothing_is_begun() {
    let rule = Rule::new(String::new(), |name| {
        if name.as_str().contains('.') { Err("expected no dot".to_owned()) } else { Ok(()) }
    });
    let (mut fleet, _) = Fleet::new(shared(), Names::Ruled(rule), Lineup::default(), 1);
    fleet.apply(Time::ZERO, Event::Adopted(Epoch(10), roster(1, &[])));
    let refusal = FailureKind::BadRequest.because("hostname b.c: expected no dot");
    let effects = apply(&mut fleet, add(1, &["a", "b.c"]));
    assert_eq!(effects, [Effect::Answer(CommandId(1), Err(refusal))]);
    proposal(&apply(&mut fleet, add(2, &["a", "b-c"])));
}
