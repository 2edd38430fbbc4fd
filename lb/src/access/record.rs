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
    /// Where the key comes from: the kind of key (`id`, `sni` and so on), `random` or `source`; `None` before the first line is known.
    pub(crate) key: Option<&'a str>,
    /// The protocols that a TLS client offers (ALPN), where they were read.
    pub(crate) alpn: Option<&'a str>,
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
    Alpn,
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
    pub(crate) const ALL: [(&'static str, Field); 15] = [
        ("time", Field::Time),
        ("client", Field::Client),
        ("id", Field::Id),
        ("key", Field::Key),
        ("alpn", Field::Alpn),
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

    /// Whether a line of JSON is without this field: what only some kinds of key have, others do not mention.
    pub(crate) fn leaves_out(&self, field: Field) -> bool {
        field == Field::Alpn && self.alpn.is_none()
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
            Field::Alpn => word(self.alpn),
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
        match self {
            Value::Nothing => {}
            Value::Word(word) => line.push_str(word),
            Value::Time(time) => drop(write!(line, "{}", humantime::format_rfc3339_millis(*time))),
            Value::Address(address) => drop(write!(line, "{address}")),
            Value::Number(number) => push_number(line, *number, 1),
            Value::Duration(time) => {
                push_number(line, time.as_secs(), 1);
                line.push('.');
                push_number(line, time.subsec_micros().into(), 6);
            }
        }
    }
}

/// Adds a number with at least so many digits. (A line has ten of them, and the formatter of the standard library takes ten times as long.)
fn push_number(line: &mut String, mut number: u64, least: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number > 0 || digits.len() - at < least {
        at -= 1;
        digits[at] += (number % 10) as u8;
        number /= 10;
    }
    line.extend(digits[at..].iter().copied().map(char::from));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_all_their_digits() {
        let shown = |number, least| {
            let mut line = String::new();
            push_number(&mut line, number, least);
            line
        };
        assert_eq!(
            (shown(0, 1), shown(10, 1), shown(u64::MAX, 1)),
            ("0".into(), "10".into(), u64::MAX.to_string())
        );
        assert_eq!(
            (shown(0, 6), shown(12, 6), shown(999_999, 6)),
            ("000000".into(), "000012".into(), "999999".into())
        );
    }
}
