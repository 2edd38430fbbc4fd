//! A soak over time: its faults, the answers of clients, their failures, and what `lb` holds.

use std::collections::BTreeSet;
use std::ops::Range;

use chart::colour::{BLUE, Colour, GREEN, INK, ORANGE, PURPLE};
use chart::mark::{line, mark};
use chart::sheet::drawing;
use chart::{Area, Axis, Drawing, Head, Look, Panel, Place, Shape, Swatch};

use super::timeline::FAILURE;
use crate::data::Soak;
use crate::report::words;

/// The room of a row of faults, and the height of a panel.
const ROW: u32 = 34;
const HEIGHT: u32 = 190;
/// More places than this on the time axis cannot be told apart.
const PLACES: usize = 400;
/// Seconds on the time axis, from which on it has minutes.
const MINUTES: f64 = 600.0;

const FAULT: Look = Look { colour: BLUE, shape: Shape::Bar };
const EXPLAINED: Look = Look { colour: ORANGE, shape: Shape::Disc };
const MEMORY: Look = Look { colour: GREEN, shape: Shape::Disc };
const FILES: Look = Look { colour: PURPLE, shape: Shape::Diamond };

/// Points on the paper of a panel, by time in seconds.
type Points = Vec<(f64, f64)>;

/// What is drawn: times are in seconds, and `unit` seconds are one on the axis.
struct Picture<'a> {
    soak: &'a Soak,
    kinds: Vec<&'a str>,
    whole: f64,
    unit: f64,
}

/// The whole soak; `None` if there was no round.
pub(super) fn soak(name: &str, soak: &Soak) -> anyhow::Result<Option<Drawing>> {
    let Some(last) = soak.rounds.last() else { return Ok(None) };
    let whole = last.at + last.seconds;
    let used: BTreeSet<&str> =
        soak.rounds.iter().flat_map(|round| &round.faults).map(|fault| fault.kind.as_str()).collect();
    let kinds = soak.kinds.iter().map(String::as_str).filter(|kind| used.contains(kind)).collect();
    let unit = if whole >= MINUTES { 60.0 } else { 1.0 };
    let picture = Picture { soak, kinds, whole, unit };
    let faults: usize = soak.rounds.iter().map(|round| round.faults.len()).sum();
    let head = Head {
        name: name.to_owned(),
        title: format!(
            "{} in {} under load",
            words::plural(faults as u64, "fault"),
            words::plural(soak.rounds.len() as u64, "round")
        ),
        subtitle: format!(
            "Seed {}. Faults by kind, from their beginning until all is as before; right answers; failures; memory and open \
             files of lb after each round. No load is sent while a round is checked.",
            soak.seed
        ),
        description: picture.description(),
        legend: vec![
            (Swatch::Mark(FAULT), "fault".to_owned()),
            (Swatch::Mark(EXPLAINED), "failures that a fault explains".to_owned()),
            (Swatch::Mark(FAILURE), "failures that no fault explains".to_owned()),
        ],
    };
    let rows = picture.kinds.len().max(1) as u32 * ROW + 20;
    Ok(Some(drawing(340 + rows + 4 * HEIGHT, head, |below| picture.draw(below, rows))?))
}

