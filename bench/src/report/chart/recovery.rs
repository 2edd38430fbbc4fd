//! How long recoveries took: a row for each phase, and a dot for each kill.

use super::panel::{Axis, Panel, ticks};
use super::sheet::{self, Head, INK, Look, Shape, Swatch, look};
use super::{Chart, Outline};
use crate::data::Drill;
use crate::report::derived::{PHASES, reached};
use crate::report::words;
use crate::stats::Spread;

/// The phases of all kills; `None` if no kill reached any.
pub(super) fn recovery(name: &str, drill: &Drill) -> anyhow::Result<Option<Chart>> {
    let Some(all) = Spread::of(PHASES.iter().flat_map(|&phase| reached(drill, phase))) else {
        return Ok(None);
    };
    let title = format!("Recovery from {}", words::plural(drill.kills.len() as u64, "kill"));
    let subtitle = format!(
        "Milliseconds from the death of a replica to each phase; a dot for each kill. The control port was \
         asked every {}.",
        words::nanos(drill.resolution_ms * 1e6)
    );
    let legend = vec![
        (Swatch::Mark(look(0)), "one kill (marks differ by phase)".to_owned()),
        (Swatch::Mark(MEDIAN), "median of all kills".to_owned()),
    ];
    let head = Head { title: &title, subtitle: &subtitle, legend };
    let svg = sheet::drawing(780, &head, |below| {
        let panel = Panel::new(below, &time_axis(all.most), &phase_axis())?;
        (0..PHASES.len()).try_for_each(|index| draw_phase(&panel, drill, index))
    })?;
    Chart::new(Outline { name: name.to_owned(), title: title.clone(), description: description(drill) }, &svg)
        .map(Some)
}

const MEDIAN: Look = Look { colour: INK, shape: Shape::Bar };

fn description(drill: &Drill) -> String {
    let phase = |phase: &crate::report::derived::Phase| {
        let spread = Spread::of(reached(drill, *phase))?;
        Some(format!("{} after {}", phase.0, words::millis(spread.median)))
    };
    let phases: Vec<_> = PHASES.iter().filter_map(phase).collect();
    format!("Medians: {}.", words::list(&phases))
}

/// With room at the right for the numbers of the slowest phase.
fn time_axis(most: f64) -> Axis {
    let range = 0.0..(most * 1.45).max(1.0);
    let ticks = ticks(range.clone());
    Axis { title: "ms since the replica died".to_owned(), range, ticks, lines: true }
}

/// The first phase on top.
fn phase_axis() -> Axis {
    Axis::names("", PHASES.iter().rev().map(|phase| phase.0.to_owned()).collect())
}

fn draw_phase(panel: &Panel<'_>, drill: &Drill, index: usize) -> anyhow::Result<()> {
    let values = reached(drill, PHASES[index]);
    let Some(spread) = Spread::of(values.iter().copied()) else { return Ok(()) };
    let middle = (PHASES.len() - index) as f64 - 0.5;
    for (kill, &value) in values.iter().enumerate() {
        // Dots of nearby values would hide each other: five lanes, in turn.
        let lane = (kill % 5) as f64 / 5.0 - 0.4;
        sheet::mark(panel.paper(), panel.at(value, middle + lane * 0.7), look(index), 7)?;
    }
    let (x, y) = panel.at(spread.median, middle);
    sheet::line(panel.paper(), &[(x, y - 34), (x, y + 34)], INK, 5)?;
    let [median, least, most] = [spread.median, spread.least, spread.most].map(|time| format!("{time:.1}"));
    let text = format!("median {median} ms ({least} to {most})");
    panel.right(panel.at(spread.most, middle), &format!(" {text}"), INK)
}
