//! The config object of a fleet: what all its `lb`s agree on, written as labels.
//!
//! Swarm keeps a config object with a version, and changes it only for a client that names the present one. So it is changed by one
//! `lb` at a time. This module writes and reads its labels; it never calls an engine. Labels are foreign bytes: anyone with access to
//! a manager can set them, so what makes no fleet is not read at all.

use std::collections::HashSet;

use fleet::{Coming, Epoch, Leaving, Roster, UnixTime};
use mapping::{MappingPolicy, Seed};
use proto::control::Hostname;

use crate::provider::engine::identity::FLEET;
use crate::provider::engine::record::{Labels, SEATS, seats};

/// The number of the roster. It grows by one with every change.
const EPOCH: &str = "lb.epoch";
/// Distinguishes this fleet from an earlier one of the same name.
pub(super) const BIRTH: &str = "lb.birth";
/// Distinguishes one change from another.
const CHANGE: &str = "lb.change";
/// The digest of the seed of the mapping.
const SEED: &str = "lb.seed";
const SPARES: &str = "lb.spares";
const COMING: &str = "lb.coming";
const LEAVING: &str = "lb.leaving";
const MAPPING: &str = "lb.mapping";
/// Set by `lb fleet rm`: every `lb` of the fleet ends.
const REMOVED: &str = "lb.removed";

/// The name of the config object of a fleet.
pub(super) fn name(fleet: &str) -> String {
    format!("lb.{fleet}")
}

/// A random number as a label.
pub(super) fn nonce() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// What the config object of a fleet says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    /// Distinguishes this fleet from an earlier one of the same name.
    pub(super) birth: String,
    /// Distinguishes this change from others.
    pub(super) change: String,
    /// Which roster this is.
    pub(super) epoch: Epoch,
    /// What all `lb`s of the fleet agree on.
    pub(super) roster: Roster,
}

/// Why labels are no record of a fleet that this `lb` can serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// It is of another fleet, or of none.
    #[error("it has not the label {FLEET} of this fleet: it was not made by lb, and is left alone")]
    Foreign,
    /// It was removed.
    #[error("the fleet has been removed by `lb fleet rm`")]
    Removed,
    /// It has another seed.
    #[error(
        "this lb has another seed than the fleet (--hash-seed, --hash-seed-file): it would choose other replicas"
    )]
    OtherSeed,
    /// It makes no fleet.
    #[error("its labels make no fleet: another version of lb, or another program, wrote them")]
    Unreadable,
}

impl Record {
    /// A new fleet with this roster.
    pub(super) fn of_a_new_fleet(roster: Roster) -> Self {
        Record { birth: nonce(), change: nonce(), epoch: Epoch(1), roster }
    }

    /// The record after a change that leads to this roster.
    pub(super) fn followed_by(&self, roster: Roster) -> Self {
        Record { birth: self.birth.clone(), change: nonce(), epoch: Epoch(self.epoch.0 + 1), roster }
    }

    /// The labels of this record for the fleet of this name.
    pub(super) fn labels(&self, fleet: &str) -> Labels {
        let Record { birth, change, epoch, roster } = self;
        let spares: Vec<&str> = roster.spares.iter().map(Hostname::as_str).collect();
        let coming: Vec<String> = roster
            .coming
            .iter()
            .map(|one| format!("{}@{}", seats::one(&one.seat), time_text(one.until)))
            .collect();
        let leaving: Vec<String> =
            roster.leaving.iter().map(|one| format!("{}@{}", one.hostname, time_text(one.until))).collect();
        let fixed = [
            (FLEET, fleet.to_owned()),
            (BIRTH, birth.clone()),
            (CHANGE, change.clone()),
            (EPOCH, epoch.0.to_string()),
            (SEED, digest(roster.mapping.scheme.seed)),
            (SEATS, seats::text(&roster.seats)),
            (SPARES, spares.join(",")),
            (COMING, coming.join(",")),
            (LEAVING, leaving.join(",")),
        ];
        let fixed = fixed.map(|(name, value)| (name.to_owned(), value));
        fixed.into_iter().chain(mapping_labels(&roster.mapping)).collect()
    }

    /// Reads the labels of a config object, for an `lb` of this fleet with this seed.
    pub(super) fn read(labels: &Labels, fleet: &str, seed: Seed) -> Result<Self, Unusable> {
        if labels.get(FLEET).is_none_or(|label| label != fleet) {
            return Err(Unusable::Foreign);
        }
        if labels.contains_key(REMOVED) {
            return Err(Unusable::Removed);
        }
        let record = read(labels, seed).ok_or(Unusable::Unreadable)?;
        // Last, so that a label that is missing is not taken for another seed.
        if labels.get(SEED).is_some_and(|label| *label == digest(seed)) {
            Ok(record)
        } else {
            Err(Unusable::OtherSeed)
        }
    }
}

/// Marks the labels of a config object: its fleet is removed.
pub(super) fn mark_as_removed(labels: &mut Labels) {
    labels.insert(REMOVED.to_owned(), "true".to_owned());
}