impl Picture<'_> {
    fn description(&self) -> String {
        let sum = |counts: &[u64]| counts.iter().sum::<u64>();
        let outcomes = &self.soak.outcomes;
        format!(
            "In {:.0} s {} were right; {} failed because of a fault, and {} for no reason that is known.",
            self.whole,
            words::plural(sum(&outcomes.right), "answer"),
            words::plural(sum(&outcomes.explained), "request"),
            words::count(sum(&outcomes.unexplained))
        )
    }

    fn range(&self) -> Range<f64> {
        0.0..self.whole / self.unit
    }

    fn time_axis(&self) -> Axis {
        let title = if self.unit > 1.0 { "time (min)" } else { "time (s)" };
        Axis::linear(title, self.range(), 9)
    }

    /// Sums over neighbouring buckets, so that there are at most [`PLACES`], with the times of their middles.
    fn merged(&self, counts: &[u64]) -> (Points, f64) {
        let outcomes = &self.soak.outcomes;
        let merge = outcomes.right.len().div_ceil(PLACES).max(1);
        let step = outcomes.bucket * merge as f64;
        let sums = counts.chunks(merge).map(|chunk| chunk.iter().sum::<u64>() as f64);
        (sums.enumerate().map(|(at, sum)| (((at as f64 + 0.5) * step).min(self.whole), sum)).collect(), step)
    }

    fn draw(&self, below: &Area<'_>, rows: u32) -> anyhow::Result<()> {
        let (points, step) = self.merged(&self.soak.outcomes.right);
        let rates: Points = points.into_iter().map(|(at, sum)| (at, sum / step)).collect();
        let failures = [&self.soak.outcomes.explained, &self.soak.outcomes.unexplained]
            .map(|counts| self.merged(counts).0);
        let [memory, files, _] = self.soak.holdings().map(|holding| self.after_rounds(&holding.values));
        let memory: Points = memory.into_iter().map(|(at, kib)| (at, kib / 1024.0)).collect();
        let names: Vec<String> = self.kinds.iter().map(|&kind| kind.to_owned()).collect();
        let kinds = Axis::rows(&names);
        let few = |title: &str, points: &Points| {
            let axis = Axis::from_zero(title, points.iter().map(|point| point.1));
            Axis::linear(title, axis.range, 3)
        };
        let axes = [
            few("answers/s", &rates),
            few("failures", &[failures[0].as_slice(), failures[1].as_slice()].concat()),
            few("MiB", &memory),
            few("files", &files),
        ];
        let beside = Panel::beside(axes.iter().chain([&kinds]));
        let (part, rest) = below.split_vertically(rows);
        self.draw_faults(&Panel::aligned(&part, &self.time_axis().silent(), &kinds, beside)?)?;
        let (part, rest) = rest.split_vertically(HEIGHT);
        let panel = self.panel(&part, "right answers per second", &axes[0], beside)?;
        self.draw_line(&panel, &rates, BLUE)?;
        let (part, rest) = rest.split_vertically(HEIGHT);
        let panel = self.panel(&part, "failed requests", &axes[1], beside)?;
        self.draw_failures(&panel, &failures)?;
        let (part, rest) = rest.split_vertically(HEIGHT);
        let panel = self.panel(&part, "memory of lb (anonymous)", &axes[2], beside)?;
        self.draw_marks(&panel, &memory, MEMORY)?;
        let panel = Panel::named(&rest, ("open files of lb", INK), &self.time_axis(), &axes[3], beside)?;
        self.draw_marks(&panel, &files, FILES)
    }

    fn panel<'b>(&self, part: &Area<'b>, name: &str, y: &Axis, beside: i32) -> anyhow::Result<Panel<'b>> {
        Panel::named(part, (name, INK), &self.time_axis().silent(), y, beside)
    }

    /// Values with the times at which their rounds ended.
    fn after_rounds(&self, values: &[f64]) -> Points {
        let ends = self.soak.rounds.iter().map(|round| round.at + round.seconds);
        ends.zip(values.iter().copied()).collect()
    }

    /// A stroke where a fault began, and a line until it was over. What would cover another is left out.
    fn draw_faults(&self, panel: &Panel<'_>) -> anyhow::Result<()> {
        let mut drawn: BTreeSet<(usize, i32)> = BTreeSet::new();
        for fault in self.soak.rounds.iter().flat_map(|round| &round.faults) {
            let Some(row) = self.kinds.iter().position(|&kind| kind == fault.kind) else { continue };
            let y = (self.kinds.len() - row) as f64 - 0.5;
            let [from, to] = [fault.at, fault.over].map(|at| panel.at(at.min(self.whole) / self.unit, y));
            if drawn.insert((row, from.0 / 3)) {
                line(panel.paper(), &[from, to], BLUE, 6)?;
                mark(panel.paper(), from, FAULT, 8)?;
            }
        }
        Ok(())
    }

    fn draw_line(&self, panel: &Panel<'_>, points: &Points, colour: Colour) -> anyhow::Result<()> {
        let places: Vec<Place> = points.iter().map(|&(at, value)| panel.at(at / self.unit, value)).collect();
        line(panel.paper(), &places, colour, 3)
    }

    /// A bar for each time with failures; those that no fault explains stand in front.
    fn draw_failures(&self, panel: &Panel<'_>, failures: &[Points; 2]) -> anyhow::Result<()> {
        let mut is_empty = true;
        for (points, look) in failures.iter().zip([EXPLAINED, FAILURE]) {
            for &(at, count) in points.iter().filter(|point| point.1 > 0.0) {
                let (foot, top) = (panel.at(at / self.unit, 0.0), panel.at(at / self.unit, count));
                line(panel.paper(), &[foot, top], look.colour, 3)?;
                mark(panel.paper(), top, look, 6)?;
                is_empty = false;
            }
        }
        if is_empty {
            panel.right(panel.at(0.0, 0.5), "none", INK)?;
        }
        Ok(())
    }

    fn draw_marks(&self, panel: &Panel<'_>, points: &Points, look: Look) -> anyhow::Result<()> {
        if points.is_empty() {
            return panel.right(panel.at(0.0, 0.5), "cannot be read", INK);
        }
        self.draw_line(panel, points, look.colour)?;
        if points.len() > PLACES / 4 {
            return Ok(());
        }
        points
            .iter()
            .try_for_each(|&(at, value)| mark(panel.paper(), panel.at(at / self.unit, value), look, 5))
    }
}

