//! Requests over time while replicas are killed: a panel for each slot, and one for failures.
//!
//! Slots have panels of their own, since lines of an even load would cover each other.

use std::ops::Range;

use chart::colour::{BLUE, GREY, INK, RED};
use chart::mark::{line, mark};
use chart::sheet::drawing;
use chart::{Area, Axis, Drawing, Head, Look, Panel, Place, Shape, Swatch};

use crate::data::{Drill, Kill, Series, Timeline};
use crate::report::words;

/// More slots than this are added up in a last panel.
const PANELS: usize = 8;

/// The height of a slot's panel, with its name.
const HEIGHT: u32 = 210;

/// More points than this cannot be told apart, and make the file larger.
const POINTS: usize = 500;

/// The look of a kill, and of failures.
pub(super) const KILL: Look = Look { colour: RED, shape: Shape::Triangle };
pub(super) const FAILURE: Look = Look { colour: RED, shape: Shape::Cross };

/// What is drawn of a drill, its series as rates.
struct Rates {
    range: Range<f64>,
    slots: Vec<(String, Vec<(f64, f64)>)>,
    failures: Failures,
}

/// When there were failures, and how many.
pub(super) type Failures = Vec<(f64, u64)>;

/// The whole drill.
pub(super) fn timeline(name: &str, drill: &Drill) -> anyhow::Result<Option<Drawing>> {
    let timeline = &drill.timeline;
    let buckets = timeline.slots.iter().map(|slot| slot.counts.len()).max().unwrap_or(0);
    if buckets < 2 || timeline.bucket <= 0.0 {
        return Ok(None);
    }
    let merge = buckets.div_ceil(POINTS);
    let rates = rates(timeline, 0.0..buckets as f64 * timeline.bucket, merge);
    let head = Head {
        name: name.to_owned(),
        title: format!("Requests per second while {} died", replicas(drill.kills.len())),
        subtitle: format!(
            "Right answers by slot, in steps of {}. A slot keeps its ids; its replica is replaced.",
            step(timeline.bucket * merge as f64)
        ),
        description: description(drill),
        legend: vec![
            (Swatch::Mark(KILL), "kill of the slot's replica".to_owned()),
            (Swatch::Line(GREY), "kill in another slot".to_owned()),
            (Swatch::Mark(FAILURE), "failed requests".to_owned()),
        ],
    };
    let drawing = drawing(330 + HEIGHT * rates.slots.len() as u32, head, |below| {
        let y = rate_axis(&rates);
        let beside = Panel::beside([&y, &failure_axis(&rates.failures)]);
        draw_slots(below, drill, (&rates, &y, beside))
    })?;
    Ok(Some(drawing))
}

fn step(seconds: f64) -> String {
    format!("{:.0} ms", seconds * 1000.0)
}

fn replicas(kills: usize) -> String {
    if kills == 1 { "a replica".to_owned() } else { format!("{} replicas", words::count(kills as u64)) }
}

/// Who was killed, and where if that is not the same.
fn whose(kill: &Kill) -> String {
    if kill.victim == kill.slot { kill.victim.clone() } else { format!("{} in {}", kill.victim, kill.slot) }
}

fn description(drill: &Drill) -> String {
    let kill = |kill: &Kill| format!("{} at {:.1} s", whose(kill), kill.at);
    let failed: u64 = drill.timeline.failures.iter().sum();
    let kills: Vec<_> = drill.kills.iter().map(kill).collect();
    format!(
        "Killed: {}. Over the whole run {} failed.",
        words::list(&kills),
        words::plural(failed, "request")
    )
}

/// What is drawn of a timeline, `merge` buckets at a time.
fn rates(timeline: &Timeline, range: Range<f64>, merge: usize) -> Rates {
    let step = timeline.bucket * merge as f64;
    let points = |counts: &[u64]| -> Vec<(f64, u64)> {
        let sums = counts.chunks_exact(merge).map(|chunk| chunk.iter().sum::<u64>());
        sums.enumerate().map(|(at, sum)| ((at as f64 + 0.5) * step, sum)).collect()
    };
    let rates = |series: &Series| {
        let rates = points(&series.counts).into_iter().map(|(at, sum)| (at, sum as f64 / step)).collect();
        (series.name.clone(), rates)
    };
    let failures = points(&timeline.failures).into_iter().filter(|point| point.1 > 0).collect();
    let slots = few(&timeline.slots).iter().map(rates).collect();
    Rates { range, slots, failures }
}

