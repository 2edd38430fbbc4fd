//! What would follow from a change: which keys would move, from whom to whom, and which connections would be out of
//! place.

use std::collections::BTreeMap;

use proto::control::{Displaced, Move, Plan, Shares};

use super::fleet::Preview;
use crate::ring::{Flow, Full, Keys, Mapping, Member, Shift, Side};
use crate::snapshot::Snapshot;

/// How many moves are told. There can be as many as pairs of slots.
const MOST_MOVES: usize = 1000;

/// Compares the fleet as it is with what a change would make of it; `members` is what the snapshot's mapping was built
/// from. It takes up to some tenths of a second.
///
/// # Errors
/// The mapping cannot be built, which [`Fleet::preview`](super::fleet::Fleet::preview) has tried already.
pub(super) fn plan(snapshot: &Snapshot, members: &[Member], preview: Preview) -> Result<Plan, Full> {
    let mapping = Mapping::build(&preview.policy.scheme, &preview.members)?;
    let before = Side { mapping: snapshot.mapping(), members };
    let after = Side { mapping: &mapping, members: &preview.members };
    let shift = Shift::between(before, after);
    let whole = shift.whole();
    let (basis, keys) = match shift.keys {
        Keys::Positions => ("positions", None),
        Keys::Entries(_) => ("entries", u64::try_from(whole).ok()),
        Keys::AllIds => ("ids", u64::try_from(whole).ok()),
        Keys::SomeIds(_) => ("sample", u64::try_from(whole).ok()),
    };
    Ok(Plan {
        command: preview.command,
        basis,
        keys,
        moved: share(shift.moved(), whole),
        least: share(shift.least(), whole),
        moves: moves(&shift),
        before: shares(&shift.owned_before(), whole),
        after: shares(&shift.owned_after(), whole),
        connections: displaced(snapshot, &after),
        warnings: warnings(&shift, &after),
    })
}

fn share(keys: u128, whole: u128) -> f64 {
    keys as f64 / whole.max(1) as f64
}

fn moves(shift: &Shift) -> Vec<Move> {
    let name = |member: Option<&Member>| member.map(|member| member.name.clone());
    let mut flows: Vec<Flow> = shift.flows().filter(Flow::is_move).collect();
    flows.sort_by_key(|flow| std::cmp::Reverse(flow.keys));
    flows.truncate(MOST_MOVES);
    let whole = shift.whole();
    let told = |flow: Flow| Move { from: name(flow.from), to: name(flow.to), share: share(flow.keys, whole) };
    flows.into_iter().map(told).collect()
}

fn shares(owned: &[(&Member, u128)], whole: u128) -> Shares {
    let weight: u64 = owned.iter().map(|(member, _)| u64::from(member.weight)).sum();
    let fair = |member: &Member| f64::from(member.weight) / weight as f64;
    let loads = owned.iter().filter(|(member, _)| member.weight > 0);
    let loads = loads.map(|&(member, keys)| share(keys, whole) / fair(member));
    let shares: BTreeMap<String, f64> =
        owned.iter().map(|&(member, keys)| (member.name.clone(), share(keys, whole))).collect();
    Shares { max_over_mean: loads.max_by(f64::total_cmp), shares }
}

fn displaced(snapshot: &Snapshot, after: &Side) -> Displaced {
    let mut displaced = Displaced::default();
    for slot in snapshot.slots() {
        let Some(replica) = &slot.replica else { continue };
        replica.each_key(|key| {
            displaced.open += 1;
            let Some(key) = key else {
                displaced.unknown += 1;
                return;
            };
            let now = snapshot.order(key).next().map(|owner| owner.name.as_str());
            let then = after.mapping.owner(key).map(|owner| after.members[owner].name.as_str());
            displaced.out_of_place_now += usize::from(now != Some(slot.name.as_str()));
            displaced.out_of_place_then += usize::from(then != Some(slot.name.as_str()));
        });
    }
    displaced
}

fn warnings(shift: &Shift, after: &Side) -> Vec<String> {
    let mut warnings = Vec::new();
    let excess = shift.moved() - shift.least();
    if excess > 0 {
        let [moved, least, excess] = [shift.moved(), shift.least(), excess].map(|keys| {
            // Never 0.00 % for what is not nothing.
            format!("{:.3} %", (100.0 * share(keys, shift.whole())).max(0.001))
        });
        warnings
            .push(format!("{moved} of the keys move, though {least} would do: {excess} move without need"));
    }
    if after.members.iter().all(|member| member.weight == 0) {
        warnings.push("no slot with a weight would be left: no connection could be placed".to_owned());
    }
    warnings
}
