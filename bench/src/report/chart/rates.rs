//! What contenders get done in a second: a panel for each kind of work, all in one row.

use chart::colour::INK;
use chart::mark::{boxed, range};
use chart::sheet::{drawing, panel_title};
use chart::text::{SMALL, width};
use chart::{Area, Axis, Drawing, Head, Panel, Swatch};

use super::contenders;
use crate::data::{Comparison, Mode};
use crate::report::derived::{self, Metric};
use crate::report::words;

/// The height of a contender's row, and of what is around the rows.
const ROW: u32 = 62;
const AROUND: u32 = 330;
/// The most panels that have room in one row.
const PANELS: usize = 5;

/// Rates of all contenders in every mode that has any.
pub(super) fn rates(name: &str, comparison: &Comparison) -> anyhow::Result<Option<Drawing>> {
    let modes: Vec<&Mode> = comparison.modes.iter().filter(|mode| has_rate(mode)).collect();
    if modes.is_empty() {
        return Ok(None);
    }
    let in_words = modes.iter().map(|mode| in_words(mode, comparison)).collect::<Vec<_>>();
    let all = 0..comparison.contenders.len();
    let head = Head {
        name: name.to_owned(),
        title: "Operations per second, by contender".to_owned(),
        subtitle: "Bar: median of all rounds. Generator, proxy and replicas share the machine.".to_owned(),
        description: in_words.join(" "),
        legend: all
            .map(|who| {
                (
                    Swatch::Box(contenders::look(comparison, who).colour),
                    comparison.contenders[who].name.clone(),
                )
            })
            .chain([(Swatch::Range(INK), "slowest to fastest round".to_owned())])
            .collect(),
    };
    let rows = modes.len().div_ceil(PANELS);
    let each = AROUND - 130 + ROW * comparison.contenders.len() as u32;
    let drawing = drawing(180 + each * rows as u32, head, |below| {
        for (part, modes) in below.split_evenly((rows, 1)).iter().zip(modes.chunks(PANELS)) {
            draw_row(part, modes, comparison)?;
        }
        Ok(())
    })?;
    Ok(Some(drawing))
}

fn has_rate(mode: &Mode) -> bool {
    let rate = mode.rounds.iter().flatten().find_map(|reading| Metric::Rate.of(reading));
    derived::subject(mode) == Metric::Cpu && !mode.is_paced && rate.is_some()
}

fn in_words(mode: &Mode, comparison: &Comparison) -> String {
    let rate = |(who, contender): (usize, &crate::data::Contender)| {
        let rate = derived::spread(mode, who, Metric::Rate)?;
        Some(format!("{} {}", contender.name, words::rate(rate.median)))
    };
    let rates: Vec<_> = comparison.contenders.iter().enumerate().filter_map(rate).collect();
    format!("{}: {}.", mode.name, words::list(&rates))
}

/// The first panel has the names of the contenders at its left, for all of them.
fn draw_row(part: &Area<'_>, modes: &[&Mode], comparison: &Comparison) -> anyhow::Result<()> {
    let names: Vec<String> = comparison.contenders.iter().map(|contender| contender.name.clone()).collect();
    let names = Axis::rows(&names);
    let beside = Panel::beside([&names]);
    let (wide, _) = part.dim_in_pixel();
    let each = (wide as i32 - beside) / modes.len() as i32;
    let mut rest = part.clone();
    for (at, mode) in modes.iter().enumerate() {
        let (names, beside) = if at == 0 { (names.clone(), beside) } else { (names.clone().silent(), 20) };
        let (part, right) = rest.split_horizontally(if at == 0 { each + beside } else { each });
        rest = right;
        let part = part.margin(0, 0, 0, 30);
        draw_mode(&part, mode, comparison, (&names, beside))?;
    }
    Ok(())
}

fn draw_mode(
    part: &Area<'_>,
    mode: &Mode,
    comparison: &Comparison,
    (names, beside): (&Axis, i32),
) -> anyhow::Result<()> {
    let below = panel_title(&part.margin(0, 0, beside as u32, 0), &mode.name)?;
    let (_, below) = part.split_vertically(part.dim_in_pixel().1 as i32 - below.dim_in_pixel().1 as i32);
    let rates: Vec<_> =
        (0..comparison.contenders.len()).map(|who| derived::spread(mode, who, Metric::Rate)).collect();
    let most = rates.iter().flatten().map(|rate| rate.most).fold(0.0, f64::max);
    // With room for the number at the end of the longest bar.
    let room = (part.dim_in_pixel().0 as i32 - beside).max(1);
    let label =
        rates.iter().flatten().map(|rate| width(&words::rate(rate.median), SMALL) + 30).max().unwrap_or(0);
    let top = most.max(f64::MIN_POSITIVE) / (1.0 - f64::from(label.min(room / 2)) / f64::from(room));
    let x = Axis::linear(&format!("{}/s", words::units(&mode.unit)), 0.0..top, 2);
    let panel = Panel::aligned(&below, &x, names, beside)?;
    for (who, rate) in rates.iter().enumerate() {
        let Some(rate) = rate else { continue };
        let middle = (rates.len() - who) as f64 - 0.5;
        let colour = contenders::look(comparison, who).colour;
        boxed(panel.paper(), panel.at(0.0, middle + 0.32), panel.at(rate.median, middle - 0.32), colour)?;
        range(panel.paper(), [panel.at(rate.least, middle), panel.at(rate.most, middle)], INK, 9)?;
        panel.right(panel.at(rate.most, middle), &words::rate(rate.median), INK)?;
    }
    Ok(())
}
