//! What one may ask: commands, the names in them, and one line of JSON.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapDeserializer;
use serde::de::{Deserializer, Error as _};
use serde_json::Value;
use serde_json::error::Category;

use super::change::{Addition, Change, Remapping, Removal};
use super::json::Fields;

/// What one may ask of the control port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "cmd", rename_all = "lowercase", deny_unknown_fields)]
pub enum Command {
    /// The replicas' hostnames. (The empty braces make serde refuse unknown fields here too.)
    #[serde(alias = "replicas")]
    Rep {},
    /// Start replicas.
    Add(Addition),
    /// Drain replicas and stop them.
    #[serde(rename = "rm", alias = "remove")]
    Remove(Removal),
    /// How keys are mapped, or, with any field, that they are to be mapped otherwise.
    Mapping(Remapping),
    /// What would follow from a change, without making it.
    Plan {
        /// The change.
        change: Change,
    },
    /// Every slot with its state.
    Backends {},
    /// Why a request id goes where it goes.
    Explain {
        /// The request id, exactly as it would stand in a first line.
        #[serde(deserialize_with = "text")]
        id: String,
    },
    /// Whether any replica is in rotation.
    Health {},
}

/// A name that is safe in a URL, a label, a log line and a file name: `[A-Za-z0-9][A-Za-z0-9_.-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hostname(String);

impl Hostname {
    /// What a hostname may look like, for messages.
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
        Err(Malformed(format!("hostname {name:?} is not of the form {}", Hostname::PATTERN)))
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    field(deserializer, "`id` as text in quotes", |value| value.as_str().map(str::to_owned))
}

/// Reads a field; where serde would tell the type it wants, this one tells the field, what was given and what is allowed.
pub(super) fn field<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    allowed: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    read(&value).ok_or_else(|| D::Error::custom(format_args!("invalid value {value}, expected {allowed}")))
}

/// A command that cannot be understood; the text says what is wrong and what is allowed.
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

/// One line of newline-delimited JSON: the command, and the token that came with it.
///
/// The two are apart so that a token can be checked before the command is looked at.
#[derive(Debug)]
pub struct Line {
    /// The value of the field `token`, if it is text.
    pub token: Option<String>,
    fields: Vec<(String, Value)>,
}

impl Line {
    /// Reads a line as a JSON object.
    ///
    /// # Errors
    /// Where the line is not one JSON object, with the column.
    pub fn parse(line: &[u8]) -> Result<Self, Malformed> {
        let Fields(mut fields) = Fields::read(line)?;
        let token = fields.extract_if(.., |(name, _)| name == "token").last();
        let token = token.and_then(|(_, value)| value.as_str().map(str::to_owned));
        Ok(Line { token, fields })
    }

