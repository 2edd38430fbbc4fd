//! Bars: requests per replica with what was expected of them (A-1, and A-4 as small multiples), and rates.

use plotters::style::text_anchor::HPos;

use super::panel::{Axis, Panel};
use super::sheet::{self, Area, BLUE, Head, INK, ORANGE, RED, SKY, SMALL, Swatch, TEXT, WIDTH, letters};
use super::{Chart, Outline};
use crate::data::{Balance, Comparison, Mode};
use crate::report::derived::{self, Metric};
use crate::report::words;
use crate::stats::{DEVIATIONS, max_over_mean, standard_deviation};

/// A-1 for one mapping.
pub(super) fn balance(name: String, balance: &Balance) -> anyhow::Result<Chart> {
    let total = words::count(balance.load.succeeded);
    let title = format!("{}: {total} requests on {} replicas", balance.variant.name, balance.replicas.len());
    let counts = balance.counts();
    let subtitle = format!(
        "Requests that each replica answered. Busiest / mean = {}, standard deviation {}.",
        words::number(max_over_mean(&counts)),
        words::number(standard_deviation(&counts)),
    );
    let head = Head { title: &title, subtitle: &subtitle, legend: legend(&[balance]) };
    let y = requests_axis([balance]);
    let svg = sheet::drawing(900, &head, |below| draw_balance(below, balance, &y))?;
    Chart::new(Outline { name, title: title.clone(), description: description(balance) }, &svg)
}

/// A-1 for several mappings, a panel each.
pub(super) fn balances(name: &str, balances: &[Balance]) -> anyhow::Result<Chart> {
    let replicas = balances.iter().map(|balance| balance.replicas.len()).max().unwrap_or(0);
    let title = format!("Requests per replica for {} mappings, N = {replicas}", balances.len());
    let all: Vec<&Balance> = balances.iter().collect();
    let subtitle = "The same load with each mapping; all panels have the same scale.";
    let head = Head { title: &title, subtitle, legend: legend(&all) };
    let y = requests_axis(all);
    let rows = balances.len().div_ceil(columns(balances.len())) as u32;
    let svg = sheet::drawing(180 + 460 * rows, &head, |below| {
        for (part, balance) in grid(below, balances.len()).iter().zip(balances) {
            let ratio = words::number(max_over_mean(&balance.counts()));
            let below = panel_title(part, &format!("{} (busiest / mean {ratio})", balance.variant.name))?;
            draw_balance(&below, balance, &y)?;
        }
        Ok(())
    })?;
    let description = balances.iter().map(description).collect::<Vec<_>>().join(" ");
    Chart::new(Outline { name: name.to_owned(), title: title.clone(), description }, &svg)
}

fn description(balance: &Balance) -> String {
    let share = |share: &crate::data::Share| format!("{} {}", share.hostname, words::count(share.requests));
    let shares: Vec<_> = balance.replicas.iter().map(share).collect();
    format!("{}: {}.", balance.variant.name, words::list(&shares))
}

/// What the marks mean, as far as they are drawn.
fn legend(balances: &[&Balance]) -> Vec<(Swatch, String)> {
    let mut legend = vec![(Swatch::Box(SKY), "requests answered".to_owned())];
    if balances.iter().any(|balance| balance.replicas.iter().any(|share| share.expected.is_some())) {
        legend.push((Swatch::Line(INK), "expected from random ids".to_owned()));
        let band = format!("sampling band (± {DEVIATIONS} standard deviations)");
        legend.push((Swatch::Band(ORANGE), band));
    }
    legend
}

fn requests_axis<'b>(balances: impl IntoIterator<Item = &'b Balance>) -> Axis {
    let mut tops = Vec::new();
    for balance in balances {
        for share in &balance.replicas {
            tops.push(share.requests as f64);
            tops.extend(balance.band(share).map(|band| band.1));
        }
    }
    Axis::of("requests", tops, false)
}

fn draw_balance(part: &Area<'_>, balance: &Balance, y: &Axis) -> anyhow::Result<()> {
    let room = part.dim_in_pixel().0 as i32 - 140;
    let x = names_axis(balance.replicas.iter().map(|share| share.hostname.as_str()), room);
    let panel = Panel::new(part, &x, y)?;
    let total: u64 = balance.replicas.iter().map(|share| share.requests).sum();
    for (at, share) in balance.replicas.iter().enumerate() {
        let middle = at as f64 + 0.5;
        let requests = share.requests as f64;
        sheet::boxed(panel.paper(), panel.at(middle - 0.3, requests), panel.at(middle + 0.3, 0.0), SKY)?;
        let mut top = requests;
        if let (Some(p), Some(band)) = (share.expected, balance.band(share)) {
            draw_expected(&panel, middle, p * balance.load.succeeded as f64, band)?;
            top = top.max(band.1);
        }
        let room = room / balance.replicas.len().max(1) as i32;
        draw_count(&panel, panel.at(middle, top), share.requests, (total, room))?;
    }
    Ok(())
}

/// The names of replicas below an axis, cut to the room that they have.
fn names_axis<'b>(names: impl ExactSizeIterator<Item = &'b str>, room: i32) -> Axis {
    let each = room / names.len().max(1) as i32;
    Axis::names("", names.map(|name| sheet::fitting(name, SMALL, each)).collect())
}

