//! A report for people: tables that can be read in a terminal and are Markdown as they stand.
//!
//! Pure. It only formats.

use chart::text::count;
use comfy_table::{CellAlignment, Table};

use super::report::{Command, Outcome, Report, Times};

pub(super) fn text(report: &Report) -> String {
    let head = format!(
        "{} replicas, {} balancers, seed {}; {} sampled keys. All times are simulated.",
        number(report.replicas),
        number(report.balancers),
        report.seed,
        number(report.sampled_keys as usize)
    );
    let mut parts = vec![head];
    if !report.scenarios.is_empty() {
        parts.push("What keys and clients see:".to_owned());
        parts.push(table(&CLIENTS, report.scenarios.iter().map(clients)));
        parts.push(
            "Whether balancers agree on the mapping, and how many calls each of them makes a second:"
                .to_owned(),
        );
        parts.push(table(&BALANCERS, report.scenarios.iter().map(balancers)));
        parts.push("Commands:".to_owned());
        parts.push(table(&COMMANDS, report.scenarios.iter().flat_map(commands)));
    }
    if !report.growth.is_empty() {
        parts.push(
            "A death a second for 20 s and a command every 5 s, with other numbers of replicas (N) and balancers (B):".to_owned(),
        );
        parts.push(table(&GROWTH, report.growth.iter().map(growth)));
    }
    parts.extend(report.scenarios.iter().chain(&report.growth).filter_map(problems));
    parts.join("\n\n")
}

const CLIENTS: [&str; 9] = [
    "scenario",
    "deaths",
    "keys moved",
    "of it needlessly",
    "connects to the dead",
    "of it lost",
    "seen after (median)",
    "(most)",
    "back after (median)",
];

fn clients(outcome: &Outcome) -> Vec<String> {
    let connects = &outcome.connects;
    vec![
        outcome.scenario.clone(),
        count(outcome.deaths),
        count(outcome.keys.moved),
        count(outcome.keys.needless),
        count(connects.refused + connects.lost),
        count(connects.lost),
        time(outcome.seen.median),
        time(outcome.seen.most),
        time(outcome.back.median),
    ]
}

const BALANCERS: [&str; 10] = [
    "scenario",
    "epochs",
    "followed by all after (median)",
    "(p99)",
    "(most)",
    "disagreements",
    "longest",
    "most keys",
    "keys at one epoch",
    "calls (mean; most)",
];

fn balancers(outcome: &Outcome) -> Vec<String> {
    let agreement = &outcome.agreement;
    vec![
        outcome.scenario.clone(),
        number(agreement.spread.count),
        time(agreement.spread.median),
        time(agreement.spread.p99),
        time(agreement.spread.most),
        number(agreement.disagreement.count),
        time(agreement.disagreement.most),
        keys(outcome),
        number(agreement.keys_at_one_epoch),
        format!("{:.1}; {}", outcome.calls.mean, count(outcome.calls.most.into())),
    ]
}

/// The most keys that balancers disagreed on.
fn keys(outcome: &Outcome) -> String {
    format!("{:.2} %", 100.0 * outcome.agreement.most_keys)
}

const COMMANDS: [&str; 8] =
    ["scenario", "command", "done", "median", "p99", "most", "failed or refused", "most"];

fn commands(outcome: &Outcome) -> impl Iterator<Item = Vec<String>> {
    let row = |Command { command, done, failed }: &Command| {
        let Times { median, p99, most, .. } = *done;
        let name = [outcome.scenario.clone(), (*command).to_owned(), number(done.count)];
        let times = [time(median), time(p99), time(most), number(failed.count), time(failed.most)];
        name.into_iter().chain(times).collect()
    };
    outcome.commands.iter().map(row)
}

const GROWTH: [&str; 13] = [
    "N",
    "B",
    "points",
    "keys moved needlessly",
    "connects for each death",
    "seen after (median)",
    "back after (median)",
    "epoch followed by all after (most)",
    "longest disagreement",
    "most keys",
    "rm and weights done after (most)",
    "calls a second of one (mean; most)",
    "of all (most)",
];

fn growth(outcome: &Outcome) -> Vec<String> {
    vec![
        number(outcome.replicas),
        number(outcome.balancers),
        number(outcome.points as usize),
        count(outcome.keys.needless),
        format!("{:.2}", outcome.connects.for_each_death),
        time(outcome.seen.median),
        time(outcome.back.median),
        time(outcome.agreement.spread.most),
        time(outcome.agreement.disagreement.most),
        keys(outcome),
        time(outcome.slowest_write()),
        format!("{:.1}; {}", outcome.calls.mean, count(outcome.calls.most.into())),
        count(outcome.calls.most_together.into()),
    ]
}

/// What ought not to be.
fn problems(outcome: &Outcome) -> Option<String> {
    let Outcome { scenario, replicas, balancers, problems, .. } = outcome;
    let problems = problems.join("; ");
    let found = format!(
        "WRONG at the end of {scenario} with {replicas} replicas and {balancers} balancers: {problems}"
    );
    (!problems.is_empty()).then_some(found)
}

fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN).set_header(columns);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Seconds for people.
fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 0.1 => format!("{:.1} ms", 1e3 * seconds),
        Some(seconds) if seconds < 1.0 => format!("{:.0} ms", 1e3 * seconds),
        Some(seconds) => format!("{seconds:.2} s"),
    }
}

fn number(number: usize) -> String {
    count(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_for_people() {
        let times = [None, Some(0.0013), Some(0.13), Some(1.359)];
        assert_eq!(times.map(time), ["-", "1.3 ms", "130 ms", "1.36 s"]);
    }
}
