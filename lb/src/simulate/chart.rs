//! A report as a picture: a panel with the shares for each mapping, and one with what moved for each step.
//!
//! Pure: the same report gives the same SVG; it reads no font. What was measured is not in it, so it is the
//! same on every machine.

use plotters::coord::Shift;
use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Balance, Disturbance, Fleet, Report, Row, table};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Those of Okabe and Ito (2008), which people with any kind of colour vision can tell apart.
pub(super) const SHARE: RGBColor = RGBColor(0x56, 0xB4, 0xE9);
pub(super) const NEEDED: RGBColor = RGBColor(0x00, 0x72, 0xB2);
pub(super) const NEEDLESS: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);

const WIDTH: u32 = 1200;
const HEAD: u32 = 96;
/// The heights of a row of panels with shares, and of one with moves.
const SHARES: u32 = 230;
const MOVES: u32 = 250;
/// A bar that would be longer is cut there, in multiples of what is due: others could not be told apart
/// beside it.
const TALLEST: f64 = 2.0;
/// Bars that are this narrow have no room for a number, and their replicas none for a name.
const ROOM: usize = 10;

/// # Errors
/// It cannot be drawn, which would be a fault of this program.
pub(super) fn draw(report: &Report) -> anyhow::Result<String> {
    let across = if report.mappings.len() > 3 { 4 } else { report.mappings.len().max(1) };
    let rows = report.mappings.len().div_ceil(across) as u32;
    let steps = report.stages.len().saturating_sub(1);
    let height = HEAD + SHARES * rows + MOVES * steps as u32;
    let mut svg = String::new();
    {
        let paper = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        paper.fill(&WHITE)?;
        let (head, below) = paper.split_vertically(HEAD);
        draw_head(&head, report)?;
        let (upper, lower) = below.split_vertically(SHARES * rows);
        if let Some(fleet) = report.stages.first() {
            let parts = upper.split_evenly((rows as usize, across));
            parts.iter().zip(shares(report, fleet)).try_for_each(|(part, panel)| paint(part, &panel))?;
        }
        let parts = lower.split_evenly((steps.max(1), 1));
        for (part, (at, fleet)) in parts.iter().zip(report.stages.iter().enumerate().skip(1)) {
            paint(part, &moves(report, at, fleet))?;
        }
        paper.present()?;
    }
    Ok(svg)
}

fn letters(size: f64, side: HPos) -> TextStyle<'static> {
    // plotters writes 1/1.24 of the size into an SVG.
    ("sans-serif", size * 1.24).into_font().color(&INK).pos(Pos::new(side, VPos::Center))
}

fn draw_head(paper: &Area<'_>, report: &Report) -> anyhow::Result<()> {
    let title = format!("lb simulate: {}", table::asked(report));
    paper.draw_text(&title, &letters(22.0, HPos::Left), (20, 28))?;
    let legend = [
        (SHARE, "share of the requests, by index; a bar that is cut is longer", 20),
        (NEEDED, "moved", 480),
        (NEEDLESS, "of it needlessly: between replicas that the step leaves alone", 580),
    ];
    // The patches are circles, so that each rectangle of a colour is a bar.
    for (colour, words, x) in legend {
        paper.draw(&Circle::new((x + 8, 66), 7, colour.filled()))?;
        paper.draw_text(words, &letters(14.0, HPos::Left), (x + 22, 67))?;
    }
    Ok(())
}

/// Bars side by side, each with a name below it.
struct Panel {
    caption: String,
    names: Vec<String>,
    /// Where the scale ends.
    top: f64,
    bars: Vec<Bar>,
    /// Where a line goes through a column.
    dues: Vec<f64>,
    /// The height of each column and a number above it; none where there is no room.
    numbers: Vec<(f64, String)>,
}

/// A part of a column.
struct Bar {
    column: usize,
    from: f64,
    to: f64,
    colour: RGBColor,
}

/// The shares of the first fleet with each mapping, all on one scale.
fn shares(report: &Report, fleet: &Fleet) -> Vec<Panel> {
    let dues = dues(fleet);
    let rows = report.mappings.iter().filter_map(|row| Some((row, &row.stages.first()?.balance)));
    let most = rows.clone().flat_map(|(_, balance)| &balance.shares).copied().fold(0.0, f64::max);
    let top = most.min(TALLEST * dues.iter().copied().fold(0.0, f64::max)) * 1.25;
    let has_room = fleet.replicas.len() <= ROOM;
    let number = |share: &f64| (share.min(top), format!("{:.1}", 100.0 * share));
    let panel = |(row, balance): (&Row, &Balance)| Panel {
        caption: format!("{}: busiest / mean {:.3}", row.mapping, balance.busiest_over_mean),
        names: fleet.replicas.iter().map(|replica| replica.index.to_string()).collect(),
        top,
        bars: columns(balance.shares.iter().map(|share| (0.0, *share)), SHARE),
        dues: dues.clone(),
        numbers: balance.shares.iter().filter(|_| has_room).map(number).collect(),
    };
    rows.map(panel).collect()
}

fn dues(fleet: &Fleet) -> Vec<f64> {
    let sum: u32 = fleet.replicas.iter().map(|replica| replica.weight).sum();
    fleet.replicas.iter().map(|replica| f64::from(replica.weight) / f64::from(sum.max(1))).collect()
}

