//! One scenario second by second: three panels side by side, with steps over the time.

use chart::colour::{BLUE, Colour, GREEN, RED};
use chart::mark::filled;
use chart::sheet::{grid, panel_title};
use chart::{Area, Axis, Panel, Place, Swatch};

use crate::cluster::choices::SAMPLE;
use crate::cluster::report::Outcome;

/// The height of a scenario, in units.
pub(super) const HEIGHT: u32 = 300;

const KEYS: (Colour, &str) = (GREEN, "% of keys disagreed on");
const CONNECTS: (Colour, &str) = (RED, "connects to the dead");
const CALLS: (Colour, &str) = (BLUE, "calls to the engine");

pub(super) fn legend() -> Vec<(Swatch, String)> {
    [KEYS, CONNECTS, CALLS].map(|(colour, words)| (Swatch::Box(colour), words.to_owned())).into()
}

pub(super) fn draw(part: &Area<'_>, outcome: &Outcome) -> anyhow::Result<()> {
    let timeline = &outcome.timeline;
    let keys = timeline.differing_keys.iter().map(|keys| 100.0 * *keys as f64 / f64::from(SAMPLE)).collect();
    let connects = timeline.connects.iter().map(|connects| *connects as f64).collect();
    let calls = timeline.calls.iter().map(|calls| f64::from(*calls)).collect();
    let series: [((Colour, &str), Vec<f64>); 3] = [(KEYS, keys), (CONNECTS, connects), (CALLS, calls)];
    grid(part, 3, 3).iter().zip(series).try_for_each(|(part, ((colour, what), values))| {
        steps(part, &format!("{}: {what}", outcome.scenario), &values, colour)
    })
}

/// A filled step for each second.
fn steps(part: &Area<'_>, title: &str, values: &[f64], colour: Colour) -> anyhow::Result<()> {
    let mut x = Axis::linear("seconds", 0.0..values.len().max(1) as f64, 4);
    x.ticks.retain(|(value, _)| *value <= x.range.end * 0.95);
    let mut y = Axis::from_zero("", values.iter().copied());
    y.ticks.retain(|(value, _)| *value <= y.range.end * 0.95);
    let panel = Panel::aligned(&panel_title(part, title)?, &x, &y, 100)?;
    let ends =
        values.iter().enumerate().flat_map(|(at, value)| [(at as f64, *value), (at as f64 + 1.0, *value)]);
    let floor = [(values.len() as f64, 0.0), (0.0, 0.0)];
    let corners: Vec<Place> = ends.chain(floor).map(|(second, value)| panel.at(second, value)).collect();
    filled(panel.paper(), &corners, colour)
}