fn draw_expected(
    panel: &Panel<'_>,
    middle: f64,
    expected: f64,
    (low, high): (f64, f64),
) -> anyhow::Result<()> {
    let paper = panel.paper();
    sheet::band(paper, panel.at(middle - 0.2, high), panel.at(middle + 0.2, low), ORANGE)?;
    let ends = [panel.at(middle - 0.36, expected), panel.at(middle + 0.36, expected)];
    sheet::line(paper, &ends, INK, 4)
}

/// A bar's number, with its share if there is room.
fn draw_count(
    panel: &Panel<'_>,
    at: sheet::Place,
    requests: u64,
    (total, room): (u64, i32),
) -> anyhow::Result<()> {
    let short = words::count(requests);
    let long = format!("{short} ({})", words::percent(requests as f64 / total.max(1) as f64));
    let fits = sheet::width(&long, SMALL) < room;
    panel.above(at, if fits { &long } else { &short }, INK)
}

/// Rates of all contenders, a panel for each mode that has any.
pub(super) fn rates(name: &str, comparison: &Comparison) -> anyhow::Result<Option<Chart>> {
    let modes: Vec<&Mode> = comparison.modes.iter().filter(|mode| has_rate(mode)).collect();
    if modes.is_empty() {
        return Ok(None);
    }
    let title = "Operations per second, by contender";
    let subtitle = "Median of all rounds; the line reaches from the slowest round to the fastest. \
                    Generator, proxy and replicas share the machine.";
    let head = Head { title, subtitle, legend: Vec::new() };
    // Names of contenders have no room in three columns.
    let columns = modes.len().min(2);
    let rows = modes.len().div_ceil(columns);
    let svg = sheet::drawing(150 + 430 * rows as u32, &head, |below| {
        for (part, mode) in below.split_evenly((rows, columns)).iter().zip(&modes) {
            let below = panel_title(part, &mode.name)?;
            draw_rates(&below, mode, comparison)?;
        }
        Ok(())
    })?;
    let description = modes.iter().map(|mode| rates_in_words(mode, comparison)).collect::<Vec<_>>().join(" ");
    Chart::new(Outline { name: name.to_owned(), title: title.to_owned(), description }, &svg).map(Some)
}

fn has_rate(mode: &Mode) -> bool {
    let rate = mode.rounds.iter().flatten().find_map(|reading| Metric::Rate.of(reading));
    derived::subject(mode) == Metric::Cpu && !mode.is_paced && rate.is_some()
}

fn rates_in_words(mode: &Mode, comparison: &Comparison) -> String {
    let rate = |(who, contender): (usize, &crate::data::Contender)| {
        let rate = derived::spread(mode, who, Metric::Rate)?;
        Some(format!("{} {}", contender.name, words::number(rate.median)))
    };
    let rates: Vec<_> = comparison.contenders.iter().enumerate().filter_map(rate).collect();
    format!("{}: {}.", mode.name, words::list(&rates))
}

fn draw_rates(part: &Area<'_>, mode: &Mode, comparison: &Comparison) -> anyhow::Result<()> {
    let names = comparison.contenders.iter().map(|contender| contender.name.as_str());
    let x = names_axis(names, part.dim_in_pixel().0 as i32 - 100);
    let rates: Vec<_> =
        (0..comparison.contenders.len()).map(|who| derived::spread(mode, who, Metric::Rate)).collect();
    let most = rates.iter().flatten().map(|rate| rate.most);
    let y = Axis::of(&format!("{} per second", words::units(&mode.unit)), most, false);
    let panel = Panel::new(part, &x, &y)?;
    for (who, rate) in rates.iter().enumerate() {
        let Some(rate) = rate else { continue };
        let middle = who as f64 + 0.5;
        let colour = if who == 0 || Some(who) == comparison.handoff() { BLUE } else { SKY };
        sheet::boxed(
            panel.paper(),
            panel.at(middle - 0.32, rate.median),
            panel.at(middle + 0.32, 0.0),
            colour,
        )?;
        draw_range(&panel, middle, (rate.least, rate.most))?;
        panel.above(panel.at(middle, rate.most), &words::number(rate.median), INK)?;
    }
    Ok(())
}

/// The line from the least to the most, with ends.
fn draw_range(panel: &Panel<'_>, middle: f64, (least, most): (f64, f64)) -> anyhow::Result<()> {
    let ends = [panel.at(middle, least), panel.at(middle, most)];
    sheet::line(panel.paper(), &ends, RED, 4)?;
    for (x, y) in ends {
        sheet::line(panel.paper(), &[(x - 10, y), (x + 10, y)], RED, 4)?;
    }
    Ok(())
}

/// How many panels stand side by side.
fn columns(panels: usize) -> usize {
    if panels == 4 { 2 } else { panels.clamp(1, 3) }
}

/// The parts of an area for so many panels, row by row.
pub(super) fn grid<'a>(area: &Area<'a>, panels: usize) -> Vec<Area<'a>> {
    let columns = columns(panels);
    area.split_evenly((panels.div_ceil(columns).max(1), columns))
}

/// Writes a panel's title, and gives back what is left of its part.
pub(super) fn panel_title<'a>(part: &Area<'a>, title: &str) -> anyhow::Result<Area<'a>> {
    let (top, below) = part.split_vertically(46);
    let room = (part.dim_in_pixel().0 as i32).min(WIDTH as i32) - 20;
    let title = sheet::fitting(title, TEXT, room);
    top.draw_text(&title, &letters(TEXT, INK, HPos::Center), ((room + 20) / 2, 26))?;
    Ok(below)
}
