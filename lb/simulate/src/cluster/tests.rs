//! Small simulations, and what must hold in each.

use super::scenario::Happening;
use super::*;

pub(super) fn plan(scenarios: &[Scenario], seed: u64) -> ClusterPlan {
    ClusterPlan {
        replicas: 20,
        balancers: 5,
        seed,
        scenarios: scenarios.to_vec(),
        growth: false,
        json: false,
        chart: None,
        timeline: None,
    }
}

pub(super) fn report(scenarios: &[Scenario]) -> Report {
    simulate(&plan(scenarios, 1)).unwrap()
}

fn outcome(scenario: Scenario) -> Outcome {
    report(&[scenario]).scenarios.remove(0)
}

/// Nothing moves needlessly, balancers of one epoch agree, every command is answered once, and at the end the services are those of the
/// seats and all of them are up everywhere.
#[test]
fn whatever_happens_all_is_well_in_the_end() {
    for seed in 1..=2 {
        let report = simulate(&plan(&Scenario::ALL, seed)).unwrap();
        for outcome in report.scenarios {
            assert_eq!(outcome.problems, [""; 0], "{}, seed {seed}", outcome.scenario);
            assert!(outcome.keys.moved > 0 && outcome.deaths > 0, "{outcome:?}");
            let done: usize = outcome.commands.iter().map(|command| command.done.count).sum();
            assert!(done > 0 && outcome.agreement.spread.count >= done, "{outcome:?}");
        }
    }
}

#[test]
fn what_is_not_well_in_the_end_is_told() {
    let course = vec![(Duration::from_secs(1), Happening::Kill(1))];
    let problems = |settle| {
        let world = World::new(roster(5, 10).unwrap(), 2, 1).unwrap();
        world.play(course.clone(), settle).unwrap().problems
    };
    assert_eq!(problems(SETTLE), [""; 0]);
    assert_eq!(problems(Duration::ZERO), ["a task does not run"]);
    assert_eq!(problems(Duration::from_millis(1250)), ["a slot is not up everywhere", "a task does not run"]);
}

#[test]
fn balancers_that_are_cut_off_disagree_until_they_are_back_and_refuse_commands() {
    let partition = outcome(Scenario::Partition);
    let longest = |times: report::Times| times.most.unwrap();
    assert!(longest(partition.agreement.disagreement) > 30.0, "{partition:?}");
    assert!(longest(outcome(Scenario::Burst).agreement.disagreement) < 0.1);
    let failed = partition.commands.iter().filter_map(|command| command.failed.most);
    assert!(failed.clone().count() > 0 && failed.into_iter().all(|seconds| seconds < 5.0), "{partition:?}");
}

#[test]
fn without_the_engine_commands_fail_in_time_and_the_dead_come_back_with_it() {
    let away = outcome(Scenario::Away);
    let slowest = away.commands.iter().filter_map(|command| command.failed.most).fold(0.0, f64::max);
    assert!((4.6..5.0).contains(&slowest), "{away:?}");
    assert!((55.0..70.0).contains(&away.back.most.unwrap()), "{away:?}");
}

#[test]
fn clients_of_a_crashed_node_are_not_refused() {
    let node = outcome(Scenario::Node);
    assert!(node.connects.refused == 0 && node.connects.lost > 0, "{node:?}");
    assert!((13.0..16.0).contains(&node.back.median.unwrap()), "{node:?}");
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_one_does_not() {
    let text = |seed| run(&plan(&[Scenario::Burst, Scenario::Rolling], seed)).unwrap();
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2).replace("seed 2", "seed 1"));
    let json = |seed| run(&ClusterPlan { json: true, ..plan(&[Scenario::Partition], seed) }).unwrap();
    assert_eq!(json(1), json(1));
}

#[test]
fn a_scenario_has_the_same_figures_whether_others_are_played_or_not() {
    let [both, one] = [&[Scenario::Burst, Scenario::Drill][..], &[Scenario::Drill]].map(report);
    assert_eq!(both.scenarios.last(), one.scenarios.last());
}

#[test]
fn growth_has_a_row_for_each_size() {
    let growth = grow(&[10, 30], &[2, 5], 1).unwrap();
    let sizes: Vec<_> = growth.iter().map(|outcome| (outcome.replicas, outcome.balancers)).collect();
    assert_eq!(sizes, [(10, 2), (30, 2), (10, 5), (30, 5)]);
    let text = table::text(&Report { growth, scenarios: Vec::new(), ..report(&[]) });
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 2 + 4, "{text}");
    for row in &rows {
        assert_eq!(row.matches('|').count(), rows[0].matches('|').count(), "{text}");
    }
    // More balancers make more calls together.
    assert!(sum_of_calls(rows[2]) < sum_of_calls(rows[4]), "{text}");
}

/// The last cell of a row.
fn sum_of_calls(row: &str) -> u32 {
    row.trim_matches('|').rsplit('|').next().unwrap().trim().parse().unwrap()
}
