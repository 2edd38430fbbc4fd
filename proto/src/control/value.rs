//! The values that commands and answers are made of, and the error for one that cannot be understood.
//!
//! A value of one of these types is always allowed; whether a name is in use or a number fits the fleet is not checked here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use serde_json::error::Category;

/// A name that is safe in a URL, a label, a log line and a file name: `[A-Za-z0-9][A-Za-z0-9_.-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Hostname(String);

impl Hostname {
    /// The form of a hostname as a regular expression, for messages.
    pub const PATTERN: &str = "[A-Za-z0-9][A-Za-z0-9_.-]{0,62}";

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Hostname {
    type Error = Malformed;

    fn try_from(name: String) -> Result<Self, Malformed> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let fits = (1..=63).contains(&name.len()) && name.bytes().all(good);
        if fits && name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            return Ok(Hostname(name));
        }
        let (given, pattern) = (name.escape_debug(), Hostname::PATTERN);
        Err(Malformed::new(format!("invalid value `{given}`: expected a hostname of the form {pattern}")))
    }
}

impl FromStr for Hostname {
    type Err = Malformed;

    fn from_str(name: &str) -> Result<Self, Malformed> {
        Hostname::try_from(name.to_owned())
    }
}

/// A slot's share of the keys relative to the other slots: weight 2 gets twice as many as weight 1, and weight 0 none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64")]
pub struct Weight(u8);

impl Weight {
    /// The range of a weight, for messages.
    pub const ALLOWED: &str = "a whole number from 0 to 100";

    /// The weight as a number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.into()
    }

    /// Whether this is the weight of a slot for which no weight was given.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Weight::default()
    }
}

impl Default for Weight {
    /// 1.
    fn default() -> Self {
        Weight(1)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u64> for Weight {
    type Error = Malformed;

    fn try_from(weight: u64) -> Result<Self, Malformed> {
        let small = u8::try_from(weight).ok().filter(|&weight| weight <= 100);
        small
            .map(Weight)
            .ok_or_else(|| Malformed::new(format!("invalid value `{weight}`: expected {}", Weight::ALLOWED)))
    }
}

/// How long the sessions of a replica that is removed may take to end. At most a year: a longer time may overflow when it is added to a
/// point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainTime(Duration);

impl DrainTime {
    /// The form of a duration, for messages.
    pub const ALLOWED: &str = "a duration, such as 0s, 250ms, 5s or 1m";
    /// No time: sessions are reset at once.
    pub const NONE: DrainTime = DrainTime(Duration::ZERO);
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
}

impl From<DrainTime> for Duration {
    fn from(time: DrainTime) -> Self {
        time.0
    }
}

impl FromStr for DrainTime {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let time = humantime::parse_duration(text).ok().or((text == "0").then_some(Duration::ZERO));
        let time = time.filter(|time| *time <= DrainTime::LONGEST).map(DrainTime);
        time.ok_or_else(|| {
            let (given, allowed) = (text.escape_debug(), DrainTime::ALLOWED);
            Malformed::new(format!("invalid value `{given}`: expected {allowed}"))
        })
    }
}

impl fmt::Display for DrainTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for DrainTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A command that cannot be understood; the text names the field, the given value and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

impl Malformed {
    pub(super) fn new(message: String) -> Self {
        Malformed(message)
    }
}

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        match error.classify() {
            Category::Syntax | Category::Eof => {
                Malformed(format!("malformed JSON, expected one object: {error}"))
            }
            Category::Data | Category::Io => Malformed(error.to_string()),
        }
    }
}

/// Reads the value of the field `name`. Where serde's message would name only the type, this one names the field, the given
/// value and what is expected.
pub(super) fn field<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    name: &str,
    expected: impl fmt::Display,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    read(&value).ok_or_else(|| {
        D::Error::custom(format_args!("`{name}`: invalid value `{value}`: expected {expected}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_are_letters_digits_and_three_marks() {
        let long = "a".repeat(63);
        for good in ["S5", "0", "a_b.c-d", &long] {
            assert!(Hostname::try_from(good.to_owned()).is_ok(), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in ["", ".a", "-a", "_a", "a b", "a/b", "ä", "a\n", &too_long] {
            assert!(Hostname::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        let message = Hostname::try_from("a\n".to_owned()).unwrap_err().to_string();
        assert!(message.starts_with(r"invalid value `a\n`: expected a hostname of the form ["), "{message}");
    }

    #[test]
    fn weights_are_whole_numbers_from_0_to_100() {
        assert_eq!([0, 100].map(|weight| Weight::try_from(weight).map(Weight::get)), [Ok(0), Ok(100)]);
        let message = Weight::try_from(101).unwrap_err().to_string();
        assert_eq!(message, "invalid value `101`: expected a whole number from 0 to 100");
    }
}
