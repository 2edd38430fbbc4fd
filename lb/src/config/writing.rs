//! What runs, as a configuration file: what was given, with the slots and the mapping as they are now.
//!
//! A secret is not written. What a flag or a variable has given is marked: it goes before the file.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use mapping::MappingPolicy;

use super::applied::{Applied, Kept};

/// What runs in place of what was given.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// Values of the mapping, by key.
    pub mapping: Vec<(String, String)>,
    /// The slots: how many, or the fixed addresses in them. `None`: a name server tells them.
    pub slots: Option<Slots>,
}

/// The slots that there are.
#[derive(Clone, Debug)]
pub enum Slots {
    /// So many.
    Count(usize),
    /// These: name, address and weight.
    Named(Vec<(String, String, u32)>),
}

impl Applied {
    /// The file. With the flags and variables that there are, to load it changes nothing.
    #[must_use]
    pub fn written(&self, runs: &Runs) -> String {
        let mut file = String::from("# What runs, written by `lb config --write`.\n");
        for kept in &self.texts {
            if let Some(line) = line(kept, runs) {
                file.push_str(&line);
            }
        }
        if let Some(Slots::Named(slots)) = &runs.slots {
            file.push_str(&if self.config.backends_file.is_some() { listed(slots) } else { tables(slots) });
        }
        file
    }
}

/// The tables of these slots: name, address and weight.
fn tables(slots: &[(String, String, u32)]) -> String {
    let mut tables = String::new();
    for (name, address, weight) in slots {
        let (name, address) = (quoted(name), quoted(address));
        let _ = write!(tables, "\n[[backend]]\nname = {name}\naddress = {address}\nweight = {weight}\n");
    }
    tables
}

/// A comment with the lines of a file of backends that says what runs. Commands may have changed what the file says.
fn listed(slots: &[(String, String, u32)]) -> String {
    let mut lines = String::from("\n# The lines of --backends-file for the backends that run:\n");
    for (name, address, weight) in slots {
        let weight = if *weight == 1 { String::new() } else { format!(",weight={weight}") };
        let _ = writeln!(lines, "# {name}={address}{weight}");
    }
    lines
}

/// Writes a file as a whole: another one of this name stays until then.
///
/// # Errors
/// It cannot be written.
pub fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    let written = fs::write(new, format!("{text}\n")).and_then(|()| fs::rename(new, file));
    written.with_context(|| format!("cannot write {}", file.display()))
}

/// The line of a key; `None` if its value is the default, or stands elsewhere.
fn line(kept: &Kept, runs: &Runs) -> Option<String> {
    let key = kept.key.as_str();
    if let Some((_, value)) = runs.mapping.iter().find(|(name, _)| name == key) {
        let is_given = kept.from != "default" || kept.texts.first() != Some(value);
        return is_given.then(|| format!("{}{key} = {}\n", origin(kept), quoted(value)));
    }
    // What the mapping that runs does not have.
    if MappingPolicy::keys().any(|known| known == key) {
        return None;
    }
    match (key, &runs.slots) {
        ("replicas", Some(Slots::Count(n))) => return Some(format!("{}replicas = {n}\n", origin(kept))),
        ("replicas" | "backend", Some(Slots::Named(_))) => return None,
        _ if kept.from == "default" || kept.texts.is_empty() => return None,
        _ if kept.is_secret => return Some(format!("# {key} is a secret, and is not written\n")),
        _ => {}
    }
    let texts: Vec<String> = kept.texts.iter().map(|text| quoted(text)).collect();
    let value = match texts.as_slice() {
        [_] if kept.is_switch => kept.texts.concat(),
        [one] if !kept.is_repeatable => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    Some(format!("{}{key} = {value}\n", origin(kept)))
}

/// A comment, where the value does not come from the file.
fn origin(kept: &Kept) -> String {
    match kept.from.as_str() {
        "flag" => format!("# --{} is given, and goes before this\n", kept.key),
        variable if variable.starts_with("variable ") => format!("# the {variable} goes before this\n"),
        _ => String::new(),
    }
}

/// A basic string of TOML: as in JSON, but for one more character that has to be escaped.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default().replace('\u{7f}', "\\u007f")
}
