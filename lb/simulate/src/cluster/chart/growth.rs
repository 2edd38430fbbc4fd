//! How the figures grow: panels with a line over N for each B.

use chart::mark::{line, mark};
use chart::sheet::{grid, panel_title};
use chart::text::count;
use chart::{Area, Axis, Panel, Place, Swatch, look};

use super::COLUMNS;
use crate::cluster::report::Outcome;

/// The height of a row of panels, in units.
const HEIGHT: u32 = 400;

/// A figure: its title, its unit, whether its axis is logarithmic, and its value, if there is one.
type Figure = (&'static str, &'static str, bool, fn(&Outcome) -> Option<f64>);

const FIGURES: [Figure; 8] = [
    ("connects to the dead", "for each death", false, |outcome| Some(outcome.connects.for_each_death)),
    ("a death until a balancer has seen it: median", "ms", false, |outcome| ms(outcome.seen.median)),
    ("a death until the replica is up again: median", "ms", false, |outcome| ms(outcome.back.median)),
    ("a write until all follow the epoch: slowest", "ms", false, |outcome| ms(outcome.agreement.spread.most)),
    ("balancers disagree on any key: longest", "ms", false, |outcome| {
        Some(outcome.agreement.disagreement.most.map_or(0.0, |time| 1e3 * time))
    }),
    ("rm 1 and new weights that were done: slowest", "ms", false, |outcome| ms(outcome.slowest_write())),
    ("calls of one balancer to the engine: mean", "calls a second", false, |outcome| {
        Some(outcome.calls.mean)
    }),
    ("calls of all balancers: most in a second", "calls a second, logarithmic", true, |outcome| {
        Some(outcome.calls.most_together.into())
    }),
];

fn ms(seconds: Option<f64>) -> Option<f64> {
    seconds.map(|seconds| 1e3 * seconds)
}

pub(super) fn height(outcomes: &[Outcome]) -> u32 {
    if outcomes.is_empty() { 0 } else { HEIGHT * FIGURES.len().div_ceil(COLUMNS) as u32 }
}

/// The numbers of balancers, each once.
fn balancers(outcomes: &[Outcome]) -> Vec<usize> {
    let mut balancers: Vec<usize> = outcomes.iter().map(|outcome| outcome.balancers).collect();
    balancers.sort_unstable();
    balancers.dedup();
    balancers
}

pub(super) fn legend(outcomes: &[Outcome]) -> Vec<(Swatch, String)> {
    let entry =
        |(at, balancers): (usize, usize)| (Swatch::Marked(look(at)), format!("B = {balancers} balancers"));
    balancers(outcomes).into_iter().enumerate().map(entry).collect()
}

pub(super) fn draw(part: &Area<'_>, outcomes: &[Outcome]) -> anyhow::Result<()> {
    if outcomes.is_empty() {
        return Ok(());
    }
    let parts = grid(part, FIGURES.len(), COLUMNS);
    parts.iter().zip(FIGURES).try_for_each(|(part, figure)| draw_figure(part, outcomes, figure))
}

fn draw_figure(
    part: &Area<'_>,
    outcomes: &[Outcome],
    (title, unit, is_logarithmic, of): Figure,
) -> anyhow::Result<()> {
    let values = outcomes.iter().filter_map(of);
    let y = if is_logarithmic { Axis::logarithmic(unit, values) } else { Axis::from_zero(unit, values) };
    let panel = Panel::new(&panel_title(part, title)?, &n_axis(outcomes), &y)?;
    for (at, balancers) in balancers(outcomes).into_iter().enumerate().rev() {
        let series = outcomes.iter().filter(|outcome| outcome.balancers == balancers);
        let points = series.filter_map(|outcome| Some((outcome.replicas as f64, of(outcome)?)));
        let places: Vec<Place> = points.map(|(n, value)| panel.at(n, value)).collect();
        line(panel.paper(), &places, look(at).colour, 4)?;
        places.iter().try_for_each(|&place| mark(panel.paper(), place, look(at), 9))?;
    }
    Ok(())
}

/// N, with a tick at each number that was simulated.
fn n_axis(outcomes: &[Outcome]) -> Axis {
    let mut all: Vec<usize> = outcomes.iter().map(|outcome| outcome.replicas).collect();
    all.sort_unstable();
    all.dedup();
    let (first, last) = (all.first().copied().unwrap_or(1), all.last().copied().unwrap_or(1));
    let ticks = all.into_iter().map(|n| (n as f64, count(n as u64))).collect();
    let title = "N, number of replicas".to_owned();
    Axis { title, range: first as f64 / 1.6..last as f64 * 1.6, ticks, lines: false, logarithmic: true }
}
