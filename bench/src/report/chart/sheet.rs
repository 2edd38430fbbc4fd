//! The paper of a chart: its size, title, subtitle and legend, and the colours and marks of series.
//!
//! Colours are those of Okabe and Ito (2008), which people with any kind of colour vision can tell apart;
//! every series has a mark of its own as well, so colour is never alone. Lengths are units of the drawing,
//! two for a pixel.

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::picture::FONT;

/// Where things are drawn, in units from the left and the top of its part of the paper.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A place in units.
pub(super) type Place = (i32, i32);

/// The width of every chart.
pub(super) const WIDTH: u32 = 1600;

pub(super) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(super) const GREY: RGBColor = RGBColor(0x55, 0x55, 0x55);
pub(super) const GRID: RGBColor = RGBColor(0xDD, 0xDD, 0xDD);
pub(super) const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xB2);
pub(super) const SKY: RGBColor = RGBColor(0x56, 0xB4, 0xE9);
pub(super) const RED: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
pub(super) const ORANGE: RGBColor = RGBColor(0xE6, 0x9F, 0x00);
const GREEN: RGBColor = RGBColor(0x00, 0x9E, 0x73);
const PURPLE: RGBColor = RGBColor(0xCC, 0x79, 0xA7);

/// Sizes of letters.
pub(super) const TITLE: f64 = 38.0;
pub(super) const TEXT: f64 = 25.0;
pub(super) const SMALL: f64 = 22.0;

/// The shape of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Disc,
    Square,
    Triangle,
    Diamond,
    Cross,
    Ring,
    Bar,
}

/// How a series looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) colour: RGBColor,
    pub(super) shape: Shape,
}

/// The look of the series with this number; after seven colours, the same with other marks.
pub(super) fn look(number: usize) -> Look {
    const COLOURS: [RGBColor; 7] = [BLUE, RED, GREEN, PURPLE, ORANGE, SKY, INK];
    const SHAPES: [Shape; 6] =
        [Shape::Disc, Shape::Square, Shape::Triangle, Shape::Diamond, Shape::Cross, Shape::Ring];
    Look { colour: COLOURS[number % COLOURS.len()], shape: SHAPES[number % SHAPES.len()] }
}

/// What an entry of a legend shows before its words.
#[derive(Clone, Copy, Debug)]
pub(super) enum Swatch {
    /// A filled box.
    Box(RGBColor),
    /// A box that can be seen through, with an outline.
    Band(RGBColor),
    /// A line.
    Line(RGBColor),
    /// A line with a mark.
    Marked(Look),
    /// A mark.
    Mark(Look),
}

/// What stands above the panels of a chart.
pub(super) struct Head<'a> {
    pub(super) title: &'a str,
    pub(super) subtitle: &'a str,
    pub(super) legend: Vec<(Swatch, String)>,
}

/// Letters of a size and a colour that stand at a place: to its left, right, in the middle.
pub(super) fn letters(size: f64, colour: RGBColor, side: HPos) -> TextStyle<'static> {
    // plotters writes 1/1.24 of the size into an SVG.
    let font = FontDesc::from((FONT, size * 1.24));
    font.color(&colour).pos(Pos::new(side, VPos::Center))
}

/// About how wide a text is. A guess is enough: it is used to leave room.
pub(super) fn width(text: &str, size: f64) -> i32 {
    let ems = |letter: char| match letter {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' | '(' | ')' | '[' | ']' => 0.36,
        'm' | 'w' | 'M' | 'W' | '%' | '…' => 0.97,
        _ if letter.is_uppercase() => 0.72,
        _ => 0.62,
    };
    (text.chars().map(ems).sum::<f64>() * size).ceil() as i32
}

