//! The figures of scenarios: panels in which each scenario has a row.

use chart::colour::{BLUE, GREEN, GREY, INK, ORANGE, RED};
use chart::mark::{boxed, line, mark};
use chart::sheet::{grid, panel_title};
use chart::text::{count, number};
use chart::{Area, Axis, Look, Panel, Shape, Swatch};

use super::COLUMNS;
use crate::cluster::report::{Outcome, Times};

/// How many panels there are.
pub(super) const PANELS: usize = 10;

/// The height of a row, and of what a panel has besides, in units.
const ROW: u32 = 44;
const AROUND: u32 = 150;
/// How thick a bar is, in rows.
const BAR: f64 = 0.6;

const MEDIAN: Look = Look { colour: BLUE, shape: Shape::Disc };
const P99: Look = Look { colour: BLUE, shape: Shape::Bar };
const MOST: Look = Look { colour: RED, shape: Shape::Diamond };
/// Kinds of commands, in the order of [`crate::cluster::scenario::Kind::ALL`].
const KINDS: [Look; 3] = [
    Look { colour: BLUE, shape: Shape::Disc },
    Look { colour: GREEN, shape: Shape::Triangle },
    Look { colour: ORANGE, shape: Shape::Square },
];

/// The ends of all axes of time, in seconds, and their ticks.
const TIMES: [f64; 2] = [0.0005, 200.0];
const TICKS: [(f64, &str); 6] =
    [(0.001, "1 ms"), (0.01, "10 ms"), (0.1, "100 ms"), (1.0, "1 s"), (10.0, "10 s"), (100.0, "100 s")];

/// Draws one panel.
type Draw<'a> = dyn Fn(&Area<'_>) -> anyhow::Result<()> + 'a;

pub(super) fn height(outcomes: &[Outcome]) -> u32 {
    if outcomes.is_empty() {
        0
    } else {
        (ROW * outcomes.len() as u32 + AROUND) * PANELS.div_ceil(COLUMNS) as u32
    }
}

pub(super) fn legend(outcomes: &[Outcome]) -> Vec<(Swatch, String)> {
    if outcomes.is_empty() {
        return Vec::new();
    }
    let marks = [
        (Swatch::Mark(MEDIAN), "median"),
        (Swatch::Mark(P99), "99 of 100 are faster"),
        (Swatch::Mark(MOST), "slowest; most"),
        (Swatch::Mark(KINDS[0]), "rm 1"),
        (Swatch::Mark(KINDS[1]), "add 1"),
        (Swatch::Mark(KINDS[2]), "mapping set --weight"),
        (Swatch::Box(ORANGE), "refused"),
        (Swatch::Box(BLUE), "other bars; of connects: lost"),
    ];
    marks.map(|(swatch, words)| (swatch, words.to_owned())).into()
}

pub(super) fn draw(part: &Area<'_>, outcomes: &[Outcome]) -> anyhow::Result<()> {
    if outcomes.is_empty() {
        return Ok(());
    }
    let parts = grid(part, PANELS, COLUMNS);
    let panels: [&Draw<'_>; PANELS] = [
        &|part| times(part, "from a death until a balancer has seen it", outcomes, |outcome| outcome.seen),
        &|part| times(part, "from a death until the replica is up again", outcomes, |outcome| outcome.back),
        &|part| {
            times(part, "from a write until all balancers follow it", outcomes, |outcome| {
                outcome.agreement.spread
            })
        },
        &|part| {
            times(part, "how long balancers disagree on any key", outcomes, |outcome| {
                outcome.agreement.disagreement
            })
        },
        &|part| commands(part, "commands that were done: median to slowest", outcomes, false),
        &|part| commands(part, "commands that failed: median to slowest", outcomes, true),
        &|part| {
            let keys = |outcome: &Outcome| (0.0, 100.0 * outcome.agreement.most_keys);
            bars(
                part,
                ("keys that balancers disagree on, at most", "% of the sampled keys"),
                outcomes,
                keys,
                percent,
            )
        },
        &|part| {
            let keys = |outcome: &Outcome| (0.0, outcome.keys.moved as f64);
            let words = |outcome: &Outcome| {
                format!("{} ({})", count(outcome.keys.moved), count(outcome.keys.needless))
            };
            bars(
                part,
                ("moves of sampled keys (of it needlessly)", "moves, at all balancers"),
                outcomes,
                keys,
                words,
            )
        },
        &|part| {
            let each = |outcome: &Outcome, connects: u64| connects as f64 / outcome.deaths.max(1) as f64;
            let connects = |outcome: &Outcome| {
                (each(outcome, outcome.connects.refused), outcome.connects.for_each_death)
            };
            let words = |outcome: &Outcome| number(outcome.connects.for_each_death);
            bars(part, ("connects to the dead", "connects for each death"), outcomes, connects, words)
        },
        &|part| calls(part, outcomes),
    ];
    parts.iter().zip(panels).try_for_each(|(part, panel)| panel(part))
}

fn percent(outcome: &Outcome) -> String {
    format!("{:.2} %", 100.0 * outcome.agreement.most_keys)
}

