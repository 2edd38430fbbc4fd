//! A kill from near: all kills of a drill laid over each other, with the phases of the recovery.
//!
//! One kill alone says little where a recovery takes a few milliseconds: hardly a request falls into each. Many
//! that are added up show when the slot stopped answering, who stood in for it, and when it was back.

use std::ops::Range;

use super::panel::{Axis, Panel, ticks};
use super::sheet::{self, Area, Head, INK, Place, RED, Swatch, look};
use super::timeline::{FAILURE, Failures, KILL, draw_failures, failure_axis};
use super::{Chart, Outline};
use crate::data::{Around, Drill};
use crate::report::derived::{PHASES, reached};
use crate::report::words;
use crate::stats::Spread;

/// The height of the panel of phases, and of one of requests with its name.
const PHASE_HEIGHT: u32 = 260;
const HEIGHT: u32 = 280;

/// What is drawn: times are milliseconds since the replica was dead.
struct Picture<'a> {
    around: &'a Around,
    /// The median of each phase that was reached, by its number in [`PHASES`].
    medians: Vec<(usize, f64)>,
    x: Axis,
    failures: Failures,
}

impl<'a> Picture<'a> {
    /// `None` if there is nothing to be seen.
    fn new(drill: &'a Drill) -> Option<Self> {
        let around = drill.around.as_ref().filter(|around| around.kills > 0 && around.bucket > 0.0)?;
        let buckets = around.slot.len().max(around.others.len()).max(around.failures.len());
        if buckets < 2 {
            return None;
        }
        let median = |index| Some((index, Spread::of(reached(drill, PHASES[index]))?.median));
        let failed = around.failures.iter().enumerate().filter(|entry| *entry.1 > 0);
        Some(Self {
            around,
            medians: (0..PHASES.len()).filter_map(median).collect(),
            x: time_axis(around.from..around.from + buckets as f64 * around.bucket),
            failures: failed.map(|(at, &failed)| (start(around, at) + around.bucket / 2.0, failed)).collect(),
        })
    }

    /// Where a time is on the x axis, at its end if it is later.
    fn clamped(&self, time: f64) -> f64 {
        time.min(self.x.range.end)
    }
}

/// When a bucket begins.
fn start(around: &Around, bucket: usize) -> f64 {
    around.from + bucket as f64 * around.bucket
}

/// Requests per second of one kill, from counts over all of them.
fn rate(around: &Around, count: f64) -> f64 {
    count / around.bucket / around.kills as f64 * 1000.0
}

/// All kills laid over each other; `None` where they were not looked at from near.
pub(super) fn around(name: &str, drill: &Drill) -> anyhow::Result<Option<Chart>> {
    let Some(picture) = Picture::new(drill) else { return Ok(None) };
    let title = title(picture.around.kills);
    let subtitle = subtitle(picture.around);
    let legend = vec![
        (Swatch::Mark(KILL), "kill: the replica is dead".to_owned()),
        (Swatch::Mark(FAILURE), "failed requests, of all kills together".to_owned()),
    ];
    let head = Head { title: &title, subtitle: &subtitle, legend };
    let height = 350 + PHASE_HEIGHT + 2 * HEIGHT;
    let svg = sheet::drawing(height, &head, |below| draw(below, &picture))?;
    let outline = Outline { name: name.to_owned(), title: title.clone(), description: description(&picture) };
    Chart::new(outline, &svg).map(Some)
}

fn title(kills: u64) -> String {
    if kills == 1 {
        return "A kill from near".to_owned();
    }
    format!("A kill from near: {} kills laid over each other", words::count(kills))
}

fn subtitle(around: &Around) -> String {
    format!(
        "Right answers per second in steps of {} ms, as means over {}. Dashed: the median of each phase.",
        words::number(around.bucket),
        words::plural(around.kills, "kill")
    )
}

fn description(picture: &Picture<'_>) -> String {
    let around = picture.around;
    let phase =
        |&(index, median): &(usize, f64)| format!("{} after {}", PHASES[index].0, words::millis(median));
    let phases: Vec<_> = picture.medians.iter().map(phase).collect();
    let phases =
        if phases.is_empty() { String::new() } else { format!(" Medians: {}.", words::list(&phases)) };
    let failed = words::plural(around.failures.iter().sum(), "request");
    format!(
        "Right answers per second before the kill, in the {} after it, and later: {} of the killed slot; {} of \
         all other slots. Over all kills, from {} to {}, {failed} failed.{phases}",
        words::millis(-around.from),
        stretches(around, &around.slot),
        stretches(around, &around.others),
        words::millis(picture.x.range.start),
        words::millis(picture.x.range.end)
    )
}

/// Mean rates before the kill, for as long after it, and then: `from` is a median recovery before it.
fn stretches(around: &Around, counts: &[u64]) -> String {
    let dead = (-around.from / around.bucket).round() as usize;
    let mean = |buckets: Range<usize>| {
        let counts = counts.get(buckets)?;
        let sum: u64 = counts.iter().sum();
        (!counts.is_empty())
            .then(|| words::count(rate(around, sum as f64 / counts.len() as f64).round() as u64))
    };
    let means = [0..dead, dead..2 * dead, 2 * dead..counts.len()].into_iter().filter_map(mean);
    words::list(&means.collect::<Vec<_>>())
}

fn time_axis(range: Range<f64>) -> Axis {
    let ticks = ticks(range.clone());
    Axis { title: "milliseconds since the replica died".to_owned(), range, ticks, lines: true }
}

/// The first phase on top.
fn phase_axis() -> Axis {
    Axis::names("", PHASES.iter().rev().map(|phase| phase.0.to_owned()).collect())
}