/// The slots that get a panel; the last is the sum of the rest where there are too many.
fn few(slots: &[Series]) -> Vec<Series> {
    if slots.len() <= PANELS {
        return slots.to_vec();
    }
    let (shown, rest) = slots.split_at(PANELS - 1);
    let longest = rest.iter().map(|slot| slot.counts.len()).max().unwrap_or(0);
    let sum = |at: usize| rest.iter().filter_map(|slot| slot.counts.get(at)).sum();
    let sum = Series { name: format!("{} others", rest.len()), counts: (0..longest).map(sum).collect() };
    shown.iter().cloned().chain([sum]).collect()
}

fn rate_axis(rates: &Rates) -> Axis {
    let rates = rates.slots.iter().flat_map(|slot| &slot.1).map(|point| point.1);
    let axis = Axis::from_zero("requests/s", rates);
    Axis::linear("requests/s", axis.range, 3)
}

/// The axis beside the panel of [`draw_failures`].
pub(super) fn failure_axis(failures: &Failures) -> Axis {
    let most = failures.iter().map(|point| point.1).max().unwrap_or(0);
    let ticks = if most == 0 { vec![0] } else { vec![0, most] };
    let ticks = ticks.into_iter().map(|tick| (tick as f64, words::count(tick))).collect();
    let range = 0.0..(most.max(1) as f64 * 1.4);
    Axis { title: "failures".to_owned(), range, ticks, lines: true, logarithmic: false }
}

fn time_axis(range: &Range<f64>) -> Axis {
    Axis::linear("time (s)", range.clone(), 9)
}

type Layout<'b> = (&'b Rates, &'b Axis, i32);

fn draw_slots(part: &Area<'_>, drill: &Drill, (rates, y, beside): Layout<'_>) -> anyhow::Result<()> {
    let x = time_axis(&rates.range);
    let mut rest = part.clone();
    for slot in &rates.slots {
        let (part, below) = rest.split_vertically(HEIGHT);
        rest = below;
        let panel = Panel::named(&part, (&slot.0, INK), &x.clone().silent(), y, beside)?;
        draw_kills(&panel, drill, &slot.0, y)?;
        let places: Vec<Place> = slot.1.iter().map(|&(at, rate)| panel.at(at, rate)).collect();
        line(panel.paper(), &places, BLUE, 3)?;
    }
    draw_failures(&rest, &x, &rates.failures, beside)
}

/// A line at each kill in the panel of its slot, and a faint one elsewhere.
fn draw_kills(panel: &Panel<'_>, drill: &Drill, slot: &str, y: &Axis) -> anyhow::Result<()> {
    for kill in &drill.kills {
        let ends = [panel.at(kill.at, 0.0), panel.at(kill.at, y.range.end)];
        if kill.slot == slot {
            line(panel.paper(), &ends, RED, 3)?;
            mark(panel.paper(), (ends[1].0, ends[1].1 + 14), KILL, 9)?;
        } else {
            line(panel.paper(), &ends, GREY, 1)?;
        }
    }
    Ok(())
}

/// The last panel: a bar with a cross wherever there were failures.
pub(super) fn draw_failures(
    part: &Area<'_>,
    x: &Axis,
    failures: &Failures,
    beside: i32,
) -> anyhow::Result<()> {
    let y = failure_axis(failures);
    let panel = Panel::aligned(part, x, &y, beside)?;
    for &(at, failed) in failures {
        let top = panel.at(at, failed as f64);
        line(panel.paper(), &[panel.at(at, 0.0), top], RED, 3)?;
        mark(panel.paper(), top, FAILURE, 7)?;
    }
    if failures.is_empty() {
        panel.right(panel.at(x.range.start, y.range.end * 0.5), "none", INK)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_slots_share_the_last_panel() {
        let slot = |at: u64| Series { name: format!("s{at}"), counts: vec![at, 1] };
        let slots: Vec<Series> = (0..10).map(slot).collect();
        let few = few(&slots);
        assert_eq!(few.len(), PANELS);
        assert_eq!((few[7].name.as_str(), &few[7].counts[..]), ("3 others", &[24, 3][..]));
    }

    #[test]
    fn merging_keeps_rates() {
        let slots = vec![Series { name: "a".to_owned(), counts: vec![10, 20, 30, 40] }];
        let timeline = Timeline { bucket: 0.5, slots, failures: vec![0, 1, 0, 0] };
        let rates = rates(&timeline, 0.0..2.0, 2);
        assert_eq!(rates.slots[0].1, [(0.5, 30.0), (1.5, 70.0)]);
        assert_eq!(rates.failures, [(0.5, 1)]);
    }
}