fn read(labels: &Labels, seed: Seed) -> Option<Record> {
    let text = |name| labels.get(name).map(String::as_str);
    let nonce = |name| text(name).filter(|nonce: &&str| !nonce.is_empty()).map(str::to_owned);
    let words = |name| text(name).map(|text| text.split(',').filter(|word| !word.is_empty()));
    let spares: Vec<Hostname> = words(SPARES)?.map(hostname).collect::<Option<_>>()?;
    let named = spares.len();
    let roster = Roster {
        mapping: mapping(labels, seed)?,
        seats: seats::read(text(SEATS)?)?,
        spares: spares.into_iter().collect(),
        coming: words(COMING)?.map(coming).collect::<Option<_>>()?,
        leaving: words(LEAVING)?.map(leaving).collect::<Option<_>>()?,
    };
    let epoch = Epoch(text(EPOCH)?.parse().ok().filter(|&number| number < u64::MAX)?);
    let is_readable = roster.spares.len() == named && is_sound(&roster);
    is_readable.then_some(Record { birth: nonce(BIRTH)?, change: nonce(CHANGE)?, epoch, roster })
}

/// Whether a fleet can have this roster: indices of seats grow, no index or name of a slot is there twice, and no hostname either. (A
/// slot may have the hostname of a spare that has moved in, and the spare then has that of the slot.)
fn is_sound(roster: &Roster) -> bool {
    let slots = || roster.seats.iter().chain(roster.coming.iter().map(|coming| &coming.seat));
    let (mut indices, mut names, mut hostnames) = (HashSet::new(), HashSet::new(), HashSet::new());
    roster.seats.is_sorted_by(|a, b| a.slot.index < b.slot.index)
        && slots().all(|seat| indices.insert(seat.slot.index) && names.insert(&seat.slot.name))
        && roster.hostnames().all(|hostname| hostnames.insert(hostname))
}

fn hostname(text: &str) -> Option<Hostname> {
    Hostname::try_from(text.to_owned()).ok()
}

/// `SEAT@TIME`.
fn coming(text: &str) -> Option<Coming> {
    let (seat, until) = text.split_once('@')?;
    Some(Coming { seat: seats::read_one(seat)?, until: time(until)? })
}

/// `HOSTNAME@TIME`.
fn leaving(text: &str) -> Option<Leaving> {
    let (name, until) = text.split_once('@')?;
    Some(Leaving { hostname: hostname(name)?, until: time(until)? })
}

/// A time as text: seconds since 1970, with nine decimals, so that what is read is what was written.
fn time_text(time: UnixTime) -> String {
    format!("{}.{:09}", time.as_secs(), time.subsec_nanos())
}

fn time(text: &str) -> Option<UnixTime> {
    let (seconds, nanos) = text.split_once('.')?;
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = nanos.len() == 9 && are_digits(seconds) && are_digits(nanos);
    is_time.then_some(())?;
    Some(UnixTime::new(seconds.parse().ok()?, nanos.parse().ok()?))
}

/// Enough of the seed to notice a mistake, and too little to find it.
fn digest(seed: Seed) -> String {
    if seed.is_set() { format!("{:04x}", seed.digest()) } else { "none".to_owned() }
}

/// `lb.mapping` is the algorithm, `lb.mapping.NAME` each parameter.
fn mapping_labels(policy: &MappingPolicy) -> impl Iterator<Item = (String, String)> {
    policy.values().map(|(name, value)| match name {
        "mapping" => (MAPPING.to_owned(), value),
        name => (format!("{MAPPING}.{name}"), value),
    })
}

fn mapping(labels: &Labels, seed: Seed) -> Option<MappingPolicy> {
    let name = ("mapping", labels.get(MAPPING)?.as_str());
    let values = labels.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(MAPPING)?.strip_prefix('.')?;
        Some((name, value.as_str()))
    });
    MappingPolicy::of(std::iter::once(name).chain(values), seed).ok()
}

/// What a read of the config object means for an `lb` that knows this record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// It is the one that is known.
    None,
    /// It has been changed.
    Later(Box<Record>),
    /// It is missing, or older than what is known. That may pass.
    Worse(String),
    /// The fleet is over.
    Over(String),
}

/// Compares what was read (`None`: there is no such object) with what is known.
pub(super) fn compare(known: &Record, read: Option<Result<Record, Unusable>>) -> News {
    match read {
        None => News::Worse("it is gone".to_owned()),
        Some(Err(Unusable::Removed)) => News::Over(Unusable::Removed.to_string()),
        Some(Err(unusable)) => News::Worse(unusable.to_string()),
        Some(Ok(record)) if record.birth != known.birth => {
            News::Over("the fleet has been removed, and founded again".to_owned())
        }
        Some(Ok(record)) if record.epoch > known.epoch => News::Later(Box::new(record)),
        Some(Ok(record)) if record.epoch < known.epoch => {
            News::Worse(format!("it says epoch {}, after {}", record.epoch.0, known.epoch.0))
        }
        Some(Ok(_)) => News::None,
    }
}

#[cfg(test)]
mod tests;
