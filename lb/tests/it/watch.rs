//! `lb backends --watch` into a pipe and on a terminal, and what `backends` shows of replicas that run or wait.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::control::calm;
use crate::harness::{Gate, Lb, demo_after, eventually, signal, text};
use crate::top::Terminal;

/// A client that watches.
struct Watcher {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watcher {
    fn start(lb: &Lb, flags: &[&str]) -> Watcher {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
        command.args(["backends", "--watch"]).args(flags).env("LB_CONTROL", lb.control.to_string());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Watcher { child, lines }
    }

    /// The rows of the next table, without its header.
    fn table(&mut self, rows: usize) -> Vec<String> {
        let table: Vec<String> = self.lines.by_ref().take(rows + 1).map(Result::unwrap).collect();
        assert!(table[0].starts_with("index  name"), "{table:?}");
        table[1..].to_vec()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_pipe_gets_a_table_for_each_change_without_colours() {
    let lb = calm(&["--replicas", "2"]);
    let mut watcher = Watcher::start(&lb, &[]);
    let first = watcher.table(2);
    let pid = lb.slot(2)["pid"].to_string();
    assert!(first[1].split_whitespace().any(|word| word == pid), "{first:?}");
    lb.done(&json!({"cmd": "kill", "hostname": "server2"}));
    let mut last = first;
    while !last[1].contains(" up     1 ") {
        assert_eq!(watcher.lines.next().unwrap().unwrap(), "", "an empty line between two tables");
        let next = watcher.table(2);
        assert_ne!(next, last, "nothing is printed twice");
        assert!(next.iter().all(|row| !row.contains('\u{1b}')), "{next:?}");
        last = next;
    }
    assert!(!last[1].split_whitespace().any(|word| word == pid), "{last:?}");
    // Ctrl-C ends it.
    signal(watcher.child.id(), "INT");
    eventually("the end of the client", || watcher.child.try_wait().unwrap());
}

#[test]
fn json_is_watched_line_by_line_and_a_closed_pipe_ends_it() {
    let lb = calm(&["--replicas", "1"]);
    let mut watcher = Watcher::start(&lb, &["--json"]);
    let mut next = || -> Value { serde_json::from_str(&watcher.lines.next().unwrap().unwrap()).unwrap() };
    let first = next();
    assert_eq!(first["message"]["N"], 1);
    lb.done(&json!({"cmd": "add", "n": 1}));
    while next()["message"]["N"] != 2 {}
    let Watcher { child, lines } = &mut watcher;
    *lines =
        BufReader::new(Command::new("true").stdout(Stdio::piped()).spawn().unwrap().stdout.unwrap()).lines();
    lb.done(&json!({"cmd": "add", "n": 1}));
    let ended = eventually("the end of the client", || child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn a_first_answer_that_does_not_come_ends_it() {
    let lb = calm(&["--replicas", "1", "--control-token", "secret"]);
    let mut watcher = Watcher::start(&lb, &[]);
    let ended = eventually("the end of the client", || watcher.child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(1));
}

#[test]
fn a_slot_that_waits_tells_when_it_tries_again() {
    let gate = Gate::new();
    gate.open();
    let lb = calm(&[
        "--replicas",
        "1",
        "--command",
        &demo_after(&format!("test -e {} || exit 3;", gate.file().display())),
    ]);
    gate.close();
    lb.done(&json!({"cmd": "kill", "hostname": "server1"}));
    let waiting = eventually("a slot that waits", || {
        let slot = lb.slot(1);
        slot["next_retry"].is_f64().then_some(slot)
    });
    let seconds = waiting["next_retry"].as_f64().unwrap();
    assert!((0.0..=33.0).contains(&seconds) && waiting.get("pid").is_none(), "{waiting}");
    assert!(["down", "quarantined"].contains(&text(&waiting["state"])), "{waiting}");
    gate.open();
    let up = lb.wait_for_state(1, "up");
    assert!(up.get("next_retry").is_none() && up["pid"].is_u64(), "{up}");
}

#[test]
fn a_terminal_shows_the_last_table_alone() {
    let lb = calm(&["--replicas", "2"]);
    let terminal = Terminal::beside(&lb, 120, 24, &[]);
    terminal.run("$LB backends --watch");
    let before = lb.slot(2)["pid"].to_string();
    terminal.wait("the first table", |screen| screen.contains(&before));
    lb.done(&json!({"cmd": "kill", "hostname": "server2"}));
    let after = lb.wait_for_restarts(2, 1)["pid"].to_string();
    let screen = terminal.wait("the next table", |screen| screen.contains(&after));
    assert_eq!(screen.matches("index  name").count(), 1, "the one before is erased: {screen}");
    assert!(screen.starts_with("index  name") && !screen.contains(&before), "{screen}");
    // A table that gets shorter leaves no line of the longer one.
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["server1"], "drain": "0s"}));
    terminal.wait("one row", |screen| {
        screen.lines().filter(|line| !line.is_empty()).count() == 2 && !screen.contains("server1")
    });
    terminal.press(&["C-c"]);
    // dash shows its prompt behind the mark of the key.
    terminal.wait("the shell", |screen| screen.trim_end().ends_with('$'));
    terminal.run("echo 'over'");
    terminal.wait_for_line("over");
}
