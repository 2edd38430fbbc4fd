//! The seats of a fleet as text.

use fleet::{Seat, SlotId};
use proto::control::{Hostname, Weight};

/// The text of these seats: that of each one, with commas between them.
pub(in crate::provider::engine) fn text(seats: &[Seat]) -> String {
    seats.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Reads the text of seats. `None` if it is no such text. Whether a fleet can have them together is not checked.
pub(in crate::provider::engine) fn read(text: &str) -> Option<Vec<Seat>> {
    text.split(',').filter(|seat| !seat.is_empty()).map(read_one).collect()
}

/// `INDEX=NAME=HOSTNAME`, followed by `=WEIGHT` unless the weight is the default.
pub(in crate::provider::engine) fn one(Seat { slot, weight, hostname, .. }: &Seat) -> String {
    let text = format!("{}={}={hostname}", slot.index, slot.name);
    if weight.is_usual() { text } else { format!("{text}={weight}") }
}

/// Reads the text of one seat.
pub(in crate::provider::engine) fn read_one(text: &str) -> Option<Seat> {
    let mut parts = text.split('=');
    let index = parts.next()?.parse().ok().filter(|&index| index > 0)?;
    let name = Hostname::try_from(parts.next()?.to_owned()).ok()?;
    let hostname = Hostname::try_from(parts.next()?.to_owned()).ok()?;
    let weight = match parts.next() {
        Some(weight) => Weight::try_from(weight.parse::<u64>().ok()?).ok()?,
        None => Weight::default(),
    };
    Some(Seat::new(SlotId { index, name }, weight, hostname))
}