fn columns(ends: impl Iterator<Item = (f64, f64)>, colour: RGBColor) -> Vec<Bar> {
    ends.enumerate().map(|(column, (from, to))| Bar { column, from, to, colour }).collect()
}

/// What moved in a step with each mapping.
fn moves(report: &Report, at: usize, fleet: &Fleet) -> Panel {
    let moves = report.mappings.iter().filter_map(|row| row.stages.get(at)?.disturbance);
    let fair = fleet.fair.unwrap_or_default();
    let most = moves.clone().map(|moves| moves.moved).fold(fair, f64::max);
    let needed = moves.clone().map(|moves| (0.0, moves.moved - moves.needless));
    let needless = moves.clone().map(|moves| (moves.moved - moves.needless, moves.moved));
    let number = |moves: Disturbance| {
        let needless =
            if moves.needless > 0.0 { format!(" ({})", percent(moves.needless)) } else { String::new() };
        (moves.moved, percent(moves.moved) + &needless)
    };
    let mut bars = columns(needed, NEEDED);
    bars.extend(columns(needless, NEEDLESS).into_iter().filter(|bar| bar.to > bar.from));
    Panel {
        caption: format!(
            "Step {at}: {} (line: {} would move if all shares were as the weights say)",
            fleet.step.as_deref().unwrap_or_default(),
            percent(fair)
        ),
        names: report.mappings.iter().map(|row| row.mapping.clone()).collect(),
        top: most.max(0.001) * 1.25,
        bars,
        dues: vec![fair; report.mappings.len()],
        numbers: moves.map(number).collect(),
    }
}

fn percent(part: f64) -> String {
    format!("{:.2} %", 100.0 * part)
}

fn paint(part: &Area<'_>, panel: &Panel) -> anyhow::Result<()> {
    let count = panel.names.len();
    let mut chart = ChartBuilder::on(part)
        .caption(&panel.caption, letters(15.0, HPos::Left))
        .margin(10)
        .x_label_area_size(26)
        .y_label_area_size(56)
        .build_cartesian_2d((0..count.saturating_sub(1)).into_segmented(), 0.0..panel.top)?;
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) => panel.names.get(*at).cloned().unwrap_or_default(),
        SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(count.min(2 * ROOM))
        .y_labels(5)
        .x_label_formatter(&name)
        .y_label_formatter(&|part| format!("{:.0} %", 100.0 * part))
        .label_style(("sans-serif", 12.0 * 1.24).into_font().color(&INK))
        .draw()?;
    let across = |column: usize, from: f64, to: f64| {
        let right = if column + 1 < count { SegmentValue::Exact(column + 1) } else { SegmentValue::Last };
        [(SegmentValue::Exact(column), from), (right, to)]
    };
    let gap = (part.dim_in_pixel().0 / (10 * count as u32).max(1)).min(20);
    chart.draw_series(panel.bars.iter().map(|bar| {
        let ends = across(bar.column, bar.from, bar.to.min(panel.top));
        let mut bar = Rectangle::new(ends, bar.colour.filled());
        bar.set_margin(0, 0, gap, gap);
        bar
    }))?;
    let dues = panel.dues.iter().enumerate();
    chart.draw_series(
        dues.map(|(column, &due)| PathElement::new(across(column, due, due), INK.stroke_width(2))),
    )?;
    let style = letters(12.0, HPos::Center);
    chart.draw_series(panel.numbers.iter().enumerate().map(|(column, (height, number))| {
        let middle = SegmentValue::CenterOf(column);
        let due = panel.dues.get(column).copied().unwrap_or_default();
        let at = height.max(due).min(panel.top * 0.88);
        EmptyElement::at((middle, at)) + Text::new(number.clone(), (0, -9), style.clone())
    }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::{plan, report};

    /// The rectangles of a colour.
    fn bars(svg: &str, colour: RGBColor) -> usize {
        let RGBColor(red, green, blue) = colour;
        let fill = format!("fill=\"#{red:02X}{green:02X}{blue:02X}\"");
        svg.lines().filter(|line| line.starts_with("<rect") && line.contains(&fill)).count()
    }

    #[test]
    fn there_is_a_bar_for_each_replica_and_one_for_each_step_and_the_plan_counts_them() {
        for (contenders, replicas) in [(1, 1), (1, 17), (3, 2), (5, 10)] {
            let plan = plan(contenders, replicas, &["add 2", "rm server1"]);
            let svg = draw(&report(&plan)).unwrap();
            assert_eq!(bars(&svg, SHARE), contenders * replicas);
            assert_eq!(bars(&svg, NEEDED), contenders * 2);
            assert_eq!(plan.bars(), contenders * (replicas + 2));
        }
    }

    #[test]
    fn needless_moves_have_a_bar_where_there_are_any() {
        // The fifth contender is Envoy.
        let svg = draw(&report(&plan(5, 4, &["rm server2"]))).unwrap();
        assert!(bars(&svg, NEEDLESS) >= 1, "{svg}");
        assert_eq!(bars(&draw(&report(&plan(1, 4, &["rm server2"]))).unwrap(), NEEDLESS), 0);
    }

    #[test]
    fn the_same_report_gives_the_same_picture() {
        let plan = plan(2, 3, &["rm server2"]);
        assert_eq!(draw(&report(&plan)).unwrap(), draw(&report(&plan)).unwrap());
    }
}
