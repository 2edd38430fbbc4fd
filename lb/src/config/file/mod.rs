//! The configuration file: TOML in which each flag of `lb serve` is a key ([`keys`]).
//!
//! Its values become texts as a flag has them, and defaults of the argument parser: so flags and variables go before them, and they
//! are checked by what checks the flags. It never looks at what a value means.

mod bytes;
mod document;
mod keys;
mod schema;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::environment::rename_flags;

pub(super) use bytes::{NoText, text};
pub(super) use keys::{CONFIG, Key, Keys};
pub(super) use schema::schema;

/// A place in a file, counted from 1; columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What a file says about one key.
#[derive(Clone, Debug)]
struct Entry {
    /// Where the key stands.
    key: Place,
    /// Where its value begins.
    value: Place,
    /// The texts of the value, each with its place.
    texts: Vec<(Place, String)>,
}

/// A configuration file that was read; by default, none.
#[derive(Clone, Debug, Default)]
pub(super) struct FromFile {
    /// Its name, as it was given.
    name: String,
    /// Its values, by the flag without dashes in front.
    entries: BTreeMap<String, Entry>,
    /// What is wrong with names and types.
    problems: Vec<(Place, String)>,
    /// Why it could not be read at all.
    unread: Option<String>,
}

impl FromFile {
    /// Reads a file.
    pub(super) fn read(path: &Path, keys: &Keys) -> Self {
        let name = path.display().to_string();
        match text(path) {
            Ok(text) => {
                let (entries, problems) = document::read(&text, keys);
                FromFile { name, entries, problems, unread: None }
            }
            Err(because) => {
                let unread = Some(format!("--{CONFIG}: {name} {because}"));
                FromFile { name, unread, ..FromFile::default() }
            }
        }
    }

    /// The texts of a key, if the file has it. An array without values says nothing.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let texts = self.entries.get(key)?.texts.iter().map(|(_, text)| text.clone());
        Some(texts.collect()).filter(|texts: &Vec<String>| !texts.is_empty())
    }

    /// Forgets keys whose values come from elsewhere.
    pub(super) fn keep_only(&mut self, holds: impl Fn(&str) -> bool) {
        self.entries.retain(|key, _| holds(key));
    }

    /// File and line of a key, if its value comes from here.
    pub(super) fn line_of(&self, key: &str) -> Option<String> {
        self.entries.get(key).map(|entry| format!("{}:{}", self.name, entry.key.line))
    }

    /// All problems: those of the file itself, and `others`, which name flags. Those with a place stand in its order, and first.
    pub(super) fn told(&self, others: Vec<String>) -> Vec<String> {
        let mut placed = self.problems.clone();
        let mut elsewhere: Vec<String> = self.unread.iter().cloned().collect();
        for problem in others {
            match self.place_of(&problem) {
                Some(place) => placed.push((place, self.renamed(&problem))),
                None => elsewhere.push(problem),
            }
        }
        placed.sort();
        // An array that never ends is told once, however deep it is.
        placed.dedup();
        let placed = placed.into_iter().map(|(place, problem)| format!("{}:{place}: {problem}", self.name));
        placed.chain(elsewhere).collect()
    }

    /// A message about flags, with keys in place of those that come from here, and the place of the first of them.
    pub(super) fn named_in(&self, message: &str) -> String {
        let (begin, rest) =
            message.split_at(if message.starts_with("error: ") { "error: ".len() } else { 0 });
        match self.place_of(rest) {
            Some(place) => format!("{begin}{}:{place}: {}", self.name, self.renamed(rest)),
            None => message.to_owned(),
        }
    }

    fn renamed(&self, message: &str) -> String {
        rename_flags(message, |flag| self.entries.contains_key(flag).then(|| flag.to_owned()))
    }

    /// The place of the first key in a message, and within its value, of what the message quotes.
    fn place_of(&self, message: &str) -> Option<Place> {
        let mut first = None;
        rename_flags(message, |flag| {
            first = first.or_else(|| self.entries.get(flag));
            None
        });
        let entry = first?;
        let quoted = message.split('`').nth(1).filter(|quoted| !quoted.is_empty());
        let texts = || entry.texts.iter();
        let of_quoted = quoted.and_then(|quoted| {
            texts()
                .find(|(_, text)| text == quoted)
                .or_else(|| texts().find(|(_, text)| text.contains(quoted)))
        });
        Some(of_quoted.map_or(entry.value, |(place, _)| *place))
    }
}

#[cfg(test)]
mod tests;
