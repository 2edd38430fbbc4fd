//! Paired ratios of `lb`, or of `lb` with hand-off, to its peers: below 1 it needs less.

use chart::colour::{GRID, INK};
use chart::mark::{dashed, line, mark, range};
use chart::sheet::drawing;
use chart::text::{SMALL, Side, fitting, letters, width};
use chart::{Area, Axis, Drawing, Head, Panel, Swatch};

use super::contenders;
use crate::data::Comparison;
use crate::report::derived::{self, Metric};
use crate::report::words;
use crate::stats::Spread;

/// The height of a row. Groups are half a row apart.
const ROW: u32 = 50;
const GAP: f64 = 0.5;
/// The widest name of a mode, in units.
const NAME: i32 = 240;

/// The ratios in one mode, by peer.
struct Group {
    mode: String,
    ratios: Vec<(usize, Spread)>,
}

/// The ratios of one metric for one of ours, in all modes that are about it; `None` without a peer.
pub(super) fn ratios(
    name: &str,
    comparison: &Comparison,
    ours: usize,
    metric: Metric,
) -> anyhow::Result<Option<Drawing>> {
    let groups = groups(comparison, ours, metric);
    let Some(ours) = comparison.contenders.get(ours).filter(|_| !groups.is_empty()) else { return Ok(None) };
    let what = if metric == Metric::Memory { "memory per connection" } else { "CPU time per operation" };
    let head = Head {
        name: name.to_owned(),
        title: format!("{} / peer: {what}, round by round", ours.name),
        subtitle: format!(
            "Left of 1, {} needs less than its peer. Numbers: median (least to most).",
            ours.name
        ),
        description: description(comparison, &groups),
        legend: legend(comparison, &groups),
    };
    let height = (f64::from(ROW) * height(&groups)) as u32;
    Ok(Some(drawing(290 + height, head, |below| draw(below, comparison, &groups))?))
}

fn groups(comparison: &Comparison, ours: usize, metric: Metric) -> Vec<Group> {
    let pairs = derived::pairs(comparison);
    let modes = comparison.modes.iter().filter(|mode| derived::subject(mode) == metric);
    let groups = modes.map(|mode| {
        let ratio = |pair: &derived::Pair| {
            let ratio = derived::ratio(mode, *pair, metric).filter(|ratio| ratio.least > 0.0)?;
            Some((pair.1, ratio))
        };
        let ratios = pairs.iter().filter(|pair| pair.0 == ours).filter_map(ratio).collect();
        Group { mode: mode.name.clone(), ratios }
    });
    groups.filter(|group| !group.ratios.is_empty()).collect()
}

/// In rows.
fn height(groups: &[Group]) -> f64 {
    groups.iter().map(|group| group.ratios.len() as f64 + GAP).sum()
}

fn description(comparison: &Comparison, groups: &[Group]) -> String {
    let ratio = |mode: &str, (peer, ratio): &(usize, Spread)| {
        format!("{mode}, {}: {}.", comparison.contenders[*peer].name, in_words(*ratio))
    };
    let sentences = groups.iter().flat_map(|group| group.ratios.iter().map(|one| ratio(&group.mode, one)));
    sentences.collect::<Vec<_>>().join(" ")
}

/// The peers that are in the chart, and what a line means.
fn legend(comparison: &Comparison, groups: &[Group]) -> Vec<(Swatch, String)> {
    let there = |peer: &usize| groups.iter().any(|group| group.ratios.iter().any(|ratio| ratio.0 == *peer));
    let peers = (0..comparison.contenders.len()).filter(there);
    let peers = peers.map(|peer| {
        let (swatch, name) = contenders::entry(comparison, peer);
        (swatch, format!("to {name}, median"))
    });
    peers.chain([(Swatch::Range(INK), "least to most".to_owned())]).collect()
}

