//! `reload`: the configuration file is read again, and what differs from what runs is changed.

use std::fmt;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::Plan;
use super::value::field;

/// Whether the change is made, or only shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Show what would change, and change nothing.
    #[serde(default, deserialize_with = "flag")]
    pub dry_run: bool,
}

fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    field(deserializer, "dry_run", "true or false", Value::as_bool)
}

/// What a `reload` has changed, or would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The configuration file.
    pub reloaded: String,
    /// Whether nothing was changed: it was only asked what would be.
    pub dry_run: bool,
    /// The settings that differ.
    pub settings: Vec<SettingChange>,
    /// The slots that differ.
    pub slots: Vec<SlotChange>,
    /// What that moves, if slots, weights or the mapping differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// What runs, as a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The text of the file, in TOML. No secret is in it.
    pub config: String,
}

/// A setting that differs from what runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingChange {
    /// The flag without dashes in front.
    pub key: String,
    /// What runs; `None`: nothing is set. A secret is not shown.
    pub from: Option<String>,
    /// What the file wishes.
    pub to: Option<String>,
    /// Why it differs.
    pub by: Changer,
}

/// A slot that differs from what runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotChange {
    /// Its name.
    pub slot: String,
    /// What becomes of it.
    #[serde(flatten)]
    pub change: Fate,
    /// Why it differs.
    pub by: Changer,
}

/// What becomes of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Fate {
    /// It comes.
    Added,
    /// It leaves.
    Removed,
    /// It gets another replica, at another address.
    Replaced,
    /// It gets another weight.
    Weighed {
        /// What it has.
        from: u32,
        /// What it gets.
        to: u32,
    },
}

/// Who has changed something since the configuration was last loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changer {
    /// The file.
    File,
    /// A command such as `add`, `rm` or `mapping`.
    Command,
}

impl fmt::Display for SettingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SettingChange { key, from, to, by } = self;
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        write!(f, "{key}: {} -> {} ({by})", shown(from), shown(to))
    }
}

impl fmt::Display for SlotChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SlotChange { slot, change, by } = self;
        match change {
            Fate::Added => write!(f, "slot {slot}: added ({by})"),
            Fate::Removed => write!(f, "slot {slot}: removed ({by})"),
            Fate::Replaced => write!(f, "slot {slot}: another replica ({by})"),
            Fate::Weighed { from, to } => write!(f, "slot {slot}: weight {from} -> {to} ({by})"),
        }
    }
}

impl fmt::Display for Changer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Changer::File => "the file has changed",
            Changer::Command => "a command has changed it since the last load",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_body;
    use super::*;

    #[test]
    fn a_reload_is_read_and_a_wrong_one_is_refused_by_the_field() {
        let read = |body: &str| parse_body::<Reload>(body.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(read("{}"), Ok(Reload { dry_run: false }));
        assert_eq!(read(r#"{"dry_run":true}"#), Ok(Reload { dry_run: true }));
        for (body, expected) in [
            (r#"{"dry_run":1}"#, "`dry_run`: invalid value `1`: expected true or false"),
            (r#"{"file":"x"}"#, "unknown field `file`, expected `dry_run`"),
        ] {
            let message = read(body).unwrap_err();
            assert!(message.contains(expected), "{body}: {message}");
        }
    }

    #[test]
    fn a_change_of_a_slot_is_one_flat_object() {
        let change = Fate::Weighed { from: 1, to: 5 };
        let slot = SlotChange { slot: "a".to_owned(), change, by: Changer::Command };
        let json = r#"{"slot":"a","change":"weighed","from":1,"to":5,"by":"command"}"#;
        assert_eq!(serde_json::to_string(&slot).unwrap(), json);
        assert_eq!(serde_json::from_str::<SlotChange>(json).unwrap(), slot);
    }
}
