//! The table of keys: each flag of `lb serve` that has a variable is one. It is read from the flags themselves, so a new flag is a key at once.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

/// The tables of a file, by the headings of `lb serve --help`.
const TABLES: [(&str, &str); 10] = [
    ("Ports", "ports"),
    ("Privileges", "privileges"),
    ("Replicas", "replicas"),
    ("Replicas by name (dns, fixed)", "dns"),
    ("Containers (docker, swarm)", "containers"),
    ("Mapping", "mapping"),
    ("Connections", "connections"),
    ("Limits", "limits"),
    ("Health", "health"),
    ("Log", "log"),
];

/// The flag that names the file. A file cannot name another.
pub(in crate::config) const CONFIG: &str = "config";
/// The key whose values may be tables of their own.
pub(super) const BACKEND: &str = "backend";

/// Parts of a flag's value name for which a number may stand.
const NUMBERS: [&str; 8] = ["N", "M", "K", "PORT", "NUMBER", "CORES", "FACTOR", "SIZE"];

/// What a value has to be in TOML. The value itself is checked where the flag's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `true` or `false`.
    Switch,
    /// A number, or a string that holds one (or a word such as `off`).
    Number,
    /// A string.
    Text,
}

/// A key of a file, which is a flag.
#[derive(Clone, Debug)]
pub(in crate::config) struct Key {
    /// What the argument parser calls it.
    pub(in crate::config) id: String,
    /// The flag without the dashes in front.
    pub(in crate::config) name: String,
    /// Its variable.
    pub(in crate::config) variable: String,
    /// The table in which it may stand.
    pub(super) table: &'static str,
    pub(super) kind: Kind,
    /// Whether an array of values may be given.
    pub(in crate::config) is_repeatable: bool,
    /// Whether its value is never shown.
    pub(in crate::config) is_secret: bool,
    /// Whether it names a file or folder.
    pub(super) is_path: bool,
    /// The default, where it is a fixed value.
    pub(super) default: Option<String>,
    /// The form of a value, as `--help` shows it.
    pub(super) form: String,
    /// What it is for, as `--help` shows it.
    pub(super) about: String,
}

/// All keys, in the order of `--help`.
#[derive(Clone, Debug)]
pub(in crate::config) struct Keys(pub(in crate::config) Vec<Key>);

impl Keys {
    /// The keys that the flags of a command are.
    pub(in crate::config) fn of(command: &Command) -> Self {
        let counts =
            |arg: &&Arg| !arg.is_hide_set() && arg.get_env().is_some() && arg.get_long() != Some(CONFIG);
        Keys(command.get_arguments().filter(counts).map(key).collect())
    }

    pub(in crate::config) fn find(&self, name: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.name == name)
    }

    /// The key of a name in a table: the flag's, or the flag's without the name of the table in front.
    pub(super) fn find_in(&self, table: &str, name: &str) -> Option<&Key> {
        let in_table = || self.0.iter().filter(|key| key.table == table);
        in_table().find(|key| key.name == name).or_else(|| in_table().find(|key| key.short() == Some(name)))
    }

    pub(super) fn is_table(name: &str) -> bool {
        Self::tables().any(|table| table == name)
    }

    pub(super) fn tables<'a>() -> impl Iterator<Item = &'a str> {
        TABLES.iter().map(|(_, table)| *table)
    }

    /// The known name that is nearest to a name: in a table, or outside of all of them.
    pub(super) fn nearest(&self, table: Option<&str>, name: &str) -> String {
        let here = self.0.iter().filter(|key| table.is_none_or(|table| key.table == table));
        let short = here.clone().filter(|_| table.is_some()).filter_map(Key::short);
        let tables = Self::tables().filter(|_| table.is_none());
        nearest(here.map(|key| key.name.as_str()).chain(short).chain(tables), name).to_owned()
    }
}

/// The nearest of some names.
pub(super) fn nearest<'a>(names: impl Iterator<Item = &'a str>, name: &str) -> &'a str {
    names.min_by_key(|known| strsim::damerau_levenshtein(known, name)).unwrap_or_default()
}

