//! `explain`: where a connection with a request id would go now, and why every other replica is skipped.
//!
//! It takes the walk of the data plane ([`Snapshot::outlook`]) and puts it into words. It decides nothing, and sends no message: the
//! snapshot has everything.

use std::fmt::Write as _;

use mapping::BalanceFactor;
use proto::control::{Body, Candidate, Explanation, Failure, FailureKind};
use proto::key::KeyKind;

use crate::snapshot::{Bound, Outlook, Skipped, Slot, Snapshot};

/// Explains where a connection with the request id `id` would go now. Where keys are of another kind, `id` is what has the place of an id.
pub(super) fn explain(snapshot: &Snapshot, kind: &KeyKind, id: String) -> Result<Body, Failure> {
    if id.is_empty() {
        let message = "`id` is empty: expected a request id, as it stands in a first line";
        return Err(FailureKind::BadRequest.because(message));
    }
    let text = kind.of(&id);
    let key = text.as_bytes();
    let (mapping, balance, location) = (snapshot.mapping(), snapshot.balance(), snapshot.locate(key));
    // From the hash of a short key, the seed can be computed: XXH3 is invertible there.
    let (hash, position) = (!mapping.seed().is_set()).then_some((location.hash, location.position)).unzip();
    let Outlook { slots, pick, owner } = snapshot.outlook(key);
    let candidate = |(slot, skipped): (&Slot, Option<Skipped>)| Candidate {
        index: slot.index,
        name: slot.name.clone(),
        hostname: slot.hostname.clone(),
        state: slot.state,
        skipped: skipped.map(|skipped| reason(slot, skipped, balance)),
    };
    Ok(Body::Explanation(Explanation {
        key_bytes: hexadecimal(key),
        key_kind: (*kind != KeyKind::Id).then(|| kind.to_string()),
        mapping: mapping.name().to_string(),
        hash,
        hash_text: hash.map(|hash| hash.to_string()),
        position,
        position_text: position.map(|position| position.to_string()),
        position_percent: percent(location.position, mapping.positions()),
        candidates: slots.into_iter().map(candidate).collect(),
        owner: owner.map(|owner| owner.name.clone()),
        pick: pick.map(|slot| slot.hostname.clone()),
        key: text,
        balance_factor: balance.map(BalanceFactor::get),
        id,
    }))
}

/// The part of all positions that lies before this one, rounded down.
fn percent(position: u64, positions: u128) -> u8 {
    u8::try_from(u128::from(position) * 100 / positions).unwrap_or(u8::MAX)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

/// The reason for which a slot is skipped, in words.
fn reason(slot: &Slot, skipped: Skipped, balance: Option<BalanceFactor>) -> String {
    let because = slot.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    match skipped {
        Skipped::OverBound(Bound { most, open }) => {
            let times = balance.map_or_else(String::new, |factor| format!(", {factor} times the mean"));
            format!("over the bound: it has {open} of at most {most} connections{times}")
        }
        Skipped::Full(Bound { most, open }) => {
            format!("full: it has {open} of at most {most} connections (--max-connections-per-replica)")
        }
        Skipped::FailsProbes => format!("fails its probes, so it comes after every healthy one{because}"),
        Skipped::NoWeight => "weight 0: it gets no new connections".to_owned(),
        Skipped::NoReplica => format!("{}, without a replica to connect to{because}", slot.state),
    }
}
