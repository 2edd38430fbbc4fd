//! Prints to the terminal: results, messages, progress bars, and tables of a load.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;
use comfy_table::{CellAlignment, Table};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::data::{Latency, Load};
use crate::live;
use crate::load::{self, Amount, Loop, Outcome, Plan, Progress};
use crate::stats::{max_over_mean, standard_deviation};

/// The time between two updates of a progress bar.
const FRAME: Duration = Duration::from_millis(100);
const FRAMES_A_SECOND: usize = 10;

/// Prints a result to stdout.
///
/// # Errors
/// Stdout is closed.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{text}").context("cannot write to stdout")
}

/// Prints a message to stderr. Unlike `eprintln!` it does not panic when stderr is closed.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The progress of a long command on stderr, shown only on a terminal: how far it is, how much it does in a second, what has failed, and
/// the time that is left. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    /// What it counts.
    unit: &'static str,
}

impl Bar {
    /// A bar of so many steps, for a command that counts these units.
    pub(crate) fn new(steps: u64, title: &str, unit: &'static str) -> Self {
        let bar = Bar { bar: bar(steps, title), unit };
        bar.at(0, 0, 0);
        bar
    }

    /// Another title: what is done now.
    pub(crate) fn rename(&self, title: String) {
        self.bar.set_message(title);
    }

    /// One more step is done. Each is a unit. So many have failed in all.
    pub(crate) fn step(&self, failed: u64) {
        let step = self.bar.position() + 1;
        self.at(step, step, failed);
    }

    /// So many steps are done, with so many units in all, of which some have failed.
    pub(crate) fn at(&self, step: u64, units: u64, failed: u64) {
        self.bar.set_position(step.min(self.bar.length().unwrap_or_default()));
        let rate = units as f64 / self.bar.elapsed().as_secs_f64().max(1e-9);
        self.bar.set_prefix(format!("; {} {} per second, {failed} failed", significant(rate), self.unit));
    }

    #[cfg(test)]
    fn text(&self) -> (u64, String) {
        (self.bar.position(), self.bar.prefix())
    }
}

fn bar(steps: u64, title: &str) -> ProgressBar {
    let bar = ProgressBar::new(steps).with_message(title.to_owned());
    let template = "{msg} {wide_bar} {human_pos} of {human_len}, {eta} left{prefix}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Sends a load and shows a progress bar meanwhile.
///
/// # Errors
/// Nothing could be sent.
pub(crate) async fn watched(
    plan: &Arc<Plan>,
    title: &str,
    stop: &CancellationToken,
) -> anyhow::Result<Outcome> {
    let progress = Arc::new(Progress::new());
    let bar = bar(expected(plan), title);
    let outcome = tokio::select! {
        outcome = load::run(plan, &progress, stop) => outcome,
        never = follow(&bar, plan, &progress) => match never {},
    };
    bar.finish_and_clear();
    outcome
}

/// The length of the bar: requests, or milliseconds if a closed loop runs for a time.
fn expected(plan: &Plan) -> u64 {
    match (plan.amount, plan.pace) {
        (Amount::Requests(requests), _) => requests,
        (Amount::Duration(time), Loop::Open { rate }) => (time.as_secs_f64() * rate) as u64,
        (Amount::Duration(time), Loop::Closed) => time.as_millis() as u64,
    }
}

async fn follow(bar: &ProgressBar, plan: &Plan, progress: &Progress) -> std::convert::Infallible {
    let mut recent = Recent::new();
    loop {
        sleep(FRAME).await;
        let (ended, failed) = progress.ended();
        let is_timed = matches!((plan.amount, plan.pace), (Amount::Duration(_), Loop::Closed));
        let place =
            if is_timed { bar.elapsed().saturating_sub(plan.warm_up).as_millis() as u64 } else { ended };
        bar.set_position(place.min(bar.length().unwrap_or_default()));
        let rate = recent.rate(bar.elapsed(), ended - failed);
        // Below the bar.
        bar.set_prefix(format!("\n{}", live::view(rate, failed, &progress.latencies())));
    }
}

/// Right answers in the last second or so.
struct Recent(VecDeque<(Duration, u64)>);

impl Recent {
    fn new() -> Self {
        Recent(VecDeque::from([(Duration::ZERO, 0)]))
    }

    /// Right answers per second, where there are so many in all now.
    fn rate(&mut self, now: Duration, count: u64) -> f64 {
        self.0.push_back((now, count));
        if self.0.len() > FRAMES_A_SECOND {
            self.0.pop_front();
        }
        let (then, before) = self.0[0];
        (count - before) as f64 / (now - then).as_secs_f64().max(1e-9)
    }
}

/// A table of a load: its size, its replicas, its latencies and its failures.
pub(crate) fn load(load: &Load) -> String {
    let mut text = format!(
        "{} requests in {:.2} s: {} right answers, {} per second",
        load.requests,
        load.seconds,
        load.succeeded,
        significant(load.rate())
    );
    if load.received.max(load.sent) > 1 << 20 {
        let a_second = |bytes: u64| ByteSize::b((bytes as f64 / load.seconds.max(1e-9)) as u64);
        text +=
            &format!(", {} received and {} sent per second", a_second(load.received), a_second(load.sent));
    }
    if load.warm_up_failures > 0 {
        text += &format!(", {} failed in the warm-up", load.warm_up_failures);
    }
    if load.abandoned > 0 {
        text += &format!(", {} under way at the end", load.abandoned);
    }
    [text, replicas(load), latencies(load), failures(&load.failures)].join("\n")
}

/// Whole if it is large, with two decimals if it is small.
fn significant(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.2}") } else { format!("{rate:.0}") }
}

