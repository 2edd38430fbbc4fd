//! Text from elsewhere, made fit for a terminal: no character of it can move the cursor, colour a line, or turn the direction of writing.

/// The text on one line. Characters that cannot be seen are escaped as in Rust, such as `\u{1b}`.
pub(super) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut all, letter| {
        match letter {
            // These would be escaped for the sake of a string literal.
            '"' | '\'' | '\\' => all.push(letter),
            letter => all.extend(letter.escape_debug()),
        }
        all
    })
}

/// A JSON text with the same meaning. (JSON itself escapes what is below U+0020.)
pub(super) fn printable_json(json: &str) -> String {
    json.chars().fold(String::with_capacity(json.len()), |mut all, letter| {
        match u32::from(letter) {
            control @ 0x7f..=0x9f => all.push_str(&format!("\\u{control:04x}")),
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
    fn json_keeps_its_meaning() {
        let json = "{\"id\":\"a\u{9b}1A\u{7f}ä\"}";
        let shown = printable_json(json);
        assert_eq!(shown, r#"{"id":"a\u009b1A\u007fä"}"#);
        let read = |text| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&shown), read(json));
    }
}
