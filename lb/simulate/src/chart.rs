//! A report as a chart: a panel with the shares for each mapping, and one with what moved for each step.
//!
//! Pure: the same report gives the same picture. Measured times are not in it, so it is the same on every machine.

use chart::colour::{BLUE, Colour, INK, RED, SKY};
use chart::mark::{boxed, line};
use chart::sheet::{WIDTH, drawing, grid, panel_title};
use chart::text::{SMALL, number, width};
use chart::{Area, Axis, Drawing, Head, Panel, Swatch};

use super::outcome::{Balance, Disturbance};
use super::report::{Fleet, Report, Row};
use super::table;

/// The height of a row of panels, in units.
const SHARES: u32 = 420;
const MOVES: u32 = 440;
/// A bar that would be longer is cut there, in multiples of the greatest share by weight: the others could not be told
/// apart beside it.
const TALLEST: f64 = 2.0;
/// What an axis takes of the width of a panel, at most.
const BESIDE: i32 = 150;

/// # Errors
/// It cannot be drawn, which would be a fault of this program.
pub(super) fn draw(report: &Report) -> anyhow::Result<Drawing> {
    let columns = columns(report);
    let rows = report.mappings.len().div_ceil(columns) as u32;
    let steps = report.stages.len().saturating_sub(1);
    drawing(210 + SHARES * rows + MOVES * steps as u32, head(report), |below| {
        let (upper, lower) = below.split_vertically((SHARES * rows) as i32);
        if let Some(fleet) = report.stages.first() {
            let parts = grid(&upper, report.mappings.len(), columns);
            parts.iter().zip(shares(report, fleet)).try_for_each(|(part, bars)| bars.paint(part))?;
        }
        let parts = grid(&lower, steps, 1);
        let steps = report.stages.iter().enumerate().skip(1);
        parts.iter().zip(steps).try_for_each(|(part, (at, fleet))| moves(report, at, fleet).paint(part))
    })
}

/// As many panels side by side as have room for the names of their servers.
fn columns(report: &Report) -> usize {
    let servers = report.stages.first().map(|fleet| fleet.replicas.as_slice()).unwrap_or_default();
    let widest = servers.iter().map(|server| width(&server.name, SMALL) + 12).max().unwrap_or(1);
    let room = |columns: &usize| WIDTH as i32 / *columns as i32 - BESIDE >= widest * servers.len() as i32;
    let most = report.mappings.len().clamp(1, 4);
    (1..=most).rev().find(room).unwrap_or(1)
}

fn head(report: &Report) -> Head {
    let mut legend = vec![
        (Swatch::Box(SKY), "share of the requests".to_owned()),
        (Swatch::Line(INK), "share by weight, or what would move with such shares".to_owned()),
        (Swatch::Box(BLUE), "moved".to_owned()),
    ];
    let needless = |row: &Row| {
        row.stages.iter().any(|stage| stage.disturbance.is_some_and(|moves| moves.needless > 0.0))
    };
    if report.mappings.iter().any(needless) {
        legend.push((
            Swatch::Box(RED),
            "of it needlessly (in brackets): between servers that the step leaves alone".to_owned(),
        ));
    }
    if report.stages.len() < 2 {
        legend.truncate(2);
    }
    Head {
        name: "simulate".to_owned(),
        title: format!("lb simulate: {}", table::asked(report)),
        subtitle: "Shares of the fleet at first with each mapping, and what each step moves. A bar under an arrow is cut."
            .to_owned(),
        description: report.mappings.iter().map(in_words).collect::<Vec<_>>().join(" "),
        legend,
    }
}

fn in_words(row: &Row) -> String {
    let peak = row.stages.first().map_or(0.0, |first| first.balance.busiest_over_mean);
    let moved = row.stages.iter().filter_map(|stage| stage.disturbance).map(|moves| percent(moves.moved));
    let moved: Vec<String> = moved.collect();
    let moved = if moved.is_empty() { String::new() } else { format!(", moved {}", moved.join(", ")) };
    format!("{}: busiest / mean {}{moved}.", row.mapping, number(peak))
}

