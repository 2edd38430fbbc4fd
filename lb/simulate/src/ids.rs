//! The requests of a simulation: which ids, and how often each.
//!
//! Pure: the same settings give the same ids. An id is a decimal number, as in the classic assignment, and takes 8 bytes.

use std::fmt::{self, Display};

/// The first id.
const FIRST: u32 = 100_000;
/// The ids that a skewed distribution draws from: all of six digits.
const POPULATION: u32 = 900_000;
/// The distance from the id of one rank to the id of the next. It has no divisor in common with [`POPULATION`], so each id
/// has one rank.
const STRIDE: u64 = 556_207;

/// How requests are distributed over ids.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// 100000, 100001, 100002 ..., each once.
    Uniform,
    /// Six-digit ids, drawn at random: the id of rank r is drawn 1 / r^s times as often as the most popular one.
    Zipf {
        /// The exponent s, from 0 to 10.
        exponent: f64,
    },
}

impl Distribution {
    /// The accepted values, for messages.
    pub const ALLOWED: &str = "uniform, zipf or zipf:EXPONENT with a number from 0 to 10";

    /// Parses a distribution; `None` if it is not one of [`Distribution::ALLOWED`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "uniform" => Some(Distribution::Uniform),
            None if text == "zipf" => Some(Distribution::Zipf { exponent: 1.0 }),
            Some(("zipf", exponent)) => {
                let exponent = exponent.parse().ok().filter(|exponent| (0.0..=10.0).contains(exponent))?;
                Some(Distribution::Zipf { exponent })
            }
            _ => None,
        }
    }
}

impl Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distribution::Uniform => f.write_str("uniform"),
            Distribution::Zipf { exponent } => write!(f, "zipf:{exponent}"),
        }
    }
}

/// An id and the number of requests for it.
pub(crate) type Asked = (u32, u32);

/// The requests of a simulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ids {
    /// The number of requests.
    pub count: u32,
    /// How they are distributed over ids.
    pub distribution: Distribution,
    /// The seed that decides which ids are popular and which are drawn.
    pub seed: u64,
}

impl Ids {
    /// All ids that are requested, each once, ascending.
    pub(crate) fn draw(&self) -> Vec<Asked> {
        match self.distribution {
            Distribution::Uniform => (FIRST..).take(self.count as usize).map(|id| (id, 1)).collect(),
            Distribution::Zipf { exponent } => self.popular(exponent),
        }
    }

    fn popular(&self, exponent: f64) -> Vec<Asked> {
        let mut sum = 0.0;
        let weight = |rank: u32| f64::from(rank).powf(-exponent);
        let sums: Vec<f64> = (1..=POPULATION).map(weight).map(|weight| (sum += weight, sum).1).collect();
        let mut random = fastrand::Rng::with_seed(self.seed);
        let start = random.u64(0..u64::from(POPULATION));
        let mut times = vec![0_u32; POPULATION as usize];
        for _ in 0..self.count {
            let at = random.f64() * sum;
            let rank = sums.partition_point(|&sum| sum <= at).min(sums.len() - 1);
            times[((start + rank as u64 * STRIDE) % u64::from(POPULATION)) as usize] += 1;
        }
        (FIRST..).zip(times).filter(|&(_, times)| times > 0).collect()
    }
}

/// An id as the bytes of a key.
pub(crate) fn key(id: u32) -> Vec<u8> {
    id.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str, count: u32, seed: u64) -> Vec<Asked> {
        Ids { count, distribution: Distribution::parse(text).unwrap(), seed }.draw()
    }

    #[test]
    fn uniform_ids_follow_each_other_whatever_the_seed_is() {
        assert_eq!(ids("uniform", 3, 7), [(100_000, 1), (100_001, 1), (100_002, 1)]);
        assert_eq!(ids("uniform", 900_001, 0).last(), Some(&(1_000_000, 1)));
    }

    #[test]
    fn popular_ids_are_six_digits_add_up_and_depend_on_the_seed_alone() {
        let (one, same, other) = (ids("zipf", 50_000, 1), ids("zipf:1", 50_000, 1), ids("zipf", 50_000, 2));
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_eq!(one.iter().map(|(_, times)| times).sum::<u32>(), 50_000);
        assert!(one.iter().all(|(id, _)| (100_000..1_000_000).contains(id)));
        assert!(one.is_sorted_by(|one, next| one.0 < next.0));
    }

    /// With s = 1 the sum of 1 / r is 14.29 over 900,000 ranks: the first gets 7.0 %, the second 3.5 %, the
    /// third 2.3 %.
    #[test]
    fn the_second_id_is_half_as_popular_as_the_first() {
        let mut times: Vec<u32> = ids("zipf", 1_000_000, 3).into_iter().map(|(_, times)| times).collect();
        times.sort_unstable_by(|one, other| other.cmp(one));
        for (times, expected) in times.into_iter().zip([69_980.0, 34_990.0, 23_327.0]) {
            assert!((f64::from(times) / expected - 1.0).abs() < 0.04, "{times} {expected}");
        }
    }

    #[test]
    fn text_that_is_not_a_distribution_is_refused() {
        for text in ["", "random", "zipf:", "zipf:x", "zipf:-1", "zipf:11", "zipf:NaN", "uniform:1"] {
            assert_eq!(Distribution::parse(text), None, "{text}");
        }
        for text in ["uniform", "zipf:1.1"] {
            assert_eq!(Distribution::parse(text).unwrap().to_string(), text);
        }
    }
}
