//! A line of the table: a slot or a spare, with all its text fit to be shown.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::SystemTime;

use proto::control::{Backend, Backends, State, Weight};
use proto::printable::clipped;

use super::figures::Rates;
use crate::client;

/// The most characters of a text from elsewhere.
const MOST: usize = 200;

/// A slot or a spare.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What the row is known by while its replicas come and go.
    pub(super) key: String,
    /// The name of the slot; a spare has none.
    pub(super) slot: Option<String>,
    pub(super) index: Option<u32>,
    pub(super) hostname: String,
    pub(super) state: State,
    pub(super) weight: Weight,
    pub(super) since: Option<SystemTime>,
    pub(super) open: usize,
    pub(super) total: u64,
    /// New connections per second.
    pub(super) rate: f64,
    /// The part of all new connections of the last minute, and the part of the key space, from 0 to 1.
    pub(super) share: Option<f64>,
    pub(super) target: Option<f64>,
    pub(super) restarts: u64,
    pub(super) address: String,
    /// What the replica runs in, such as `process 4712`; `None` where `lb` has not started it.
    pub(super) carrier: Option<String>,
    /// Why the slot is in its state, and when the next replica is started; empty if there is nothing to tell.
    pub(super) note: String,
}

impl Row {
    fn new(backend: &Backend, rates: &Rates, targets: &BTreeMap<String, f64>) -> Self {
        let shown = |text: &str| clipped(text, MOST);
        let key = key(backend);
        let node = backend.node.as_ref().map_or_else(String::new, |node| format!(" on {}", shown(node)));
        let address = backend.address.as_deref().map_or_else(|| "no address".to_owned(), shown);
        let next = backend.next_retry.map(|seconds| format!("next try in {:.0} s", seconds.ceil()));
        let notes: Vec<String> = backend.reason.as_deref().map(shown).into_iter().chain(next).collect();
        Row {
            slot: backend.name.as_deref().map(shown),
            index: backend.index,
            hostname: shown(&backend.hostname),
            state: backend.state,
            weight: backend.weight,
            since: humantime::parse_rfc3339_weak(&backend.since).ok(),
            open: backend.connections.open,
            total: backend.connections.total,
            rate: rates.of(&key),
            share: backend.name.as_ref().and_then(|_| rates.share(&key)),
            target: backend.name.as_ref().and_then(|name| targets.get(name).copied()),
            restarts: backend.restarts,
            address: address + &node,
            carrier: carrier(backend),
            note: notes.join("; "),
            key,
        }
    }

    /// Whether a text of the row contains this one, in capitals or not.
    pub(super) fn matches(&self, wanted: &str) -> bool {
        let state = self.state.to_string();
        let slot = self.slot.as_deref().unwrap_or("spare");
        let wanted = wanted.to_lowercase();
        [slot, &self.hostname, &state, &self.address].iter().any(|text| text.to_lowercase().contains(&wanted))
    }
}

/// All rows: slots by index, then spares.
pub(super) fn rows(backends: &Backends, rates: &Rates, targets: &BTreeMap<String, f64>) -> Vec<Row> {
    let all = backends.backends.iter().chain(&backends.spares);
    all.map(|backend| Row::new(backend, rates, targets)).collect()
}

/// What a slot is known by, or a spare.
pub(super) fn key(backend: &Backend) -> String {
    backend.name.clone().unwrap_or_else(|| format!("spare {}", backend.hostname))
}

fn carrier(backend: &Backend) -> Option<String> {
    let process = backend.pid.map(|pid| format!("process {pid}"));
    process.or_else(|| {
        Some(format!("container {}", clipped(&client::short_id(backend.container.as_ref()?), MOST)))
    })
}

/// What the rows are in order of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Slot,
    State,
    Open,
    Rate,
    Share,
    Restarts,
}

impl Sort {
    pub(super) fn next(self) -> Self {
        match self {
            Sort::Slot => Sort::State,
            Sort::State => Sort::Open,
            Sort::Open => Sort::Rate,
            Sort::Rate => Sort::Share,
            Sort::Share => Sort::Restarts,
            Sort::Restarts => Sort::Slot,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Sort::Slot => "slot",
            Sort::State => "state",
            Sort::Open => "open",
            Sort::Rate => "rate",
            Sort::Share => "share",
            Sort::Restarts => "restarts",
        }
    }

    /// Slots go up; of all else, what asks for a look comes first.
    pub(super) fn compare(self, one: &Row, other: &Row) -> Ordering {
        let ordered = match self {
            Sort::Slot => Ordering::Equal,
            Sort::State => urgency(one.state).cmp(&urgency(other.state)),
            Sort::Open => other.open.cmp(&one.open),
            Sort::Rate => other.rate.total_cmp(&one.rate),
            Sort::Share => other.share.unwrap_or(-1.0).total_cmp(&one.share.unwrap_or(-1.0)),
            Sort::Restarts => other.restarts.cmp(&one.restarts),
        };
        // A spare has no index, and comes behind the slots.
        let place = |row: &Row| (row.index.is_none(), row.index, row.key.clone());
        ordered.then_with(|| place(one).cmp(&place(other)))
    }
}

fn urgency(state: State) -> u8 {
    match state {
        State::Down => 0,
        State::Quarantined => 1,
        State::Starting => 2,
        State::Draining => 3,
        State::Up => 4,
    }
}
