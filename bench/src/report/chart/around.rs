//! A kill from near: all kills of a drill laid over each other, with the phases of the recovery.
//!
//! One kill alone says little where a recovery takes a few milliseconds: hardly a request falls into each. Many
//! that are added up show when the slot stopped answering, who stood in for it, and when it was back.

use std::ops::Range;

use chart::colour::{BLUE, INK, RED};
use chart::mark::{boxed, dashed, line, mark};
use chart::sheet::drawing;
use chart::{Area, Axis, Drawing, Head, Panel, Place, Swatch};

use super::timeline::{FAILURE, Failures, KILL, draw_failures, failure_axis};
use crate::data::{Around, Drill};
use crate::report::derived::{PHASES, reached};
use crate::report::words;
use crate::stats::Spread;

/// The height of the panel of phases, and of one of requests with its name.
const PHASE_HEIGHT: u32 = 260;
const HEIGHT: u32 = 280;

/// The phase with which a slot is served again, by its number in [`PHASES`].
const BACK: usize = 4;

/// A step has about so many answers of the slot, or its height is noise.
const ANSWERS: u64 = 12;

/// What is drawn: times are milliseconds since the replica was dead.
struct Picture {
    around: Around,
    /// The median of each phase that was reached, by its number in [`PHASES`].
    medians: Vec<(usize, f64)>,
    x: Axis,
    failures: Failures,
}

impl Picture {
    /// `None` if there is nothing to be seen.
    fn new(drill: &Drill) -> Option<Self> {
        let around = drill.around.as_ref().filter(|around| around.kills > 0 && around.bucket > 0.0)?;
        let around = merged(around, merge(around));
        let buckets = around.slot.len().max(around.others.len()).max(around.failures.len());
        if buckets < 2 {
            return None;
        }
        let median = |index| Some((index, Spread::of(reached(drill, PHASES[index]))?.median));
        let failed = around.failures.iter().enumerate().filter(|entry| *entry.1 > 0);
        let failures =
            failed.map(|(at, &failed)| (start(&around, at) + around.bucket / 2.0, failed)).collect();
        Some(Self {
            medians: (0..PHASES.len()).filter_map(median).collect(),
            x: time_axis(around.from..around.from + buckets as f64 * around.bucket),
            failures,
            around,
        })
    }

