//! One entry of the record, and how it is written into the labels of a volume.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bollard::models::{Volume, VolumeCreateRequest};
use proto::control::{Hostname, Weight};

use crate::fleet::{Seat, SlotId};
use crate::provider::engine::docker::container::FLEET;

const NUMBER: &str = "lb.record";
const HOLDER: &str = "lb.holder";
const SINCE: &str = "lb.since";
const SEATS: &str = "lb.seats";

/// Who holds a fleet, and since when.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holder {
    /// Milliseconds since 1970.
    pub(super) since: u64,
    /// Whatever makes it another than all others.
    nonce: String,
}

impl Holder {
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Holder {
            since: u64::try_from(since).unwrap_or(u64::MAX),
            nonce: format!("{:016x}", fastrand::u64(..)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) number: u64,
    /// Nobody, once it has been given up.
    pub(super) holder: Option<Holder>,
    pub(super) seats: Vec<Seat>,
}

impl Entry {
    /// What a volume says; `None` if it is none of ours.
    pub(super) fn read(volume: &Volume) -> Option<Self> {
        let label = |name| volume.labels.get(name);
        let nonce = label(HOLDER).filter(|nonce| !nonce.is_empty()).cloned();
        let holder = match nonce {
            Some(nonce) => Some(Holder { since: label(SINCE)?.parse().ok()?, nonce }),
            None => None,
        };
        let number = label(NUMBER)?.parse().ok()?;
        let seats = label(SEATS)?.split(',').filter(|seat| !seat.is_empty());
        Some(Entry { number, holder, seats: seats.map(seat).collect::<Option<_>>()? })
    }

    pub(super) fn volume(&self, fleet: &str) -> VolumeCreateRequest {
        let (nonce, since) =
            self.holder.clone().map_or_else(Default::default, |holder| (holder.nonce, holder.since));
        let seats: Vec<String> = self.seats.iter().map(text).collect();
        let labels: HashMap<String, String> = [
            (FLEET, fleet.to_owned()),
            (NUMBER, self.number.to_string()),
            (HOLDER, nonce),
            (SINCE, since.to_string()),
            (SEATS, seats.join(",")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        VolumeCreateRequest {
            name: Some(name(fleet, self.number)),
            labels: Some(labels),
            ..VolumeCreateRequest::default()
        }
    }
}

/// `INDEX=NAME=HOSTNAME`, and `=WEIGHT` where it is not the usual one.
fn text(Seat { slot, weight, hostname }: &Seat) -> String {
    let text = format!("{}={}={hostname}", slot.index, slot.name);
    if weight.is_usual() { text } else { format!("{text}={weight}") }
}

fn seat(text: &str) -> Option<Seat> {
    let mut parts = text.split('=');
    let index = parts.next()?.parse().ok().filter(|&index| index > 0)?;
    let name = Hostname::try_from(parts.next()?.to_owned()).ok()?;
    let hostname = Hostname::try_from(parts.next()?.to_owned()).ok()?;
    let weight = match parts.next() {
        Some(weight) => Weight::try_from(weight.parse::<u64>().ok()?).ok()?,
        None => Weight::default(),
    };
    Some(Seat { slot: SlotId { index, name }, weight, hostname })
}

pub(super) fn name(fleet: &str, number: u64) -> String {
    format!("lb.{fleet}.{number}")
}

/// Whether a volume of this name is an entry about this fleet.
pub(in crate::provider::engine::docker) fn is_entry(volume: &str, fleet: &str) -> bool {
    let number = volume.strip_prefix("lb.").and_then(|rest| rest.strip_prefix(fleet)?.strip_prefix('.'));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
