//! The runbooks (`docs/RUNBOOKS.md`): each alert has one and each is for an alert, its commands are commands of `lb`, and those that only look do
//! answer.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use clap::CommandFactory as _;
use lb::config::Cli;
use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Parser, Tag, TagEnd};

use crate::book::root;
use crate::harness::Lb;

fn page() -> String {
    fs::read_to_string(root().join("docs/RUNBOOKS.md")).unwrap()
}

/// What follows `name` in the lines of the alerts.
fn in_alerts(name: &str) -> Vec<String> {
    let alerts = fs::read_to_string(root().join("docs/prometheus/alerts.yml")).unwrap();
    alerts.lines().filter_map(|line| Some(line.trim().strip_prefix(name)?.trim().to_owned())).collect()
}

#[test]
fn each_alert_has_a_runbook_and_each_runbook_an_alert() {
    let alerts = in_alerts("- alert:");
    assert!(alerts.len() >= 6, "{alerts:?}");
    let page = page();
    let runbooks: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(runbooks, alerts, "in the order of the alerts");
    let expected: Vec<String> =
        alerts.iter().map(|alert| format!("docs/RUNBOOKS.md#{}", alert.to_lowercase())).collect();
    assert_eq!(in_alerts("runbook:"), expected, "the annotations");
}

#[test]
fn each_runbook_says_all_that_one_has_to_say() {
    for runbook in page().split("\n## ").skip(1) {
        for part in ["\n*Look first:*\n\n```sh\nlb ", "\n*Do", "\n*It is over* when "] {
            assert!(runbook.contains(part), "without {part:?}: {runbook}");
        }
    }
}

/// The commands of `lb` in a page: code that begins with its name, and the lines of blocks.
fn commands(page: &str) -> BTreeSet<String> {
    let (mut commands, mut is_block) = (BTreeSet::new(), false);
    for event in Parser::new(page) {
        let text = match event {
            Event::Start(Tag::CodeBlock(_)) => {
                is_block = true;
                continue;
            }
            Event::End(TagEnd::CodeBlock) => {
                is_block = false;
                continue;
            }
            Event::Code(code) => code,
            Event::Text(text) if is_block => text,
            _ => continue,
        };
        commands.extend(text.lines().filter(|line| line.starts_with("lb ")).map(str::to_owned));
    }
    commands
}

#[test]
fn each_command_of_a_runbook_exists() {
    let commands = commands(&page());
    assert!(commands.len() >= 15, "{commands:?}");
    for command in commands {
        // A name alone stands for the command.
        if command.split_whitespace().count() == 2 && Cli::command().find_subcommand(&command[3..]).is_some()
        {
            continue;
        }
        if let Err(error) = Cli::command().try_get_matches_from(command.split_whitespace()) {
            panic!("`{command}`: {error}");
        }
    }
}

/// The commands with which each runbook looks first.
fn looks(page: &str) -> BTreeSet<String> {
    let (mut looks, mut is_first, mut is_look) = (BTreeSet::new(), false, false);
    for event in Parser::new(page) {
        match event {
            Event::Text(text) if &*text == "Look first:" => is_first = true,
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_))) => is_look = std::mem::take(&mut is_first),
            Event::Text(text) if is_look => looks.extend(text.lines().map(str::to_owned)),
            Event::End(TagEnd::CodeBlock) => is_look = false,
            Event::Start(Tag::Heading { level: HeadingLevel::H2, .. }) => assert!(!is_first),
            _ => {}
        }
    }
    looks
}

#[test]
fn what_a_runbook_looks_at_first_answers_and_changes_nothing() {
    let lb = Lb::start(&[]);
    let looks = looks(&page());
    assert!(looks.len() >= 6, "{looks:?}");
    let fleet = lb.backends();
    for look in looks {
        let words: Vec<&str> = look.strip_prefix("lb ").unwrap().split_whitespace().collect();
        let done = Command::new(env!("CARGO_BIN_EXE_lb"))
            .args(words)
            .env("LB_CONTROL", lb.control.to_string())
            .output()
            .unwrap();
        assert!(done.status.success() && !done.stdout.is_empty(), "`{look}`: {done:?}");
    }
    assert_eq!(lb.backends(), fleet);
}