fn draw(part: &Area<'_>, comparison: &Comparison, groups: &[Group]) -> anyhow::Result<()> {
    let numbers = groups.iter().flat_map(|group| &group.ratios).map(|ratio| width(&in_words(ratio.1), SMALL));
    let right = part.dim_in_pixel().0 as i32 - numbers.max().unwrap_or(0) - 20;
    let widest = groups.iter().map(|group| width(&group.mode, SMALL)).max().unwrap_or(0).min(NAME);
    let (modes, part) = part.split_horizontally(widest + 20);
    let (part, numbers) = part.split_horizontally(right - widest - 20);
    let panel = Panel::new(&part, &ratio_axis(groups), &peer_axis(comparison, groups))?;
    let all = height(groups);
    dashed(panel.paper(), panel.at(1.0, 0.0), panel.at(1.0, all), INK, 3)?;
    let mut top = all;
    for group in groups {
        let (left, y) = panel.at(panel_start(groups), top);
        if top < all {
            let wide = numbers.dim_in_pixel().0 as i32;
            line(&modes, &[(0, y), (widest + 20, y)], GRID, 2)?;
            line(panel.paper(), &[(0, y), (left, y)], GRID, 2)?;
            line(panel.paper(), &[(left, y), (part.dim_in_pixel().0 as i32, y)], GRID, 2)?;
            line(&numbers, &[(0, y), (wide, y)], GRID, 2)?;
        }
        for (at, &(peer, ratio)) in group.ratios.iter().enumerate() {
            let row = top - GAP / 2.0 - at as f64 - 0.5;
            draw_ratio(&panel, contenders::look(comparison, peer), row, ratio)?;
            let (_, y) = panel.at(1.0, row);
            numbers.draw_text(&in_words(ratio), &letters(SMALL, INK, Side::Left), (10, y))?;
            if at == 0 {
                let name = fitting(&group.mode, SMALL, NAME);
                modes.draw_text(&name, &letters(SMALL, INK, Side::Left), (10, y))?;
            }
        }
        top -= group.ratios.len() as f64 + GAP;
    }
    Ok(())
}

fn draw_ratio(panel: &Panel<'_>, look: chart::Look, row: f64, ratio: Spread) -> anyhow::Result<()> {
    range(panel.paper(), [panel.at(ratio.least, row), panel.at(ratio.most, row)], look.colour, 12)?;
    mark(panel.paper(), panel.at(ratio.median, row), look, 9)
}

/// The peer of each row, with room between groups.
fn peer_axis(comparison: &Comparison, groups: &[Group]) -> Axis {
    let all = height(groups);
    let mut top = all;
    let mut ticks = Vec::new();
    for group in groups {
        for (at, (peer, _)) in group.ratios.iter().enumerate() {
            let name = format!("to {}", comparison.contenders[*peer].name);
            ticks.push((top - GAP / 2.0 - at as f64 - 0.5, fitting(&name, SMALL, NAME)));
        }
        top -= group.ratios.len() as f64 + GAP;
    }
    Axis { title: String::new(), range: 0.0..all, ticks, lines: false, logarithmic: false }
}

fn panel_start(groups: &[Group]) -> f64 {
    ratio_axis(groups).range.start
}

/// A logarithmic axis, on which half and twice are equally far from 1.
fn ratio_axis(groups: &[Group]) -> Axis {
    let all = || groups.iter().flat_map(|group| &group.ratios).map(|ratio| ratio.1);
    let least = all().map(|ratio| ratio.least).fold(1.0, f64::min) / 1.1;
    let most = all().map(|ratio| ratio.most).fold(1.0, f64::max) * 1.1;
    let wide = most / least > 6.0;
    let steps: &[f64] = if wide {
        &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
    } else {
        &[0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0]
    };
    let ticks = steps.iter().filter(|&&tick| (least..most).contains(&tick));
    let ticks = ticks.map(|&tick| (tick, format!("{tick}"))).collect();
    Axis { title: "ratio, logarithmic".to_owned(), range: least..most, ticks, lines: true, logarithmic: true }
}

fn in_words(ratio: Spread) -> String {
    let [median, least, most] = [ratio.median, ratio.least, ratio.most].map(words::ratio);
    format!("{median} ({least} to {most})")
}
