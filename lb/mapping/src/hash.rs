//! How bytes become numbers: XXH3-64 under a seed, and the numeric request id.
//!
//! XXH3 is a frozen specification (xxHash 0.8.0), so positions never move between versions, machines or languages:
//! nothing depends on the endianness or the word size of the host.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::value::InvalidValue;

/// The seed of the hash of keys. 0, the default, is the plain XXH3-64 of the specification.
///
/// Without the seed one cannot compute which keys fall on one member. What is hashed of a *member* alone is not seeded: the
/// text of one of its positions would, as a key, fall right on it under any seed. XXH3 is not a cryptographic function, so
/// the seed is no secret from a party that sees hashes.
///
/// ```
/// use mapping::Seed;
///
/// assert_eq!("0x1F".parse(), Ok(Seed(31)));
/// assert_eq!(format!("{:?}", Seed(31)), "Seed(set)");
/// assert!(!Seed::default().is_set());
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Seed(pub u64);

/// The seed is a secret: it must not show up in a log.
impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "Seed(set)" } else { "Seed(none)" })
    }
}

impl FromStr for Seed {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
        let value = Some(digits).filter(|digits| !digits.starts_with('+'));
        let value = value.and_then(|digits| u64::from_str_radix(digits, radix).ok());
        let expected = "a whole number below 2^64, decimal or as 0x1F; 0 is none";
        value.map(Seed).ok_or(InvalidValue::Secret(expected))
    }
}

impl Seed {
    /// Whether there is a seed.
    #[must_use]
    pub fn is_set(self) -> bool {
        self.0 != 0
    }

    /// A digest by which a mistake is noticed. It has 16 bits, too few to find the seed.
    #[must_use]
    pub fn digest(self) -> u16 {
        let [low, high, ..] = xxh3_64(&self.0.to_le_bytes()).to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    pub(crate) fn hash(self, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self.0)
    }

    pub(crate) fn plus(self, k: u32) -> Self {
        Self(self.0.wrapping_add(k.into()))
    }

    /// The number that stands for `key` in arithmetic: its value if it is all ASCII digits and fits, else its hash. Under
    /// a seed it is always the hash: a client that chooses numbers would choose their places.
    pub(crate) fn number(self, key: &[u8]) -> u64 {
        decimal(key).filter(|_| !self.is_set()).unwrap_or_else(|| self.hash(key))
    }
}

/// The place of a key in a mapping.
///
/// ```
/// use mapping::{Location, Mapping, MappingName};
///
/// let slots = Mapping::build(&mapping::Algorithm::named(MappingName::Slots).into(), &[])?;
/// let hash = 132_574 * 132_574 + 2 * 132_574 + 17;
/// assert_eq!(slots.locate(b"132574"), Location { hash, position: hash % 512 });
/// # Ok::<(), mapping::Full>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The hash of the key; under `rendezvous`, which hashes no key alone, the highest score.
    pub hash: u64,
    /// The place of that hash in the mapping: 0 .. 2^64-1 on a ring, 0 .. M-1 in a table of M. `rendezvous` has no
    /// places, so there it is the hash again.
    pub position: u64,
}

/// The positions of `name` on a ring: XXH3-64 of the name, one NUL byte and j as decimal text, j = 0 .. `count`-1.
///
/// The NUL keeps `server1`, 23 apart from `server12`, 3: no name holds one.
pub(crate) fn points(name: &str, count: u32) -> impl Iterator<Item = u64> {
    let mut text = format!("{name}\0").into_bytes();
    let stem = text.len();
    (0..count).map(move |j| {
        if j == 0 {
            text.push(b'0');
        } else {
            count_up(&mut text, stem);
        }
        xxh3_64(&text)
    })
}

