//! Why a request id goes where it goes: the mapping's order, and what was passed over.

use proto::control::{Candidate, Explanation, Failure, FailureKind, Message};

use crate::ring::Algorithm;
use crate::snapshot::{Eligibility, Slot, Snapshot};

/// Explains where a connection with the request id `id` would go now.
pub(super) fn explain(snapshot: &Snapshot, algorithm: &Algorithm, id: String) -> Result<Message, Failure> {
    if id.is_empty() {
        let message = "`id` is empty; it takes a request id, as it would stand in a first line";
        return Err(FailureKind::BadRequest.because(message));
    }
    let key = id.as_bytes();
    let location = snapshot.locate(key);
    let pick = snapshot.candidates(key).next().map(|replica| replica.hostname.clone());
    let candidates = snapshot.order(key).map(|slot| candidate(slot, pick.as_ref())).collect();
    Ok(Message::Explanation(Explanation {
        key: id.clone(),
        id,
        mapping: algorithm.name(),
        hash: location.hash,
        position: location.position,
        candidates,
        pick,
    }))
}

fn candidate(slot: &Slot, pick: Option<&String>) -> Candidate {
    let is_pick = slot.replica.as_ref().is_some_and(|replica| Some(&replica.hostname) == pick);
    Candidate {
        index: slot.index,
        name: slot.name.clone(),
        hostname: slot.hostname.clone(),
        state: slot.state,
        skipped: if is_pick { None } else { why_skipped(slot) },
    }
}

fn why_skipped(slot: &Slot) -> Option<String> {
    let reason = slot.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    match slot.eligibility() {
        Eligibility::Yes => None,
        Eligibility::LastResort => {
            Some(format!("fails its probes, so it comes after every healthy one{reason}"))
        }
        Eligibility::No => Some(format!("{}, without a replica to connect to{reason}", slot.state)),
    }
}
