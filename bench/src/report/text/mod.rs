//! The report in words and tables, as Markdown.
//!
//! It begins with what is right or wrong, then says how fast it is, then shows every experiment. Sentences are computed from
//! the numbers and change with them; nothing is said of what was not measured, except that it was not. All text from the data
//! passes through [`words::plain`] or [`words::code`].

use crate::data::{Bar, Comparison, Data, Environment, Expectation, Variant};

use super::chart::Chart;
use super::words::{self, code, plain, row, table};

mod balance;
mod comparison;
mod healing;
mod loads;
mod scaling;
mod soak;
mod standing;
mod swarm;
mod variants;

/// The report; `charts` are referred to as files beside it.
pub(super) fn markdown(data: &Data, charts: &[Chart]) -> String {
    let mut parts = vec!["# Experiments with a load balancer".to_owned()];
    parts.extend(data.cut_short.as_deref().map(cut_short));
    if !data.expectations.is_empty() {
        parts.push(correctness(&data.expectations));
    }
    if data.comparison.is_some() || !data.bars.is_empty() {
        parts.push(performance(data.comparison.as_ref(), &data.bars));
    }
    parts.push(environment(&data.environment));
    parts.extend(balance::section(&data.a1, charts));
    parts.extend(scaling::section(&data.a2, charts));
    parts.extend(data.a3.as_ref().map(|a3| healing::section(a3, charts)));
    parts.extend(data.a4.as_ref().map(|a4| variants::section(a4, charts)));
    parts.extend(data.comparison.as_ref().map(|comparison| comparison::section(comparison, charts)));
    parts.extend(data.soak.as_ref().map(|soak| soak::section(soak, charts)));
    joined(&parts) + "\n"
}

/// Paragraphs, tables and headings with one empty line between them.
fn joined(parts: &[String]) -> String {
    let parts = parts.iter().map(|part| part.trim_end()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("\n\n")
}

fn cut_short(why: &str) -> String {
    format!("**This run ended early: {}.** The report has what was measured before.", plain(why))
}

fn correctness(expectations: &[Expectation]) -> String {
    let line = |expectation: &Expectation| {
        let Expectation { what, expected, found, passed } = expectation;
        row([&text(what), &text(expected), &text(found), if *passed { "yes" } else { "**no**" }])
    };
    let rows: Vec<_> = expectations.iter().map(line).collect();
    let table = table(&["what", "expected", "found", "holds"], &rows);
    format!("## Correctness\n\n{}\n\n{table}", verdict_on(expectations))
}

/// The overall sentence.
fn verdict_on(expectations: &[Expectation]) -> String {
    let wrong: Vec<String> =
        expectations.iter().filter(|one| !one.passed).map(|one| text(&one.what)).collect();
    let all = expectations.len();
    match wrong.len() {
        0 if all == 1 => "The one expectation holds.".to_owned(),
        0 => format!("All {all} expectations hold."),
        count => format!("**{count} of {all} expectations do not hold:** {}.", words::list(&wrong)),
    }
}

/// How `lb` compares with its peers, and the bars.
fn performance(comparison: Option<&Comparison>, bars: &[Bar]) -> String {
    let bars = if bars.is_empty() { String::new() } else { bars_table(bars) };
    let overview = comparison.map(standing::overview).unwrap_or_default();
    let parts = ["## Performance".to_owned(), overview, bars];
    joined(&parts)
}

fn bars_table(bars: &[Bar]) -> String {
    let line = |bar: &Bar| {
        let reached = if bar.reached { "reached" } else { "not reached" };
        row([&text(&bar.what), &text(&bar.bar), &text(&bar.found), reached])
    };
    let reached = bars.iter().filter(|bar| bar.reached).count();
    let rows: Vec<_> = bars.iter().map(line).collect();
    format!(
        "{reached} of {} are reached. A bar was set on one machine. Other machines have other cores, so it is \
         no error to miss a bar, unless `bench` runs with `--hold-bars`.\n\n{}",
        words::plural(bars.len() as u64, "bar"),
        table(&["figure", "bar", "found: median (least to most)", ""], &rows)
    )
}

/// Text of `bench` itself, in which backticks mark code.
fn text(words: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (at, part) in words.split('`').enumerate() {
        parts.push(if at % 2 == 1 { code(part) } else { plain(part) });
    }
    if parts.len() % 2 == 1 { parts.concat() } else { plain(words) }
}

fn environment(environment: &Environment) -> String {
    let Environment { date, cores, processor, memory, kernel, versions, commit, seed, .. } = environment;
    let versions: Vec<_> =
        versions.iter().map(|(name, version)| format!("{} {}", plain(name), plain(version))).collect();
    let arguments: Vec<_> = environment.arguments.iter().map(|argument| code(argument)).collect();
    let cores = words::plural(*cores as u64, "core");
    let rows = vec![
        row(["measured on", &plain(date)]),
        row(["processor", &format!("{}, {cores} for this run", plain(processor))]),
        row(["memory", &words::bytes(*memory as f64)]),
        row(["kernel", &plain(kernel)]),
        row(["versions", &versions.join(", ")]),
        row(["commit", &commit_in_words(commit)]),
        row(["seed of all ids", &seed.to_string()]),
        row(["replicas from", &plain(&environment.replicas)]),
        row(["network", network(environment.own_network)]),
        row(["arguments of `bench`", &arguments.join(" ")]),
    ];
    format!("## Environment\n\n{}", table(&["", ""], &rows))
}

fn commit_in_words(commit: &str) -> String {
    match commit.strip_suffix('+') {
        _ if commit.is_empty() => "not in a repository".to_owned(),
        Some(clean) => format!("{} with uncommitted changes", code(clean)),
        None => code(commit),
    }
}

fn network(own: bool) -> &'static str {
    if own {
        "loopback in its own network namespace"
    } else {
        "loopback of the host, shared with other programs"
    }
}

