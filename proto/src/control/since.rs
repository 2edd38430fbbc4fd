//! Where a reader of the journal begins.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::value::{Malformed, field};

/// Where a reader of the journal begins: after an entry, or with those that are at most so old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// After the entry with this number. In JSON it is a number.
    Seq(u64),
    /// With the first entry that is at most so old. In JSON it is text, such as `"5m"`.
    Ago(Duration),
}

impl Since {
    /// The form of a beginning, for messages.
    pub const ALLOWED: &str = "the number of an event, or a duration such as 30s, 5m or 1h";
}

impl FromStr for Since {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let number = text.parse().ok().map(Since::Seq);
        let time = || humantime::parse_duration(text).ok().map(Since::Ago);
        number.or_else(time).ok_or_else(|| {
            let given = text.escape_debug();
            Malformed::new(format!("invalid value `{given}`: expected {}", Since::ALLOWED))
        })
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Since::Seq(seq) => seq.fmt(f),
            Since::Ago(time) => humantime::format_duration(*time).fmt(f),
        }
    }
}

impl Serialize for Since {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Since::Seq(seq) => serializer.serialize_u64(*seq),
            Since::Ago(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Since {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        field(deserializer, "since", Since::ALLOWED, |value| match value {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64().map(Since::Seq),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_number_or_a_duration() {
        let read = |json: &str| serde_json::from_str::<Since>(json).map_err(|error| error.to_string());
        for (json, expected) in [
            ("0", Since::Seq(0)),
            ("18446744073709551615", Since::Seq(u64::MAX)),
            (r#""7""#, Since::Seq(7)),
            (r#""5m""#, Since::Ago(Duration::from_secs(300))),
        ] {
            let since = read(json).unwrap();
            assert_eq!(since, expected);
            assert_eq!(read(&serde_json::to_string(&since).unwrap()), Ok(expected));
        }
        for wrong in ["-1", "1.5", "null", r#""soon""#, r#""""#, "[]"] {
            let problem = read(wrong).unwrap_err();
            assert!(
                problem.starts_with("`since`: invalid value") && problem.contains("such as 30s"),
                "{problem}"
            );
        }
    }
}
