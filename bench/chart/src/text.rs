//! Text: its style, how wide it is, and numbers as a reader expects them.

use plotters::prelude::*;
use plotters::style::text_anchor::{Pos, VPos};

pub use plotters::style::text_anchor::HPos as Side;

use crate::colour::Colour;

/// The fonts, best first. Verdana has the widths of DejaVu Sans, and most other fonts are narrower.
const FONTS: &str = "DejaVu Sans, Verdana, sans-serif";

/// The size of a title, in units.
pub(crate) const TITLE: f64 = 38.0;
/// The size of running text and of the titles of panels.
pub const TEXT: f64 = 25.0;
/// The size of labels.
pub const SMALL: f64 = 22.0;

/// Letters of a size and a colour. `side` is the side of the text that stands at its place.
#[must_use]
pub fn letters(size: f64, colour: Colour, side: Side) -> TextStyle<'static> {
    styled(size, colour, side, FontStyle::Normal)
}

/// [`letters`] in bold.
pub(crate) fn bold(size: f64, colour: Colour, side: Side) -> TextStyle<'static> {
    styled(size, colour, side, FontStyle::Bold)
}

fn styled(size: f64, colour: Colour, side: Side, style: FontStyle) -> TextStyle<'static> {
    // plotters writes 1/1.24 of the size into an SVG.
    let font = FontDesc::from((FONTS, size * 1.24)).style(style);
    font.color(&colour).pos(Pos::new(side, VPos::Center))
}

/// How wide the letters from space to `~` are in DejaVu Sans, in thousandths of the size.
const WIDTHS: [u16; 95] = [
    318, 401, 460, 838, 637, 951, 780, 275, 391, 391, 500, 838, 318, 361, 318, 337, 637, 637, 637, 637, 637,
    637, 637, 637, 637, 637, 337, 337, 838, 838, 838, 531, 1000, 685, 687, 699, 771, 632, 576, 775, 752, 295,
    295, 656, 558, 863, 749, 788, 604, 788, 695, 635, 611, 732, 685, 989, 686, 611, 686, 391, 337, 391, 838,
    500, 500, 613, 635, 550, 635, 616, 353, 635, 634, 278, 278, 580, 278, 975, 634, 612, 635, 635, 412, 521,
    393, 634, 592, 818, 592, 592, 525, 637, 337, 637, 838,
];

/// How wide a text is in DejaVu Sans, in units; letters that are not ASCII count as the widest.
#[must_use]
pub fn width(text: &str, size: f64) -> i32 {
    let thousandths = |letter: char| {
        let ascii = u32::from(letter).checked_sub(32).and_then(|at| WIDTHS.get(at as usize));
        f64::from(ascii.copied().unwrap_or(1000))
    };
    (text.chars().map(thousandths).sum::<f64>() * size / 1000.0).ceil() as i32
}

/// A text that is cut where it would be wider than `room`.
#[must_use]
pub fn fitting(text: &str, size: f64, room: i32) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut short = String::new();
    for letter in text.chars() {
        if width(&short, size) + width("m…", size) > room {
            break;
        }
        short.push(letter);
    }
    short + "…"
}

/// A text in lines that are no wider than `room`.
#[must_use]
pub(crate) fn wrapped(text: &str, size: f64, room: i32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line, size) + width(word, size) + 10 <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(fitting(word, size, room)),
        }
    }
    lines
}

/// A text as it may stand in XML, in one line.
#[must_use]
pub fn escaped(text: &str) -> String {
    let visible: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    visible.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A whole number with a comma before each three digits: 10,000.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number in two or three significant digits, whole numbers in full: 1,235, 98.8, 1.05, 0.034, 0.0021.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size >= 999.5 => format!("{}{}", if value < 0.0 { "-" } else { "" }, count(size.round() as u64)),
        _ if size >= 99.95 => format!("{value:.0}"),
        _ if size >= 9.995 => format!("{value:.1}"),
        _ if (1e-9..0.0995).contains(&size) => {
            // Rounding may add a digit before the others: 0.00998 is 0.010.
            let decimals = (1.0 - (size * 1.005).log10().floor()) as usize;
            format!("{value:.decimals$}")
        }
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_does_not_fit_is_cut_and_marked() {
        assert_eq!(fitting("server1", SMALL, 400), "server1");
        let short = fitting("a-very-long-hostname-indeed", SMALL, 120);
        assert!(short.ends_with('…') && width(&short, SMALL) <= 120, "{short}");
    }

    #[test]
    fn lines_are_broken_between_words() {
        let lines = wrapped("one two three four", TEXT, width("one two three", TEXT) + 10);
        assert_eq!(lines, ["one two three", "four"]);
    }

    #[test]
    fn numbers_have_two_or_three_significant_digits() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let short = [0.0, 0.002_134, 0.009_98, 0.0341, 1.049, 9.996, 98.76, 999.4, 999.6, 12_345.6, -4321.0];
        let expected =
            ["0.00", "0.0021", "0.010", "0.034", "1.05", "10.0", "98.8", "999", "1,000", "12,346", "-4,321"];
        assert_eq!(short.map(number), expected);
    }

    #[test]
    fn a_text_is_as_wide_as_its_letters() {
        assert_eq!(WIDTHS[0..3], [318, 401, 460]);
        assert_eq!((width("il", 1000.0), width("W~", 1000.0), width("…", 20.0)), (556, 1827, 20));
    }
}
