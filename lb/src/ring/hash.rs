//! How bytes become numbers: XXH3-64 and the numeric request id.
//!
//! XXH3 is a frozen specification (xxHash 0.8.0), so positions never move between versions, machines or languages:
//! nothing here is seeded, and nothing depends on the endianness or the word size of the host.

use std::fmt::Write;

pub(super) use xxhash_rust::xxh3::xxh3_64 as xxh3;

/// The positions of `name` on a ring: XXH3-64 of the name, one NUL byte and j as decimal text, j = 0 .. `count`-1.
///
/// The NUL keeps `server1`, 23 apart from `server12`, 3: no name holds one.
pub(super) fn points(name: &str, count: u32) -> impl Iterator<Item = u64> {
    let mut text = format!("{name}\0");
    let stem = text.len();
    (0..count).map(move |j| {
        text.truncate(stem);
        let _ = write!(text, "{j}"); // writing to a String cannot fail
        xxh3(text.as_bytes())
    })
}

/// The number that stands for `key` in arithmetic: its value if it is all ASCII digits and fits, else its XXH3-64.
pub(super) fn number(key: &[u8]) -> u64 {
    decimal(key).unwrap_or_else(|| xxh3(key))
}

/// The value of one or more ASCII digits; `None` for anything else (a sign too) and for what a u64 cannot hold.
fn decimal(key: &[u8]) -> Option<u64> {
    let (&first, rest) = key.split_first()?;
    rest.iter().try_fold(digit(first)?, |value, &byte| value.checked_mul(10)?.checked_add(digit(byte)?))
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
            assert_eq!(xxh3(bytes), hash, "{}", bytes.escape_ascii());
        }
    }

    /// The same independent source: `xxh3_64(b"server1\x000")` and `xxh3_64(b"server1\x00999")`.
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
            assert_eq!(number(key), value, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn any_other_key_is_hashed_first() {
        let keys: [&[u8]; 7] =
            [b"", b"abc", b"12a", b"+1", b" 1", "\u{0661}".as_bytes(), b"1844674407370955161x"];
        for key in keys {
            assert_eq!(number(key), xxh3(key), "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_key_of_digits_that_does_not_fit_is_hashed_too() {
        let keys: [&[u8]; 3] = [b"18446744073709551616", b"36893488147419103232", &[b'9'; 40]];
        for key in keys {
            assert_eq!(number(key), xxh3(key), "{}", key.escape_ascii());
        }
    }
}
