//! A TOML document, turned into the texts that the flags would have. It checks names and types; what a text means is checked where the flag's is.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::keys::{BACKEND, Key, Keys, Kind, nearest};
use super::{Entry, Place};

type Name<'a> = Spanned<DeString<'a>>;
type Value<'a> = Spanned<DeValue<'a>>;

/// The keys of a table of `[[backend]]`.
const BACKEND_KEYS: [&str; 3] = ["name", "address", "weight"];

/// What stands in a text: the values by key, and what is wrong, each at its place.
pub(super) fn read(text: &str, keys: &Keys) -> (BTreeMap<String, Entry>, Vec<(Place, String)>) {
    let mut reader = Reader { lines: Lines::of(text), keys, found: BTreeMap::new(), problems: Vec::new() };
    let (document, errors) = DeTable::parse_recoverable(text);
    // What was guessed behind such an error is no wish.
    if errors.is_empty() {
        document.get_ref().iter().for_each(|(name, value)| reader.outside(name, value));
    }
    for error in errors {
        let place = reader.lines.place(error.span().map_or(0, |span| span.start));
        reader.problems.push((place, format!("this is no TOML: {}", error.message())));
    }
    (reader.found, reader.problems)
}

struct Reader<'a> {
    lines: Lines<'a>,
    keys: &'a Keys,
    found: BTreeMap<String, Entry>,
    problems: Vec<(Place, String)>,
}

