//! A connection that has ended, as its line tells it: the values, and the names of the fields.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use proto::printable::printable;

/// The longest text of a client that is shown, in bytes.
const LONGEST: usize = 256;

/// A connection that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) client: SocketAddr,
    /// The request id; `None` if there is none.
    pub(crate) id: Option<&'a str>,
    /// Where the key comes from: `id`, `random` or `source`; `None` before the first line is known.
    pub(crate) key: Option<&'a str>,
    /// The name of the slot that it reached.
    pub(crate) slot: Option<&'a str>,
    /// The hostname of the replica that it reached.
    pub(crate) replica: Option<&'a str>,
    /// How many replicas were tried.
    pub(crate) attempts: u32,
    /// The bytes from the client to the replica, and those back; `None` if they are not known.
    pub(crate) traffic: Option<(u64, u64)>,
    pub(crate) first_line: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    pub(crate) total: Duration,
    /// How it ended.
    pub(crate) ending: &'a str,
    /// Why it was refused.
    pub(crate) reason: Option<&'a str>,
}

/// A field of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Time,
    Client,
    Id,
    Key,
    Slot,
    Replica,
    Attempts,
    Up,
    Down,
    FirstLine,
    Connect,
    Total,
    Ending,
    Reason,
}

/// The value of a field.
enum Value<'a> {
    Nothing,
    Time(SystemTime),
    Address(SocketAddr),
    Word(&'a str),
    Number(u64),
    /// Shown in seconds.
    Duration(Duration),
}

impl Field {
    /// All of them, with their names, in the order of a line.
    pub(crate) const ALL: [(&'static str, Field); 14] = [
        ("time", Field::Time),
        ("client", Field::Client),
        ("id", Field::Id),
        ("key", Field::Key),
        ("slot", Field::Slot),
        ("replica", Field::Replica),
        ("attempts", Field::Attempts),
        ("bytes_up", Field::Up),
        ("bytes_down", Field::Down),
        ("first_line", Field::FirstLine),
        ("connect", Field::Connect),
        ("total", Field::Total),
        ("ending", Field::Ending),
        ("reason", Field::Reason),
    ];
}

impl<'a> Record<'a> {
    /// Whether it ended as it should.
    pub(crate) fn is_fine(&self) -> bool {
        matches!(self.ending, "complete" | "handed_over")
    }

    fn value(&self, field: Field, time: SystemTime) -> Value<'a> {
        let word = |word: Option<&'a str>| word.map_or(Value::Nothing, Value::Word);
        let number = |number: Option<u64>| number.map_or(Value::Nothing, Value::Number);
        let duration = |time: Option<Duration>| time.map_or(Value::Nothing, Value::Duration);
        match field {
            Field::Time => Value::Time(time),
            Field::Client => Value::Address(self.client),
            Field::Id => word(self.id),
            Field::Key => word(self.key),
            Field::Slot => word(self.slot),
            Field::Replica => word(self.replica),
            Field::Attempts => Value::Number(self.attempts.into()),
            Field::Up => number(self.traffic.map(|(up, _)| up)),
            Field::Down => number(self.traffic.map(|(_, down)| down)),
            Field::FirstLine => duration(self.first_line),
            Field::Connect => duration(self.connect),
            Field::Total => Value::Duration(self.total),
            Field::Ending => Value::Word(self.ending),
            Field::Reason => word(self.reason),
        }
    }

    /// Adds the value of a field to a line of text; `-` if there is none. A value holds no space.
    pub(crate) fn write_text(&self, field: Field, time: SystemTime, line: &mut String) {
        match self.value(field, time) {
            Value::Nothing => line.push('-'),
            Value::Word(word) => push_word(line, word),
            value => value.write(line),
        }
    }

    /// Adds the value of a field to a JSON text.
    pub(crate) fn write_json(&self, field: Field, time: SystemTime, line: &mut String) {
        match self.value(field, time) {
            Value::Nothing => line.push_str("null"),
            Value::Word(word) => push_json(line, word),
            value @ (Value::Time(_) | Value::Address(_)) => {
                line.push('"');
                value.write(line);
                line.push('"');
            }
            value => value.write(line),
        }
    }
}

impl Value<'_> {
    fn write(&self, line: &mut String) {
        // Writing into a string cannot fail.
        let _ = match self {
            Value::Nothing => Ok(()),
            Value::Word(word) => line.write_str(word),
            Value::Time(time) => write!(line, "{}", humantime::format_rfc3339_millis(*time)),
            Value::Address(address) => write!(line, "{address}"),
            Value::Number(number) => write!(line, "{number}"),
            Value::Duration(time) => write!(line, "{}.{:06}", time.as_secs(), time.subsec_micros()),
        };
    }
}

/// The beginning of a text from elsewhere, and what says that it goes on.
fn cut(text: &str) -> (&str, &'static str) {
    let end = text.floor_char_boundary(LONGEST);
    (&text[..end], if end < text.len() { "..." } else { "" })
}

/// Adds text from elsewhere, as one word that no terminal obeys.
fn push_word(line: &mut String, word: &str) {
    let (word, more) = cut(word);
    if word.bytes().all(|byte| byte.is_ascii_graphic()) {
        line.push_str(word);
    } else {
        line.push_str(&printable(word).replace(char::is_whitespace, "_"));
    }
    line.push_str(more);
}

/// Adds text from elsewhere, as a JSON string that no terminal obeys.
fn push_json(line: &mut String, text: &str) {
    let (text, more) = cut(text);
    line.push('"');
    if text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')) {
        line.push_str(text);
    } else {
        for letter in printable(text).chars() {
            if matches!(letter, '"' | '\\') {
                line.push('\\');
            }
            line.push(letter);
        }
    }
    line.push_str(more);
    line.push('"');
}
