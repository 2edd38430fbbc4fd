//! The paper of a chart: its size, title, subtitle and legend, and the finished [`Drawing`].
//!
//! Lengths are units of the drawing, two for a CSS pixel, so that hairlines and places are finer than a pixel.

use plotters::prelude::*;

use crate::area::{Area, Place};
use crate::colour::{self, Colour, GREY, INK, PAPER};
use crate::mark::{Look, boxed, dashed, line, mark, range};
use crate::text::{SMALL, Side, TEXT, TITLE, bold, escaped, fitting, letters, width, wrapped};

/// The width of every chart, in units.
pub const WIDTH: u32 = 1600;

/// Units for one CSS pixel.
const UNITS: u32 = 2;

/// The room between panels that stand side by side, in units.
const GAP: i32 = 36;

/// What an entry of a legend shows before its words.
#[derive(Clone, Copy, Debug)]
pub enum Swatch {
    /// A filled box.
    Box(Colour),
    /// A line.
    Line(Colour),
    /// A dashed line.
    Dashed(Colour),
    /// A range: a line with a stroke across each end.
    Range(Colour),
    /// A line with a mark.
    Marked(Look),
    /// A mark.
    Mark(Look),
}

/// What stands above the panels of a chart, and what the chart is called.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The name of the chart, unique among those that one page shows: letters, digits and `-`.
    pub name: String,
    /// Its title.
    pub title: String,
    /// How to read it.
    pub subtitle: String,
    /// What it shows, for people who do not see it.
    pub description: String,
    /// Every colour and mark that the panels use.
    pub legend: Vec<(Swatch, String)>,
}

/// A finished chart.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// Its name.
    pub name: String,
    /// Its title.
    pub title: String,
    description: String,
    height: u32,
    shapes: String,
}

