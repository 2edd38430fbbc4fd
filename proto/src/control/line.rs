//! A line with a command: the token and the command in it, as bytes.

use std::borrow::Cow;

use serde::Deserialize as _;
use serde::de::value::MapDeserializer;

use super::Command;
use super::json::Fields;
use super::value::Malformed;

/// One line of newline-delimited JSON: a command and the token that came with it.
///
/// The token is found without reading the rest as JSON and without memory for it, so that a line with a wrong token costs little.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a>(&'a [u8]);

impl<'a> Line<'a> {
    /// The line, with or without its line feed. Nothing of it is checked yet.
    #[must_use]
    pub fn new(line: &'a [u8]) -> Self {
        Line(line)
    }

    /// The value of the first field `token` of the line's object, if it is text. The rest of the line may be anything.
    #[must_use]
    pub fn token(self) -> Option<Cow<'a, str>> {
        let text = text_of(self.0, b"token")?;
        // Only text without an escape can be borrowed.
        let borrowed = serde_json::from_slice(text).map(Cow::Borrowed);
        borrowed.or_else(|_| serde_json::from_slice(text).map(Cow::Owned)).ok()
    }

    /// Reads the command.
    ///
    /// # Errors
    /// The line is not one JSON object (the message names the column), or a field is missing, unknown, repeated or wrong; the message
    /// names it and what is expected.
    pub fn command(self) -> Result<Command, Malformed> {
        let Fields(mut fields) = Fields::read(self.0)?;
        fields.retain(|(name, _)| name != "token");
        if let Some((_, cmd)) = fields.iter().find(|(name, value)| name == "cmd" && !value.is_string()) {
            let problem = format!("`cmd`: invalid value `{cmd}`: expected text, such as \"rep\"");
            return Err(Malformed::new(problem));
        }
        Ok(Command::deserialize(MapDeserializer::<_, serde_json::Error>::new(fields.into_iter()))?)
    }
}

/// The value, with its quotes, of the first field with this name in the outermost object; `None` if it is no text.
fn text_of<'a>(json: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (mut depth, mut rest) = (0_u32, json);
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => {
                let (text, after) = after.split_at_checked(text_length(after)?)?;
                rest = after;
                let is_name = depth == 1 && text.strip_suffix(b"\"") == Some(name);
                if let Some(value) = rest.trim_ascii_start().strip_prefix(b":").filter(|_| is_name) {
                    let value = value.trim_ascii_start();
                    let length = text_length(value.strip_prefix(b"\"")?)?;
                    return value.get(..=length);
                }
            }
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The length of a text from behind its first quote to behind its last one.
fn text_length(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    let ends = |&byte: &u8| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    };
    text.iter().position(ends).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_known_whatever_the_rest_of_the_line_is() {
        let deep = format!(r#"{{"token":"secret","x":{}"#, "[[{".repeat(20_000));
        for line in [
            r#"{"cmd":"fly","token":"secret"}"#,
            r#"{"token":"secret""#,
            r#" { "x":[{"token":"no"},["token"]], "y":"token", "z":"\"token\":", "token" :	"secret" , "#,
            r#"{"token":"secret","token":"other"}"#,
            r#"{"token":"s\u0065cret"}"#,
            &deep,
        ] {
            assert_eq!(Line::new(line.as_bytes()).token().as_deref(), Some("secret"), "{line:.80}");
        }
        for line in [
            "",
            "token",
            r#""token":"secret""#,
            r#"{"token":5}"#,
            r#"{"token":"secret"#,
            r#"{"token""#,
            r#"{"token":"secret\"}"#,
            r#"{"x":{"token":"secret"}}"#,
            r#"{"Token":"secret"}"#,
            r#"{"x":"{\"token\":\"secret\"}"}"#,
            r#"{"token":"\q"}"#,
        ] {
            assert_eq!(Line::new(line.as_bytes()).token(), None, "{line}");
        }
    }

    #[test]
    fn the_token_that_a_client_sends_is_found() {
        for token in ["secret", "a b", "ä\"\\\n\u{1}", "\u{1f511}"] {
            let line = Command::Explain { id: "\"token\":\"other\"".into() }.to_line(Some(token));
            assert_eq!(Line::new(line.as_bytes()).token().as_deref(), Some(token));
            assert!(Line::new(line.as_bytes()).command().is_ok());
        }
    }
}
