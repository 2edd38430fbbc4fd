//! A report as charts: the figures of each scenario and how they grow, and what happens second by second.
//!
//! Pure: the same report gives the same picture.

mod growth;
mod rows;
mod seconds;

use chart::sheet::{drawing, grid};
use chart::text::count;
use chart::{Drawing, Head};

use super::report::{Outcome, Report};

/// Panels side by side.
const COLUMNS: usize = 2;

/// The figures of each scenario, a row for each, and those of other numbers of replicas and balancers, if there are any.
///
/// # Errors
/// It cannot be drawn, which would be a fault of this program; so with [`timelines`].
pub(super) fn figures(report: &Report) -> anyhow::Result<Drawing> {
    let upper = rows::height(&report.scenarios);
    let lower = growth::height(&report.growth);
    let mut legend = rows::legend(&report.scenarios);
    legend.extend(growth::legend(&report.growth));
    let all = report.scenarios.iter().chain(&report.growth);
    let needless: u64 = all.map(|outcome| outcome.keys.needless).sum();
    let head = Head {
        name: "cluster".to_owned(),
        title: title(report),
        subtitle: format!(
            "All times are simulated. Keys that moved needlessly, in all of these together: {}.",
            count(needless)
        ),
        description: report
            .scenarios
            .iter()
            .chain(&report.growth)
            .map(in_words)
            .collect::<Vec<_>>()
            .join(" "),
        legend,
    };
    drawing(250 + upper + lower, head, |below| {
        let (scenarios, sizes) = below.split_vertically(upper as i32);
        rows::draw(&scenarios, &report.scenarios)?;
        growth::draw(&sizes, &report.growth)
    })
}

/// What happens in each scenario, second by second.
///
/// # Errors
/// As with [`figures`].
pub(super) fn timelines(report: &Report) -> anyhow::Result<Drawing> {
    let head = Head {
        name: "timeline".to_owned(),
        title: title(report),
        subtitle: "For each second: the most keys that balancers send to different replicas, connects of clients to \
                   the dead, and calls of all balancers to the engine."
            .to_owned(),
        description: report.scenarios.iter().map(in_words).collect::<Vec<_>>().join(" "),
        legend: seconds::legend(),
    };
    drawing(230 + seconds::HEIGHT * report.scenarios.len() as u32, head, |below| {
        let parts = grid(below, report.scenarios.len(), 1);
        parts.iter().zip(&report.scenarios).try_for_each(|(part, outcome)| seconds::draw(part, outcome))
    })
}

fn title(report: &Report) -> String {
    if report.scenarios.is_empty() {
        return "lb simulate cluster: a death a second for 20 s, as the cluster grows".to_owned();
    }
    let [replicas, balancers] = [report.replicas, report.balancers].map(|n| count(n as u64));
    format!("lb simulate cluster: {replicas} replicas, {balancers} balancers")
}

fn in_words(outcome: &Outcome) -> String {
    let Outcome { scenario, replicas, balancers, deaths, keys, agreement, connects, calls, .. } = outcome;
    let times = |times: &super::report::Times| {
        let [median, most] =
            [times.median, times.most].map(|time| time.map_or("-".to_owned(), |time| format!("{time:.3}")));
        format!("{median} s (most {most} s)")
    };
    format!(
        "{scenario}, {replicas} replicas, {balancers} balancers: {deaths} deaths; {} keys moved, {} needlessly; a death is seen after {}, \
         the replica is back after {}; an epoch is followed by all after {}; {:.2} % of the keys at most are disagreed on; {:.2} connects \
         to the dead for each death; {:.1} calls of a balancer a second.",
        keys.moved,
        keys.needless,
        times(&outcome.seen),
        times(&outcome.back),
        times(&agreement.spread),
        100.0 * agreement.most_keys,
        connects.for_each_death,
        calls.mean,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::{plan, report};
    use crate::cluster::{Scenario, simulate};

    /// What stands in a picture.
    fn says(picture: &Drawing, words: &str) -> bool {
        picture.svg().lines().any(|line| line.trim() == words)
    }

    #[test]
    fn each_scenario_has_a_row_in_every_panel_and_a_timeline() {
        let report = report(&[Scenario::Burst, Scenario::Partition]);
        let figures = figures(&report).unwrap();
        let rows = figures.svg().lines().filter(|line| line.trim() == "partition").count();
        assert_eq!(rows, rows::PANELS);
        assert!(!says(&figures, "N, number of replicas"));
        let timelines = timelines(&report).unwrap();
        for scenario in ["burst", "partition"] {
            assert!(timelines.svg().contains(&format!("{scenario}: ")), "{scenario}");
        }
    }

    #[test]
    fn growth_is_drawn_if_it_was_simulated() {
        let mut report = report(&[Scenario::Burst]);
        report.growth = [3, 10]
            .into_iter()
            .flat_map(|balancers| {
                [10, 100].map(|replicas| Outcome { replicas, balancers, ..report.scenarios[0].clone() })
            })
            .collect();
        assert!(says(&figures(&report).unwrap(), "N, number of replicas"));
    }

    #[test]
    fn a_scenario_without_any_figure_is_drawn_all_the_same() {
        let lonely = crate::cluster::ClusterPlan { replicas: 1, balancers: 1, ..plan(&[Scenario::Away], 1) };
        let report = simulate(&lonely).unwrap();
        assert!(says(&figures(&report).unwrap(), "away"));
        timelines(&report).unwrap();
    }

    #[test]
    fn the_same_report_gives_the_same_picture() {
        let report = report(&[Scenario::Drill]);
        assert_eq!(figures(&report).unwrap().svg(), figures(&report).unwrap().svg());
    }
}
