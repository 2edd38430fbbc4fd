//! The plan of a round: a pure function of the seed, the round's number, the kinds of faults and the size of the fleet.
//!
//! So one round can be repeated alone. Nothing here acts.

use std::time::Duration;

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

use crate::fault::Kind;

/// The most faults in a round.
const FAULTS: u64 = 3;
/// Faults of a round begin within this time, in milliseconds.
const BEGIN: u64 = 1000;
/// How long a fault lasts, in milliseconds.
const SHORTEST: u64 = 200;
const LONGEST: u64 = 1500;

/// One fault of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// When it begins, after the beginning of the round.
    pub(crate) at: Duration,
    /// How long it lasts; a fault that has no duration ignores it.
    pub(crate) hold: Duration,
    pub(crate) fault: Fault,
    /// The seed of everything random within it.
    pub(crate) seed: u64,
}

/// What a fault does. A slot is its place among the slots of the fleet, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill { slot: usize },
    Stop { slot: usize, until_replaced: bool },
    Blackout,
    Rm { slot: usize },
    Add { replicas: usize },
    Remap(Remapping),
    Reset { clients: usize },
    Slow { readers: usize, writers: usize },
    Flood { data: usize, control: usize },
    Garbage { clients: usize },
    HalfClose { clients: usize },
}

/// A change of the mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remapping {
    /// To another mapping, by its name.
    To(&'static str),
    /// To another weight of a slot.
    Weight { slot: usize, weight: u64 },
}

impl Fault {
    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Fault::Kill { .. } => Kind::Kill,
            Fault::Stop { .. } => Kind::Stop,
            Fault::Blackout => Kind::Blackout,
            Fault::Rm { .. } => Kind::Rm,
            Fault::Add { .. } => Kind::Add,
            Fault::Remap(_) => Kind::Remap,
            Fault::Reset { .. } => Kind::Reset,
            Fault::Slow { .. } => Kind::Slow,
            Fault::Flood { .. } => Kind::Flood,
            Fault::Garbage { .. } => Kind::Garbage,
            Fault::HalfClose { .. } => Kind::HalfClose,
        }
    }

    /// Whether it changes which slots there are, or which slot an id has.
    pub(crate) fn moves_keys(&self) -> bool {
        matches!(self, Fault::Rm { .. } | Fault::Add { .. } | Fault::Remap(_))
    }
}

/// The faults of round `number`, by the time at which they begin, for a fleet of so many slots.
///
/// Each kind is the first of a round once in as many rounds as there are kinds. Up to two other kinds join it. Faults that
/// need a slot of their own get different slots.
pub(crate) fn steps(seed: u64, number: u64, kinds: &[Kind], slots: usize) -> Vec<Step> {
    let Some(first) = leader(seed, number, kinds) else { return Vec::new() };
    let mut dice = Dice::new(seed, number);
    let mut others: Vec<Kind> = kinds.iter().copied().filter(|&kind| kind != first).collect();
    dice.shuffle(&mut others);
    let more = dice.below(FAULTS);
    let mut free: Vec<usize> = (0..slots).collect();
    dice.shuffle(&mut free);
    let mut steps: Vec<Step> = Vec::new();
    for kind in std::iter::once(first).chain(others.into_iter().take(more as usize)) {
        if let Some(fault) = fault(kind, &mut free, slots, &mut dice) {
            let at = Duration::from_millis(dice.below(BEGIN));
            let hold = Duration::from_millis(SHORTEST + dice.below(LONGEST - SHORTEST));
            steps.push(Step { at, hold, fault, seed: dice.next() });
        }
    }
    steps.sort_by_key(|step| step.at);
    steps
}

/// The kind that comes first in a round: all of them in turn, in an order that changes from turn to turn.
fn leader(seed: u64, number: u64, kinds: &[Kind]) -> Option<Kind> {
    let turn = number.checked_div(kinds.len() as u64)?;
    let mut order = kinds.to_vec();
    Dice::new(!seed, turn).shuffle(&mut order);
    order.get((number % kinds.len() as u64) as usize).copied()
}

/// A fault of a kind; `None` if the fleet is too small, or another fault of the round has the slots.
fn fault(kind: Kind, free: &mut Vec<usize>, slots: usize, dice: &mut Dice) -> Option<Fault> {
    let some = |dice: &mut Dice, least: u64, most: u64| (least + dice.below(most - least + 1)) as usize;
    Some(match kind {
        Kind::Kill => Fault::Kill { slot: free.pop()? },
        Kind::Stop => Fault::Stop { slot: free.pop()?, until_replaced: dice.below(3) == 0 },
        Kind::Blackout if free.len() == slots => {
            free.clear();
            Fault::Blackout
        }
        // One slot at least stays as it is, to serve meanwhile.
        Kind::Rm if free.len() > 1 => Fault::Rm { slot: free.pop()? },
        Kind::Blackout | Kind::Rm => return None,
        Kind::Add => Fault::Add { replicas: some(dice, 1, 2) },
        Kind::Remap => Fault::Remap(remapping(free, dice)),
        Kind::Reset => Fault::Reset { clients: some(dice, 10, 30) },
        Kind::Slow => Fault::Slow { readers: some(dice, 3, 10), writers: some(dice, 3, 10) },
        Kind::Flood => Fault::Flood { data: some(dice, 50, 150), control: some(dice, 20, 50) },
        Kind::Garbage => Fault::Garbage { clients: some(dice, 10, 30) },
        Kind::HalfClose => Fault::HalfClose { clients: some(dice, 5, 20) },
    })
}