impl Key {
    /// The name without the table's in front, such as `interval` of `health-interval` in `[health]`.
    pub(super) fn short(&self) -> Option<&str> {
        self.name.strip_prefix(self.table)?.strip_prefix('-')
    }

    /// Whether its value is `true` or `false`.
    pub(in crate::config) fn is_switch(&self) -> bool {
        self.kind == Kind::Switch
    }

    /// The only values that there are, if its form is a list of them, such as `keep|reset`.
    pub(super) fn choices(&self) -> Option<Vec<&str>> {
        let is_word =
            |form: &str| form.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let choices: Vec<&str> = self.form.split('|').collect();
        (choices.len() > 1 && choices.iter().all(|choice| is_word(choice))).then_some(choices)
    }
}

fn key(arg: &Arg) -> Key {
    let text = |text: Option<&std::ffi::OsStr>| text.map(|text| text.to_string_lossy().into_owned());
    let form = arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default();
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let heading = arg.get_help_heading().unwrap_or_default();
    let help = arg.get_help().map(|help| help.to_string().replace('\n', " ")).unwrap_or_default();
    Key {
        id: arg.get_id().to_string(),
        name: arg.get_long().unwrap_or_default().to_owned(),
        variable: text(arg.get_env()).unwrap_or_default(),
        table: TABLES.iter().find(|(known, _)| *known == heading).map_or("", |(_, table)| table),
        kind: match is_switch {
            true => Kind::Switch,
            false if form.split('|').any(|part| NUMBERS.contains(&part)) => Kind::Number,
            false => Kind::Text,
        },
        is_repeatable: matches!(arg.get_action(), ArgAction::Append),
        is_secret: arg.is_hide_env_values_set(),
        is_path: arg.get_value_parser().type_id() == clap::value_parser!(PathBuf).type_id(),
        default: match is_switch {
            true => Some("false".to_owned()),
            false => arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned()),
        },
        form: if is_switch { "true|false".to_owned() } else { form },
        about: help,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Serve;

    #[test]
    fn every_flag_is_a_key_of_one_table_and_short_names_are_unique() {
        let keys = Serve::keys();
        assert!(keys.0.len() > 60, "{}", keys.0.len());
        for key in &keys.0 {
            assert!(!key.table.is_empty(), "{}: its heading is not in TABLES", key.name);
            for name in [Some(key.name.as_str()), key.short()].into_iter().flatten() {
                assert_eq!(keys.find_in(key.table, name).map(|found| &found.name), Some(&key.name), "{name}");
            }
        }
    }

    #[test]
    fn the_nearest_name_is_offered() {
        let keys = Serve::keys();
        assert_eq!(keys.nearest(None, "replica"), "replicas");
        assert_eq!(keys.nearest(None, "helth_interval"), "health-interval");
        assert_eq!(keys.nearest(Some("health"), "intervall"), "interval");
        assert_eq!(keys.nearest(None, "limit"), "limits");
    }

    #[test]
    fn a_form_tells_the_kind() {
        let keys = Serve::keys();
        let kind = |name: &str| keys.find(name).unwrap().kind;
        assert_eq!(
            (kind("keep"), kind("replicas"), kind("balance-factor")),
            (Kind::Switch, Kind::Number, Kind::Number)
        );
        assert_eq!(
            (kind("rate-per-source"), kind("command"), kind("first-line-max")),
            (Kind::Text, Kind::Text, Kind::Number)
        );
        assert_eq!(keys.find("on-down").unwrap().choices(), Some(vec!["keep", "reset"]));
        assert_eq!(keys.find("access-log-format").unwrap().choices(), None);
        let secrets: Vec<&str> =
            keys.0.iter().filter(|key| key.is_secret).map(|key| key.name.as_str()).collect();
        assert_eq!(secrets, ["control-token", "env", "hash-seed"]);
    }
}