/// Bars side by side, each with a name below it.
struct Bars {
    title: String,
    /// What the bars stand for, and their names.
    axes: [&'static str; 2],
    colour: Colour,
    names: Vec<String>,
    /// Where the scale ends.
    top: f64,
    columns: Vec<Column>,
}

/// A bar, from 0 to `whole`; the part above `lower` has a colour of its own.
struct Column {
    lower: f64,
    whole: f64,
    /// Where a line goes through it.
    due: f64,
    label: String,
}

/// The shares of the first fleet with each mapping, all on one scale.
fn shares(report: &Report, fleet: &Fleet) -> Vec<Bars> {
    let dues = dues(fleet);
    let rows = report.mappings.iter().filter_map(|row| Some((row, &row.stages.first()?.balance)));
    let most = rows.clone().flat_map(|(_, balance)| &balance.shares).copied().fold(0.0, f64::max);
    let top = most.min(TALLEST * dues.iter().copied().fold(0.0, f64::max)) * 1.25;
    let column =
        |(&share, &due): (&f64, &f64)| Column { lower: share, whole: share, due, label: percent(share) };
    let bars = |(row, balance): (&Row, &Balance)| Bars {
        title: format!("{} (busiest / mean {})", row.mapping, number(balance.busiest_over_mean)),
        axes: ["share of requests", "server"],
        colour: SKY,
        names: fleet.replicas.iter().map(|server| server.name.clone()).collect(),
        top,
        columns: balance.shares.iter().zip(&dues).map(column).collect(),
    };
    rows.map(bars).collect()
}

fn dues(fleet: &Fleet) -> Vec<f64> {
    let sum: u32 = fleet.replicas.iter().map(|server| server.weight).sum();
    fleet.replicas.iter().map(|server| f64::from(server.weight) / f64::from(sum.max(1))).collect()
}

/// What moved in a step with each mapping.
fn moves(report: &Report, at: usize, fleet: &Fleet) -> Bars {
    let moves = report.mappings.iter().filter_map(|row| row.stages.get(at)?.disturbance);
    let due = fleet.fair.unwrap_or_default();
    let most = moves.clone().map(|moves| moves.moved).fold(due, f64::max);
    let column = |moves: Disturbance| Column {
        lower: moves.moved - moves.needless,
        whole: moves.moved,
        due,
        label: match moves.needless {
            0.0 => percent(moves.moved),
            needless => format!("{:.1} ({:.2}) %", 100.0 * moves.moved, 100.0 * needless),
        },
    };
    Bars {
        title: format!("Step {at}: {}", fleet.step.as_deref().unwrap_or_default()),
        axes: ["share of requests that moved", "mapping"],
        colour: BLUE,
        names: report.mappings.iter().map(|row| row.mapping.clone()).collect(),
        top: most.max(0.001) * 1.25,
        columns: moves.map(column).collect(),
    }
}

/// A part of one in per cent, with up to three significant digits.
fn percent(part: f64) -> String {
    let percent = 100.0 * part;
    if percent >= 1.0 { format!("{percent:.1} %") } else { format!("{percent:.2} %") }
}

impl Bars {
    fn paint(&self, part: &Area<'_>) -> anyhow::Result<()> {
        let below = panel_title(part, &self.title)?;
        let room = below.dim_in_pixel().0 as i32 - BESIDE;
        let mut y = Axis::linear(self.axes[0], 0.0..self.top, 4);
        for (share, words) in &mut y.ticks {
            *words = format!("{} %", (1000.0 * *share).round() / 10.0);
        }
        let panel = Panel::new(&below, &Axis::names(self.axes[1], &self.names, room), &y)?;
        let each = room / self.columns.len().max(1) as i32;
        self.columns
            .iter()
            .enumerate()
            .try_for_each(|(at, column)| self.column(&panel, at as f64, column, each))
    }

    fn column(&self, panel: &Panel<'_>, at: f64, column: &Column, room: i32) -> anyhow::Result<()> {
        let (left, right) = (at + 0.12, at + 0.88);
        let [lower, whole] = [column.lower, column.whole].map(|height| height.min(self.top));
        boxed(panel.paper(), panel.at(left, lower), panel.at(right, 0.0), self.colour)?;
        if whole > lower {
            boxed(panel.paper(), panel.at(left, whole), panel.at(right, lower), RED)?;
        }
        line(panel.paper(), &[panel.at(at, column.due), panel.at(at + 1.0, column.due)], INK, 3)?;
        let is_cut = column.whole > self.top;
        let label = if is_cut { format!("↑{:.0} %", 100.0 * column.whole) } else { column.label.clone() };
        if width(&label, SMALL) > room {
            return Ok(());
        }
        let height = if is_cut { self.top * 0.86 } else { whole.max(column.due) };
        panel.above(panel.at(at + 0.5, height), &label, INK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{plan, report};

    /// The picture below its head, where the legend is.
    fn panels(report: &Report) -> String {
        let svg = draw(report).unwrap().svg();
        let legend = svg.rfind("share by weight").unwrap();
        svg[legend..].to_owned()
    }

    /// The rectangles of a colour.
    fn bars(svg: &str, colour: Colour) -> usize {
        let Colour(red, green, blue) = colour;
        let fill = format!("fill=\"#{red:02X}{green:02X}{blue:02X}\"");
        svg.lines().filter(|line| line.starts_with("<rect") && line.contains(&fill)).count()
    }

    #[test]
    fn there_is_a_bar_for_each_server_and_one_for_each_step_and_the_plan_counts_them() {
        for (contenders, servers) in [(1, 1), (1, 17), (3, 2), (5, 10)] {
            let plan = plan(contenders, servers, &["add 2", "rm server1"]);
            let svg = panels(&report(&plan));
            assert_eq!(bars(&svg, SKY), contenders * servers);
            // And one in the legend.
            assert_eq!(bars(&svg, BLUE), contenders * 2 + 1);
            assert_eq!(plan.bars(), contenders * (servers + 2));
        }
    }

    #[test]
    fn needless_moves_have_a_bar_where_there_are_any() {
        // The fifth contender is Envoy. One box is in the legend.
        let svg = panels(&report(&plan(5, 4, &["rm server2"])));
        assert!(bars(&svg, RED) >= 2, "{svg}");
        assert_eq!(bars(&panels(&report(&plan(1, 4, &["rm server2"]))), RED), 0);
    }

    #[test]
    fn the_same_report_gives_the_same_picture() {
        let plan = plan(2, 3, &["rm server2"]);
        assert_eq!(draw(&report(&plan)).unwrap().svg(), draw(&report(&plan)).unwrap().svg());
    }
}
