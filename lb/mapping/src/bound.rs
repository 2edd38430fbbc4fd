//! Bounded loads: no member gets a connection that would bring it above a multiple of the mean.
//!
//! Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads" (SODA 2018, arXiv:1608.01350): with m
//! connections on n members and a factor c > 1, each has room for ceil(c m / n), and a key whose member is full goes to the
//! next candidate. Here a member of weight w out of a total of W has room for ceil(c m w / W).
//!
//! Connections do not move, so the bound holds at the moment one is placed (the new one counts). When many others end at
//! once, a member may be above the new bound. There is always a member with room: if each were full, they would hold more
//! than m connections together.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::value::InvalidValue;

/// The most that the load of a member may be above the mean: a multiple from 1 to 100, in thousandths.
///
/// ```
/// use mapping::BalanceFactor;
///
/// let factor: BalanceFactor = "1.25".parse()?;
/// assert_eq!(factor.most(8, 1, 4), 3);
/// assert_eq!(BalanceFactor::parse_or_off("off"), Ok(None));
/// # Ok::<(), mapping::InvalidValue>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceFactor(NonZeroU32);

/// What a factor looks like, for messages.
const EXPECTED: &str = "a number from 1 to 100 with at most three decimals, such as 1.25";

impl BalanceFactor {
    /// Reads a factor, or `off` for none.
    ///
    /// # Errors
    /// The text is neither.
    pub fn parse_or_off(text: &str) -> Result<Option<Self>, InvalidValue> {
        let factor = if text == "off" { Some(None) } else { read(text).map(Some) };
        factor.ok_or_else(|| InvalidValue::new(text, format!("{EXPECTED}, or off")))
    }

    /// The factor as a number.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.0.get()) / 1000.0
    }

    /// The most connections for a member with `weight` out of `all`, when there are `connections` in total.
    #[must_use]
    pub fn most(self, connections: usize, weight: u32, all: u64) -> usize {
        let share = self.0.get() as u128 * connections as u128 * u128::from(weight);
        let most = share.div_ceil(1000 * u128::from(all.max(1)));
        usize::try_from(most).unwrap_or(usize::MAX)
    }
}

/// Reads a number with at most three decimals.
fn read(text: &str) -> Option<BalanceFactor> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(decimals) || decimals.len() > 3 {
        return None;
    }
    let thousandths =
        whole.parse::<u32>().ok()?.checked_mul(1000)? + format!("{decimals:0<3}").parse::<u32>().ok()?;
    NonZeroU32::new(thousandths).filter(|factor| (1000..=100_000).contains(&factor.get())).map(BalanceFactor)
}

impl FromStr for BalanceFactor {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        read(text).ok_or_else(|| InvalidValue::new(text, EXPECTED))
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
            let parsed = BalanceFactor::from_str(text).unwrap();
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
            assert!(text.parse::<BalanceFactor>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_most_is_a_share_of_the_connections_rounded_up() {
        let factor = BalanceFactor::from_str("1.25").unwrap();
        assert_eq!([0, 1, 8, 9].map(|connections| factor.most(connections, 1, 4)), [0, 1, 3, 3]);
        assert_eq!(factor.most(8, 2, 4), 5);
        assert_eq!(factor.most(usize::MAX, 100, 1), usize::MAX);
        assert_eq!(factor.most(8, 0, 0), 0);
    }

    proptest! {
        #[test]
        fn there_is_always_a_member_with_room(
            replicas in proptest::collection::vec((1..101_u32, 0..50_usize), 1..20), thousandths in 1000..5000_u32,
        ) {
            let factor = BalanceFactor(NonZeroU32::new(thousandths).unwrap());
            let all = replicas.iter().map(|(weight, _)| u64::from(*weight)).sum();
            let connections = replicas.iter().map(|(_, open)| open).sum::<usize>() + 1;
            prop_assert!(replicas.iter().any(|&(weight, open)| open < factor.most(connections, weight, all)));
        }
    }
}
