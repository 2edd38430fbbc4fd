//! The form of a line of the log of connections: text, JSON, or a template with the names of fields in braces.

use std::str::FromStr;
use std::time::SystemTime;

use super::record::{Field, Record};

/// How long a usual line is, in bytes.
const USUAL: usize = 384;
/// The template of a line of text.
const TEXT: &str = "{time} client={client} id={id} key={key} slot={slot} replica={replica} attempts={attempts} bytes_up={bytes_up} \
                    bytes_down={bytes_down} first_line={first_line} connect={connect} total={total} ending={ending} reason={reason}";

/// The form of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// One object with all fields that apply.
    Json,
    Template(Vec<Part>),
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

/// What is wrong with a form: what was expected in its place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Expected(String);

impl FromStr for Format {
    type Err = Expected;

    fn from_str(given: &str) -> Result<Self, Expected> {
        match given {
            "json" => Ok(Format(Form::Json)),
            "text" => template(TEXT),
            template_given if template_given.contains('{') => template(template_given),
            _ => Err(Expected(
                "text, json, or a template with names in braces, such as {time} {client} {slot}".to_owned(),
            )),
        }
    }
}

impl Format {
    /// The line of a connection, which ended at `time`. It ends with a line feed, and holds no other.
    pub(crate) fn line(&self, record: &Record<'_>, time: SystemTime) -> String {
        let mut line = String::with_capacity(USUAL);
        match &self.0 {
            Form::Json => {
                for (at, (name, field)) in Field::ALL.into_iter().enumerate() {
                    if record.leaves_out(field) {
                        continue;
                    }
                    line.push_str(if at == 0 { "{\"" } else { ",\"" });
                    line.push_str(name);
                    line.push_str("\":");
                    record.write_json(field, time, &mut line);
                }
                line.push('}');
            }
            Form::Template(parts) => {
                for part in parts {
                    match part {
                        Part::Text(text) => line.push_str(text),
                        Part::Field(field) => record.write_text(*field, time, &mut line),
                    }
                }
            }
        }
        line.push('\n');
        line
    }
}

/// Reads a template. `{{` and `}}` stand for braces.
fn template(given: &str) -> Result<Format, Expected> {
    if given.chars().any(|letter| letter.is_control() && letter != '\t') {
        return Err(Expected(
            "a template without a line feed or another control character but the tab".to_owned(),
        ));
    }
    let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), given);
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            text.push_str(brace);
            rest = after;
            continue;
        }
        let (name, after) = rest
            .split_once('}')
            .filter(|(name, _)| brace == "{" && !name.contains('{'))
            .ok_or_else(|| Expected("a name between { and }; write {{ or }} for a brace".to_owned()))?;
        parts.extend([Part::Text(std::mem::take(&mut text)), Part::Field(field(name)?)]);
        rest = after;
    }
    text.push_str(rest);
    parts.push(Part::Text(text));
    parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
    Ok(Format(Form::Template(parts)))
}

fn field(name: &str) -> Result<Field, Expected> {
    let found = Field::ALL.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, field)| field).ok_or_else(|| {
        let names = Field::ALL.map(|(known, _)| known);
        let near = |known: &&str| strsim::damerau_levenshtein(known, name);
        let nearest = names.iter().copied().min_by_key(near).unwrap_or_default();
        Expected(format!(
            "only names of fields in braces ({}); for {{{name}}} the nearest is {{{nearest}}}",
            names.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn record() -> Record<'static> {
        Record {
            client: ([127, 0, 0, 1], 7).into(),
            id: Some("132574"),
            key: Some("id"),
            alpn: None,
            slot: Some("server2"),
            replica: Some("server-x"),
            attempts: 2,
            traffic: Some((88, 120)),
            first_line: Some(Duration::from_micros(12)),
            connect: Some(Duration::from_millis(1)),
            total: Duration::from_millis(61_500),
            ending: "complete",
            reason: None,
        }
    }

    fn line(format: &str, record: &Record<'_>) -> String {
        format.parse::<Format>().unwrap().line(record, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn each_form_has_all_fields() {
        assert_eq!(
            line("text", &record()),
            "1970-01-01T00:00:00.000Z client=127.0.0.1:7 id=132574 key=id slot=server2 replica=server-x attempts=2 bytes_up=88 \
             bytes_down=120 first_line=0.000012 connect=0.001000 total=61.500000 ending=complete reason=-\n"
        );
        let read = |line: String| serde_json::from_str::<Value>(&line).unwrap();
        let refused = Record {
            id: None,
            key: None,
            slot: None,
            replica: None,
            traffic: None,
            first_line: None,
            connect: None,
            ending: "refused",
            reason: Some("denied"),
            ..record()
        };
        assert_eq!(
            [read(line("json", &record())), read(line("json", &refused))],
            [
                json!({
                    "time": "1970-01-01T00:00:00.000Z", "client": "127.0.0.1:7", "id": "132574", "key": "id", "slot": "server2",
                    "replica": "server-x", "attempts": 2, "bytes_up": 88, "bytes_down": 120, "first_line": 0.000012,
                    "connect": 0.001, "total": 61.5, "ending": "complete", "reason": null
                }),
                json!({
                    "time": "1970-01-01T00:00:00.000Z", "client": "127.0.0.1:7", "id": null, "key": null, "slot": null,
                    "replica": null, "attempts": 2, "bytes_up": null, "bytes_down": null, "first_line": null, "connect": null,
                    "total": 61.5, "ending": "refused", "reason": "denied"
                }),
            ]
        );
        assert_eq!(line("{{{slot}}}\t{id}/{reason} }}{{", &record()), "{server2}\t132574/- }{\n");
    }

    #[test]
    fn a_wrong_template_is_refused_with_what_was_expected() {
        for (given, expected) in [
            ("xml", "text, json, or a template"),
            ("", "text, json, or a template"),
            ("{tiem}", "for {tiem} the nearest is {time}"),
            ("{bytes}", "attempts, bytes_up, bytes_down, first_line"),
            ("{}", "only names of fields"),
            ("{slot", "a name between { and }"),
            ("{slot}}", "a name between { and }"),
            ("{a{slot}", "a name between { and }"),
            ("{slot}\n{id}", "without a line feed"),
            ("{slot}\u{1b}[1m", "without a line feed"),
        ] {
            let error = given.parse::<Format>().unwrap_err().to_string();
            assert!(error.contains(expected), "{given}: {error}");
        }
    }

    #[test]
    fn no_value_forges_a_line_a_field_or_an_order_to_a_terminal() {
        for id in [
            "7\n1970 forged",
            "\u{1b}[2J",
            "a\" ,\"slot\":\"b",
            "\\",
            "ä\u{202e}\u{2028}b\u{a0}c",
            "\u{9b}1A",
        ] {
            let record = Record { id: Some(id), ..record() };
            let text = line("text", &record);
            assert_eq!(
                text.split_whitespace().count(),
                line("text", &self::record()).split_whitespace().count(),
                "{text}"
            );
            let json = line("json", &record);
            let read: Value = serde_json::from_str(&json).unwrap();
            assert_eq!((read["slot"].as_str(), read["id"].is_string()), (Some("server2"), true), "{json}");
            for line in [text, json, line("{id}", &record)] {
                let body = line.strip_suffix('\n').unwrap();
                let is_safe =
                    |letter: char| letter.escape_debug().count() == 1 || matches!(letter, '"' | '\'' | '\\');
                assert!(body.chars().all(is_safe), "{line:?}");
            }
        }
    }
}
