//! The commands of the control port, and the line of JSON that carries one.

use serde::de::Deserializer;
use serde::de::value::MapDeserializer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::change::{Addition, Change, Remapping, Removal};
use super::json::Fields;
use super::value::{Malformed, field};

/// A command to the control port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "lowercase", deny_unknown_fields)]
pub enum Command {
    /// List the replicas' hostnames. (The empty braces make serde refuse unknown fields here too.)
    #[serde(alias = "replicas")]
    Rep {},
    /// Start replicas.
    Add(Addition),
    /// Drain replicas and stop them.
    #[serde(rename = "rm", alias = "remove")]
    Remove(Removal),
    /// Change how keys are mapped; without any field, show it.
    Mapping(Remapping),
    /// Show what a change would move, without making it.
    Plan {
        /// The change.
        change: Change,
    },
    /// Show every slot with its state.
    Backends {},
    /// Explain which replica gets a request id, and why.
    Explain {
        /// The request id, exactly as it would stand in a first line.
        #[serde(deserialize_with = "text")]
        id: String,
    },
    /// Tell whether any replica is in rotation.
    Health {},
}

impl Command {
    /// The command as one line of newline-delimited JSON, which [`Line::parse`] reads; the line feed is included.
    #[must_use]
    pub fn to_line(&self, token: Option<&str>) -> String {
        #[derive(Serialize)]
        struct Request<'a> {
            #[serde(flatten)]
            command: &'a Command,
            #[serde(skip_serializing_if = "Option::is_none")]
            token: Option<&'a str>,
        }
        let line = serde_json::to_string(&Request { command: self, token });
        line.unwrap_or_default() + "\n" // nothing in a command can fail to serialize
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    field(deserializer, "id", "text in quotes", |value| value.as_str().map(str::to_owned))
}

/// One line of newline-delimited JSON: a command and the token that came with it.
///
/// They are separate, so that the token can be checked before the command is read.
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
    /// The line is not one JSON object; the message names the column.
    pub fn parse(line: &[u8]) -> Result<Self, Malformed> {
        let Fields(mut fields) = Fields::read(line)?;
        let token = fields.extract_if(.., |(name, _)| name == "token").last();
        let token = token.and_then(|(_, value)| value.as_str().map(str::to_owned));
        Ok(Line { token, fields })
    }

    /// Reads the command.
    ///
    /// # Errors
    /// A field is missing, unknown, repeated or wrong; the message names it and what is expected.
    pub fn command(self) -> Result<Command, Malformed> {
        if let Some((_, cmd)) = self.fields.iter().find(|(name, value)| name == "cmd" && !value.is_string()) {
            let problem = format!("`cmd`: invalid value `{cmd}`: expected text, such as \"rep\"");
            return Err(Malformed::new(problem));
        }
        Ok(Command::deserialize(MapDeserializer::<_, serde_json::Error>::new(self.fields.into_iter()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Hostname, parse_body};
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
    fn every_command_is_read_by_each_of_its_names() {
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
    fn a_malformed_command_is_refused_with_the_field_and_what_is_expected() {
        let cases = [
            ("{", "malformed JSON, expected one object: EOF while parsing an object"),
            ("[1]", "expected a JSON object"),
            (r#"{"cmd":"rep"} x"#, "malformed JSON, expected one object: trailing characters"),
            ("{}", "missing field `cmd`"),
            (r#"{"cmd":"fly"}"#, "unknown variant `fly`, expected one of `rep`"),
            (r#"{"cmd":7}"#, "`cmd`: invalid value `7`: expected text"),
            (r#"{"cmd":"rep","n":1}"#, "unknown field `n`"),
            (r#"{"cmd":"add"}"#, "missing field `n`"),
            (r#"{"cmd":"add","n":0}"#, "`n`: invalid value `0`: expected a whole number of at least 1"),
            (r#"{"cmd":"add","n":-1}"#, r#"`n`: invalid value `-1`: expected a whole number of at least 1"#),
            (
                r#"{"cmd":"add","n":1.5}"#,
                r#"`n`: invalid value `1.5`: expected a whole number of at least 1"#,
            ),
            (
                r#"{"cmd":"add","n":"3"}"#,
                r#"`n`: invalid value `"3"`: expected a whole number of at least 1"#,
            ),
            (
                r#"{"cmd":"add","n":null}"#,
                r#"`n`: invalid value `null`: expected a whole number of at least 1"#,
            ),
            (r#"{"cmd":"add","n":1,"n":2}"#, "duplicate field `n`"),
            (
                r#"{"cmd":"add","n":1,"names":[]}"#,
                "unknown field `names`, expected one of `n`, `hostnames`, `weights`",
            ),
            (
                r#"{"cmd":"add","n":1,"hostnames":"S5"}"#,
                "`hostnames`: invalid value `\"S5\"`: expected a list",
            ),
            (r#"{"cmd":"add","n":1,"hostnames":null}"#, "`hostnames`: invalid value `null`: expected a list"),
            (r#"{"cmd":"add","n":1,"hostnames":[1]}"#, "`hostnames`: invalid value `[1]`: expected a list"),
            (
                r#"{"cmd":"add","n":1,"hostnames":["../x"]}"#,
                "`hostnames`: invalid value `../x`: expected a hostname of the form [",
            ),
            (r#"{"cmd":"add","n":1,"hostnames":[""]}"#, Hostname::PATTERN),
            (r#"{"cmd":"plan"}"#, "missing field `change`"),
            (r#"{"cmd":"plan","change":{"cmd":"rep"}}"#, "unknown variant `rep`, expected one of `add`"),
            (r#"{"cmd":"plan","change":{"cmd":"add"}}"#, "missing field `n`"),
            (r#"{"cmd":"plan","change":{"cmd":"rm","n":1,"n":2}}"#, "duplicate field `n`"),
            (r#"{"cmd":"mapping","n":1}"#, "unknown field `n`, expected one of `algorithm`"),
            (r#"{"cmd":"mapping","points":1,"points":2}"#, "duplicate field `points`"),
            (
                r#"{"cmd":"plan","change":{"cmd":"mapping","points":1,"points":2}}"#,
                "duplicate field `points`",
            ),
            (r#"{"cmd":"explain"}"#, "missing field `id`"),
            (r#"{"cmd":"explain","id":5}"#, "`id`: invalid value `5`: expected text"),
        ];
        for (line, expected) in cases {
            let message = command(line).unwrap_err();
            assert!(message.contains(expected), "{line}: {message}");
        }
    }

    #[test]
    fn the_token_is_known_before_the_command_is_read() {
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

    /// JSON of every kind; some of it is valid for some field.
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
        fn no_line_causes_a_panic(line in "[{}\\[\\]\",:a-z0-9 cmdnrepaddhostnames.-]{0,80}") {
            read_in_every_way(line.as_bytes());
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            read_in_every_way(&bytes);
        }

        #[test]
        fn no_fields_cause_a_panic(fields in proptest::collection::vec((names_of_fields(), values()), 0..5)) {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            read_in_every_way(format!("{{{}}}", fields.join(",")).as_bytes());
        }
    }
}