    /// When the slot is served again.
    fn back(&self) -> Option<f64> {
        let back = self.medians.iter().find(|phase| phase.0 == BACK)?.1;
        self.x.range.contains(&back).then_some(back)
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

/// How many buckets make a step: enough for [`ANSWERS`] answers, but at least three steps of the time before the kill,
/// and no step across the kill.
fn merge(around: &Around) -> usize {
    let before = before(around);
    let answers: u64 = around.slot.iter().sum();
    let wanted = (ANSWERS * around.slot.len() as u64).div_ceil(answers.max(1)) as usize;
    let fits = |merge: &usize| before.is_multiple_of(*merge) && before / merge >= 3;
    let mut steps = (1..=before).filter(fits);
    let widest = steps.clone().next_back().unwrap_or(1);
    steps.find(|&merge| merge >= wanted).unwrap_or(widest)
}

/// How many buckets are before the kill.
fn before(around: &Around) -> usize {
    (-around.from / around.bucket).round().max(0.0) as usize
}

/// The counts with each `merge` neighbouring buckets made one.
fn merged(around: &Around, merge: usize) -> Around {
    let merged = |counts: &[u64]| counts.chunks_exact(merge).map(|chunk| chunk.iter().sum()).collect();
    Around {
        bucket: around.bucket * merge as f64,
        slot: merged(&around.slot),
        others: merged(&around.others),
        failures: around.failures.chunks(merge).map(|chunk| chunk.iter().sum()).collect(),
        ..*around
    }
}

/// All kills laid over each other; `None` where they were not looked at from near.
pub(super) fn around(name: &str, drill: &Drill) -> anyhow::Result<Option<Drawing>> {
    let Some(picture) = Picture::new(drill) else { return Ok(None) };
    let mut legend = vec![(Swatch::Mark(KILL), "kill: the replica is dead".to_owned())];
    legend.push((Swatch::Box(BLUE), "median of each phase".to_owned()));
    if picture.back().is_some() {
        legend.push((Swatch::Dashed(INK), format!("median: {}", PHASES[BACK].0)));
    }
    legend.push((Swatch::Mark(FAILURE), "failed requests, of all kills".to_owned()));
    let head = Head {
        name: name.to_owned(),
        title: title(picture.around.kills),
        subtitle: subtitle(&picture.around),
        description: description(&picture),
        legend,
    };
    Ok(Some(drawing(350 + PHASE_HEIGHT + 2 * HEIGHT, head, |below| draw(below, &picture))?))
}

fn title(kills: u64) -> String {
    if kills == 1 {
        return "A kill from near".to_owned();
    }
    format!("A kill from near: {} kills laid over each other", words::count(kills))
}

fn subtitle(around: &Around) -> String {
    format!(
        "Right answers per second in steps of {} ms, as means over {}.",
        words::number(around.bucket),
        words::plural(around.kills, "kill")
    )
}

fn description(picture: &Picture) -> String {
    let around = &picture.around;
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
    let dead = before(around);
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
    Axis::linear("time since the replica died (ms)", range, 9)
}

/// The first phase on top.
fn phase_axis() -> Axis {
    Axis::rows(&PHASES.map(|phase| phase.0.to_owned()))
}

/// Each with an axis of its own: a slot of many would be a flat line on that of all others.
fn rate_axis(around: &Around, counts: &[u64]) -> Axis {
    let rates = counts.iter().map(|&count| rate(around, count as f64));
    Axis::from_zero("requests/s", rates)
}

fn draw(below: &Area<'_>, picture: &Picture) -> anyhow::Result<()> {
    let around = &picture.around;
    let [slot, others] = [&around.slot, &around.others].map(|counts| rate_axis(around, counts));
    let beside = Panel::beside([&slot, &others, &failure_axis(&picture.failures), &phase_axis()]);
    let (phases, rest) = below.split_vertically(PHASE_HEIGHT);
    let (upper, rest) = rest.split_vertically(HEIGHT);
    let (lower, rest) = rest.split_vertically(HEIGHT);
    let x = picture.x.clone().silent();
    draw_phases(&Panel::aligned(&phases, &x, &phase_axis(), beside)?, picture)?;
    let panel = Panel::named(&upper, ("the killed slot", INK), &x, &slot, beside)?;
    draw_moments(&panel, picture, slot.range.end)?;
    draw_rates(&panel, around, &around.slot)?;
    let panel = Panel::named(&lower, ("all other slots", INK), &x, &others, beside)?;
    draw_moments(&panel, picture, others.range.end)?;
    draw_rates(&panel, around, &around.others)?;
    draw_failures(&rest, &picture.x, &picture.failures, beside)
}

/// A bar for each phase, from the kill to its median; several may be reached at once.
fn draw_phases(panel: &Panel<'_>, picture: &Picture) -> anyhow::Result<()> {
    let height = PHASES.len() as f64;
    for &(index, median) in &picture.medians {
        let middle = height - index as f64 - 0.5;
        let end = panel.at(picture.clamped(median), middle - 0.3);
        boxed(panel.paper(), panel.at(0.0, middle + 0.3), end, BLUE)?;
        panel.right(panel.at(picture.clamped(median), middle), &words::millis(median), INK)?;
    }
    line(panel.paper(), &[panel.at(0.0, 0.0), panel.at(0.0, height)], RED, 3)
}

/// The kill, and when the slot is served again, across a panel.
fn draw_moments(panel: &Panel<'_>, picture: &Picture, top: f64) -> anyhow::Result<()> {
    if let Some(back) = picture.back() {
        dashed(panel.paper(), panel.at(back, top), panel.at(back, 0.0), INK, 3)?;
    }
    let (dead, above) = (panel.at(0.0, 0.0), panel.at(0.0, top));
    line(panel.paper(), &[dead, above], RED, 3)?;
    mark(panel.paper(), (above.0, above.1 + 14), KILL, 9)
}

/// A stair for each step: a slope would show a change before it happened.
fn draw_rates(panel: &Panel<'_>, around: &Around, counts: &[u64]) -> anyhow::Result<()> {
    let stair = |(at, &count): (usize, &u64)| {
        [at, at + 1].map(|end| panel.at(start(around, end), rate(around, count as f64)))
    };
    let places: Vec<Place> = counts.iter().enumerate().flat_map(stair).collect();
    line(panel.paper(), &places, BLUE, 4)
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
        assert_eq!(rate(&picture.around, 4.0), 2000.0);
        assert_eq!(stretches(&picture.around, &picture.around.slot), "2,500, 500 and 2,000");
        assert_eq!(picture.failures, [(0.5, 3)]);
        assert_eq!(picture.x.range, -2.0..6.0);
    }

    #[test]
    fn few_answers_are_put_together_and_no_step_crosses_the_kill() {
        let around = Around {
            from: -6.0,
            bucket: 0.5,
            kills: 1,
            slot: vec![1; 48],
            others: vec![2; 48],
            failures: vec![1],
        };
        assert_eq!(merge(&around), 4);
        assert_eq!(merge(&Around { slot: vec![5; 48], ..around.clone() }), 3);
        assert_eq!(merge(&Around { slot: vec![50; 48], ..around.clone() }), 1);
        let merged = merged(&around, 4);
        assert_eq!((merged.bucket, merged.slot, merged.failures), (2.0, vec![4; 12], vec![1]));
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