impl Drawing {
    /// The SVG file: with title and description, in colours for light and for dark pages.
    #[must_use]
    pub fn svg(&self) -> String {
        let (name, title, description) = (&self.name, escaped(&self.title), escaped(&self.description));
        let size = format!(r#"width="{}" height="{}""#, WIDTH / UNITS, self.height / UNITS);
        let size = format!(r#"{size} viewBox="0 0 {WIDTH} {}""#, self.height);
        let words = format!(r#"role="img" aria-labelledby="{name}-title {name}-desc""#);
        let first = format!(r#"<svg xmlns="http://www.w3.org/2000/svg" {size} {words}>"#);
        let title = format!(r#"<title id="{name}-title">{title}</title>"#);
        let description = format!(r#"<desc id="{name}-desc">{description}</desc>"#);
        format!("{first}\n{title}\n{description}\n{}\n{}</svg>\n", colour::style(), self.shapes)
    }
}

/// Draws a chart of a height: its head, and below it what `paint` puts there.
///
/// # Errors
/// It cannot be drawn, which would be a fault of this crate.
pub fn drawing(
    height: u32,
    head: Head,
    paint: impl FnOnce(&Area<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Drawing> {
    let mut svg = String::new();
    {
        let paper = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        paper.fill(&PAPER)?;
        let below = draw_head(&paper, &head)?;
        let (_, rest) = paper.split_vertically(below);
        paint(&rest.margin(0, 10, 10, 24))?;
        paper.present()?;
    }
    let inside = svg.split_once('>').and_then(|(_, rest)| rest.trim_start().rsplit_once("</svg>"));
    let inside = inside.map(|(inside, _)| inside).unwrap_or_default();
    let shapes = inside.replace(r#" opacity="1""#, "");
    Ok(Drawing { name: head.name, title: head.title, description: head.description, height, shapes })
}

/// Draws a head and says where it ends.
fn draw_head(paper: &Area<'_>, head: &Head) -> anyhow::Result<i32> {
    let room = WIDTH as i32 - 60;
    let title = fitting(&head.title, TITLE * 1.1, room);
    paper.draw_text(&title, &bold(TITLE, INK, Side::Left), (30, 42))?;
    let mut below = 82;
    for line in wrapped(&head.subtitle, TEXT, room) {
        paper.draw_text(&line, &letters(TEXT, GREY, Side::Left), (30, below + 4))?;
        below += 34;
    }
    if head.legend.is_empty() { Ok(below) } else { draw_legend(paper, &head.legend, below + 12) }
}

fn draw_legend(paper: &Area<'_>, legend: &[(Swatch, String)], top: i32) -> anyhow::Result<i32> {
    let (mut x, mut y) = (30, top + 8);
    for (swatch, words) in legend {
        let words = fitting(words, SMALL, WIDTH as i32 - 140);
        let wide = 56 + width(&words, SMALL) + 30;
        if x > 30 && x + wide > WIDTH as i32 - 20 {
            (x, y) = (30, y + 34);
        }
        draw_swatch(paper, *swatch, (x, y))?;
        paper.draw_text(&words, &letters(SMALL, INK, Side::Left), (x + 56, y))?;
        x += wide;
    }
    Ok(y + 26)
}

fn draw_swatch(paper: &Area<'_>, swatch: Swatch, (x, y): Place) -> anyhow::Result<()> {
    match swatch {
        Swatch::Box(colour) => boxed(paper, (x + 4, y - 10), (x + 44, y + 10), colour),
        Swatch::Line(colour) => line(paper, &[(x, y), (x + 46, y)], colour, 4),
        Swatch::Dashed(colour) => dashed(paper, (x, y), (x + 46, y), colour, 4),
        Swatch::Range(colour) => range(paper, [(x + 23, y - 12), (x + 23, y + 12)], colour, 10),
        Swatch::Mark(look) => mark(paper, (x + 24, y), look, 9),
        Swatch::Marked(look) => {
            line(paper, &[(x, y), (x + 46, y)], look.colour, 3)?;
            mark(paper, (x + 23, y), look, 9)
        }
    }
}

/// The parts of an area for so many panels in so many columns, row by row.
#[must_use]
pub fn grid<'a>(area: &Area<'a>, panels: usize, columns: usize) -> Vec<Area<'a>> {
    let columns = columns.max(1);
    let parts = area.split_evenly((panels.div_ceil(columns).max(1), columns));
    // Room at the left of all but the first column, where the axis of a panel would touch its neighbour.
    let gap = |at: usize| if at.is_multiple_of(columns) { 0 } else { GAP };
    parts.iter().enumerate().map(|(at, part)| part.margin(0, 0, gap(at), 0)).collect()
}

/// Draws the title of a panel in the middle above it, and gives back what is left of its part.
///
/// # Errors
/// It cannot be drawn, which would be a fault of this crate.
pub fn panel_title<'a>(part: &Area<'a>, title: &str) -> anyhow::Result<Area<'a>> {
    let (top, below) = part.split_vertically(46);
    let room = part.dim_in_pixel().0 as i32;
    let title = fitting(title, TEXT, room - 20);
    top.draw_text(&title, &letters(TEXT, INK, Side::Center), (room / 2, 26))?;
    Ok(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Drawing {
        let (title, description) = ("a < b".to_owned(), "c & \"d\"".to_owned());
        let head = Head { name: "x".to_owned(), title, description, ..Head::default() };
        drawing(200, head, |_| Ok(())).unwrap()
    }

    #[test]
    fn a_chart_has_a_text_for_screen_readers() {
        let picture = empty().svg();
        assert!(picture.contains(r#"<title id="x-title">a &lt; b</title>"#), "{picture}");
        assert!(picture.contains(r#"<desc id="x-desc">c &amp; &quot;d&quot;</desc>"#), "{picture}");
    }

    #[test]
    fn every_colour_has_a_counterpart_on_dark_paper() {
        let look = |number| (Swatch::Marked(crate::look(number)), format!("series {number}"));
        let head = Head { legend: (0..7).map(look).collect(), ..Head::default() };
        let svg = drawing(300, head, |_| Ok(())).unwrap().svg();
        let (style, shapes) = svg.split_once("</style>").unwrap();
        for part in shapes.split("fill=\"").chain(shapes.split("stroke=\"")).skip(1) {
            let colour = part.split('"').next().unwrap();
            assert!(!colour.starts_with('#') || style.contains(colour), "{colour}");
        }
    }
}
