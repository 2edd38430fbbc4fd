//! How long recoveries took: a row for each phase, and a dot for each kill.

use chart::colour::{BLUE, INK};
use chart::mark::{line, mark};
use chart::sheet::drawing;
use chart::{Axis, Drawing, Head, Look, Panel, Shape, Swatch};

use crate::data::Drill;
use crate::report::derived::{PHASES, reached};
use crate::report::words;
use crate::stats::Spread;

const KILL: Look = Look { colour: BLUE, shape: Shape::Disc };
const MEDIAN: Look = Look { colour: INK, shape: Shape::Bar };

/// The phases of all kills; `None` if no kill reached any.
pub(super) fn recovery(name: &str, drill: &Drill) -> anyhow::Result<Option<Drawing>> {
    let Some(all) = Spread::of(PHASES.iter().flat_map(|&phase| reached(drill, phase))) else {
        return Ok(None);
    };
    let head = Head {
        name: name.to_owned(),
        title: format!("Recovery from {}", words::plural(drill.kills.len() as u64, "kill")),
        subtitle: format!(
            "The time from the death of a replica to each phase. The control port was asked every {}.",
            words::nanos(drill.resolution_ms * 1e6)
        ),
        description: description(drill),
        legend: vec![
            (Swatch::Mark(KILL), "one kill".to_owned()),
            (Swatch::Mark(MEDIAN), "median of all kills".to_owned()),
        ],
    };
    let drawing = drawing(780, head, |below| {
        let names = PHASES.map(|phase| phase.0.to_owned());
        let panel = Panel::new(below, &time_axis(all.most), &Axis::rows(&names))?;
        (0..PHASES.len()).try_for_each(|index| draw_phase(&panel, drill, index))
    })?;
    Ok(Some(drawing))
}

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
    Axis::linear("time since the replica died (ms)", 0.0..(most * 1.45).max(1.0), 8)
}

fn draw_phase(panel: &Panel<'_>, drill: &Drill, index: usize) -> anyhow::Result<()> {
    let values = reached(drill, PHASES[index]);
    let Some(spread) = Spread::of(values.iter().copied()) else { return Ok(()) };
    let middle = (PHASES.len() - index) as f64 - 0.5;
    for (kill, &value) in values.iter().enumerate() {
        // Dots of nearby values would hide each other: five lanes, in turn.
        let lane = (kill % 5) as f64 / 5.0 - 0.4;
        mark(panel.paper(), panel.at(value, middle + lane * 0.7), KILL, 7)?;
    }
    let (x, y) = panel.at(spread.median, middle);
    line(panel.paper(), &[(x, y - 34), (x, y + 34)], INK, 5)?;
    let [median, least, most] = [spread.median, spread.least, spread.most].map(words::number);
    let text = format!("median {median} ms ({least} to {most})");
    panel.right(panel.at(spread.most, middle), &format!(" {text}"), INK)
}
