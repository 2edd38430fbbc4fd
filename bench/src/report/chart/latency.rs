//! How long operations took, from the median to the slowest few: a curve for each contender.
//!
//! Only where the generator sets the pace: a load that waits for answers sends less while they are slow, so its
//! slowest answers are too few.

use chart::mark::{line, mark};
use chart::sheet::{drawing, grid, panel_title};
use chart::{Area, Axis, Drawing, Head, Panel, Place};

use super::contenders;
use crate::data::{Comparison, Mode, QUANTILES};
use crate::report::derived;
use crate::report::words;

const HEIGHT: u32 = 560;

/// The distribution in every mode that has a pace; `None` where none was recorded.
pub(super) fn distribution(name: &str, comparison: &Comparison) -> anyhow::Result<Option<Drawing>> {
    let all = 0..comparison.contenders.len();
    let has_curve = |mode: &&Mode| mode.is_paced && all.clone().any(|who| !curve(mode, who).is_empty());
    let modes: Vec<&Mode> = comparison.modes.iter().filter(has_curve).collect();
    if modes.is_empty() {
        return Ok(None);
    }
    let in_words: Vec<String> = modes.iter().map(|mode| in_words(mode, comparison)).collect();
    let head = Head {
        name: name.to_owned(),
        title: "Latency distribution".to_owned(),
        subtitle: "At a pace that the generator sets, from the intended start of each operation. Median of all rounds \
                   at each percentile; lower is better."
            .to_owned(),
        description: in_words.join(" "),
        legend: all.map(|who| contenders::entry(comparison, who)).collect(),
    };
    let columns = modes.len().min(2);
    let rows = modes.len().div_ceil(columns) as u32;
    let drawing = drawing(200 + HEIGHT * rows, head, |below| {
        let parts = grid(below, modes.len(), columns);
        parts.iter().zip(&modes).try_for_each(|(part, mode)| draw(part, mode, comparison))
    })?;
    Ok(Some(drawing))
}

/// Quantiles below 1 and the latency at each in milliseconds, over the rounds of a mode.
fn curve(mode: &Mode, who: usize) -> Vec<(f64, f64)> {
    let at = |(at, &quantile): (usize, &f64)| Some((quantile, derived::latency(mode, who, at)? / 1000.0));
    QUANTILES.iter().enumerate().filter_map(at).filter(|point| point.0 < 1.0 && point.1 > 0.0).collect()
}

fn in_words(mode: &Mode, comparison: &Comparison) -> String {
    let curve = |(who, contender): (usize, &crate::data::Contender)| {
        let curve = curve(mode, who);
        let ends = [curve.first()?, curve.last()?]
            .map(|&(quantile, ms)| format!("{} ms at {}", words::number(ms), percentile(quantile)));
        Some(format!("{} {}", contender.name, ends.join(" and ")))
    };
    let curves: Vec<_> = comparison.contenders.iter().enumerate().filter_map(curve).collect();
    format!("{}: {}.", mode.name, words::list(&curves))
}

fn draw(part: &Area<'_>, mode: &Mode, comparison: &Comparison) -> anyhow::Result<()> {
    let below = panel_title(part, &mode.name)?;
    let curves: Vec<_> = (0..comparison.contenders.len()).map(|who| curve(mode, who)).collect();
    let y = Axis::logarithmic("latency (ms), logarithmic", curves.iter().flatten().map(|point| point.1));
    let panel = Panel::new(&below, &percentile_axis(), &y)?;
    for (who, curve) in curves.iter().enumerate() {
        let look = contenders::look(comparison, who);
        let places: Vec<Place> = curve.iter().map(|&(quantile, ms)| panel.at(rarity(quantile), ms)).collect();
        line(panel.paper(), &places, look.colour, 4)?;
        places.iter().try_for_each(|&place| mark(panel.paper(), place, look, 8))?;
    }
    Ok(())
}

/// One in how many operations takes longer.
fn rarity(quantile: f64) -> f64 {
    1.0 / (1.0 - quantile)
}

/// Logarithmic in the operations that take longer: each step to the right is ten times rarer.
fn percentile_axis() -> Axis {
    let ticks = [0.5, 0.9, 0.99, 0.999, 0.9999].map(|quantile| (rarity(quantile), percentile(quantile)));
    let title = "percentile of operations, logarithmic".to_owned();
    Axis { title, range: 1.6..14_000.0, ticks: ticks.into(), lines: true, logarithmic: true }
}

/// A quantile as a percentile: 99.9 %.
fn percentile(quantile: f64) -> String {
    let digits = format!("{:.4}", 100.0 * quantile);
    format!("{} %", digits.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Reading;
    use crate::report::samples::{contender, mode};

    fn comparison(is_paced: bool, distribution: Vec<u64>) -> Comparison {
        let reading = Reading { distribution, ..Reading::default() };
        let mode = Mode { is_paced, rounds: vec![vec![reading]], ..mode("tail", &[]) };
        Comparison { contenders: vec![contender("lb")], modes: vec![mode], ..Comparison::default() }
    }

    #[test]
    fn a_curve_is_drawn_where_it_was_recorded_at_a_set_pace() {
        let recorded = || (1..=QUANTILES.len() as u64).map(|at| 100 * at).collect();
        let drawn = |comparison| distribution("x", &comparison).unwrap();
        assert!(drawn(comparison(true, recorded())).is_some());
        assert!(drawn(comparison(false, recorded())).is_none());
        assert!(drawn(comparison(true, Vec::new())).is_none());
    }

    #[test]
    fn percentiles_have_no_more_digits_than_they_need() {
        assert_eq!([0.5, 0.9, 0.999, 0.9999].map(percentile), ["50 %", "90 %", "99.9 %", "99.99 %"]);
    }
}
