//! The examples of the pages. What stands in a block that begins with ```` ```console,test ```` is typed into a shell beside a real `lb`,
//! and has to print what the block shows.
//!
//! Each block has an `lb` of its own with three replicas; a comment `<!-- lb FLAGS -->` before it gives that `lb` other flags. The ports
//! 5000 and 5001 stand for the real ones. Addresses on loopback, ids of processes, random hostnames and the width of columns may differ; `...` is any text
//! in a line and, alone in a line, any lines. A command that only asks is asked again until it prints what is shown: a reader would not
//! be as fast.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

use crate::book::{pages, root};
use crate::harness::{Lb, eventually};

/// A block of a page: the flags of its `lb`, and what is typed with what it prints.
struct Example {
    place: String,
    flags: Vec<String>,
    steps: Vec<Step>,
}

struct Step {
    command: String,
    shown: Vec<String>,
}

fn examples(page: &Path) -> Vec<Example> {
    let text = fs::read_to_string(page).unwrap();
    let (mut examples, mut block, mut flags) = (Vec::new(), None, Vec::new());
    for (event, range) in Parser::new(&text).into_offset_iter() {
        match event {
            Event::Html(html) => {
                let comment = html.trim().strip_prefix("<!-- lb ").and_then(|rest| rest.strip_suffix(" -->"));
                flags = comment.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) if &*info == "console,test" => {
                block = Some(String::new());
            }
            Event::Text(text) => {
                if let Some(block) = &mut block {
                    block.push_str(&text);
                }
            }
            Event::End(TagEnd::CodeBlock) => {
                if let Some(block) = block.take() {
                    let line = text[..range.start].lines().count() + 1;
                    let place = format!("{}:{line}", page.strip_prefix(root()).unwrap().display());
                    examples.push(Example { place, flags: std::mem::take(&mut flags), steps: steps(&block) });
                }
            }
            _ => {}
        }
    }
    examples
}

fn steps(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), shown: Vec::new() }),
            (None, Some(step)) => step.shown.push(line.to_owned()),
            (None, None) => panic!("an example begins with a command: {line:?}"),
        }
    }
    steps
}

/// A page with examples, and the least number that it must have: without it, a marker that is no longer read would go unnoticed.
fn hold(page: &str, least: usize) {
    let examples = examples(&root().join(page));
    assert!(examples.len() >= least, "{page} has only {} examples that are run", examples.len());
    examples.iter().for_each(hold_example);
}

fn hold_example(example: &Example) {
    if let Some(tool) = example.steps.iter().find_map(|step| missing_tool(&step.command)) {
        assert!(std::env::var_os("CI").is_none(), "{}: there is no {tool}", example.place);
        return eprintln!("skipped: {}: there is no {tool}", example.place);
    }
    let flags: Vec<&str> = example.flags.iter().map(String::as_str).collect();
    let lb = Lb::start(&[&["--log", "info"], &flags[..]].concat());
    for step in &example.steps {
        let mut last = Vec::new();
        let mut prints_it = || {
            let printed = run(&lb, &step.command);
            let is_shown = is_shown(&step.shown, &printed);
            if !is_shown && printed != last {
                eprintln!("{}: `{}` prints\n{}", example.place, step.command, printed.join("\n"));
                last = printed;
            }
            is_shown.then_some(())
        };
        if is_question(&step.command) {
            eventually(&format!("{}: what `{}` is to print", example.place, step.command), prints_it);
        } else {
            assert!(prints_it().is_some(), "{}: `{}` prints something else", example.place, step.command);
        }
    }
}

fn missing_tool(command: &str) -> Option<&'static str> {
    let tools = ["curl", "nc", "jq", "python3", "pkill"];
    let is_missing = |tool: &&str| {
        command.split_whitespace().any(|word| word == *tool)
            && Command::new("which")
                .arg(tool)
                .stdout(Stdio::null())
                .status()
                .is_ok_and(|status| !status.success())
    };
    tools.into_iter().find(is_missing)
}