/// Another mapping, or the weight of a slot that no other fault of the round has.
fn remapping(free: &mut Vec<usize>, dice: &mut Dice) -> Remapping {
    const MAPPINGS: [&str; 4] = ["ring", "maglev", "rendezvous", "slots"];
    let name = dice.below(MAPPINGS.len() as u64) as usize;
    let slot = if dice.below(3) == 0 { free.pop() } else { None };
    let weight = 2 + dice.below(4);
    slot.map_or(Remapping::To(MAPPINGS[name]), |slot| Remapping::Weight { slot, weight })
}

/// Random numbers of one round, or of one fault.
#[derive(Debug)]
pub(crate) struct Dice(Pcg64Mcg);

impl Dice {
    /// The dice for a round; those of neighbouring rounds have nothing in common.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        Dice(Pcg64Mcg::seed_from_u64(seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))))
    }

    /// A number of 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from 0 to `end` - 1; 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // The remainder favours small numbers by less than end / 2^64.
        self.next().checked_rem(end).unwrap_or(0)
    }

    /// Puts the items into a random order (Fisher and Yates; Knuth, TAOCP vol. 2, algorithm 3.4.2P).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot_of(fault: &Fault) -> Option<usize> {
        match fault {
            Fault::Kill { slot } | Fault::Stop { slot, .. } | Fault::Rm { slot } => Some(*slot),
            Fault::Remap(Remapping::Weight { slot, .. }) => Some(*slot),
            _ => None,
        }
    }

    #[test]
    fn a_round_is_the_same_whenever_it_is_planned() {
        for number in [0, 1, 7, 1000, u64::MAX] {
            let plan = |seed| steps(seed, number, &Kind::all(), 3);
            assert_eq!(plan(5), plan(5));
            assert_ne!(plan(5), plan(6));
        }
        assert_ne!(steps(5, 1, &Kind::all(), 3), steps(5, 2, &Kind::all(), 3));
    }

    #[test]
    fn every_kind_comes_within_as_many_rounds_as_there_are_kinds() {
        let kinds = Kind::all();
        for first in [0, 3 * kinds.len() as u64] {
            let rounds = first..first + kinds.len() as u64;
            let mut found: Vec<Kind> = rounds.filter_map(|number| leader(9, number, &kinds)).collect();
            found.sort();
            assert_eq!(found, kinds);
        }
    }

    #[test]
    fn faults_of_a_round_have_different_slots_and_leave_one_to_serve() {
        for (number, slots) in (0..2000).flat_map(|number| [1, 2, 3, 8].map(|slots| (number, slots))) {
            let steps = steps(1, number, &Kind::all(), slots);
            let mut taken: Vec<usize> = steps.iter().filter_map(|step| slot_of(&step.fault)).collect();
            taken.sort_unstable();
            let all = taken.len();
            taken.dedup();
            assert_eq!(taken.len(), all, "{steps:?}");
            assert!(taken.iter().all(|&slot| slot < slots), "{steps:?}");
            let has = |kind| steps.iter().any(|step| step.fault.kind() == kind);
            assert!(!has(Kind::Blackout) || taken.is_empty(), "{steps:?}");
            assert!(slots > 1 || !has(Kind::Rm), "{steps:?}");
            assert!(steps.len() as u64 <= FAULTS, "{steps:?}");
        }
    }

    #[test]
    fn only_chosen_kinds_occur_and_none_gives_no_fault() {
        let chosen = [Kind::Kill, Kind::Flood];
        let kinds = (0..100).flat_map(|number| steps(2, number, &chosen, 3));
        assert!(kinds.map(|step| step.fault.kind()).all(|kind| chosen.contains(&kind)));
        assert_eq!(steps(2, 1, &[], 3), []);
    }

    #[test]
    fn faults_begin_within_a_second_in_order() {
        for number in 0..500 {
            let steps = steps(3, number, &Kind::all(), 3);
            assert!(steps.is_sorted_by_key(|step| step.at));
            for step in steps {
                assert!(step.at < Duration::from_secs(1), "{step:?}");
                assert!((200..1500).contains(&step.hold.as_millis()), "{step:?}");
            }
        }
    }

    #[test]
    fn a_number_below_nothing_is_zero() {
        assert_eq!(Dice::new(1, 1).below(0), 0);
    }
}
