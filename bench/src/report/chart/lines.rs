//! Lines over N: how the load spreads when replicas are added (A-2, and A-4 for several mappings).

use chart::colour::INK;
use chart::mark::{line, mark};
use chart::sheet::{drawing, grid, panel_title};
use chart::text::{SMALL, width};
use chart::{Area, Axis, Drawing, Head, Look, Panel, Place, Swatch, look};

use crate::data::{Balance, Scaling};
use crate::report::words;
use crate::stats::{max_over_mean, standard_deviation};

/// A way to see a load: its title, its unit, and its number.
type View = (&'static str, &'static str, fn(&[u64]) -> f64);

/// Above the mean instead of as a ratio to it: on a logarithmic axis 1.01 and 1.1 are far apart then.
const EXCESS: View =
    ("the busiest replica", "% above the mean", |counts| 100.0 * (max_over_mean(counts) - 1.0));
const DEVIATION: View = ("standard deviation of the load", "requests", standard_deviation);

/// How the load of each mapping spreads.
pub(super) fn scaling(name: &str, scalings: &[Scaling]) -> anyhow::Result<Drawing> {
    let total = scalings.iter().flat_map(|scaling| &scaling.points).map(|point| point.load.succeeded).max();
    let subtitle = format!(
        "How far the busiest replica is above the mean, and how far all are from it. The mean itself is {} / N, whatever \
         the mapping does.",
        words::count(total.unwrap_or(0))
    );
    draw_all(name, "How the load spreads as N grows", subtitle, scalings)
}

/// How the load spreads as N grows, for many mappings.
pub(super) fn variants(name: &str, scalings: &[Scaling]) -> anyhow::Result<Drawing> {
    let title = format!("Evenness of {} mappings as N grows", scalings.len());
    let subtitle = "The mean is the same for all of them: the number of requests divided by N.";
    draw_all(name, &title, subtitle.to_owned(), scalings)
}

fn draw_all(name: &str, title: &str, subtitle: String, scalings: &[Scaling]) -> anyhow::Result<Drawing> {
    let entry = |(at, scaling): (usize, &Scaling)| (Swatch::Marked(look(at)), scaling.variant.name.clone());
    let head = Head {
        name: name.to_owned(),
        title: title.to_owned(),
        subtitle,
        description: scalings.iter().map(description).collect::<Vec<_>>().join(" "),
        legend: scalings.iter().enumerate().map(entry).collect(),
    };
    drawing(760, head, |below| {
        let parts = grid(below, 2, 2);
        parts.iter().zip([EXCESS, DEVIATION]).try_for_each(|(part, view)| draw(part, scalings, view))
    })
}

fn description(scaling: &Scaling) -> String {
    let point = |point: &Balance| {
        let counts = point.counts();
        let ratio = words::number(max_over_mean(&counts));
        format!(
            "N = {}: max/mean {ratio}, deviation {}",
            counts.len(),
            words::number(standard_deviation(&counts))
        )
    };
    format!("{}: {}.", scaling.variant.name, scaling.points.iter().map(point).collect::<Vec<_>>().join("; "))
}

fn draw(part: &Area<'_>, scalings: &[Scaling], view: View) -> anyhow::Result<()> {
    let below = panel_title(part, view.0)?;
    let points: Vec<Vec<(f64, f64)>> = scalings.iter().map(|scaling| series(scaling, view)).collect();
    let values: Vec<f64> = points.iter().flatten().map(|point| point.1).collect();
    let y = if spans_decades(&values) {
        Axis::logarithmic(&format!("{}, logarithmic", view.1), values)
    } else {
        Axis::from_zero(view.1, values)
    };
    let panel = Panel::new(&below, &n_axis(&points), &y)?;
    for (at, points) in points.iter().enumerate().rev() {
        // A logarithmic axis has no place for 0.
        let shown = points.iter().filter(|point| !y.logarithmic || point.1 > 0.0);
        let places: Vec<Place> = shown.map(|&(n, value)| panel.at(n, value)).collect();
        draw_series(panel.paper(), &places, look(at))?;
    }
    draw_values(&panel, &points)
}

/// Whether a linear axis would press the small values together at the bottom.
fn spans_decades(values: &[f64]) -> bool {
    let positive = values.iter().copied().filter(|&value| value > 0.0);
    let least = positive.clone().fold(f64::INFINITY, f64::min);
    positive.fold(0.0, f64::max) > 20.0 * least
}

fn series(scaling: &Scaling, view: View) -> Vec<(f64, f64)> {
    let point = |balance: &Balance| (balance.replicas.len() as f64, view.2(&balance.counts()));
    scaling.points.iter().map(point).collect()
}

/// N: whole numbers that were measured, and half a step around them.
fn n_axis(points: &[Vec<(f64, f64)>]) -> Axis {
    let mut all: Vec<f64> = points.iter().flatten().map(|point| point.0).collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    let (first, last) = (all.first().copied().unwrap_or(0.0), all.last().copied().unwrap_or(1.0));
    let around = ((last - first) / 9.0).max(0.5);
    let every = all.len().div_ceil(12).max(1);
    let ticks = all.into_iter().step_by(every).map(|n| (n, format!("{n:.0}"))).collect();
    let title = "N, number of replicas".to_owned();
    Axis { title, range: first - around..last + around, ticks, lines: false, logarithmic: false }
}

fn draw_series(paper: &Area<'_>, places: &[Place], look: Look) -> anyhow::Result<()> {
    line(paper, places, look.colour, 4)?;
    places.iter().try_for_each(|&place| mark(paper, place, look, 9))
}

/// Numbers at the marks, where they do not stand in each other's way: above the highest mark of each N, and
/// above another if it is far enough below.
fn draw_values(panel: &Panel<'_>, points: &[Vec<(f64, f64)>]) -> anyhow::Result<()> {
    if points.len() > 2 {
        return Ok(());
    }
    let mut taken: Vec<Place> = Vec::new();
    let mut all: Vec<(f64, f64)> = points.iter().flatten().copied().filter(|point| point.1 > 0.0).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (n, value) in all {
        let (x, y) = panel.at(n, value);
        let text = words::number(value);
        let near = |place: &Place| (place.0 - x).abs() < width(&text, SMALL) && (place.1 - y).abs() < 50;
        if !taken.iter().any(near) {
            panel.above_lines((x, y), &text, INK)?;
            taken.push((x, y));
        }
    }
    Ok(())
}
