//! Lines over N: how the load spreads when replicas are added (A-2, and A-4 for several mappings).

use super::bars::{grid, panel_title};
use super::panel::{Axis, Panel};
use super::sheet::{self, Area, Head, INK, Look, Place, SMALL, Swatch, look};
use super::{Chart, Outline};
use crate::data::{Balance, Scaling};
use crate::report::words;
use crate::stats::{max_over_mean, mean, standard_deviation};

/// A way to see a load: its title, its unit, and its number.
type View = (&'static str, &'static str, fn(&[u64]) -> f64);

const MEAN: View = ("mean load per replica", "requests", mean);
const RATIO: View = ("busiest replica / mean", "ratio (1 = even)", max_over_mean);
const DEVIATION: View = ("standard deviation of the load", "requests", standard_deviation);

/// The mean, and beside it what the mean does not tell.
pub(super) fn scaling(name: &str, scalings: &[Scaling]) -> anyhow::Result<Chart> {
    let total = scalings.iter().flat_map(|scaling| &scaling.points).map(|point| point.load.succeeded).max();
    let subtitle = format!(
        "The mean is {} / N by arithmetic, whatever the mapping does; max/mean and the standard deviation \
         tell \
         how the load spreads.",
        words::count(total.unwrap_or(0))
    );
    chart(name, ("Load per replica as N grows", &subtitle), scalings, &[MEAN, RATIO, DEVIATION])
}

/// Only what differs between mappings.
pub(super) fn variants(name: &str, scalings: &[Scaling]) -> anyhow::Result<Chart> {
    let title = format!("Evenness of {} mappings as N grows", scalings.len());
    let subtitle = "The mean is the same for all of them: the number of requests divided by N.";
    chart(name, (&title, subtitle), scalings, &[RATIO, DEVIATION])
}

fn chart(
    name: &str,
    (title, subtitle): (&str, &str),
    scalings: &[Scaling],
    views: &[View],
) -> anyhow::Result<Chart> {
    let legend = scalings.iter().enumerate().map(|(at, scaling)| {
        let name = scaling.variant.name.clone();
        (Swatch::Marked(look(at)), name)
    });
    let head = Head { title, subtitle, legend: legend.collect() };
    let svg = sheet::drawing(760, &head, |below| {
        for (part, view) in grid(below, views.len()).iter().zip(views) {
            draw(part, scalings, *view)?;
        }
        Ok(())
    })?;
    let description = scalings.iter().map(description).collect::<Vec<_>>().join(" ");
    Chart::new(Outline { name: name.to_owned(), title: title.to_owned(), description }, &svg)
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
    let logarithmic = spans_decades(&values);
    let unit = if logarithmic { format!("{}, logarithmic", view.1) } else { view.1.to_owned() };
    let y = Axis::of(&unit, values, logarithmic);
    let scale = |value: f64| if logarithmic { value.log10() } else { value };
    let panel = Panel::new(&below, &n_axis(&points), &y)?;
    for (at, points) in points.iter().enumerate().rev() {
        let places: Vec<Place> = points.iter().map(|&(n, value)| panel.at(n, scale(value))).collect();
        draw_series(panel.paper(), &places, look(at))?;
    }
    draw_values(&panel, &points, scale)
}

/// Whether a linear axis would press the small values together at the bottom.
fn spans_decades(values: &[f64]) -> bool {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    least > 0.0 && values.iter().copied().fold(0.0, f64::max) > 20.0 * least
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
    Axis { title, range: first - around..last + around, ticks, lines: false }
}

fn draw_series(paper: &Area<'_>, places: &[Place], look: Look) -> anyhow::Result<()> {
    sheet::line(paper, places, look.colour, 4)?;
    places.iter().try_for_each(|&place| sheet::mark(paper, place, look, 9))
}

/// Numbers at the marks, where they do not stand in each other's way: above the highest mark of each N, and
/// above another if it is far enough below.
fn draw_values(
    panel: &Panel<'_>,
    points: &[Vec<(f64, f64)>],
    scale: impl Fn(f64) -> f64,
) -> anyhow::Result<()> {
    if points.len() > 2 {
        return Ok(());
    }
    let mut taken: Vec<Place> = Vec::new();
    let mut all: Vec<(f64, f64)> = points.iter().flatten().copied().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (n, value) in all {
        let (x, y) = panel.at(n, scale(value));
        let text = words::number(value);
        let near =
            |place: &Place| (place.0 - x).abs() < sheet::width(&text, SMALL) && (place.1 - y).abs() < 50;
        if !taken.iter().any(near) {
            panel.above_lines((x, y), &text, INK)?;
            taken.push((x, y));
        }
    }
    Ok(())
}
