//! How a fleet begins.

use fleet::{Beginning, Effect, Epoch, Event, Fleet, Lineup, Names, Policy, Roster, Time};

use crate::journal::Journal;
use crate::journal::step::What;

/// Begins a fleet, with this roster if there is one, and writes down how.
pub(crate) fn begin(
    (policy, names, lineup): (Policy, Names, Lineup),
    roster: Option<(Epoch, Roster)>,
    journal: &Journal,
) -> (Fleet, Vec<Effect>) {
    let seed = fastrand::u64(..);
    journal.record_step(|| What::Began(Box::new(Beginning::new(&policy, &names, &lineup, seed))));
    let (mut fleet, mut effects) = Fleet::new(policy, names, lineup, seed);
    if let Some((epoch, roster)) = roster {
        let adopted = Event::Adopted(epoch, roster);
        journal.record_step(|| What::happened(Time::ZERO, &adopted));
        effects.extend(fleet.apply(Time::ZERO, adopted));
    }
    (fleet, effects)
}
