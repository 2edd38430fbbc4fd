//! `ring`: a picture of the mapping. It shows which slot owns which keys, and where the keys of slots out of rotation go meanwhile.
//!
//! Positions are looked at in [`PARTS`] equal parts, so the answer is bounded in the largest fleets. It decides nothing, and sends no
//! message: the snapshot has everything. It takes some hundredths of a second in the largest fleets, so it has no place on a thread
//! that serves others.

use std::collections::HashMap;

use mapping::{Candidates, Keys, Mapping, Member, Shift, Side};
use proto::control::{Arc, Basis, Body, Move, MovedArc, Ring, RingSlot, Weight};

use crate::snapshot::{Skipped, Slot, Snapshot};

/// In how many parts the positions are drawn: half a degree each.
const PARTS: u32 = 720;
/// The ids whose stand-ins are looked up, at most, and the hashes for that.
const SAMPLE: (u32, u64) = (60_000, 4_000_000);
/// The six-digit ids.
const IDS: std::ops::Range<u32> = 100_000..1_000_000;
/// How many moves are listed one by one.
const MOST_MOVES: usize = 1000;

/// The picture of a snapshot.
pub(super) fn ring(snapshot: &Snapshot) -> Body {
    let slots = snapshot.slots();
    let members: Vec<Member> = slots.iter().map(member).collect();
    let mapping = snapshot.mapping();
    let side = Side { mapping, members: &members };
    let shift = Shift::between(side, side);
    let (whole, (basis, keys)) = (shift.whole().max(1), basis(shift.keys, shift.whole()));
    let owned = shift.owned_before().into_iter().map(|(_, keys)| keys as f64 / whole as f64);
    let (meanwhile, sampled) = meanwhile(snapshot);
    Body::Ring(Ring {
        mapping: mapping.name().to_string(),
        basis,
        keys,
        positions: mapping.positions() as f64,
        parts: parts(mapping),
        slots: slots.iter().zip(owned).map(|(slot, share)| told(slot, share)).collect(),
        arcs: arcs(snapshot),
        meanwhile,
        sampled,
    })
}

/// What a [`Shift`] has compared, and how many keys, where they can be counted.
pub(super) fn basis(keys: Keys, whole: u128) -> (Basis, Option<u32>) {
    match keys {
        Keys::Positions => (Basis::Positions, None),
        Keys::Expected => (Basis::Expected, None),
        Keys::Entries(entries) => (Basis::Entries, Some(entries)),
        Keys::AllIds => (Basis::Ids, u32::try_from(whole).ok()),
        Keys::SomeIds(ids) => (Basis::Sample, Some(ids)),
    }
}

/// The parts that get another owner; none between mappings whose positions are not the same.
pub(super) fn moved(before: Side, after: Side) -> Vec<MovedArc> {
    let is_comparable = before.mapping.name() == after.mapping.name()
        && before.mapping.positions() == after.mapping.positions();
    if !is_comparable {
        return Vec::new();
    }
    let name = |side: Side, mut at: Candidates| at.next().map(|owner| side.members[owner].name.clone());
    let owners = before.mapping.around(PARTS).zip(after.mapping.around(PARTS));
    let owners = (0..).zip(owners.map(|(one, other)| (name(before, one), name(after, other))));
    let mut moved: Vec<MovedArc> = Vec::new();
    for (at, (from, to)) in owners.filter(|(_, (from, to))| from != to) {
        match moved.last_mut() {
            Some(last) if last.at + last.parts == at && last.from == from && last.to == to => last.parts += 1,
            _ => moved.push(MovedArc { at, parts: 1, from, to }),
        }
    }
    moved
}

fn parts(mapping: &Mapping) -> u32 {
    if matches!(mapping, Mapping::Rendezvous(_)) { 0 } else { PARTS }
}

fn member(slot: &Slot) -> Member {
    Member { index: slot.index, name: slot.name.clone(), weight: slot.weight }
}

fn told(slot: &Slot, share: f64) -> RingSlot {
    RingSlot {
        index: slot.index,
        name: slot.name.clone(),
        hostname: slot.hostname.clone(),
        weight: Weight::try_from(u64::from(slot.weight)).unwrap_or_default(),
        state: slot.state,
        share,
    }
}

/// Who owns a key with these candidates, and who gets it: the first in rotation, or else the first that fails its probes.
fn served<'a>(slots: &'a [Slot], candidates: Candidates) -> Option<(&'a Slot, Option<&'a Slot>)> {
    let (mut owner, mut last_resort) = (None, None);
    for slot in candidates.filter_map(|ordinal| slots.get(ordinal)) {
        let owner = *owner.get_or_insert(slot);
        match slot.in_rotation() {
            Ok(_) => return Some((owner, Some(slot))),
            Err(Skipped::FailsProbes) => last_resort = last_resort.or(Some(slot)),
            Err(_) => {}
        }
    }
    owner.map(|owner| (owner, last_resort))
}

fn arcs(snapshot: &Snapshot) -> Vec<Arc> {
    let mut arcs: Vec<Arc> = Vec::new();
    for (at, candidates) in (0..).zip(snapshot.mapping().around(PARTS)) {
        let Some((owner, serving)) = served(snapshot.slots(), candidates) else { continue };
        let serving = serving.map(|slot| &slot.name);
        match arcs.last_mut() {
            Some(last)
                if last.at + last.parts == at
                    && last.owner == owner.name
                    && last.serving.as_ref() == serving =>
            {
                last.parts += 1;
            }
            _ => arcs.push(Arc { at, parts: 1, owner: owner.name.clone(), serving: serving.cloned() }),
        }
    }
    arcs
}

/// Where the keys of slots out of rotation go, and with how many ids that was estimated.
fn meanwhile(snapshot: &Snapshot) -> (Vec<Move>, u32) {
    let slots = snapshot.slots();
    let is_away = |slot: &&Slot| slot.weight > 0 && slot.in_rotation().is_err();
    if slots.iter().find(is_away).is_none() {
        return (Vec::new(), 0);
    }
    let (most, hashes) = SAMPLE;
    let affordable =
        u32::try_from(hashes / snapshot.mapping().hashes().max(1)).unwrap_or(most).clamp(1, most);
    // Odd, so that the ids do not all fall on every other entry of a table.
    let step = (IDS.end - IDS.start).div_ceil(affordable) | 1;
    let (mut counts, mut sampled) = (HashMap::<(&str, Option<&str>), u32>::new(), 0);
    for id in IDS.step_by(step as usize) {
        sampled += 1;
        let id = id.to_string();
        let Some((owner, serving)) = served(slots, snapshot.mapping().candidates(id.as_bytes())) else {
            continue;
        };
        if is_away(&owner) {
            *counts.entry((&owner.name, serving.map(|slot| slot.name.as_str()))).or_default() += 1;
        }
    }
    let mut moves: Vec<_> = counts.into_iter().collect();
    moves.sort_unstable_by_key(|&(pair, count)| (std::cmp::Reverse(count), pair));
    moves.truncate(MOST_MOVES);
    let told = |((from, to), count): ((&str, Option<&str>), u32)| Move {
        from: Some(from.to_owned()),
        to: to.map(str::to_owned),
        share: f64::from(count) / f64::from(sampled),
    };
    (moves.into_iter().map(told).collect(), sampled)
}
