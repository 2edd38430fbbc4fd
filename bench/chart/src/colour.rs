//! The colours, and their counterparts on dark paper.
//!
//! Series have the colours of Okabe and Ito (2008), which people with any kind of colour vision can tell apart. A
//! picture is drawn in the light colours; a rule in its style sheet replaces them where the reader prefers dark
//! pages. A viewer that does not know the rule shows the light picture.

use std::fmt::Write as _;

pub use plotters::style::RGBColor as Colour;

/// The background.
pub(crate) const PAPER: Colour = Colour(0xFF, 0xFF, 0xFF);
/// Text, axes, and marks that belong to no series.
pub const INK: Colour = Colour(0x22, 0x22, 0x22);
/// Text of less weight, and what is drawn for comparison only.
pub const GREY: Colour = Colour(0x77, 0x77, 0x77);
/// Lines of a grid.
pub const GRID: Colour = Colour(0xDD, 0xDD, 0xDD);
/// Blue.
pub const BLUE: Colour = Colour(0x00, 0x72, 0xB2);
/// Sky blue.
pub const SKY: Colour = Colour(0x56, 0xB4, 0xE9);
/// Vermilion.
pub const RED: Colour = Colour(0xD5, 0x5E, 0x00);
/// Orange.
pub const ORANGE: Colour = Colour(0xE6, 0x9F, 0x00);
/// Bluish green.
pub const GREEN: Colour = Colour(0x00, 0x9E, 0x73);
/// Reddish purple.
pub const PURPLE: Colour = Colour(0xCC, 0x79, 0xA7);
/// Yellow: for areas only, a line of it cannot be seen on white.
pub const YELLOW: Colour = Colour(0xF0, 0xE4, 0x42);

/// Each colour with the one that replaces it on dark paper.
const DARK: [(Colour, Colour); 11] = [
    (PAPER, Colour(0x16, 0x16, 0x16)),
    (INK, Colour(0xE6, 0xE6, 0xE6)),
    (GREY, Colour(0x9A, 0x9A, 0x9A)),
    (GRID, Colour(0x3A, 0x3A, 0x3A)),
    (BLUE, Colour(0x5C, 0xA8, 0xEE)),
    (SKY, Colour(0x35, 0x7E, 0xA8)),
    (RED, Colour(0xF0, 0x72, 0x2B)),
    (ORANGE, Colour(0xF2, 0xB6, 0x32)),
    (GREEN, Colour(0x1F, 0xC7, 0x95)),
    (PURPLE, Colour(0xE2, 0x9A, 0xC4)),
    (YELLOW, Colour(0xD8, 0xCC, 0x3A)),
];

/// The style sheet of a picture. A rule wins over the `fill` and `stroke` of an element.
pub(crate) fn style() -> String {
    let mut rules = String::new();
    for (light, dark) in DARK {
        for property in ["fill", "stroke"] {
            // Writing to a `String` cannot fail.
            let _ = write!(rules, r#"[{property}="{}" i]{{{property}:{}}}"#, hex(light), hex(dark));
        }
    }
    format!("<style>@media (prefers-color-scheme:dark){{{rules}}}</style>")
}

fn hex(Colour(red, green, blue): Colour) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}
