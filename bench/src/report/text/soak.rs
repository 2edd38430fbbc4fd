//! A soak: faults at random, what they cost, and what held.

use std::collections::BTreeMap;

use super::{image, joined};
use crate::data::{Holding, Injected, LostRequest, Round, Soak};
use crate::report::chart::Chart;
use crate::report::words::{self, code, count, plain, table};
use crate::stats::{Course, Spread};

/// Failures that are shown one by one.
const SHOWN: usize = 40;

/// The rule, as it is in the code.
const RULE: &str = "A fault explains a failed request in two cases. The request was under way on the victim when the fault struck, \
or it went there before the fault was noticed: a kill is noticed when the replica is dead, a stop when the control port no \
longer shows the replica as up or when it goes on, and a removal costs only what is open when the drain has ended. Or the \
replicas of all candidates that are tried were away. Nothing explains a wrong answer, a refused connection to the data port, or \
a request that hangs although its replica is dead.";

/// The section.
pub(super) fn section(soak: &Soak, charts: &[Chart]) -> String {
    let parts = [
        "## Soak: faults at random".to_owned(),
        image(charts, "soak"),
        overview(soak),
        RULE.to_owned(),
        faults_table(soak),
        failures(soak),
        holdings(soak),
        broken(soak),
    ];
    joined(&parts)
}

fn all_faults(soak: &Soak) -> impl Iterator<Item = &Injected> {
    soak.rounds.iter().flat_map(|round| &round.faults)
}

/// Each failure with its round.
fn all_lost(soak: &Soak) -> impl Iterator<Item = (&Round, &LostRequest)> {
    soak.rounds.iter().flat_map(|round| round.lost.iter().map(move |lost| (round, lost)))
}

/// The fault that explains a failure.
fn reason<'a>(round: &'a Round, lost: &LostRequest) -> Option<&'a Injected> {
    round.faults.get(lost.fault?)
}

fn overview(soak: &Soak) -> String {
    let seconds: f64 = soak.rounds.iter().map(|round| round.seconds).sum();
    let requests: u64 = soak.rounds.iter().map(|round| round.requests).sum();
    let unexplained: u64 = soak.rounds.iter().map(Round::unexplained).sum();
    let explained = all_lost(soak).filter(|(_, lost)| lost.fault.is_some()).count() as u64;
    let faults = words::plural(all_faults(soak).count() as u64, "fault");
    let unexplained = match unexplained {
        0 => "no request failed without a fault that explains it".to_owned(),
        _ => format!("**{} failed, and no fault explains it**", words::plural(unexplained, "request")),
    };
    format!(
        "{} with {faults} in {seconds:.0} s, seed {}. Of {}, {} failed because of a fault; {unexplained}.",
        words::plural(soak.rounds.len() as u64, "round"),
        soak.seed,
        words::plural(requests, "request"),
        count(explained),
    )
}

/// What the faults of each kind cost.
fn faults_table(soak: &Soak) -> String {
    let row = |kind: &String| {
        let faults: Vec<&Injected> = all_faults(soak).filter(|fault| fault.kind == *kind).collect();
        let median = |of: fn(&Injected) -> Option<f64>| {
            let spread = Spread::of(faults.iter().filter_map(|fault| of(fault)));
            spread.map_or_else(String::new, |spread| words::millis(spread.median * 1e3))
        };
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        let lost = all_lost(soak)
            .filter(|(round, lost)| reason(round, lost).is_some_and(|fault| fault.kind == *kind));
        for (_, lost) in lost {
            *kinds.entry(&lost.failure).or_default() += 1;
        }
        let explained: Vec<String> =
            kinds.iter().map(|(failure, number)| format!("{} {}", count(*number), plain(failure))).collect();
        vec![
            code(kind),
            count(faults.len() as u64),
            median(|fault| Some(fault.noticed? - fault.at)),
            median(|fault| Some(fault.over - fault.at)),
            explained.join(", "),
        ]
    };
    let rows: Vec<_> = soak.kinds.iter().map(row).collect();
    let titles =
        ["fault", ">times", ">noticed after (median)", ">over after (median)", "failures that it explains"];
    table(&titles, &rows)
}

/// The failures one by one, those without an explanation first.
fn failures(soak: &Soak) -> String {
    let mut lost: Vec<_> = all_lost(soak).collect();
    lost.sort_by_key(|(_, lost)| lost.fault.is_some());
    let row = |(round, lost): &(&Round, &LostRequest)| {
        let why = reason(round, lost).map_or_else(
            || "**nothing**".to_owned(),
            |fault| format!("{} at {:.3} s", code(&fault.what), fault.at),
        );
        vec![
            round.number.to_string(),
            format!("{:.3} s", lost.begun),
            format!("{:.3} s", lost.ended),
            code(&lost.id),
            plain(&lost.failure),
            why,
        ]
    };
    let rows: Vec<_> = lost.iter().take(SHOWN).map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let rest = lost.len().saturating_sub(SHOWN);
    let rest = if rest == 0 {
        String::new()
    } else {
        format!("\nAnd {} more, which `data.json` has.", count(rest as u64))
    };
    let titles = [">round", ">begun", ">failed", "id", "failure", "explained by"];
    format!("### Which fault explains which failure\n\n{}{rest}", table(&titles, &rows))
}

