//! An axis: what it measures, from where to where, and its ticks.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::Ranged;

use crate::text::{SMALL, number, width};

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it measures, with its unit; empty for none.
    pub title: String,
    /// The numbers that it reaches from and to. A logarithmic axis begins above 0.
    pub range: Range<f64>,
    /// Where it has ticks, and their words.
    pub ticks: Vec<(f64, String)>,
    /// Whether the ticks are lines across the panel.
    pub lines: bool,
    /// Whether equal ratios are equally far apart.
    pub logarithmic: bool,
}

impl Axis {
    /// A linear axis with about so many round ticks.
    #[must_use]
    pub fn linear(title: &str, range: Range<f64>, about: usize) -> Self {
        let ticks = ticks(range.clone(), about);
        Self { title: title.to_owned(), range, ticks, lines: true, logarithmic: false }
    }

    /// A linear axis from 0 that has room for all values and a label above them.
    #[must_use]
    pub fn from_zero(title: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let most = values.into_iter().filter(|value| value.is_finite()).fold(0.0, f64::max);
        Self::linear(title, 0.0..if most > 0.0 { most * 1.16 } else { 1.0 }, 5)
    }

    /// A logarithmic axis that has room for all positive values, with a tick at 1, 2 and 5 of each power of ten, or
    /// at the powers alone if there are many.
    #[must_use]
    pub fn logarithmic(title: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().filter(|&value| value.is_finite() && value > 0.0).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let (least, most) =
            if values.is_empty() { (1.0, 1.0) } else { (least, values.into_iter().fold(0.0, f64::max)) };
        // Room for a label above the highest value.
        let range = least / 1.4..most * (most / least).powf(0.18).max(1.6);
        let steps: &[f64] = if range.end / range.start > 1000.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let tens = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
        let ticks = tens.flat_map(|ten| steps.iter().map(move |step| step * 10_f64.powi(ten)));
        let ticks = ticks.filter(|tick| range.contains(tick)).map(|tick| (tick, label(tick))).collect();
        Self { title: title.to_owned(), range, ticks, lines: true, logarithmic: true }
    }

    /// An axis of things with names, one unit each; a name stands in the middle of its unit. Of names that are too
    /// wide for `room` units of the drawing, every second is left out, or every third, and so on.
    #[must_use]
    pub fn names(title: &str, names: &[String], room: i32) -> Self {
        let widest = names.iter().map(|name| width(name, SMALL)).max().unwrap_or(0) + 12;
        let each = (room / names.len().max(1) as i32).max(1);
        let every = (widest - 1) / each + 1;
        let ticks = names.iter().enumerate().step_by(every.max(1) as usize);
        let ticks = ticks.map(|(at, name)| (at as f64 + 0.5, name.clone())).collect();
        let range = 0.0..names.len().max(1) as f64;
        Self { title: title.to_owned(), range, ticks, lines: false, logarithmic: false }
    }

    /// An axis of rows with names. The first row is on top: row `at` of `rows` has its middle at `rows - at - 0.5`.
    #[must_use]
    pub fn rows(names: &[String]) -> Self {
        let names: Vec<String> = names.iter().rev().cloned().collect();
        Self::names("", &names, i32::MAX)
    }

    /// The axis without words at its ticks, because another axis has them.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.title.clear();
        for (_, words) in &mut self.ticks {
            words.clear();
        }
        self
    }

    /// How much room its words and its title take beside a panel, where it stands upright.
    pub(crate) fn beside(&self) -> i32 {
        let widest = self.ticks.iter().map(|tick| width(&tick.1, SMALL)).max().unwrap_or(0);
        widest + 20 + if self.title.is_empty() { 0 } else { 40 }
    }

    /// How much room they take below a panel.
    pub(crate) fn below(&self) -> i32 {
        let words = self.ticks.iter().any(|tick| !tick.1.is_empty());
        (if words { 38 } else { 8 }) + if self.title.is_empty() { 0 } else { 34 }
    }
}

/// An axis with exactly the ticks that it was given.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        if self.logarithmic {
            return RangedCoordf64::from(self.range.start.ln()..self.range.end.ln()).map(&value.ln(), limit);
        }
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

/// Round numbers within a range, about so many of them.
fn ticks(range: Range<f64>, about: usize) -> Vec<(f64, String)> {
    let rough = (range.end - range.start) / about.max(1) as f64;
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
    let words = if value.abs() >= 1000.0 { number(value) } else { format!("{value:.6}") };
    if words.contains('.') { words.trim_end_matches('0').trim_end_matches('.').to_owned() } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(ticks: &[(f64, String)]) -> Vec<&str> {
        ticks.iter().map(|tick| tick.1.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(words(&ticks(0.0..3900.0, 5)), ["0", "1,000", "2,000", "3,000"]);
        assert_eq!(words(&ticks(0.0..1.2, 5)), ["0", "0.25", "0.5", "0.75", "1"]);
        assert_eq!(words(&ticks(0.0..0.011, 5)), ["0", "0.0025", "0.005", "0.0075", "0.01"]);
    }

    #[test]
    fn equal_ratios_are_equally_far_apart_on_a_logarithmic_axis() {
        let axis = Axis::logarithmic("", [30.0, 4500.0]);
        assert_eq!(words(&axis.ticks), ["50", "100", "200", "500", "1,000", "2,000", "5,000", "10,000"]);
        let [a, b, c] = [50.0, 500.0, 5000.0].map(|value| axis.map(&value, (0, 100_000)));
        assert!((2 * b - a - c).abs() <= 2, "{a} {b} {c}");
    }

    #[test]
    fn an_axis_of_nothing_has_a_range_all_the_same() {
        assert_eq!(Axis::from_zero("", [f64::NAN]).range, 0.0..1.0);
        assert!(Axis::logarithmic("", [0.0, f64::NAN]).range.start > 0.0);
    }

    #[test]
    fn names_without_room_are_left_out_and_not_cut() {
        let names: Vec<String> = (1..=10).map(|at| format!("server{at}")).collect();
        assert_eq!(words(&Axis::names("", &names, 10_000).ticks).len(), 10);
        assert_eq!(words(&Axis::rows(&names[..1]).ticks), ["server1"]);
        let few = Axis::names("", &names, 4 * (width("server10", SMALL) + 12));
        assert_eq!(words(&few.ticks), ["server1", "server4", "server7", "server10"]);
    }
}