/// A chart as an image, if it was drawn.
fn image(charts: &[Chart], name: &str) -> String {
    let chart = charts.iter().find(|chart| chart.name == name);
    chart.map_or_else(String::new, |chart| format!("![{}]({}.svg)\n\n", plain(&chart.title), chart.name))
}

/// The flags of `lb` for a mapping.
fn flags(variant: &Variant) -> String {
    if variant.flags.is_empty() { "default flags".to_owned() } else { code(&variant.flags.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expectation(what: &str, passed: bool) -> Expectation {
        Expectation { what: what.to_owned(), expected: "x".to_owned(), found: "y".to_owned(), passed }
    }

    #[test]
    fn the_verdict_names_what_failed() {
        let good = verdict_on(&[expectation("`ring` | even", true), expectation("b", true)]);
        assert_eq!(good, "All 2 expectations hold.");
        let bad = verdict_on(&[expectation("`ring` | even", false), expectation("b", true)]);
        assert_eq!(bad, r"**1 of 2 expectations do not hold:** `ring` \| even.");
    }

    #[test]
    fn a_bar_that_is_missed_is_no_error() {
        let bar = |what: &str, reached| Bar {
            what: what.to_owned(),
            bar: "at most 0.25".to_owned(),
            found: "0.29 (0.28 to 0.30)".to_owned(),
            reached,
        };
        let table = bars_table(&[bar("rate in `short`", false), bar("b", true)]);
        assert!(table.starts_with("1 of 2 bars are reached."), "{table}");
        assert!(
            table.contains("| rate in `short` | at most 0.25 | 0.29 (0.28 to 0.30) | not reached |"),
            "{table}"
        );
    }

    #[test]
    fn a_run_that_was_cut_short_says_so_first() {
        let data = Data { cut_short: Some("interrupted".to_owned()), ..Data::default() };
        let report = markdown(&data, &[]);
        assert!(report.contains("ended early: interrupted"), "{report}");
    }

    #[test]
    fn sections_without_data_are_not_there() {
        let report = markdown(&Data::default(), &[]);
        let headings: Vec<_> = report.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(headings, ["# Experiments with a load balancer", "## Environment"]);
    }

    #[test]
    fn a_backtick_without_a_partner_is_a_backtick() {
        assert_eq!(text("a `b` c"), "a `b` c");
        assert_eq!(text("a ` c"), r"a \` c");
    }
}
