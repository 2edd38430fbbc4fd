//! The id of each request: a pure function of a seed and the request's number, so that a run can be repeated however its
//! threads interleave.

use std::fmt;
use std::str::FromStr;

use rand_distr::{Distribution as _, Zipf};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

/// The six-digit ids: 100000 to 999999.
const FIRST: u64 = 100_000;
const COUNT: u64 = 900_000;

/// A sequence of request ids.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ids {
    /// Six-digit ids, each as likely as any other.
    Random,
    /// 100000, 100001, ... and from the start again after 999999.
    Sequential,
    /// Six-digit ids; the r-th is r^-s times as frequent as the first.
    Zipf {
        /// The exponent, as it was given.
        s: f64,
        distribution: Zipf<f64>,
    },
    /// Always this one.
    Fixed(String),
}

impl Ids {
    /// Writes the id of request `number` to the end of `text`.
    pub(crate) fn write(&self, seed: u64, number: u64, text: &mut Vec<u8>) {
        let id = match self {
            Ids::Random => FIRST + rng(seed, number).next_u64() % COUNT,
            Ids::Sequential => FIRST + number % COUNT,
            Ids::Zipf { distribution, .. } => {
                let rank = distribution.sample(&mut rng(seed, number)) as u64;
                FIRST - 1 + rank.clamp(1, COUNT)
            }
            Ids::Fixed(id) => return text.extend_from_slice(id.as_bytes()),
        };
        // Six digits: no need to format.
        text.extend([100_000, 10_000, 1_000, 100, 10, 1].map(|power| b'0' + (id / power % 10) as u8));
    }
}

impl Ids {
    /// The id of request `number`.
    pub(crate) fn id(&self, seed: u64, number: u64) -> String {
        let mut text = Vec::new();
        self.write(seed, number, &mut text);
        // Digits, or what was given as text.
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// A generator for this request alone; seeding mixes, so neighbouring numbers are far apart.
fn rng(seed: u64, number: u64) -> Pcg64Mcg {
    Pcg64Mcg::seed_from_u64(seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected random, sequential, zipf:S (such as zipf:1.1) or fixed:ID";
        match text.split_once(':') {
            None if text == "random" => Ok(Ids::Random),
            None if text == "sequential" => Ok(Ids::Sequential),
            Some(("zipf", s)) => {
                let s = s.parse().ok().filter(|s| (0.0..=10.0).contains(s));
                let s = s.ok_or_else(|| "expected zipf:S with an exponent S from 0 to 10".to_owned())?;
                let distribution = Zipf::new(COUNT as f64, s).map_err(|error| error.to_string())?;
                Ok(Ids::Zipf { s, distribution })
            }
            Some(("fixed", id)) if is_id(id) => Ok(Ids::Fixed(id.to_owned())),
            Some(("fixed", _)) => Err(
                "expected fixed:ID with an ID of 1 to 200 printable ASCII characters, without spaces, '&' and '#'".to_owned(),
            ),
            _ => Err(expected.to_owned()),
        }
    }
}

/// Whether it can be part of a query, and is one word in a raw line.
fn is_id(id: &str) -> bool {
    (1..=200).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic() && !b"&#".contains(&byte))
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ids::Random => f.write_str("random"),
            Ids::Sequential => f.write_str("sequential"),
            Ids::Zipf { s, .. } => write!(f, "zipf:{s}"),
            Ids::Fixed(id) => write!(f, "fixed:{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ids: &Ids, seed: u64, number: u64) -> String {
        ids.id(seed, number)
    }

    fn ids(text: &str) -> Ids {
        text.parse().unwrap()
    }

    #[test]
    fn random_ids_are_six_digits_repeatable_and_spread() {
        let random = ids("random");
        let all: Vec<u64> = (0..90_000).map(|number| id(&random, 7, number).parse().unwrap()).collect();
        assert!(all.iter().all(|id| (100_000..=999_999).contains(id)));
        assert_eq!(id(&random, 7, 5), id(&random, 7, 5));
        assert_ne!(id(&random, 7, 5), id(&random, 8, 5));
        // Nine classes of 10,000 each; 5 standard deviations of a binomial are 471.
        for first in 1..=9 {
            let count = all.iter().filter(|&&id| id / 100_000 == first).count();
            assert!((9_529..=10_471).contains(&count), "{first}: {count}");
        }
    }

    #[test]
    fn sequential_ids_begin_again_after_the_last() {
        let sequential = ids("sequential");
        let found = [0, 1, 899_999, 900_000].map(|number| id(&sequential, 3, number));
        assert_eq!(found, ["100000", "100001", "999999", "100000"]);
    }

    #[test]
    fn zipf_ids_follow_their_power_law() {
        let zipf = ids("zipf:1.1");
        let all: Vec<String> = (0..100_000).map(|number| id(&zipf, 1, number)).collect();
        let count = |wanted: &str| all.iter().filter(|id| *id == wanted).count() as f64;
        let (first, second, tenth) = (count("100000"), count("100001"), count("100009"));
        assert!((first / second / 2f64.powf(1.1) - 1.0).abs() < 0.1, "{first} {second}");
        assert!((first / tenth / 10f64.powf(1.1) - 1.0).abs() < 0.15, "{first} {tenth}");
    }

    #[test]
    fn a_wrong_sequence_of_ids_is_refused_with_what_is_expected() {
        for (text, part) in [
            ("", "random, sequential"),
            ("zipf", "zipf:S"),
            ("zipf:x", "from 0 to 10"),
            ("zipf:NaN", "from 0 to 10"),
            ("zipf:-1", "from 0 to 10"),
            ("fixed:", "1 to 200"),
            ("fixed:a b", "without spaces"),
            ("fixed:a&b", "'&'"),
        ] {
            let error = text.parse::<Ids>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        for text in ["random", "sequential", "zipf:1.1", "fixed:132574"] {
            assert_eq!(ids(text).to_string(), text);
        }
    }
}