/// A text that is cut where it would be wider than `room`.
pub(super) fn fitting(text: &str, size: f64, room: i32) -> String {
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

/// A drawing of a height, with a head and what `paint` puts below it.
pub(super) fn drawing(
    height: u32,
    head: &Head<'_>,
    paint: impl FnOnce(&Area<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let paper = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        paper.fill(&WHITE)?;
        let below = draw_head(&paper, head)?;
        let (_, rest) = paper.split_vertically(below);
        paint(&rest.margin(0, 10, 10, 24))?;
        paper.present()?;
    }
    Ok(svg)
}

/// Draws a head and says where it ends.
fn draw_head(paper: &Area<'_>, head: &Head<'_>) -> anyhow::Result<i32> {
    let bold = letters(TITLE, INK, HPos::Left).font;
    let style = bold.style(FontStyle::Bold).color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
    paper.draw_text(&fitting(head.title, TITLE * 1.1, WIDTH as i32 - 60), &style, (30, 42))?;
    let mut below = 82;
    for line in wrapped(head.subtitle, TEXT, WIDTH as i32 - 60) {
        paper.draw_text(&line, &letters(TEXT, GREY, HPos::Left), (30, below + 4))?;
        below += 34;
    }
    if head.legend.is_empty() { Ok(below) } else { draw_legend(paper, &head.legend, below + 12) }
}

/// Text in lines that are no wider than `room`.
fn wrapped(text: &str, size: f64, room: i32) -> Vec<String> {
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

fn draw_legend(paper: &Area<'_>, legend: &[(Swatch, String)], top: i32) -> anyhow::Result<i32> {
    let (mut x, mut y) = (30, top + 8);
    for (swatch, words) in legend {
        let words = fitting(words, SMALL, WIDTH as i32 - 140);
        let wide = 56 + width(&words, SMALL) + 36;
        if x > 30 && x + wide > WIDTH as i32 - 20 {
            (x, y) = (30, y + 34);
        }
        draw_swatch(paper, *swatch, (x, y))?;
        paper.draw_text(&words, &letters(SMALL, INK, HPos::Left), (x + 56, y))?;
        x += wide;
    }
    Ok(y + 26)
}

fn draw_swatch(paper: &Area<'_>, swatch: Swatch, (x, y): Place) -> anyhow::Result<()> {
    let (from, to) = ((x + 4, y - 10), (x + 44, y + 10));
    match swatch {
        Swatch::Box(colour) => boxed(paper, from, to, colour),
        Swatch::Band(colour) => band(paper, from, to, colour),
        Swatch::Line(colour) => line(paper, &[(x, y), (x + 46, y)], colour, 4),
        Swatch::Mark(look) => mark(paper, (x + 24, y), look, 9),
        Swatch::Marked(look) => {
            line(paper, &[(x, y), (x + 46, y)], look.colour, 3)?;
            mark(paper, (x + 23, y), look, 9)
        }
    }
}

/// A filled box.
pub(super) fn boxed(paper: &Area<'_>, from: Place, to: Place, colour: RGBColor) -> anyhow::Result<()> {
    Ok(paper.draw(&Rectangle::new([from, to], colour.filled()))?)
}

/// A box that can be seen through, with an outline.
pub(super) fn band(paper: &Area<'_>, from: Place, to: Place, colour: RGBColor) -> anyhow::Result<()> {
    paper.draw(&Rectangle::new([from, to], colour.mix(0.45).filled()))?;
    let corners = [from, (to.0, from.1), to, (from.0, to.1), from];
    line(paper, &corners, colour, 2)
}

/// A line through places.
pub(super) fn line(paper: &Area<'_>, places: &[Place], colour: RGBColor, thick: u32) -> anyhow::Result<()> {
    Ok(paper.draw(&PathElement::new(places.to_vec(), colour.stroke_width(thick)))?)
}

/// A dashed line between two places.
pub(super) fn dashed(
    paper: &Area<'_>,
    from: Place,
    to: Place,
    colour: RGBColor,
    thick: u32,
) -> anyhow::Result<()> {
    let ends = [from, to].into_iter();
    Ok(paper.draw(&DashedPathElement::new(ends, 10, 8, colour.stroke_width(thick)))?)
}

/// The mark of a series, about twice `size` wide.
pub(super) fn mark(paper: &Area<'_>, at: Place, look: Look, size: i32) -> anyhow::Result<()> {
    let to = |(dx, dy): Place| (at.0 + dx, at.1 + dy);
    let filled = |corners: &[Place]| {
        let places = corners.iter().copied().map(to).collect::<Vec<_>>();
        Ok(paper.draw(&Polygon::new(places, look.colour.filled()))?)
    };
    let (s, more) = (size, size * 4 / 3);
    match look.shape {
        Shape::Disc => Ok(paper.draw(&Circle::new(at, size, look.colour.filled()))?),
        Shape::Square => filled(&[(-s, -s), (s, -s), (s, s), (-s, s)]),
        Shape::Triangle => filled(&[(0, -more), (more, s), (-more, s)]),
        Shape::Diamond => filled(&[(0, -more), (more, 0), (0, more), (-more, 0)]),
        Shape::Bar => filled(&[(-3, -more), (3, -more), (3, more), (-3, more)]),
        Shape::Cross => {
            line(paper, &[to((-s, -s)), to((s, s))], look.colour, 5)?;
            line(paper, &[to((-s, s)), to((s, -s))], look.colour, 5)
        }
        Shape::Ring => {
            paper.draw(&Circle::new(at, size, WHITE.filled()))?;
            Ok(paper.draw(&Circle::new(at, size, look.colour.stroke_width(4)))?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
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
    fn the_first_series_differ_in_colour_and_in_shape() {
        for (a, b) in (0..6).flat_map(|a| (0..a).map(move |b| (look(a), look(b)))) {
            assert!(a.colour != b.colour && a.shape != b.shape, "{a:?} {b:?}");
        }
    }
}
