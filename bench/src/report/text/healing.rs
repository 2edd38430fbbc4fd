//! A-3: the control port, and recovery from kills.

use super::loads::loads;
use super::{image, joined, swarm};
use crate::data::{Check, Drill, Healing, Kill};
use crate::report::chart::Chart;
use crate::report::derived::{self, PHASES, Phase};
use crate::report::words::{self, code, count, millis, nanos, percent, plain, table};
use crate::stats::Spread;

/// The section.
pub(super) fn section(a3: &Healing, charts: &[Chart]) -> String {
    let mut parts = vec!["## A-3: the control port, and recovery from failures".to_owned()];
    if !a3.checks.is_empty() {
        parts.push(format!("### Every endpoint\n\n{}\n{}", checks_table(&a3.checks), checks(&a3.checks)));
    }
    if let Some(drill) = &a3.drill {
        parts.push(recovery(drill, charts));
    }
    parts.extend(a3.swarm.as_ref().map(|found| swarm::part(found, a3.drill.as_ref())));
    joined(&parts)
}

fn checks_table(checks: &[Check]) -> String {
    let line = |check: &Check| {
        let verdict = if check.passed { "yes" } else { "**no**" };
        vec![
            plain(&check.what),
            code(&check.request),
            plain(&check.expected),
            plain(&check.answer),
            verdict.to_owned(),
        ]
    };
    let rows: Vec<_> = checks.iter().map(line).collect();
    table(&["what", "request", "right answer", "answer", "right"], &rows)
}

fn checks(checks: &[Check]) -> String {
    let wrong: Vec<String> =
        checks.iter().filter(|check| !check.passed).map(|check| plain(&check.what)).collect();
    let all = words::plural(checks.len() as u64, "answer");
    match wrong.len() {
        0 => format!("All {all} of the control port are right."),
        some => format!("**{some} of {all} of the control port are wrong:** {}.", words::list(&wrong)),
    }
}

fn recovery(drill: &Drill, charts: &[Chart]) -> String {
    let images = ["a3-timeline", "a3-zoom", "a3-recovery"].map(|name| image(charts, name)).concat();
    let kills = words::plural(drill.kills.len() as u64, "kill");
    let sentences = [how_long(drill), longest_step(drill), failures(drill), mapping(drill)];
    let said: Vec<_> = sentences.into_iter().filter(|sentence| !sentence.is_empty()).collect();
    format!(
        "### {kills} under load\n\n{images}{}\n{}\n{}\n{}",
        phases_table(drill),
        kills_table(&drill.kills),
        loads("load", [("the whole drill".to_owned(), &drill.load)]),
        said.join(" ")
    )
}

fn phases_table(drill: &Drill) -> String {
    let steps = derived::steps(drill);
    let line = |phase: &Phase| {
        let spread = Spread::of(derived::reached(drill, *phase))?;
        let step = steps.iter().find(|step| step.0 == phase.0).map(|step| millis(step.1.median));
        Some(vec![
            phase.0.to_owned(),
            derived::reached(drill, *phase).len().to_string(),
            millis(spread.median),
            millis(spread.least),
            millis(spread.most),
            step.unwrap_or_default(),
        ])
    };
    let rows: Vec<_> = PHASES.iter().filter_map(line).collect();
    let titles =
        ["since the replica died", ">kills", ">median", ">least", ">most", ">median after all phases before"];
    table(&titles, &rows)
}

fn kills_table(kills: &[Kill]) -> String {
    let line = |(number, kill): (usize, &Kill)| {
        let answered = kill.answered.map_or_else(|| "**never**".to_owned(), millis);
        vec![
            (number + 1).to_string(),
            format!("{:.2} s", kill.at),
            code(&kill.slot),
            code(&kill.victim),
            code(&kill.heir),
            answered,
            count(kill.failed_before),
            format!("{} of {}", count(kill.failed_after), count(kill.begun_after)),
        ]
    };
    let rows: Vec<_> = kills.iter().enumerate().map(line).collect();
    let titles = [
        ">kill",
        ">at",
        "slot",
        "killed",
        "replaced by",
        ">first answer",
        ">begun before, failed",
        ">begun after, failed",
    ];
    table(&titles, &rows)
}

/// The time from a death to the first answer of the replacement.
fn how_long(drill: &Drill) -> String {
    let answered: Vec<f64> = drill.kills.iter().filter_map(|kill| kill.answered).collect();
    let lost = drill.kills.len() - answered.len();
    let missing = match lost {
        0 => String::new(),
        _ => format!(" **After {lost} of {} no replacement ever answered.**", kills(drill.kills.len())),
    };
    let Some(spread) = Spread::of(answered.iter().copied()) else { return missing.trim_start().to_owned() };
    let range = if answered.len() == 1 {
        "one kill".to_owned()
    } else {
        format!("median of {}; {} to {}", kills(answered.len()), millis(spread.least), millis(spread.most))
    };
    format!(
        "A replacement gave its first answer {} after the death of its predecessor ({range}).{missing}",
        millis(spread.median)
    )
}

fn kills(number: usize) -> String {
    words::plural(number as u64, "kill")
}

/// The longest step of a recovery, if one is longer than the resolution.
fn longest_step(drill: &Drill) -> String {
    let steps = derived::steps(drill);
    let Some((name, step)) = steps.iter().max_by(|a, b| a.1.median.total_cmp(&b.1.median)) else {
        return String::new();
    };
    let resolution = nanos(drill.resolution_ms * 1e6);
    if step.median <= drill.resolution_ms {
        return format!("No step is longer than the {resolution} between two answers of the control port.");
    }
    let sum: f64 = steps.iter().map(|step| step.1.median).sum();
    format!(
        "The longest step ends with \"{name}\": its median is {}, {} of the sum of all steps. The control port answered every \
         {resolution}, so shorter differences mean nothing.",
        millis(step.median),
        percent(step.median / sum)
    )
}

