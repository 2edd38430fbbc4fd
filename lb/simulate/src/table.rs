//! A report for people: tables that can be read in a terminal and are Markdown as they stand.
//!
//! Pure. It only formats.

use bytesize::ByteSize;
use chart::text::count;
use comfy_table::{CellAlignment, Table};

use super::cost::{PICKS, ROUNDS};
use super::outcome::Balance;
use super::report::{Fleet, Report, Row, Server};

/// With more servers than this, the table has the least, the mean and the greatest share instead of all.
const COLUMNS: usize = 10;

pub(super) fn text(report: &Report) -> String {
    let mut parts = vec![format!("{}. Who gets which part of them, and how even that is:", asked(report))];
    parts.extend(report.stages.first().map(|fleet| shares(report, fleet)));
    for (at, fleet) in report.stages.iter().enumerate().skip(1) {
        parts.extend([step(at, fleet), moves(report, at)]);
    }
    parts.push(format!(
        "Measured in this run, on this machine, with the first fleet (medians of {ROUNDS} rounds; {} ids \
         each):",
        number(report.distinct.min(PICKS))
    ));
    parts.push(costs(report));
    parts.join("\n\n")
}

/// The size of the fleet and the requests.
pub(super) fn asked(report: &Report) -> String {
    let replicas = report.stages.first().map_or(0, |fleet| fleet.replicas.len());
    let noun = if replicas == 1 { "replica" } else { "replicas" };
    let (ids, distinct) = (number(report.ids as usize), number(report.distinct));
    if report.distribution == "uniform" {
        return format!("{replicas} {noun}, {ids} different ids");
    }
    format!(
        "{replicas} {noun}, {ids} requests for {distinct} ids ({}, seed {})",
        report.distribution, report.seed
    )
}

/// The shares of the first fleet.
fn shares(report: &Report, fleet: &Fleet) -> String {
    let is_wide = fleet.replicas.len() > COLUMNS;
    let names: Vec<String> = if is_wide {
        ["least", "mean", "most"].map(str::to_owned).into()
    } else {
        fleet.replicas.iter().map(named).collect()
    };
    let columns = ["mapping".to_owned()]
        .into_iter()
        .chain(names)
        .chain(["busiest / mean", "deviation"].map(str::to_owned));
    table(columns.collect(), report, |row| {
        let balance = &row.stages.first()?.balance;
        let shares = if is_wide { summed_up(&balance.shares) } else { balance.shares.clone() };
        Some(shares.into_iter().map(percent).chain(evenness(balance)).collect())
    })
}

/// A server as the command line names it.
fn named(server: &Server) -> String {
    if server.weight == 1 { server.name.clone() } else { format!("{}={}", server.name, server.weight) }
}

fn summed_up(shares: &[f64]) -> Vec<f64> {
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let most = shares.iter().copied().fold(0.0, f64::max);
    vec![least, shares.iter().sum::<f64>() / shares.len().max(1) as f64, most]
}

fn evenness(balance: &Balance) -> [String; 2] {
    [format!("{:.3}", balance.busiest_over_mean), percent(balance.deviation)]
}

fn step(number: usize, fleet: &Fleet) -> String {
    let step = fleet.step.as_deref().unwrap_or_default();
    let fair = percent(fleet.fair.unwrap_or_default());
    format!("Step {number}: {step}. If all shares were as the weights say, {fair} would have to move.")
}

fn moves(report: &Report, at: usize) -> String {
    let columns = [
        "mapping",
        "moved",
        "of it needlessly",
        "least with its shares",
        "busiest / mean then",
        "deviation then",
    ];
    table(columns.map(str::to_owned).into(), report, |row| {
        let outcome = row.stages.get(at)?;
        let disturbance = outcome.disturbance?;
        let moved = [disturbance.moved, disturbance.needless, disturbance.least].map(percent);
        Some(moved.into_iter().chain(evenness(&outcome.balance)).collect())
    })
}

fn costs(report: &Report) -> String {
    table(["mapping", "pick", "build", "memory"].map(str::to_owned).into(), report, |row| {
        let cost = &row.measured;
        Some(vec![duration(cost.pick_ns), duration(cost.build_ns), ByteSize(cost.bytes as u64).to_string()])
    })
}

/// A table with a row for each mapping that has cells.
fn table(columns: Vec<String>, report: &Report, cells: impl Fn(&Row) -> Option<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN).set_header(columns);
    for row in &report.mappings {
        if let Some(cells) = cells(row) {
            table.add_row([row.mapping.clone()].into_iter().chain(cells));
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// A part in per cent. `0 %` is nothing at all, `0.00 %` is very little.
fn percent(part: f64) -> String {
    if part == 0.0 { "0 %".to_owned() } else { format!("{:.2} %", 100.0 * part) }
}

fn duration(ns: f64) -> String {
    match ns {
        ..1e3 => format!("{ns:.0} ns"),
        ..1e6 => format!("{:.1} us", ns / 1e3),
        _ => format!("{:.1} ms", ns / 1e6),
    }
}

fn number(number: usize) -> String {
    count(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0.0, 0.000_001, 1.0 / 3.0, 1.0].map(percent), ["0 %", "0.00 %", "33.33 %", "100.00 %"]);
        assert_eq!([0.4, 999.0, 1500.0, 2.5e6].map(duration), ["0 ns", "999 ns", "1.5 us", "2.5 ms"]);
    }
}