/// The middle of a row.
fn middle(at: usize, outcomes: &[Outcome]) -> f64 {
    (outcomes.len() - at) as f64 - 0.5
}

fn panel<'a>(part: &Area<'a>, title: &str, outcomes: &[Outcome], x: &Axis) -> anyhow::Result<Panel<'a>> {
    let names: Vec<String> = outcomes.iter().map(|outcome| outcome.scenario.clone()).collect();
    let y = Axis::rows(&names);
    // The names do not touch the edge of the paper.
    Panel::aligned(&panel_title(part, title)?, x, &y, Panel::beside([&y]) + 16)
}

fn time_axis() -> Axis {
    Axis {
        title: "time, logarithmic".to_owned(),
        range: TIMES[0]..TIMES[1],
        ticks: TICKS.map(|(at, words)| (at, words.to_owned())).into(),
        lines: true,
        logarithmic: true,
    }
}

/// From the median to the slowest of times.
fn times(
    part: &Area<'_>,
    what: &str,
    outcomes: &[Outcome],
    of: impl Fn(&Outcome) -> Times,
) -> anyhow::Result<()> {
    let panel = panel(part, what, outcomes, &time_axis())?;
    for (at, outcome) in outcomes.iter().enumerate() {
        span(&panel, middle(at, outcomes), of(outcome), [Some(MEDIAN), Some(P99), Some(MOST)])?;
    }
    Ok(())
}

/// A line from the median to the greatest of times, with marks at the median, the 99th percentile, and the greatest.
fn span(panel: &Panel<'_>, row: f64, times: Times, looks: [Option<Look>; 3]) -> anyhow::Result<()> {
    let place = |time: f64| panel.at(time.clamp(TIMES[0] * 1.4, TIMES[1]), row);
    if let (Some(median), Some(most)) = (times.median, times.most) {
        line(panel.paper(), &[place(median), place(most)], GREY, 3)?;
    }
    // The median is drawn last: it is seen where all are the same.
    for (time, look) in [times.most, times.p99, times.median].into_iter().zip(looks.into_iter().rev()) {
        if let (Some(time), Some(look)) = (time, look) {
            mark(panel.paper(), place(time), look, 8)?;
        }
    }
    Ok(())
}

/// Three lines in each row, one for each kind of command.
fn commands(part: &Area<'_>, title: &str, outcomes: &[Outcome], failed: bool) -> anyhow::Result<()> {
    let panel = panel(part, title, outcomes, &time_axis())?;
    for (at, outcome) in outcomes.iter().enumerate() {
        for (command, (look, shift)) in outcome.commands.iter().zip(KINDS.into_iter().zip([0.27, 0.0, -0.27]))
        {
            let times = if failed { command.failed } else { command.done };
            span(&panel, middle(at, outcomes) + shift, times, [Some(look), None, None])?;
        }
    }
    Ok(())
}

/// A bar in each row, with a part of another colour at its beginning, and words behind it.
fn bars(
    part: &Area<'_>,
    (title, unit): (&str, &str),
    outcomes: &[Outcome],
    of: impl Fn(&Outcome) -> (f64, f64),
    words: impl Fn(&Outcome) -> String,
) -> anyhow::Result<()> {
    let most = outcomes.iter().map(|outcome| of(outcome).1).fold(0.0, f64::max);
    // Room for words behind the longest bar.
    let panel = panel(part, title, outcomes, &bar_axis(unit, most * 1.45))?;
    for (at, outcome) in outcomes.iter().enumerate() {
        let ((first, whole), row) = (of(outcome), middle(at, outcomes));
        let [top, bottom] = [row + BAR / 2.0, row - BAR / 2.0];
        boxed(panel.paper(), panel.at(first, top), panel.at(whole, bottom), BLUE)?;
        boxed(panel.paper(), panel.at(0.0, top), panel.at(first, bottom), ORANGE)?;
        panel.right(panel.at(whole, row), &words(outcome), INK)?;
    }
    Ok(())
}

/// An axis from 0 whose last tick has room for its words.
fn bar_axis(unit: &str, end: f64) -> Axis {
    let mut axis = Axis::linear(unit, 0.0..if end > 0.0 { end } else { 1.0 }, 4);
    axis.ticks.retain(|(value, _)| *value <= axis.range.end * 0.94);
    axis
}

/// The mean of all balancers as a bar, and the most of one in a second as a mark.
fn calls(part: &Area<'_>, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let most = outcomes.iter().map(|outcome| outcome.calls.most).max().unwrap_or(0);
    let x = bar_axis("calls to the engine a second", f64::from(most) * 1.45);
    let panel = panel(part, "calls of one balancer: mean, and most", outcomes, &x)?;
    for (at, outcome) in outcomes.iter().enumerate() {
        let row = middle(at, outcomes);
        boxed(
            panel.paper(),
            panel.at(0.0, row + BAR / 2.0),
            panel.at(outcome.calls.mean, row - BAR / 2.0),
            BLUE,
        )?;
        let place = panel.at(f64::from(outcome.calls.most), row);
        mark(panel.paper(), place, MOST, 8)?;
        panel.right(place, &format!("{:.1}; {}", outcome.calls.mean, outcome.calls.most), INK)?;
    }
    Ok(())
}
