//! Small pieces of data for tests.

use crate::data::{Balance, Contender, Load, Mode, Reading, Scaling, Share, Variant};

/// A load that spread so, with shares estimated from 100,000 ids.
pub(super) fn balance(counts: &[u64], shares: Option<&[f64]>) -> Balance {
    let share = |(at, &requests): (usize, &u64)| Share {
        hostname: format!("s{}", at + 1),
        requests,
        expected: shares.map(|shares| shares[at]),
        asked: 100_000,
    };
    let total = counts.iter().sum();
    Balance {
        variant: Variant { name: "ring".to_owned(), flags: Vec::new() },
        replicas: counts.iter().enumerate().map(share).collect(),
        load: Load { requests: total, succeeded: total, seconds: 1.0, ..Load::default() },
    }
}

/// A load with a named mapping.
pub(super) fn named(name: &str, counts: &[u64]) -> Balance {
    let variant = Variant { name: name.to_owned(), flags: Vec::new() };
    Balance { variant, ..balance(counts, None) }
}

/// Loads at several N.
pub(super) fn scaling(name: &str, points: &[&[u64]]) -> Scaling {
    let variant = Variant { name: name.to_owned(), flags: Vec::new() };
    Scaling { variant, points: points.iter().map(|counts| balance(counts, None)).collect() }
}

/// A contender with a name.
pub(super) fn contender(name: &str) -> Contender {
    Contender { name: name.to_owned(), version: String::new(), setup: String::new() }
}

/// A mode with rounds of two CPU times per operation, one for each contender.
pub(super) fn mode(name: &str, cpu: &[[u64; 2]]) -> Mode {
    let reading =
        |&cpu: &u64| Reading { operations: 1.0, seconds: 1.0, cpu_ns: Some(cpu), ..Reading::default() };
    Mode {
        name: name.to_owned(),
        what: "Work.".to_owned(),
        unit: "connection".to_owned(),
        is_paced: false,
        rounds: cpu.iter().map(|round| round.iter().map(reading).collect()).collect(),
    }
}
