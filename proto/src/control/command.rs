//! The commands of the control port, and the line of JSON that carries one.

use std::path::PathBuf;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::change::{Addition, Change, Kill, Remapping, Removal};
use super::reload::Reload;
use super::since::Since;
use super::value::field;

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
    /// Kill a replica that `lb` has started, as a test of its healing.
    Kill(Kill),
    /// Change how keys are mapped; without any field, show it.
    Mapping(Remapping),
    /// Show what a change would move, without making it.
    Plan {
        /// The change.
        change: Change,
    },
    /// Show every slot with its state.
    Backends {},
    /// Read the configuration file again, and change what differs from what runs.
    Reload(Reload),
    /// Show what runs, as a configuration file.
    Config {},
    /// Explain which replica gets a request id, and why.
    Explain {
        /// The request id, exactly as it would stand in a first line.
        #[serde(deserialize_with = "text")]
        id: String,
    },
    /// Show a picture of the mapping: who owns which keys, and where the keys of slots out of rotation go meanwhile.
    Ring {},
    /// Tell whether any replica is in rotation.
    Health {},
    /// Start a successor that takes everything over, and wait until it serves.
    Upgrade {
        /// The program that it runs; without it, the file from which this `lb` was started. Only clients on the same machine may say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        binary: Option<PathBuf>,
    },
    /// Tell the incidents: each loss of a replica until its slot was in rotation again.
    Incidents {},
    /// Show the journal, one [`Entry`](crate::journal::Entry) a line, and go on until the connection ends.
    Events {
        /// Where to begin; without it, with the oldest entry that is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Since>,
        /// Whether to go on with what happens. If not, the connection ends after the newest entry.
        #[serde(default = "yes", deserialize_with = "flag", skip_serializing_if = "Clone::clone")]
        follow: bool,
    },
}

impl Command {
    /// Its name, as it stands in `cmd`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Command::Rep {} => "rep",
            Command::Add(_) => "add",
            Command::Remove(_) => "rm",
            Command::Kill(_) => "kill",
            Command::Mapping(_) => "mapping",
            Command::Plan { .. } => "plan",
            Command::Backends {} => "backends",
            Command::Reload(_) => "reload",
            Command::Config {} => "config",
            Command::Ring {} => "ring",
            Command::Explain { .. } => "explain",
            Command::Health {} => "health",
            Command::Incidents {} => "incidents",
            Command::Events { .. } => "events",
            Command::Upgrade { .. } => "upgrade",
        }
    }

    /// The command as one line of newline-delimited JSON, which a [`Line`](super::Line) reads; the line feed is included.
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

fn yes() -> bool {
    true
}

fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    field(deserializer, "follow", "true or false", Value::as_bool)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Hostname, Line, parse_body};
    use proptest::prelude::*;

    fn command(line: &str) -> Result<Command, String> {
        Line::new(line.as_bytes()).command().map_err(|error| error.to_string())
    }

    fn names(names: &[&str]) -> Vec<Hostname> {
        names.iter().map(|&name| Hostname::try_from(name.to_owned()).unwrap()).collect()
    }

    fn add(n: u32, hostnames: &[&str]) -> Command {
        let hostnames = names(hostnames).into_iter().map(Into::into).collect();
        Command::Add(Addition { n, hostnames, weights: Vec::new() })
    }

    fn remove(n: u32, hostnames: &[&str]) -> Command {
        Command::Remove(Removal { n, hostnames: names(hostnames), drain: None })
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
            (r#"{"cmd":"kill","hostname":"S5"}"#, Command::Kill(Kill { hostname: names(&["S5"]).remove(0) })),
            (r#"{"cmd":"backends"}"#, Command::Backends {}),
            (r#"{"cmd":"explain","id":"132574"}"#, Command::Explain { id: "132574".into() }),
            (r#"{"cmd":"health"}"#, Command::Health {}),
            (r#"{"cmd":"config"}"#, Command::Config {}),
            (r#"{"cmd":"reload"}"#, Command::Reload(Reload { dry_run: false })),
            (r#"{"cmd":"reload","dry_run":true}"#, Command::Reload(Reload { dry_run: true })),
            (r#"{"cmd":"ring"}"#, Command::Ring {}),
            (r#"{"cmd":"mapping"}"#, Command::Mapping(Remapping::default())),
            (r#"{"cmd":"incidents"}"#, Command::Incidents {}),
            (r#"{"cmd":"events"}"#, Command::Events { since: None, follow: true }),
            (
                r#"{"cmd":"events","since":7,"follow":false}"#,
                Command::Events { since: Some(Since::Seq(7)), follow: false },
            ),
            (
                r#"{"cmd":"plan","change":{"cmd":"rm","n":1}}"#,
                Command::Plan {
                    change: Change::Remove(Removal { n: 1, hostnames: Vec::new(), drain: None }),
                },
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
            (r#"{"cmd":"kill"}"#, "missing field `hostname`"),
            (r#"{"cmd":"kill","hostname":7}"#, "`hostname`: invalid value `7`: expected a name in quotes"),
            (r#"{"cmd":"kill","hostname":"../x"}"#, "`hostname`: invalid value `../x`: expected a hostname"),
            (r#"{"cmd":"kill","hostname":"a","n":1}"#, "unknown field `n`, expected `hostname`"),
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

    fn read_in_every_way(bytes: &[u8]) {
        let _ = (Line::new(bytes).token(), Line::new(bytes).command());
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
            "drain",
        ];
        proptest::sample::select(names.to_vec())
    }

    /// JSON of every kind; some of it is valid for some field.
    fn values() -> impl Strategy<Value = String> {
        let words = [
            "null",
            "true",
            "-1",
            "1e400",
            "3",
            "0.5",
            r#""add""#,
            r#""plan""#,
            r#""mapping""#,
            r#""S5""#,
            r#""5s""#,
        ];
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