/// Each with an axis of its own: a slot of many would be a flat line on that of all others.
fn rate_axis(around: &Around, counts: &[u64]) -> Axis {
    Axis::of("requests/s", counts.iter().map(|&count| rate(around, count as f64)), false)
}

fn draw(below: &Area<'_>, picture: &Picture<'_>) -> anyhow::Result<()> {
    let around = picture.around;
    let [slot, others] = [&around.slot, &around.others].map(|counts| rate_axis(around, counts));
    let beside = Panel::beside([&slot, &others, &failure_axis(&picture.failures), &phase_axis()]);
    let (phases, rest) = below.split_vertically(PHASE_HEIGHT);
    let (upper, rest) = rest.split_vertically(HEIGHT);
    let (lower, rest) = rest.split_vertically(HEIGHT);
    let x = picture.x.clone().silent();
    draw_phases(&Panel::aligned(&phases, &x, &phase_axis(), beside)?, picture)?;
    let panel = Panel::named(&upper, ("the killed slot", INK), &x, &slot, beside)?;
    draw_medians(&panel, picture, slot.range.end)?;
    draw_rates(&panel, around, &around.slot)?;
    let panel = Panel::named(&lower, ("all other slots", INK), &x, &others, beside)?;
    draw_kill(&panel, others.range.end)?;
    draw_rates(&panel, around, &around.others)?;
    draw_failures(&rest, &picture.x, &picture.failures, beside)
}

/// A row for each phase, since several may be reached at once. The numbers stand before the kill, where no
/// line can cross them.
fn draw_phases(panel: &Panel<'_>, picture: &Picture<'_>) -> anyhow::Result<()> {
    let height = PHASES.len() as f64;
    sheet::line(panel.paper(), &[panel.at(0.0, 0.0), panel.at(0.0, height)], RED, 3)?;
    for &(index, median) in &picture.medians {
        let colour = look(index).colour;
        let middle = height - index as f64 - 0.5;
        let (dead, end) = (panel.at(0.0, middle), panel.at(picture.clamped(median), middle));
        sheet::line(panel.paper(), &[dead, end], colour, 3)?;
        panel.left(dead, &words::millis(median), INK)?;
        if picture.x.range.contains(&median) {
            sheet::dashed(panel.paper(), end, panel.at(median, 0.0), colour, 2)?;
            sheet::mark(panel.paper(), end, look(index), 8)?;
        }
    }
    Ok(())
}

/// The kill and the median of each phase, across a panel.
fn draw_medians(panel: &Panel<'_>, picture: &Picture<'_>, top: f64) -> anyhow::Result<()> {
    for &(index, median) in picture.medians.iter().filter(|phase| picture.x.range.contains(&phase.1)) {
        let ends = (panel.at(median, top), panel.at(median, 0.0));
        sheet::dashed(panel.paper(), ends.0, ends.1, look(index).colour, 3)?;
    }
    draw_kill(panel, top)
}

fn draw_kill(panel: &Panel<'_>, top: f64) -> anyhow::Result<()> {
    let (dead, above) = (panel.at(0.0, 0.0), panel.at(0.0, top));
    sheet::line(panel.paper(), &[dead, above], RED, 3)?;
    sheet::mark(panel.paper(), (above.0, above.1 + 14), KILL, 9)
}

/// A stair for each bucket: a slope would show a change before it was.
fn draw_rates(panel: &Panel<'_>, around: &Around, counts: &[u64]) -> anyhow::Result<()> {
    let stair = |(at, &count): (usize, &u64)| {
        [at, at + 1].map(|end| panel.at(start(around, end), rate(around, count as f64)))
    };
    let places: Vec<Place> = counts.iter().enumerate().flat_map(stair).collect();
    sheet::line(panel.paper(), &places, INK, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Kill;

    fn drill(kills: u64) -> Drill {
        let around = Around {
            from: -2.0,
            bucket: 1.0,
            kills,
            slot: vec![4, 6, 0, 2, 4, 4, 4, 4],
            others: vec![8; 8],
            failures: vec![0, 0, 3, 0, 0, 0, 0, 0],
        };
        let kill = Kill { detected: Some(0.5), back: Some(2.0), answered: Some(40.0), ..Kill::default() };
        Drill { kills: vec![kill; kills as usize], around: Some(around), ..Drill::default() }
    }

    #[test]
    fn counts_of_all_kills_become_rates_of_one() {
        let drill = drill(2);
        let picture = Picture::new(&drill).unwrap();
        assert_eq!(rate(picture.around, 4.0), 2000.0);
        assert_eq!(stretches(picture.around, &picture.around.slot), "2,500, 500 and 2,000");
        assert_eq!(picture.failures, [(0.5, 3)]);
        assert_eq!(picture.x.range, -2.0..6.0);
    }

    #[test]
    fn a_phase_after_the_last_bucket_is_named_and_has_no_mark() {
        let drill = drill(2);
        let picture = Picture::new(&drill).unwrap();
        assert_eq!(picture.medians, [(0, 0.5), (4, 2.0), (5, 40.0)]);
        assert_eq!([2.0, 40.0].map(|time| picture.clamped(time)), [2.0, 6.0]);
        assert!(description(&picture).ends_with("and first answer after 40.0 ms."));
    }

    #[test]
    fn without_kills_from_near_there_is_no_chart() {
        assert!(around("x", &drill(1)).unwrap().is_some());
        assert!(around("x", &drill(0)).unwrap().is_none());
        assert!(around("x", &Drill { around: None, ..drill(1) }).unwrap().is_none());
    }
}