impl Reader<'_> {
    /// A name outside of all tables.
    fn outside(&mut self, name: &Name<'_>, value: &Value<'_>) {
        let (known, keys) = (name.get_ref(), self.keys);
        match (value.get_ref(), keys.find(known)) {
            (DeValue::Table(table), _) if Keys::is_table(known) => {
                table.iter().for_each(|(name, value)| self.inside(known, name, value));
            }
            (_, Some(key)) => self.take(key, name, value),
            (_, None) if Keys::is_table(known) => {
                self.say(name, format!("{known}: it is a table: expected [{known}] and its keys"));
            }
            (DeValue::Table(_), None) => {
                let nearest = nearest(Keys::tables(), known);
                self.say(name, format!("unknown table [{known}]: the nearest is [{nearest}]"));
            }
            (_, None) => {
                let nearest = keys.nearest(None, known);
                self.say(name, format!("unknown key `{known}`: the nearest is `{nearest}`"));
            }
        }
    }

    /// A name in a table.
    fn inside(&mut self, table: &str, name: &Name<'_>, value: &Value<'_>) {
        let (given, keys) = (name.get_ref(), self.keys);
        match (keys.find_in(table, given), keys.find(given)) {
            (Some(key), _) => self.take(key, name, value),
            (None, Some(key)) => {
                let home = key.table;
                self.say(
                    name,
                    format!(
                        "{given}: it is no key of [{table}]: expected it in [{home}], or before all tables"
                    ),
                );
            }
            (None, None) => {
                let nearest = keys.nearest(Some(table), given);
                self.say(name, format!("unknown key `{given}` in [{table}]: the nearest is `{nearest}`"));
            }
        }
    }

    fn take(&mut self, key: &Key, name: &Name<'_>, value: &Value<'_>) {
        let at = self.place(name);
        if let Some(other) = self.found.get(&key.name) {
            let (first, second) = if other.key < at { (other.key, at) } else { (at, other.key) };
            self.problems
                .push((second, format!("{}: it is given at {first} already; give it once", key.name)));
            return;
        }
        let values: Vec<&Value<'_>> = match value.get_ref() {
            DeValue::Array(values) if key.is_repeatable => values.iter().collect(),
            _ => vec![value],
        };
        if values.is_empty() && key.default.is_some() {
            self.say(value, format!("{}: the array is empty: expected at least one value", key.name));
        }
        let mut entry = Entry { key: at, value: self.place(value), texts: Vec::new() };
        for value in values {
            match self.text(key, value) {
                Some(text) => entry.texts.push((self.place(value), text)),
                None => continue,
            }
        }
        self.found.insert(key.name.clone(), entry);
    }

    /// The text of one value, unless it is of a type that the flag cannot have.
    fn text(&mut self, key: &Key, value: &Value<'_>) -> Option<String> {
        if let (DeValue::Table(table), BACKEND) = (value.get_ref(), key.name.as_str()) {
            return self.backend(value, table);
        }
        let text = match (key.kind, value.get_ref()) {
            (Kind::Switch, DeValue::Boolean(given)) => Some(given.to_string()),
            (Kind::Number, number @ (DeValue::Integer(_) | DeValue::Float(_))) => number_text(number),
            (Kind::Number | Kind::Text, DeValue::String(given)) => Some(given.to_string()),
            _ => None,
        };
        match text {
            None => {
                let given = type_of(value.get_ref());
                self.say(value, format!("{}: it is {given}: expected {}", key.name, expected(key)));
                None
            }
            Some(text) if text.is_empty() && key.is_path => {
                self.say(
                    value,
                    format!("{}: invalid value ``: expected the name of a file or folder", key.name),
                );
                None
            }
            text => text,
        }
    }

    /// The text of a table of `[[backend]]`.
    fn backend(&mut self, at: &Value<'_>, table: &DeTable<'_>) -> Option<String> {
        let so_far = self.problems.len();
        for (name, _) in table.iter() {
            let given = name.get_ref();
            if !BACKEND_KEYS.contains(&given.as_ref()) {
                let nearest = nearest(BACKEND_KEYS.into_iter(), given);
                self.say(name, format!("unknown key `{given}` in [[backend]]: the nearest is `{nearest}`"));
            }
        }
        let mut part = |key: &str, is_needed: bool| {
            let Some(value) = table.get(key) else {
                if is_needed {
                    self.say(
                        at,
                        format!("backend: {key} is missing: expected {key} = \"...\" in [[backend]]"),
                    );
                }
                return None;
            };
            let text = match value.get_ref() {
                // Of these the text of a flag is made: they would end the value.
                DeValue::String(text) if !text.contains(|c: char| c == ',' || c.is_whitespace()) => {
                    Some(text.to_string())
                }
                number @ (DeValue::Integer(_) | DeValue::Float(_)) if key == "weight" => number_text(number),
                _ => None,
            };
            if text.is_none() {
                let given = match value.get_ref() {
                    DeValue::String(_) => "a string with commas or spaces",
                    other => type_of(other),
                };
                let what = if key == "weight" {
                    "a whole number from 0 to 100"
                } else {
                    "a string without commas and spaces"
                };
                self.say(value, format!("backend: {key} is {given}: expected {what}"));
            }
            text
        };
        let (name, address, weight) = (part("name", true), part("address", true), part("weight", false));
        let weight = weight.map_or_else(String::new, |weight| format!(",weight={weight}"));
        let whole = format!("{}={}{weight}", name?, address?);
        (self.problems.len() == so_far).then_some(whole)
    }

    fn place<T>(&self, at: &Spanned<T>) -> Place {
        self.lines.place(at.span().start)
    }

    fn say<T>(&mut self, at: &Spanned<T>, problem: String) {
        self.problems.push((self.place(at), problem));
    }
}

/// A number in decimal, as a flag has it.
fn number_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn expected(key: &Key) -> String {
    let example = key.default.as_ref().map_or_else(String::new, |default| format!(", such as \"{default}\""));
    let one = match key.kind {
        Kind::Switch => return "true or false".to_owned(),
        Kind::Number => format!("a number or a string ({}{example})", key.form),
        Kind::Text => format!("a string ({}{example})", key.form),
    };
    if key.is_repeatable { format!("{one}, or an array of them") } else { one }
}

/// Where the lines of a text begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let after = text.match_indices('\n').map(|(at, _)| at + 1);
        Lines { text, starts: std::iter::once(0).chain(after).collect() }
    }

    fn place(&self, at: usize) -> Place {
        let line = self.starts.partition_point(|&start| start <= at);
        let start = line.checked_sub(1).and_then(|before| self.starts.get(before)).copied().unwrap_or(0);
        let before = self.text.get(start..at).map_or(0, |before| before.chars().count());
        Place { line, column: before + 1 }
    }
}