#[cfg(test)]
mod tests {
    use chart::colour::RED;

    use super::*;
    use crate::data::{Injected, Outcomes, Round};
    use crate::report::picture;

    /// A soak of so many rounds of six seconds.
    fn sample(rounds: u64) -> Soak {
        let fault = |at: f64, kind: &str| Injected {
            kind: kind.to_owned(),
            at,
            over: at + 2.0,
            ..Injected::default()
        };
        let round = |number: u64| Round {
            number,
            at: 6.0 * number as f64,
            seconds: 6.0,
            faults: vec![
                fault(6.0 * number as f64 + 0.4, "kill"),
                fault(6.0 * number as f64 + 0.9, "half-close"),
            ],
            memory: Some(4_000_000 + 1000 * (number % 7)),
            files: Some(33 + number % 3),
            threads: Some(4),
            ..Round::default()
        };
        let buckets = 12 * rounds as usize;
        let every = |each: usize| (0..buckets).map(|at| u64::from(at % each == 0)).collect();
        let outcomes =
            Outcomes { bucket: 0.5, right: vec![100; buckets], explained: every(13), unexplained: every(40) };
        let kinds = ["kill", "stop", "half-close"].map(str::to_owned).to_vec();
        Soak { seed: 5, kinds, rounds: (0..rounds).map(round).collect(), outcomes, ..Soak::default() }
    }

    #[test]
    fn no_label_meets_another_in_a_short_soak_and_in_one_of_an_hour() {
        for rounds in [1, 10, 600] {
            let svg = soak("soak", &sample(rounds)).unwrap().unwrap().svg();
            assert_eq!(picture::overlaps(&svg).unwrap(), Vec::<String>::new(), "{rounds}");
            assert!(svg.len() < 500_000, "{rounds}: {}", svg.len());
        }
    }

    #[test]
    fn a_soak_without_rounds_has_no_chart_and_one_without_failures_says_so() {
        assert!(soak("soak", &Soak::default()).unwrap().is_none());
        let quiet = Soak {
            outcomes: Outcomes { bucket: 0.5, right: vec![9; 12], ..Outcomes::default() },
            ..sample(1)
        };
        assert!(soak("soak", &quiet).unwrap().unwrap().svg().contains(">\nnone\n<"));
    }

    #[test]
    fn neighbouring_buckets_become_one_where_there_are_many() {
        let soak = sample(600);
        let picture = Picture { soak: &soak, kinds: Vec::new(), whole: 3600.0, unit: 60.0 };
        let (points, step) = picture.merged(&soak.outcomes.right);
        assert!(points.len() <= PLACES && step >= 9.0, "{} {step}", points.len());
        assert_eq!(points.iter().map(|point| point.1).sum::<f64>(), 720_000.0);
    }

    #[test]
    fn red_is_kept_for_what_no_fault_explains() {
        assert_eq!(FAILURE.colour, RED);
        assert!([FAULT, EXPLAINED, MEMORY, FILES].iter().all(|look| look.colour != RED));
    }
}