    /// Reads the command.
    ///
    /// # Errors
    /// Names the field that is missing, unknown, repeated or wrong, and what is allowed there.
    pub fn command(self) -> Result<Command, Malformed> {
        if let Some((_, cmd)) = self.fields.iter().find(|(name, value)| name == "cmd" && !value.is_string()) {
            return Err(Malformed(format!("invalid value {cmd}, expected `cmd` as text, such as \"rep\"")));
        }
        Ok(Command::deserialize(MapDeserializer::<_, serde_json::Error>::new(self.fields.into_iter()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_body;
    use super::*;
    use proptest::prelude::*;

    fn command(line: &str) -> Result<Command, String> {
        let line = Line::parse(line.as_bytes()).map_err(|error| error.to_string())?;
        line.command().map_err(|error| error.to_string())
    }

    fn names(names: &[&str]) -> Vec<Hostname> {
        names.iter().map(|&name| Hostname::try_from(name.to_owned()).unwrap()).collect()
    }

    fn add(n: u32, hostnames: &[&str]) -> Command {
        Command::Add(Addition { n, hostnames: names(hostnames), weights: Vec::new() })
    }

    fn remove(n: u32, hostnames: &[&str]) -> Command {
        Command::Remove(Removal { n, hostnames: names(hostnames) })
    }

    #[test]
    fn every_command_is_read_under_each_of_its_names() {
        let cases = [
            (r#"{"cmd":"rep"}"#, Command::Rep {}),
            (r#"{"cmd":"replicas"}"#, Command::Rep {}),
            (r#"{"cmd":"add","n":4,"hostnames":["S5","S4"]}"#, add(4, &["S5", "S4"])),
            (r#"{"hostnames":[],"n":1,"cmd":"add"}"#, add(1, &[])),
            (r#"{"cmd":"rm","n":3,"hostnames":["S5"]}"#, remove(3, &["S5"])),
            (r#"{"cmd":"remove","n":3}"#, remove(3, &[])),
            (r#"{"cmd":"backends"}"#, Command::Backends {}),
            (r#"{"cmd":"explain","id":"132574"}"#, Command::Explain { id: "132574".into() }),
            (r#"{"cmd":"health"}"#, Command::Health {}),
            (r#"{"cmd":"mapping"}"#, Command::Mapping(Remapping::default())),
            (
                r#"{"cmd":"plan","change":{"cmd":"rm","n":1}}"#,
                Command::Plan { change: Change::Remove(Removal { n: 1, hostnames: Vec::new() }) },
            ),
            (r#" {"cmd":"health","token":"secret"} "#, Command::Health {}),
        ];
        for (line, expected) in cases {
            assert_eq!(command(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn a_malformed_command_is_told_what_is_wrong_and_what_is_allowed() {
        let cases = [
            ("{", "malformed JSON, expected one object: EOF while parsing an object"),
            ("[1]", "expected a JSON object"),
            (r#"{"cmd":"rep"} x"#, "malformed JSON, expected one object: trailing characters"),
            ("{}", "missing field `cmd`"),
            (r#"{"cmd":"fly"}"#, "unknown variant `fly`, expected one of `rep`"),
            (r#"{"cmd":7}"#, "invalid value 7, expected `cmd` as text"),
            (r#"{"cmd":"rep","n":1}"#, "unknown field `n`"),
            (r#"{"cmd":"add"}"#, "missing field `n`"),
            (r#"{"cmd":"add","n":0}"#, "invalid value 0, expected `n` as a whole number of at least 1"),
            (r#"{"cmd":"add","n":-1}"#, "expected `n` as a whole number of at least 1"),
            (r#"{"cmd":"add","n":1.5}"#, "expected `n` as a whole number of at least 1"),
            (r#"{"cmd":"add","n":"3"}"#, "expected `n` as a whole number of at least 1"),
            (r#"{"cmd":"add","n":null}"#, "expected `n` as a whole number of at least 1"),
            (r#"{"cmd":"add","n":1,"n":2}"#, "duplicate field `n`"),
            (
                r#"{"cmd":"add","n":1,"names":[]}"#,
                "unknown field `names`, expected one of `n`, `hostnames`, `weights`",
            ),
            (
                r#"{"cmd":"add","n":1,"hostnames":"S5"}"#,
                "invalid value \"S5\", expected `hostnames` as a list",
            ),
            (r#"{"cmd":"add","n":1,"hostnames":null}"#, "invalid value null, expected `hostnames` as a list"),
            (r#"{"cmd":"add","n":1,"hostnames":[1]}"#, "invalid value [1], expected `hostnames` as a list"),
            (r#"{"cmd":"add","n":1,"hostnames":["../x"]}"#, Hostname::PATTERN),
            (r#"{"cmd":"add","n":1,"hostnames":[""]}"#, Hostname::PATTERN),
            (r#"{"cmd":"plan"}"#, "missing field `change`"),
            (r#"{"cmd":"plan","change":{"cmd":"rep"}}"#, "unknown variant `rep`, expected one of `add`"),
            (r#"{"cmd":"plan","change":{"cmd":"add"}}"#, "missing field `n`"),
            (r#"{"cmd":"plan","change":{"cmd":"rm","n":1,"n":2}}"#, "duplicate field `n`"),
            (r#"{"cmd":"mapping","n":1}"#, "unknown field `n`, expected one of `algorithm`"),
            (r#"{"cmd":"explain"}"#, "missing field `id`"),
            (r#"{"cmd":"explain","id":5}"#, "invalid value 5, expected `id` as text"),
        ];
        for (line, expected) in cases {
            let message = command(line).unwrap_err();
            assert!(message.contains(expected), "{line}: {message}");
        }
    }

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
    }

    #[test]
    fn the_token_is_known_before_the_command_is() {
        let line = Line::parse(br#"{"cmd":"fly","token":"secret"}"#).unwrap();
        assert_eq!(line.token.as_deref(), Some("secret"));
        assert!(line.command().is_err());
    }

    fn read_in_every_way(bytes: &[u8]) {
        let _ = Line::parse(bytes).and_then(Line::command);
        let _ = parse_body::<Addition>(bytes);
        let _ = parse_body::<Removal>(bytes);
        let _ = parse_body::<Remapping>(bytes);
        let _ = parse_body::<Change>(bytes);
    }

    fn names_of_fields() -> impl Strategy<Value = &'static str> {
        let names = [
            "cmd",
            "n",
            "hostnames",
            "weights",
            "mapping",
            "points",
            "change",
            "id",
            "token",
            "balance_factor",
        ];
        proptest::sample::select(names.to_vec())
    }

    /// JSON of every kind, some of it what a field takes.
    fn values() -> impl Strategy<Value = String> {
        let words =
            ["null", "true", "-1", "1e400", "3", "0.5", r#""add""#, r#""plan""#, r#""mapping""#, r#""S5""#];
        let word = proptest::sample::select(words.to_vec()).prop_map(str::to_owned);
        word.prop_recursive(3, 8, 3, |inner| {
            let list =
                proptest::collection::vec(inner.clone(), 0..3).prop_map(|all| format!("[{}]", all.join(",")));
            prop_oneof![
                list,
                (names_of_fields(), inner).prop_map(|(name, value)| format!("{{\"{name}\":{value}}}"))
            ]
        })
    }

    proptest! {
        #[test]
        fn no_line_can_make_it_panic(line in "[{}\\[\\]\",:a-z0-9 cmdnrepaddhostnames.-]{0,80}") {
            read_in_every_way(line.as_bytes());
        }

        #[test]
        fn no_bytes_can_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            read_in_every_way(&bytes);
        }

        #[test]
        fn no_fields_can_make_it_panic(fields in proptest::collection::vec((names_of_fields(), values()), 0..5)) {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            read_in_every_way(format!("{{{}}}", fields.join(",")).as_bytes());
        }
    }
}
