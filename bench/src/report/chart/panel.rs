//! A panel of a chart: two axes with titles and ticks, and places on them.
//!
//! A logarithmic axis is one whose numbers are logarithms before they get here; its ticks say what they stand
//! for.

use std::ops::Range;

use plotters::chart::ChartContext;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::sheet::{Area, GRID, INK, Place, SMALL, letters, width};
use crate::report::words;

type Context<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;

/// One axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// What it measures, with its unit; empty for none.
    pub(super) title: String,
    /// What it reaches from and to.
    pub(super) range: Range<f64>,
    /// Where it has ticks, and their words.
    pub(super) ticks: Vec<(f64, String)>,
    /// Whether the ticks are lines across the panel.
    pub(super) lines: bool,
}

impl Axis {
    /// An axis of numbers from 0, or of logarithms, that has room for all values.
    pub(super) fn of(title: &str, values: impl IntoIterator<Item = f64>, logarithmic: bool) -> Self {
        let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let most = values.iter().copied().fold(0.0, f64::max);
        if logarithmic {
            let least = values.iter().copied().filter(|&value| value > 0.0).fold(most, f64::min);
            return Self::logarithmic(title, least, most);
        }
        let top = if most > 0.0 { most * 1.16 } else { 1.0 };
        Self { title: title.to_owned(), range: 0.0..top, ticks: ticks(0.0..top), lines: true }
    }

    fn logarithmic(title: &str, least: f64, most: f64) -> Self {
        let range = (least / 1.4).log10()..(most * 1.6).log10();
        let decades = range.end - range.start;
        let steps: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let tens = range.start.floor() as i32..=range.end.ceil() as i32;
        let values = tens.flat_map(|ten| steps.iter().map(move |step| step * 10_f64.powi(ten)));
        let ticks = values
            .map(|value| (value.log10(), label(value)))
            .filter(|(place, _)| range.contains(place))
            .collect();
        Self { title: title.to_owned(), range, ticks, lines: true }
    }

    /// An axis of things with names, one unit each, in the middle of which they stand.
    pub(super) fn names(title: &str, names: Vec<String>) -> Self {
        let range = 0.0..names.len().max(1) as f64;
        let ticks = names.into_iter().enumerate().map(|(at, name)| (at as f64 + 0.5, name)).collect();
        Self { title: title.to_owned(), range, ticks, lines: false }
    }

    /// The same without words at its ticks, because another axis has them.
    pub(super) fn silent(mut self) -> Self {
        self.title.clear();
        for (_, words) in &mut self.ticks {
            words.clear();
        }
        self
    }

    /// How much room its words and its title take beside a panel, where it stands upright.
    fn beside(&self) -> i32 {
        let widest = self.ticks.iter().map(|tick| width(&tick.1, SMALL)).max().unwrap_or(0);
        widest + 26 + if self.title.is_empty() { 0 } else { 40 }
    }

    fn below(&self) -> i32 {
        let words = self.ticks.iter().any(|tick| !tick.1.is_empty());
        (if words { 38 } else { 8 }) + if self.title.is_empty() { 0 } else { 34 }
    }
}

/// An axis with exactly the ticks that it was given.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range.clone()).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|tick| tick.0).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|tick| tick.0 == *value);
        tick.map_or_else(String::new, |tick| tick.1.clone())
    }
}

/// Round numbers within a range, about five of them.
pub(super) fn ticks(range: Range<f64>) -> Vec<(f64, String)> {
    let rough = (range.end - range.start) / 5.0;
    let ten = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * ten).into_iter().find(|&step| step >= rough * 0.999);
    let step = step.unwrap_or(rough);
    let first = (range.start / step).ceil() as i64;
    let last = (range.end / step).floor() as i64;
    (first..=last).map(|at| at as f64 * step).map(|value| (value, label(value))).collect()
}

/// A tick in words: as short as it can be.
fn label(value: f64) -> String {
    let words = if value.abs() >= 1000.0 { words::number(value) } else { format!("{value:.6}") };
    if words.contains('.') { words.trim_end_matches('0').trim_end_matches('.').to_owned() } else { words }
}

/// A panel in its part of the paper.
pub(super) struct Panel<'a> {
    part: Area<'a>,
    chart: Context<'a>,
}

impl<'a> Panel<'a> {
    /// Draws two axes into a part of the paper.
    pub(super) fn new(part: &Area<'a>, x: &Axis, y: &Axis) -> anyhow::Result<Self> {
        Self::aligned(part, x, y, y.beside())
    }

