//! Bounded loads: no replica gets a connection that would bring it above a multiple of the mean.
//!
//! Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads" (SODA 2018, arXiv:1608.01350): with m
//! connections on n replicas and a factor c > 1, each has room for ceil(c m / n), and a key whose replica is full goes to
//! the next candidate. Here a replica of weight w among a sum of W has room for ceil(c m w / W).
//!
//! A connection stays where it is, so the bound holds at the moment one is placed (the new one counts): when many of the
//! others end at once, a replica may be above a bound that has come down. There is always a replica with room: if each
//! were full, they would hold more than m connections together.

use std::fmt;
use std::num::NonZeroU32;

/// How far above the mean a replica may go, in thousandths: from 1 to 100 times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceFactor(NonZeroU32);

impl BalanceFactor {
    /// What a factor may be, for messages.
    pub const ALLOWED: &str = "a number from 1 to 100 with at most three decimals, such as 1.25, or off";

    /// Reads a number with at most three decimals.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !are_digits(whole) || !are_digits(decimals) || decimals.len() > 3 {
            return None;
        }
        let thousandths =
            whole.parse::<u32>().ok()?.checked_mul(1000)? + format!("{decimals:0<3}").parse::<u32>().ok()?;
        NonZeroU32::new(thousandths).filter(|factor| (1000..=100_000).contains(&factor.get())).map(Self)
    }

    /// The factor as a number.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.0.get()) / 1000.0
    }

    /// The most connections for a replica that has `weight` of `all`, when there are `connections`.
    #[must_use]
    pub fn most(self, connections: usize, weight: u32, all: u64) -> usize {
        let share = self.0.get() as u128 * connections as u128 * u128::from(weight);
        let most = share.div_ceil(1000 * u128::from(all.max(1)));
        usize::try_from(most).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for BalanceFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_factor_is_a_decimal_number_from_1_to_100() {
        for (text, factor) in [("1", 1.0), ("1.25", 1.25), ("1.001", 1.001), ("100.0", 100.0), ("02.5", 2.5)]
        {
            let parsed = BalanceFactor::parse(text).unwrap();
            assert_eq!(parsed.get(), factor);
        }
        let wrong = [
            "",
            "0.999",
            "0",
            "100.001",
            "1.",
            ".5",
            "1.2345",
            "-1",
            "+1",
            "1e1",
            "NaN",
            "1,5",
            "99999999999",
            "1.2.3",
        ];
        for text in wrong {
            assert_eq!(BalanceFactor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_most_is_a_share_of_the_connections_rounded_up() {
        let factor = BalanceFactor::parse("1.25").unwrap();
        assert_eq!([0, 1, 8, 9].map(|connections| factor.most(connections, 1, 4)), [0, 1, 3, 3]);
        assert_eq!(factor.most(8, 2, 4), 5);
        assert_eq!(factor.most(usize::MAX, 100, 1), usize::MAX);
        assert_eq!(factor.most(8, 0, 0), 0);
    }

    proptest! {
        #[test]
        fn somebody_always_has_room(
            replicas in proptest::collection::vec((1..101_u32, 0..50_usize), 1..20), thousandths in 1000..5000_u32,
        ) {
            let factor = BalanceFactor(NonZeroU32::new(thousandths).unwrap());
            let all = replicas.iter().map(|(weight, _)| u64::from(*weight)).sum();
            let connections = replicas.iter().map(|(_, open)| open).sum::<usize>() + 1;
            prop_assert!(replicas.iter().any(|&(weight, open)| open < factor.most(connections, weight, all)));
        }
    }
}
