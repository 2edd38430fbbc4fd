//! Why a request id goes where it goes: the mapping's order, and what was passed over.

use std::fmt::Write as _;

use proto::control::{Candidate, Explanation, Failure, FailureKind, Message};

use crate::mapping::MappingPolicy;
use crate::snapshot::{BalanceFactor, Bound, Eligibility, Slot, Snapshot};

/// Explains where a connection with the request id `id` would go now.
pub(super) fn explain(snapshot: &Snapshot, policy: &MappingPolicy, id: String) -> Result<Message, Failure> {
    if id.is_empty() {
        let message = "`id` is empty; it takes a request id, as it would stand in a first line";
        return Err(FailureKind::BadRequest.because(message));
    }
    let key = id.as_bytes();
    let location = snapshot.locate(key);
    let pick = snapshot.pick(key);
    let tried: Vec<&Slot> = snapshot.order(key).collect();
    let is_tried = |slot: &Slot| tried.iter().any(|tried| tried.index == slot.index);
    let others = snapshot.slots().iter().filter(|slot| !is_tried(slot));
    let candidates =
        tried.iter().copied().chain(others).map(|slot| candidate(snapshot, slot, pick)).collect();
    Ok(Message::Explanation(Explanation {
        key: id.clone(),
        key_bytes: hexadecimal(key),
        mapping: policy.scheme.algorithm.name(),
        hash: location.hash,
        position: location.position,
        candidates,
        owner: tried.first().map(|owner| owner.name.clone()),
        pick: pick.map(|slot| slot.hostname.clone()),
        balance_factor: policy.balance.map(BalanceFactor::get),
        id,
    }))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

fn candidate(snapshot: &Snapshot, slot: &Slot, pick: Option<&Slot>) -> Candidate {
    let is_pick = pick.is_some_and(|pick| pick.index == slot.index);
    Candidate {
        index: slot.index,
        name: slot.name.clone(),
        hostname: slot.hostname.clone(),
        state: slot.state,
        skipped: if is_pick { None } else { why_skipped(slot, snapshot.bound(slot)) },
    }
}

fn why_skipped(slot: &Slot, bound: Option<Bound>) -> Option<String> {
    let reason = slot.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    match slot.eligibility() {
        Eligibility::Yes => bound.filter(Bound::is_reached).map(|Bound { factor, most, open }| {
            format!("over the bound: it has {open} of at most {most} connections, {factor} times the mean")
        }),
        Eligibility::LastResort => {
            Some(format!("fails its probes, so it comes after every healthy one{reason}"))
        }
        Eligibility::No if slot.weight == 0 => Some("weight 0: it gets no new connections".to_owned()),
        Eligibility::No => Some(format!("{}, without a replica to connect to{reason}", slot.state)),
    }
}