fn replicas(load: &Load) -> String {
    if load.replicas.is_empty() {
        return "no server answered".to_owned();
    }
    let mut table = table(&["replica", "requests", "share"]);
    for (name, count) in &load.replicas {
        let share = 100.0 * *count as f64 / load.succeeded.max(1) as f64;
        let name = if name.is_empty() { "(no name)" } else { name };
        table.add_row([name.to_owned(), count.to_string(), format!("{share:.2} %")]);
    }
    let counts: Vec<u64> = load.replicas.values().copied().collect();
    format!(
        "{}\nbusiest / mean {:.3}, standard deviation {:.1}",
        aligned(table),
        max_over_mean(&counts),
        standard_deviation(&counts)
    )
}

fn latencies(load: &Load) -> String {
    let mut table =
        table(&["latency of right answers", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"]);
    let Latency { p50, p90, p99, p999, p9999, max, mean } = load.latency;
    let row = [Some(p50), Some(p90), Some(p99), Some(p999), p9999, Some(max), Some(mean as u64)];
    let in_ms = |micros: u64| format!("{:.3}", micros as f64 / 1e3);
    table.add_row(
        std::iter::once("ms".to_owned())
            .chain(row.map(|micros| micros.map_or_else(|| "-".to_owned(), in_ms))),
    );
    aligned(table)
}

fn failures(failures: &BTreeMap<String, u64>) -> String {
    if failures.is_empty() {
        return "no failures".to_owned();
    }
    let mut table = table(&["failure", "requests"]);
    for (kind, count) in failures {
        table.add_row([kind.clone(), count.to_string()]);
    }
    aligned(table)
}

fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN).set_header(columns);
    table
}

/// The table with numbers to the right.
fn aligned(mut table: Table) -> String {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_names_the_rate_and_the_failures() {
        let bar = Bar::new(3, "title", "kills");
        assert_eq!(bar.text(), (0, "; 0.00 kills per second, 0 failed".to_owned()));
        bar.step(0);
        bar.step(2);
        let (step, text) = bar.text();
        assert!(
            step == 2 && text.ends_with(" kills per second, 2 failed") && !text.contains(" 0.00 "),
            "{text}"
        );
        // A last step that is late goes beyond no end.
        bar.at(9, 100, 7);
        assert_eq!(bar.text().0, 3);
        assert!(bar.text().1.ends_with(", 7 failed"));
    }
}