    /// The same with that much room for what stands beside it, so that panels below each other begin at one
    /// place.
    pub(super) fn aligned(part: &Area<'a>, x: &Axis, y: &Axis, beside: i32) -> anyhow::Result<Self> {
        let mut builder = ChartBuilder::on(part);
        builder.margin_top(8).margin_right(8).x_label_area_size(x.below()).y_label_area_size(beside);
        let mut chart = builder.build_cartesian_2d(x.clone(), y.clone())?;
        draw_axes(&mut chart, x, y)?;
        Ok(Self { part: part.clone(), chart })
    }

    /// The same below a name of its own.
    pub(super) fn named(
        part: &Area<'a>,
        (name, colour): (&str, RGBColor),
        x: &Axis,
        y: &Axis,
        beside: i32,
    ) -> anyhow::Result<Self> {
        let (top, part) = part.split_vertically(32);
        top.draw_text(name, &letters(SMALL, colour, HPos::Left), (beside, 20))?;
        Self::aligned(&part, x, y, beside)
    }

    /// How much room several axes take beside their panels.
    pub(super) fn beside<'b>(axes: impl IntoIterator<Item = &'b Axis>) -> i32 {
        axes.into_iter().map(Axis::beside).max().unwrap_or(0)
    }

    /// What to draw on, at the places of [`Panel::at`].
    pub(super) fn paper(&self) -> &Area<'a> {
        &self.part
    }

    /// Where a point of the axes is in its part of the paper.
    pub(super) fn at(&self, x: f64, y: f64) -> Place {
        let (place, base) = (self.chart.backend_coord(&(x, y)), self.part.get_base_pixel());
        (place.0 - base.0, place.1 - base.1)
    }

    /// Writes a text in the middle above a place.
    pub(super) fn above(&self, (x, y): Place, text: &str, colour: RGBColor) -> anyhow::Result<()> {
        Ok(self.part.draw_text(text, &letters(SMALL, colour, HPos::Center), (x, y - 18))?)
    }

    /// The same on white, where lines pass.
    pub(super) fn above_lines(&self, (x, y): Place, text: &str, colour: RGBColor) -> anyhow::Result<()> {
        let half = width(text, SMALL) / 2;
        let white = Rectangle::new([(x - half, y - 38), (x + half, y - 13)], WHITE.mix(0.85).filled());
        self.part.draw(&white)?;
        self.above((x, y - 8), text, colour)
    }

    /// Writes a text to the right of a place.
    pub(super) fn right(&self, (x, y): Place, text: &str, colour: RGBColor) -> anyhow::Result<()> {
        Ok(self.part.draw_text(text, &letters(SMALL, colour, HPos::Left), (x + 12, y))?)
    }

    /// Writes a text to the left of a place.
    pub(super) fn left(&self, (x, y): Place, text: &str, colour: RGBColor) -> anyhow::Result<()> {
        Ok(self.part.draw_text(text, &letters(SMALL, colour, HPos::Right), (x - 12, y))?)
    }
}

fn draw_axes(chart: &mut Context<'_>, x: &Axis, y: &Axis) -> anyhow::Result<()> {
    let mut mesh = chart.configure_mesh();
    mesh.bold_line_style(GRID.stroke_width(2)).light_line_style(TRANSPARENT).axis_style(INK.stroke_width(2));
    mesh.label_style(letters(SMALL, INK, HPos::Center)).axis_desc_style(letters(SMALL, INK, HPos::Center));
    mesh.x_desc(x.title.as_str()).y_desc(y.title.as_str());
    if !x.lines {
        mesh.disable_x_mesh();
    }
    if !y.lines {
        mesh.disable_y_mesh();
    }
    Ok(mesh.draw()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(ticks: &[(f64, String)]) -> Vec<&str> {
        ticks.iter().map(|tick| tick.1.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(words(&ticks(0.0..3900.0)), ["0", "1,000", "2,000", "3,000"]);
        assert_eq!(words(&ticks(0.0..1.2)), ["0", "0.25", "0.5", "0.75", "1"]);
        assert_eq!(words(&ticks(0.0..0.011)), ["0", "0.0025", "0.005", "0.0075", "0.01"]);
    }

    #[test]
    fn a_logarithmic_axis_says_what_its_numbers_stand_for() {
        let axis = Axis::of("", [30.0, 4500.0], true);
        assert_eq!(words(&axis.ticks), ["50", "100", "200", "500", "1,000", "2,000", "5,000"]);
        assert!(axis.range.start < 30_f64.log10() && 4500_f64.log10() < axis.range.end);
    }

    #[test]
    fn an_axis_of_nothing_has_a_range_all_the_same() {
        let axis = Axis::of("", [f64::NAN], false);
        assert_eq!(axis.range, 0.0..1.0);
    }
}
