//! Formats numbers, lists and tables, for the text and for the labels of charts.
//!
//! All text from outside passes through [`plain`] or [`code`] before it is put into Markdown.

pub(super) use chart::text::{count, number};

/// A rate with three significant digits: 13,100, 98.8, 1.05.
pub(super) fn rate(value: f64) -> String {
    let magnitude = value.abs().log10().floor();
    let step = if magnitude > 2.0 { 10_f64.powf(magnitude - 2.0) } else { return number(value) };
    number((value / step).round() * step)
}

/// A measured value with two or three significant digits: 157, 12.4, 1.05, 0.85, 0.034, 0.0021.
pub(super) fn ratio(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { number(value) }
}

/// A share of one: 84.4 %.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", ratio(100.0 * share))
}

/// A time in nanoseconds, in a suitable unit: 850 ns, 3.21 µs, 12.4 ms, 1.50 s.
pub(super) fn nanos(time: f64) -> String {
    match time.abs() {
        size if size < 999.5 => format!("{} ns", ratio(time)),
        size if size < 999.5e3 => format!("{} µs", ratio(time / 1e3)),
        size if size < 999.5e6 => format!("{} ms", ratio(time / 1e6)),
        _ => format!("{} s", ratio(time / 1e9)),
    }
}

/// A time in microseconds.
pub(super) fn micros(time: u64) -> String {
    if time < 1000 { format!("{time} µs") } else { nanos(time as f64 * 1e3) }
}

/// A time in milliseconds, always in this unit, so that the values of a column can be compared.
pub(super) fn millis(time: f64) -> String {
    format!("{} ms", ratio(time))
}

/// A size in bytes, in a suitable binary unit.
pub(super) fn bytes(size: f64) -> String {
    match size {
        _ if size < 1024.0 => format!("{size:.0} B"),
        _ if size < 1024.0 * 1024.0 => format!("{} KiB", number(size / 1024.0)),
        _ if size < 1024.0 * 1024.0 * 1024.0 => format!("{} MiB", number(size / 1024.0 / 1024.0)),
        _ => format!("{} GiB", number(size / 1024.0 / 1024.0 / 1024.0)),
    }
}

/// A count and its noun: 1 request, 2 requests, no requests.
pub(super) fn plural(number: u64, noun: &str) -> String {
    match number {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", count(number)),
    }
}

/// The plural of a unit: connections, but GB.
pub(super) fn units(unit: &str) -> String {
    if unit.ends_with(char::is_uppercase) { unit.to_owned() } else { format!("{unit}s") }
}

/// Several things in a sentence: a, b and c.
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Several sentences, as items of a Markdown list.
pub(super) fn items(sentences: &[String]) -> String {
    sentences.iter().map(|sentence| format!("- {sentence}")).collect::<Vec<_>>().join("\n")
}

/// Text from outside, escaped for Markdown, in one line.
pub(super) fn plain(text: &str) -> String {
    let mut safe = String::new();
    for letter in text.chars() {
        match letter {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '&' | '~' | '#' | '!' => {
                safe.push('\\');
                safe.push(letter);
            }
            _ if letter.is_control() => safe.push(' '),
            _ => safe.push(letter),
        }
    }
    safe
}

/// Text from outside as code, in one line, or as plain text if code cannot hold it.
pub(super) fn code(text: &str) -> String {
    let fits = !text.is_empty() && !text.contains(['`', '|', '\\']) && !text.contains(char::is_control);
    if fits && text.trim() == text { format!("`{text}`") } else { plain(text) }
}

/// A Markdown table. A title that begins with `>` aligns its column to the right; cells are Markdown.
pub(super) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let shown: Vec<&str> = titles.iter().map(|title| title.trim_start_matches('>')).collect();
    let rule: Vec<&str> =
        titles.iter().map(|title| if title.starts_with('>') { "--:" } else { "---" }).collect();
    let mut lines = vec![format!("| {} |", shown.join(" | ")), format!("|{}|", rule.join("|"))];
    lines.extend(rows.iter().map(|row| format!("| {} |", row.join(" | "))));
    lines.join("\n") + "\n"
}

/// A table row of borrowed and owned cells.
pub(super) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// A name that is safe in a file name.
pub(super) fn file_name(name: &str) -> String {
    let safe = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    name.chars().map(safe).collect::<String>().trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_values_have_two_or_three_significant_digits() {
        let ratios = [0.0, 0.00213, 0.00996, 0.0341, 0.0996, 0.85, 0.9984, 1.049, 9.996, 156.6].map(ratio);
        assert_eq!(ratios, ["0", "0.0021", "0.010", "0.034", "0.10", "0.85", "1.00", "1.05", "10.0", "157"]);
        assert_eq!([13_130.0, 999.6, 98.76, 2.1349].map(rate), ["13,100", "1,000", "98.8", "2.13"]);
        assert_eq!([0.844, 0.0469, 0.0037].map(percent), ["84.4 %", "4.69 %", "0.37 %"]);
        assert_eq!([156.6, 1.35, 0.14].map(millis), ["157 ms", "1.35 ms", "0.14 ms"]);
    }

    #[test]
    fn times_and_sizes_have_the_unit_that_suits_them() {
        assert_eq!([850.0, 3210.0, 12.4e6, 1.5e9].map(nanos), ["850 ns", "3.21 µs", "12.4 ms", "1.50 s"]);
        assert_eq!([7, 1500, 2_000_000].map(micros), ["7 µs", "1.50 ms", "2.00 s"]);
        assert_eq!([512.0, 2048.0, 8.0 * 1024.0 * 1024.0].map(bytes), ["512 B", "2.00 KiB", "8.00 MiB"]);
    }

    #[test]
    fn lists_read_as_a_sentence() {
        let items = ["a", "b", "c"].map(str::to_owned);
        assert_eq!([list(&items[..1]), list(&items[..2]), list(&items)], ["a", "a and b", "a, b and c"]);
        assert_eq!([plural(0, "x"), plural(1, "x"), plural(2, "x")], ["no xs", "1 x", "2 xs"]);
    }

    #[test]
    fn text_from_outside_cannot_leave_its_cell() {
        assert_eq!(plain("a|b\n<i>"), r"a\|b \<i\>");
        assert_eq!(code("GET /home"), "`GET /home`");
        assert_eq!(code("a|b`"), r"a\|b\`");
        assert_eq!(file_name("../Ring: 1000/"), "ring--1000");
    }
}