/// What `lb` holds, and whether it grows.
fn holdings(soak: &Soak) -> String {
    let row = |holding: &Holding| {
        let value = |value: Option<&f64>| value.map_or_else(|| "?".to_owned(), |value| words::number(*value));
        let (slope, course) = match holding.course() {
            None => (String::new(), "not judged: too few rounds".to_owned()),
            Some((slope, course)) => (
                format!("{:.3} ± {:.3}", slope.slope, slope.error),
                match course {
                    Course::Flat => "flat".to_owned(),
                    Course::Grows => "**grows**".to_owned(),
                    Course::Unclear => "not judged: the error is too large, or it slows down".to_owned(),
                },
            ),
        };
        let what = format!("{} ({})", holding.what, holding.unit);
        vec![what, value(holding.values.first()), value(holding.values.last()), slope, course]
    };
    let rows: Vec<_> = soak.holdings().iter().map(row).collect();
    let titles = [
        "`lb` holds",
        ">after the first round",
        ">after the last",
        ">slope a round, with its standard error",
        "",
    ];
    format!(
        "### What `lb` holds\n\nThe first third of the rounds is left out of the slope.\n\n{}",
        table(&titles, &rows)
    )
}

/// What did not hold, and how to repeat it.
fn broken(soak: &Soak) -> String {
    let row = |round: &Round| -> Vec<Vec<String>> {
        let again = code(&format!("bench soak {}", soak.again(round.number)));
        let unexplained = round.unexplained();
        let lost = (unexplained > 0)
            .then(|| format!("{} without an explanation", words::plural(unexplained, "failed request")));
        let found = round.broken.iter().map(|broken| plain(&broken.found)).chain(lost);
        found.map(|found| vec![round.number.to_string(), found, again.clone()]).collect()
    };
    let rows: Vec<_> = soak.rounds.iter().flat_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("### What did not hold\n\n{}", table(&[">round", "found", "to repeat it"], &rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Broken, Invariant};

    fn lost(id: &str, fault: Option<usize>) -> LostRequest {
        let failure = "reset".to_owned();
        LostRequest { begun: 1.0, ended: 1.5, id: id.to_owned(), failure, fault }
    }

    fn soak() -> Soak {
        let what = "kill server1".to_owned();
        let fault = Injected { kind: "kill".to_owned(), what, at: 1.2, noticed: Some(1.21), over: 1.3 };
        let lost = vec![lost("111111", Some(0)), lost("222222", None)];
        let round =
            Round { number: 4, requests: 500, seconds: 6.0, faults: vec![fault], lost, ..Round::default() };
        Soak {
            seed: 7,
            kinds: vec!["kill".to_owned(), "rm".to_owned()],
            rounds: vec![round],
            ..Soak::default()
        }
    }

    #[test]
    fn a_failure_is_shown_with_the_fault_that_explains_it() {
        let text = section(&soak(), &[]);
        assert!(text.contains("1 round with 1 fault in 6 s, seed 7. Of 500 requests, 1 failed"), "{text}");
        assert!(text.contains("| `111111` | reset | `kill server1` at 1.200 s |"), "{text}");
        assert!(text.contains("| `kill` | 1 | 10.0 ms | 100 ms | 1 reset |"), "{text}");
    }

    #[test]
    fn a_failure_without_an_explanation_comes_first_and_says_how_to_repeat_it() {
        let text = section(&soak(), &[]);
        let (unexplained, explained) = (text.find("222222").unwrap(), text.find("111111").unwrap());
        assert!(unexplained < explained, "{text}");
        assert!(text.contains("**1 request failed, and no fault explains it**"), "{text}");
        assert!(text.contains("`bench soak --seed 7 --round 4 --faults kill,rm`"), "{text}");
    }

    #[test]
    fn what_did_not_hold_is_shown_only_if_there_is_any() {
        let mut soak = soak();
        soak.rounds[0].lost.clear();
        assert!(!section(&soak, &[]).contains("did not hold"));
        soak.rounds[0].broken.push(Broken { invariant: Invariant::Keys, found: "a|b".to_owned() });
        assert!(section(&soak, &[]).contains(r"| 4 | a\|b |"));
    }
}