/// Adds 1 to the decimal number that `text` holds from `start` on.
fn count_up(text: &mut Vec<u8>, start: usize) {
    for at in (start..text.len()).rev() {
        if text[at] < b'9' {
            text[at] += 1;
            return;
        }
        text[at] = b'0';
    }
    text.insert(start, b'1');
}

/// The value of one or more ASCII digits; `None` for anything else (a sign too) and for what a u64 cannot hold.
fn decimal(key: &[u8]) -> Option<u64> {
    // So many digits always fit: usual keys need no check for more.
    const SAFE: usize = 19;
    let (first, rest) = key.split_at(key.len().min(SAFE));
    let value = first.iter().try_fold(0, |value, &byte| Some(value * 10 + digit(byte)?));
    let value = value.filter(|_| !key.is_empty())?;
    rest.iter().try_fold(value, |value: u64, &byte| value.checked_mul(10)?.checked_add(digit(byte)?))
}

fn digit(byte: u8) -> Option<u64> {
    byte.is_ascii_digit().then(|| u64::from(byte - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with the Python package `xxhash` 4.1.0, which wraps the reference implementation in C.
    #[test]
    fn xxh3_agrees_with_the_reference_implementation() {
        let cases: [(&[u8], u64); 6] = [
            (b"", 0x2d06_8005_38d3_94c2),
            (b"abc", 0x78af_5f94_892f_3950),
            (b"132574", 0x4eae_f2ca_3a53_4963),
            (b"100000", 0xfbdb_e700_cc78_c738),
            (b"\x00\xff", 0xa99b_043a_346c_8bf3),
            (&[b'x'; 300], 0xa5d1_b460_7dc8_3554),
        ];
        for (bytes, hash) in cases {
            assert_eq!(Seed::default().hash(bytes), hash, "{}", bytes.escape_ascii());
        }
    }

    /// Expected values from the independent implementation: `xxh3_64(b"server1\x000")` and `xxh3_64(b"server1\x00999")`.
    #[test]
    fn a_point_is_the_hash_of_name_nul_and_decimal_number() {
        let points: Vec<u64> = points("server1", 1000).collect();
        assert_eq!(points.len(), 1000);
        assert_eq!(points[0], 0x070d_8d7b_177e_ded9);
        assert_eq!(points[999], 0x8063_063f_ceba_2bba);
    }

    #[test]
    fn a_key_of_ascii_digits_is_its_own_number() {
        let cases: [(&[u8], u64); 4] =
            [(b"0", 0), (b"132574", 132_574), (b"007", 7), (b"18446744073709551615", u64::MAX)];
        for (key, value) in cases {
            assert_eq!(Seed::default().number(key), value, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn any_other_key_is_hashed_first() {
        let keys: [&[u8]; 7] =
            [b"", b"abc", b"12a", b"+1", b" 1", "\u{0661}".as_bytes(), b"1844674407370955161x"];
        for key in keys {
            assert_eq!(Seed::default().number(key), Seed::default().hash(key), "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_key_of_digits_that_does_not_fit_is_hashed_too() {
        let keys: [&[u8]; 3] = [b"18446744073709551616", b"36893488147419103232", &[b'9'; 40]];
        for key in keys {
            assert_eq!(Seed::default().number(key), Seed::default().hash(key), "{}", key.escape_ascii());
        }
    }

    #[test]
    fn decimal_numbers_count_up_past_every_nine() {
        let mut text = b"9 0".to_vec();
        for number in 1..12_000 {
            count_up(&mut text, 2);
            assert_eq!(text, format!("9 {number}").as_bytes());
        }
    }

    #[test]
    fn under_a_seed_every_key_is_hashed_and_no_debug_output_shows_the_seed() {
        let seed = Seed(7);
        assert_ne!(seed.hash(b"132574"), Seed::default().hash(b"132574"));
        assert_eq!(seed.number(b"132574"), seed.hash(b"132574"));
        assert_eq!(format!("{seed:?} {:?}", Seed::default()), "Seed(set) Seed(none)");
    }
}
