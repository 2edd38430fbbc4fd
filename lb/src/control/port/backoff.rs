//! How long the refusal of a wrong token waits, by the address from which it came.
//!
//! Only refusals wait. A right token never does, so a stranger behind the address of an operator cannot lock the operator out. That is
//! also why the table may be small: two addresses that share a cell share no more than the wait of their wrong tokens.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many addresses are told apart.
const CELLS: usize = 1024;
/// How many refusals in a row do not wait.
const FREE: u32 = 8;
/// The first wait; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(10);
/// The longest wait.
const LONGEST: Duration = Duration::from_millis(250);
/// After this time without a wrong token, an address begins anew.
const FORGET: Duration = Duration::from_secs(30);

/// The refusals of the last seconds.
#[derive(Debug)]
pub(super) struct Backoff {
    hasher: RandomState,
    cells: Mutex<Vec<Cell>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    in_a_row: u32,
    last: Option<Instant>,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Backoff { hasher: RandomState::new(), cells: Mutex::new(vec![Cell::default(); CELLS]) }
    }

    /// How long the refusal of a wrong token from this address waits; it counts as one more.
    pub(super) fn next(&self, source: IpAddr, now: Instant) -> Duration {
        let at = self.hasher.hash_one(network(source)) as usize % CELLS;
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        cells.get_mut(at).map_or(LONGEST, |cell| cell.next(now))
    }
}

impl Cell {
    fn next(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now.duration_since(last) >= FORGET) {
            self.in_a_row = 0;
        }
        self.last = Some(now);
        self.in_a_row = self.in_a_row.saturating_add(1);
        let Some(doublings) = self.in_a_row.checked_sub(FREE + 1) else { return Duration::ZERO };
        FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST)
    }
}

/// What one client has for itself: an IPv4 address, or the first half of an IPv6 address.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(backoff: &Backoff, source: &str, at: Instant, count: usize) -> Vec<u128> {
        (0..count).map(|_| backoff.next(source.parse().unwrap(), at).as_millis()).collect()
    }

    #[test]
    fn refusals_in_a_row_wait_longer_and_longer() {
        let (backoff, start) = (Backoff::new(), Instant::now());
        assert_eq!(waits(&backoff, "192.0.2.1", start, 8), [0; 8]);
        assert_eq!(waits(&backoff, "192.0.2.1", start, 7), [10, 20, 40, 80, 160, 250, 250]);
        assert_eq!(waits(&backoff, "::ffff:192.0.2.1", start + FORGET / 2, 1), [250], "the same address");
        assert_eq!(waits(&backoff, "192.0.2.1", start + 2 * FORGET, 2), [0, 0], "long ago");
    }

    #[test]
    fn all_addresses_of_an_ipv6_network_are_one_source() {
        let (backoff, start) = (Backoff::new(), Instant::now());
        for host in 0..50 {
            waits(&backoff, &format!("2001:db8::{host:x}"), start, 1);
        }
        assert_eq!(waits(&backoff, "2001:db8::ffff:1", start, 1), [250]);
    }

    #[test]
    fn a_crowd_of_sources_takes_no_more_memory_and_no_panic() {
        let (backoff, start) = (Backoff::new(), Instant::now());
        for source in 0..100_000_u32 {
            assert!(backoff.next(IpAddr::V4(source.into()), start) <= LONGEST);
        }
        assert_eq!(backoff.cells.lock().unwrap().len(), CELLS);
    }
}