/// The failures that clients saw.
fn failures(drill: &Drill) -> String {
    let sum = |of: fn(&Kill) -> u64| drill.kills.iter().map(of).sum::<u64>();
    let (before, after) = (sum(|kill| kill.failed_before), sum(|kill| kill.failed_after));
    let begun = words::plural(sum(|kill| kill.begun_after), "request");
    let after = match after {
        0 => format!("None of {begun} that were begun after a kill failed."),
        _ => {
            let bad = drill.kills.iter().filter(|kill| kill.failed_after > 0).count();
            format!(
                "**{} of {begun} that were begun after a kill failed**, after {}: new connections still went to \
                 a dead replica.",
                count(after),
                kills(bad)
            )
        }
    };
    let before = match before {
        0 => "No request that was under way at a kill failed.".to_owned(),
        1 => "1 request that was under way failed together with its replica.".to_owned(),
        _ => format!(
            "{} that were under way failed together with their replica.",
            words::plural(before, "request")
        ),
    };
    format!("{after} {before}")
}

/// Whether ids are still in their slots.
fn mapping(drill: &Drill) -> String {
    let (asked, moved) = (words::plural(drill.mapping_asked, "id"), drill.mapping_moved);
    match (drill.mapping_asked, moved) {
        (0, _) => "Whether keys stayed in their slots was not checked.".to_owned(),
        (_, 0) => format!(
            "Every key stayed in its slot: of {asked} that were looked up before the first kill and after the last recovery, \
             none was in another slot."
        ),
        (all, _) => format!(
            "**Keys moved:** of {asked} that were looked up before the first kill and after the last recovery, {} ({}) were \
             in another slot.",
            count(moved),
            percent(moved as f64 / all as f64)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kill(ready: f64, answered: Option<f64>) -> Kill {
        Kill { detected: Some(2.0), ready: Some(ready), answered, begun_after: 1000, ..Kill::default() }
    }

    fn drill(kills: Vec<Kill>) -> Drill {
        Drill { kills, resolution_ms: 0.5, ..Drill::default() }
    }

    #[test]
    fn a_recovery_is_summed_up_with_its_longest_step() {
        let drill = drill(vec![kill(80.0, Some(100.0)), kill(90.0, Some(130.0)), kill(70.0, Some(90.0))]);
        let long = how_long(&drill);
        assert!(
            long.contains("first answer 100 ms after") && long.contains("3 kills; 90.0 ms to 130 ms"),
            "{long}"
        );
        let step = longest_step(&drill);
        assert!(step.contains("\"ready\": its median is 78.0 ms, 78.0 %"), "{step}");
    }

    #[test]
    fn a_slow_first_answer_is_another_longest_step() {
        let step = longest_step(&drill(vec![kill(10.0, Some(200.0))]));
        assert!(step.contains("\"first answer\": its median is 190 ms"), "{step}");
        let step = longest_step(&Drill { resolution_ms: 500.0, ..drill(vec![kill(10.0, Some(200.0))]) });
        assert!(step.starts_with("No step is longer than the 500 ms"), "{step}");
    }

    #[test]
    fn a_kill_without_a_recovery_is_not_left_out() {
        let words = how_long(&drill(vec![kill(80.0, Some(100.0)), kill(90.0, None)]));
        assert!(
            words.contains("(one kill)") && words.contains("After 1 of 2 kills no replacement ever answered"),
            "{words}"
        );
        assert!(how_long(&drill(vec![kill(90.0, None)])).starts_with("**After 1 of 1 kill "));
    }

    #[test]
    fn failures_before_and_after_are_told_apart() {
        let good = failures(&drill(vec![kill(1.0, None), kill(1.0, None)]));
        assert_eq!(
            good,
            "None of 2,000 requests that were begun after a kill failed. No request that was under way at a \
             kill failed."
        );
        let bad = Kill { failed_after: 3, failed_before: 7, ..kill(1.0, None) };
        let bad = failures(&drill(vec![kill(1.0, None), bad]));
        assert!(
            bad.starts_with("**3 of 2,000 requests that were begun after a kill failed**, after 1 kill"),
            "{bad}"
        );
        assert!(bad.contains("7 requests that were under way failed"), "{bad}");
        let one = failures(&drill(vec![Kill { failed_before: 1, ..kill(1.0, None) }]));
        assert!(one.ends_with("1 request that was under way failed together with its replica."), "{one}");
    }

    #[test]
    fn keys_stay_or_move() {
        let of = |mapping_asked, mapping_moved| {
            mapping(&Drill { mapping_asked, mapping_moved, ..Drill::default() })
        };
        assert!(
            of(10_000, 0).contains("of 10,000 ids") && of(10_000, 0).contains("none was in another slot")
        );
        assert!(of(10_000, 37).starts_with("**Keys moved:**") && of(10_000, 37).contains("37 (0.37 %)"));
        assert!(of(0, 0).contains("not checked"));
    }

    #[test]
    fn wrong_answers_are_named() {
        let check = |what: &str, passed| Check {
            what: what.to_owned(),
            request: String::new(),
            expected: String::new(),
            answer: String::new(),
            passed,
        };
        assert_eq!(
            checks(&[check("a", true), check("b", true)]),
            "All 2 answers of the control port are right."
        );
        assert!(checks(&[check("a", true), check("b|c", false)]).ends_with(r"are wrong:** b\|c."));
    }
}
