//! Paired ratios of `lb`, or of `lb` with hand-off, to its peers: below 1 it needs less.

use plotters::style::text_anchor::HPos;

use super::panel::{Axis, Panel};
use super::sheet::{self, Area, Head, INK, Look, SMALL, Swatch, letters, look};
use super::{Chart, Outline};
use crate::data::Comparison;
use crate::report::derived::{self, Metric};
use crate::report::words;
use crate::stats::Spread;

/// One line of the chart.
struct Row {
    name: String,
    peer: usize,
    ratio: Spread,
}

/// The ratios of one metric for one of ours, in all modes that are about it; `None` without a peer.
pub(super) fn ratios(
    name: &str,
    comparison: &Comparison,
    ours: usize,
    metric: Metric,
) -> anyhow::Result<Option<Chart>> {
    let rows = rows(comparison, ours, metric);
    let Some(ours) = comparison.contenders.get(ours).filter(|_| !rows.is_empty()) else { return Ok(None) };
    let what = if metric == Metric::Memory { "memory per connection" } else { "CPU time per operation" };
    let title = format!("{} / peer: {what}, round by round", ours.name);
    let subtitle = format!(
        "Mark: median of the paired ratios of all rounds; line: least to most. Left of 1, {} needs less than \
         its peer.",
        ours.name
    );
    let head = Head { title: &title, subtitle: &subtitle, legend: legend(comparison, &rows) };
    let svg = sheet::drawing(300 + 56 * rows.len() as u32, &head, |below| draw(below, &rows))?;
    let description = rows.iter().map(|row| format!("{}: {}.", row.name, in_words(row.ratio)));
    let description = description.collect::<Vec<_>>().join(" ");
    Chart::new(Outline { name: name.to_owned(), title: title.clone(), description }, &svg).map(Some)
}

fn rows(comparison: &Comparison, ours: usize, metric: Metric) -> Vec<Row> {
    let mut rows = Vec::new();
    let pairs = derived::pairs(comparison);
    for mode in comparison.modes.iter().filter(|mode| derived::subject(mode) == metric) {
        for &pair in pairs.iter().filter(|pair| pair.0 == ours) {
            let ratio = derived::ratio(mode, pair, metric).filter(|ratio| ratio.least > 0.0);
            let Some(ratio) = ratio else { continue };
            let peer = pair.1;
            let name = format!("{}, {}", mode.name, comparison.contenders[peer].name);
            rows.push(Row { name: sheet::fitting(&name, sheet::SMALL, 460), peer, ratio });
        }
    }
    rows
}

fn draw(part: &Area<'_>, rows: &[Row]) -> anyhow::Result<()> {
    let names: Vec<String> = rows.iter().rev().map(|row| row.name.clone()).collect();
    let (part, numbers) = part.split_horizontally(part.dim_in_pixel().0 - 300);
    let panel = Panel::new(&part, &ratio_axis(rows), &Axis::names("", names))?;
    let height = rows.len() as f64;
    sheet::dashed(panel.paper(), panel.at(0.0, 0.0), panel.at(0.0, height), INK, 3)?;
    for (at, row) in rows.iter().enumerate() {
        draw_row(&panel, &numbers, height - at as f64, row)?;
    }
    Ok(())
}

/// The peers that are in the chart.
fn legend(comparison: &Comparison, rows: &[Row]) -> Vec<(Swatch, String)> {
    let there = |peer: &usize| rows.iter().any(|row| row.peer == *peer);
    let entry = |peer: usize| (Swatch::Marked(looks(peer)), comparison.contenders[peer].name.clone());
    (0..comparison.contenders.len()).filter(there).map(entry).collect()
}

fn looks(peer: usize) -> Look {
    look(peer.saturating_sub(1))
}

/// A logarithmic axis, on which half and twice are equally far from 1.
fn ratio_axis(rows: &[Row]) -> Axis {
    let least = rows.iter().map(|row| row.ratio.least).fold(1.0, f64::min) / 1.1;
    let most = rows.iter().map(|row| row.ratio.most).fold(1.0, f64::max) * 1.1;
    let range = least.log10()..most.log10();
    let wide = most / least > 6.0;
    let all: &[f64] = if wide {
        &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
    } else {
        &[0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0]
    };
    let ticks = all.iter().map(|&tick| (tick.log10(), format!("{tick}")));
    let ticks = ticks.filter(|(at, _)| range.contains(at)).collect();
    Axis { title: "ratio, logarithmic".to_owned(), range, ticks, lines: true }
}

fn in_words(ratio: Spread) -> String {
    let [median, least, most] = [ratio.median, ratio.least, ratio.most].map(words::ratio);
    format!("{median} ({least} to {most})")
}

/// A row, and its numbers in a column of their own.
fn draw_row(panel: &Panel<'_>, numbers: &Area<'_>, top: f64, row: &Row) -> anyhow::Result<()> {
    let at = |ratio: f64| panel.at(ratio.log10(), top - 0.5);
    let look = looks(row.peer);
    let ends = [at(row.ratio.least), at(row.ratio.most)];
    sheet::line(panel.paper(), &ends, look.colour, 6)?;
    for (x, y) in ends {
        sheet::line(panel.paper(), &[(x, y - 17), (x, y + 17)], look.colour, 4)?;
    }
    let middle = at(row.ratio.median);
    sheet::mark(panel.paper(), middle, look, 9)?;
    let style = letters(SMALL, INK, HPos::Left);
    Ok(numbers.draw_text(&in_words(row.ratio), &style, (6, middle.1))?)
}
