//! `plan`: what a change would move. It shows which keys would move between which slots, and how many open connections would
//! be on another replica than the owner of their key. It changes nothing.

use std::collections::BTreeMap;

use fleet::Preview;
use mapping::{Keys, Mapping, Member, Shift, Side, Transfer};
use proto::control::{Displaced, Failure, FailureKind, Move, Omitted, Plan, Shares};

use super::ring;
use crate::snapshot::Snapshot;

/// How many moves are listed one by one. There can be as many as pairs of slots.
const MOST_MOVES: usize = 1000;
/// The most hashes that are computed to find the owners of the keys of open connections.
const HASHES: u64 = 64_000_000;

/// Compares the fleet as it is with the fleet after a change. The snapshot's mapping was built from `members`. It takes one
/// or two seconds in the largest fleets.
///
/// # Errors
/// The mapping has no room for the slots: the command would be refused, too.
pub(super) fn plan(snapshot: &Snapshot, members: &[Member], preview: Preview) -> Result<Plan, Failure> {
    if let Some(demand) = preview.demand {
        demand.check()?;
    }
    let mapping = Mapping::build(&preview.policy.scheme, &preview.members)
        .map_err(|full| FailureKind::BadRequest.because(full.to_string()))?;
    let before = Side { mapping: snapshot.mapping(), members };
    let after = Side { mapping: &mapping, members: &preview.members };
    let shift = Shift::between(before, after);
    let (whole, moved, least) = (shift.whole(), shift.moved(), shift.least());
    let (moves, omitted) = moves(&shift);
    let (basis, keys) = ring::basis(shift.keys, whole);
    Ok(Plan {
        command: preview.command,
        basis,
        keys,
        moved: share(moved, whole),
        least: share(least, whole),
        moves,
        omitted,
        arcs: ring::moved(before, after),
        before: loads(before),
        after: loads(after),
        connections: displaced(snapshot, &after),
        warnings: warnings(&shift, (moved, least), &after),
    })
}

fn share(keys: u128, whole: u128) -> f64 {
    keys as f64 / whole.max(1) as f64
}

/// The largest moves, and the sum of the others.
fn moves(shift: &Shift) -> (Vec<Move>, Option<Omitted>) {
    let name = |member: Option<&Member>| member.map(|member| member.name.clone());
    let mut transfers: Vec<Transfer> = shift.transfers().filter(Transfer::is_move).collect();
    transfers.sort_by_key(|transfer| std::cmp::Reverse(transfer.keys));
    let rest = transfers.split_off(transfers.len().min(MOST_MOVES));
    let whole = shift.whole();
    let keys = rest.iter().map(|transfer| transfer.keys).sum();
    let omitted = Omitted { moves: rest.len(), share: share(keys, whole) };
    let told = |transfer: Transfer| Move {
        from: name(transfer.from),
        to: name(transfer.to),
        share: share(transfer.keys, whole),
    };
    (transfers.into_iter().map(told).collect(), Some(omitted).filter(|omitted| omitted.moves > 0))
}

/// The share of the keys that each member of a mapping owns. This may take some tenths of a second.
pub(super) fn shares(mapping: &Mapping, members: &[Member]) -> BTreeMap<String, f64> {
    loads(Side { mapping, members }).shares
}

/// The share of the keys that each slot owns. It comes from one mapping alone, because a comparison of two kinds of mapping
/// may know it only from a sample.
fn loads(side: Side) -> Shares {
    let shift = Shift::between(side, side);
    let (owned, whole) = (shift.owned_before(), shift.whole());
    let weight: u64 = owned.iter().map(|(member, _)| u64::from(member.weight)).sum();
    let fair = |member: &Member| f64::from(member.weight) / weight as f64;
    let loads = owned.iter().filter(|(member, _)| member.weight > 0);
    let loads = loads.map(|&(member, keys)| share(keys, whole) / fair(member));
    let shares: BTreeMap<String, f64> =
        owned.iter().map(|&(member, keys)| (member.name.clone(), share(keys, whole))).collect();
    Shares { max_over_mean: loads.max_by(f64::total_cmp), shares }
}

/// Counts the open connections that are not on the owner of their key, now and after the change.
fn displaced(snapshot: &Snapshot, after: &Side) -> Displaced {
    let mut displaced = Displaced::default();
    let mut affordable = HASHES / (snapshot.mapping().hashes() + after.mapping.hashes()).max(1);
    for slot in snapshot.slots() {
        let Some(replica) = &slot.replica else { continue };
        replica.each_key(|key| {
            displaced.open += 1;
            let Some(key) = key.filter(|_| affordable > 0) else {
                displaced.unknown += 1;
                return;
            };
            affordable -= 1;
            let now = snapshot.owner(key).map(|owner| owner.name.as_str());
            let then = after.mapping.owner(key).map(|owner| after.members[owner].name.as_str());
            displaced.out_of_place_now += usize::from(now != Some(slot.name.as_str()));
            displaced.out_of_place_then += usize::from(then != Some(slot.name.as_str()));
        });
    }
    displaced
}

fn warnings(shift: &Shift, (moved, least): (u128, u128), after: &Side) -> Vec<String> {
    let mut warnings = Vec::new();
    let excess = moved - least;
    if excess > 0 {
        let [moved, least, excess] = [moved, least, excess].map(|keys| {
            // Never 0.000 %: some keys move.
            format!("{:.3} %", (100.0 * share(keys, shift.whole())).max(0.001))
        });
        warnings
            .push(format!("{moved} of the keys move, though {least} would do: {excess} move without need"));
    }
    if let Keys::SomeIds(ids) = shift.keys {
        let (ids, moved) = (f64::from(ids), share(moved, shift.whole()));
        let error = 200.0 * (moved * (1.0 - moved) / ids).sqrt();
        warnings.push(format!("what moves is estimated with {ids} ids: give or take {error:.3} %"));
    }
    if after.members.iter().all(|member| member.weight == 0) {
        warnings.push("no slot would have a weight: no connection could be placed".to_owned());
    }
    warnings
}
