//! Text from elsewhere, made fit for a log and a terminal: no character of it can end a line, move the cursor, colour the text, or turn the
//! direction of writing.

use std::fmt::Write as _;

/// The text on one line. Characters that cannot be seen are escaped as in Rust, such as `\u{1b}`.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut all, letter| {
        match letter {
            // These would be escaped for the sake of a string literal.
            '"' | '\'' | '\\' => all.push(letter),
            letter => all.extend(letter.escape_debug()),
        }
        all
    })
}

/// The beginning of a text, at most `most` characters of it, on one line; after it the size of the rest.
#[must_use]
pub fn clipped(text: &str, most: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(most) else { return printable(text) };
    let (beginning, rest) = text.split_at(end);
    format!("{}... ({} bytes more)", printable(beginning), rest.len())
}

/// A JSON text with the same meaning. (JSON itself escapes what is below U+0020.)
#[must_use]
pub fn printable_json(json: &str) -> String {
    json.chars().fold(String::with_capacity(json.len()), |mut all, letter| {
        match u32::from(letter) {
            // Controls, and the marks that turn or separate lines (Unicode categories Cc, Cf, Zl and Zp).
            code @ (0x7f..=0x9f | 0x200e..=0x200f | 0x2028..=0x202e | 0x2066..=0x2069) => {
                // Writing into a string cannot fail.
                let _ = write!(all, "\\u{code:04x}");
            }
            _ => all.push(letter),
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_seen_stays_as_it_is() {
        let plain = r#"id "ä" isn't C:\x, 日本 100 %"#;
        assert_eq!(printable(plain), plain);
        assert_eq!(printable("\u{1b}[31m\r\n\t\0"), r"\u{1b}[31m\r\n\t\0");
        assert_eq!(printable("\u{9b}1A\u{202e}\u{7f}"), r"\u{9b}1A\u{202e}\u{7f}");
    }

    #[test]
    fn a_long_text_is_clipped_between_two_characters() {
        assert_eq!(clipped("äöü", 3), "äöü");
        assert_eq!(clipped("äöü", 2), "äö... (2 bytes more)");
        assert_eq!(clipped("\u{1b}\u{1b}", 1), r"\u{1b}... (1 bytes more)");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let json = "{\"id\":\"a\u{9b}1A\u{7f}\u{202e}ä\"}";
        let shown = printable_json(json);
        assert_eq!(shown, r#"{"id":"a\u009b1A\u007f\u202eä"}"#);
        let read = |text| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&shown), read(json));
    }
}
