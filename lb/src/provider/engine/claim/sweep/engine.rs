//! A model of an engine's volumes.

use std::collections::BTreeMap;

use super::*;

/// The volumes of an engine, by number.
#[derive(Default)]
pub(super) struct Engine {
    pub(super) volumes: BTreeMap<u64, Labels>,
    /// The highest number that was ever asked for.
    pub(super) highest: u64,
    /// Calls without a caller, each carried out at its time.
    pub(super) late: Vec<(Time, Call)>,
}

impl Engine {
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.volumes.values().filter_map(Entry::read).collect()
    }

    pub(super) fn last(&self) -> Option<Entry> {
        last(&self.entries()).cloned()
    }

    pub(super) fn perform(&mut self, call: &Call) -> Event {
        match call {
            Call::Look => Event::Seen(self.entries()),
            Call::Append(_, entry) => {
                self.highest = self.highest.max(entry.number);
                let there = self.volumes.entry(entry.number).or_insert_with(|| entry.labels());
                Event::Appended(Entry::read(there))
            }
            Call::Remove(number) => {
                self.volumes.remove(number);
                Event::Removed
            }
            Call::Pause(_) => Event::Paused,
        }
    }
}