/// Whether a command changes nothing, so that it may be typed twice.
fn is_question(command: &str) -> bool {
    let changes =
        ["lb add", "lb rm", "lb mapping set", "lb kill", "pkill", "-d ", "-X ", "\"add\"", "\"rm\""];
    !changes.iter().any(|change| command.contains(change))
}

/// What a command prints, in the root of the repository, with the program first in the path.
fn run(lb: &Lb, command: &str) -> Vec<String> {
    // Other tests have replicas of the same names: only those of this `lb` may be found.
    let script =
        format!("pkill() {{ command pkill --parent {} \"$@\"; }}\n{}\n", lb.pid(), with_ports(lb, command));
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("example");
    fs::write(&file, script).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_lb")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path))).unwrap();
    let output = Command::new("bash")
        .args(["-c", "exec bash \"$0\" 2>&1"])
        .arg(&file)
        .env("PATH", path)
        .env("LB_CONTROL", lb.control.to_string())
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn with_ports(lb: &Lb, command: &str) -> String {
    [(5000, lb.data.port()), (5001, lb.control.port())].into_iter().fold(
        command.to_owned(),
        |command, (port, real)| {
            let command = command.replace(&format!("localhost:{port}"), &format!("127.0.0.1:{real}"));
            command.replace(&format!("localhost {port}"), &format!("127.0.0.1 {real}"))
        },
    )
}

/// Whether these lines are what a page shows.
fn is_shown(shown: &[String], printed: &[String]) -> bool {
    match (shown.split_first(), printed.split_first()) {
        (Some((shown, rest)), _) if shown == "..." => {
            (0..=printed.len()).any(|skipped| is_shown(rest, &printed[skipped..]))
        }
        (Some((shown, more_shown)), Some((printed, more_printed))) => {
            is_line(&plain(shown), &plain(printed)) && is_shown(more_shown, more_printed)
        }
        (None, None) => true,
        _ => false,
    }
}

/// Whether a line is the shown one, in which `...` is any text.
fn is_line(shown: &str, printed: &str) -> bool {
    match shown.split_once("...") {
        None => shown == printed,
        Some((before, after)) => printed.strip_prefix(before).is_some_and(|printed| {
            (0..=printed.len()).any(|at| printed.get(at..).is_some_and(|rest| is_line(after, rest)))
        }),
    }
}

/// A line without what differs from run to run: ports on loopback, ids of processes, random hostnames, the width of columns.
fn plain(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    // In a table the process follows the address.
    let line = without_tail(&line, "127.0.0.1:", |c| c.is_numeric() || c == ' ');
    let line = without_tail(&line, "\"pid\":", char::is_numeric);
    without_tail(&line, "server-", |c| c.is_ascii_alphanumeric())
}

/// A text with a mark in place of what follows each `head`.
fn without_tail(line: &str, head: &str, is_tail: impl Fn(char) -> bool) -> String {
    let mut parts = line.split(head);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, part| format!("{line}{head}#{}", part.trim_start_matches(&is_tail)))
}

#[test]
fn the_readme_shows_what_happens() {
    hold("README.md", 1);
}

#[test]
fn the_book_shows_what_happens() {
    let held: usize = pages()
        .iter()
        .map(|page| {
            let examples = examples(page);
            examples.iter().for_each(hold_example);
            examples.len()
        })
        .sum();
    assert!(held >= 1, "only {held} examples of the book are run");
}

#[test]
fn an_example_that_shows_something_else_is_noticed() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let printed = lines("up  127.0.0.1:13907 server-a1b2c3 0 open\nb\nc");
    assert!(is_shown(&lines("up 127.0.0.1:1 server-x ... open\n...\nc"), &printed));
    for wrong in ["up 127.0.0.1:1 server-x 1 open\nb\nc", "...\nb", "...\nd", "..."] {
        assert_eq!(is_shown(&lines(wrong), &printed), wrong == "...", "{wrong}");
    }
}
