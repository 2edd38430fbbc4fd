//! `lb top` in a real terminal: what it shows, what its keys do, and that it leaves the terminal as it was.

use std::fs::OpenOptions;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde_json::json;

use crate::control::calm;
use crate::harness::{Lb, Replica, eventually, fixed, flags};

/// A shell in a terminal of tmux, on a server of its own that ends with it.
pub(crate) struct Terminal {
    server: String,
}

impl Terminal {
    /// A terminal of this size, in whose environment these variables are.
    fn new(columns: u32, rows: u32, variables: &[(&str, String)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = format!("lb-top-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let terminal = Terminal { server };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let mut new = vec!["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows];
        let variables: Vec<String> =
            variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        variables.iter().for_each(|variable| new.extend(["-e", variable.as_str()]));
        new.push("PS1='$ ' sh");
        terminal.tmux(&new);
        terminal.wait_for("$");
        terminal
    }

    /// A terminal in which commands speak with this `lb`.
    pub(crate) fn beside(lb: &Lb, columns: u32, rows: u32, variables: &[(&str, &str)]) -> Self {
        let own = [("LB_CONTROL", lb.control.to_string()), ("LB", env!("CARGO_BIN_EXE_lb").to_owned())];
        let more = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
        Terminal::new(columns, rows, &own.into_iter().chain(more).collect::<Vec<_>>())
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.server]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What is on the screen.
    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// What is on the screen, with the sequences for colours and attributes.
    fn painted(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Presses keys, by the names that tmux has for them.
    pub(crate) fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a text.
    fn write(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Runs a command in the shell.
    pub(crate) fn run(&self, command: &str) {
        self.write(command);
        self.press(&["Enter"]);
    }

    /// Waits until the screen is as wanted; returns it.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, is_right: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        eventually(&format!("{what} on the screen"), || {
            last = self.screen();
            is_right(&last).then(|| last.clone())
        })
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, part: &str) -> String {
        self.wait(part, |screen| screen.contains(part))
    }

    /// Waits until the view has gone, and the shell has printed this word alone on a line.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, word: &str) -> String {
        self.wait(word, |screen| screen.lines().any(|line| line == word) && !screen.contains("lb top  "))
    }

    /// Waits until the shell reads commands again. What is typed earlier may be read, and thrown away, by what ends.
    #[track_caller]
    pub(crate) fn wait_for_shell(&self) -> String {
        self.wait("the shell", |screen| screen.trim_end().ends_with("\n$") && !screen.contains("lb top  "))
    }

    /// The process of the command that the shell runs.
    fn process(&self) -> String {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        eventually("the process of lb top", || {
            let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
            children.split_whitespace().next().map(str::to_owned)
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the screen ---\n{}", self.screen());
        }
        // It fails only if the server has gone already.
        let _ = Command::new("tmux").args(["-L", &self.server, "kill-server"]).output();
    }
}

/// The lines of the table, each as its words.
pub(crate) fn rows(screen: &str) -> Vec<Vec<&str>> {
    let table = screen.lines().skip_while(|line| !line.trim_start().starts_with("SLOT")).skip(1);
    let rows = table.take_while(|line| !line.trim().is_empty() && !line.starts_with("slot "));
    rows.map(|line| line.trim_start_matches('>').split_whitespace().collect()).collect()
}

fn slots(screen: &str) -> Vec<&str> {
    rows(screen).into_iter().map(|row| row[0]).collect()
}

#[test]
fn slots_are_shown_sorted_filtered_and_explained() {
    let lb = calm(&["--replicas", "3", "--spares", "1"]);
    let terminal = Terminal::beside(&lb, 80, 24, &[]);
    terminal.run("$LB top");
    let screen = terminal.wait_for("3 of 3 up, 1 spare");
    assert!(
        screen.contains("live") && screen.contains("Incidents: none") && screen.contains("q quit"),
        "{screen}"
    );
    assert_eq!(slots(&screen), ["server1", "server2", "server3", "(spare)"]);
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");

    // Connections are counted where they go.
    let busiest = lb.route("132574");
    (0..20).for_each(|_| drop(lb.route("132574")));
    terminal.press(&["s", "s", "s"]);
    terminal.wait("the busiest slot first", |screen| {
        screen.contains("RATE/S*") && slots(screen).first() == Some(&busiest.as_str())
    });
    terminal.press(&["/"]);
    terminal.write("server2");
    terminal.wait("one slot", |screen| slots(screen) == ["server2"]);
    terminal.press(&["Escape"]);
    terminal.wait("all slots", |screen| slots(screen).len() == 4);

    terminal.press(&["e"]);
    terminal.wait_for("explain the request id:");
    terminal.write("132574");
    terminal.press(&["Enter"]);
    terminal.wait_for(&format!("it goes to {busiest}"));
    // A key that follows at once would be one with Alt.
    terminal.press(&["Escape"]);
    terminal.wait("the table again", |screen| !screen.contains("it goes to"));
    terminal.press(&["?"]);
    terminal.wait_for("weight 0, no new connections");
    terminal.press(&["Enter"]);
    terminal.wait("the table again", |screen| !screen.contains("weight 0, no"));
    terminal.press(&["q"]);
    terminal.wait_for_shell();
    terminal.run("echo 'over'");
    terminal.wait_for_line("over");
}

#[test]
fn a_replica_is_killed_and_a_slot_drained_after_a_yes() {
    let lb = calm(&["--replicas", "2"]);
    let terminal = Terminal::beside(&lb, 160, 30, &[]);
    terminal.run("$LB top");
    let screen = terminal.wait_for("2 of 2 up");
    assert!(screen.contains("SHARE, TARGET |"), "a wide screen has more columns: {screen}");
    let before = lb.slot(1);
    terminal.press(&["k"]);
    terminal.wait_for("Kill server1 (process");
    terminal.press(&["n"]);
    terminal.wait_for("nothing was done");
    assert_eq!(lb.slot(1)["pid"], before["pid"]);
    terminal.press(&["k"]);
    terminal.wait_for("Kill server1 (process");
    terminal.press(&["y"]);
    let after = lb.wait_for_restarts(1, 1);
    assert_ne!(after["pid"], before["pid"]);
    terminal.wait("the incident that is over", |screen| {
        screen.contains("Incidents: 1") && screen.contains("back after") && screen.contains("2 of 2 up")
    });

    // The view asks one question after the other, and may show what has changed before it has the answer.
    terminal.wait_for("server1 is killed");
    terminal.press(&["Down", "d"]);
    terminal.wait_for("Drain slot server2?");
    terminal.press(&["y"]);
    terminal.wait("the drained slot, and the answer", |screen| {
        screen.contains("up, drained") && screen.contains("server2 has the weight 0")
    });
    assert_eq!(lb.done(&json!({"cmd": "mapping"}))["weights"]["server2"], 0);
    terminal.press(&["d"]);
    terminal.wait_for("the weight 1 again?");
    terminal.press(&["y"]);
    eventually("the weight from before", || {
        (lb.done(&json!({"cmd": "mapping"}))["weights"]["server2"] == 1).then_some(())
    });
}

#[test]
fn a_token_is_asked_for_and_a_wrong_one_refused() {
    let lb = calm(&["--replicas", "1", "--control-token", "a-right-token"]);
    let terminal = Terminal::beside(&lb, 80, 24, &[]);
    terminal.run("$LB top");
    for wrong in ["wrong", "still-wrong"] {
        let screen = terminal.wait_for("token: ");
        assert!(!screen.contains("1 of 1 up"), "{screen}");
        terminal.write(wrong);
        let hidden = format!("token: {}", "*".repeat(wrong.len()));
        assert!(!terminal.wait_for(&hidden).contains(wrong));
        terminal.press(&["Enter"]);
        terminal.wait("another question for a token", |screen| {
            screen.contains("token: ") && !screen.contains("token: *")
        });
    }
    terminal.write("a-right-token");
    terminal.press(&["Enter"]);
    terminal.wait_for("1 of 1 up");
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    let lb = calm(&["--replicas", "1"]);
    // Colours are the sequences with 30 to 37 and 90 to 97; 39 is no colour.
    let is_coloured = |painted: &str| {
        painted.split("\u{1b}[").skip(1).any(|rest| {
            let codes = rest.split('m').next().unwrap_or_default();
            codes.split(';').any(|code| code.len() == 2 && code.starts_with(['3', '9']) && code != "39")
        })
    };
    for (variables, expected) in [(&[][..], true), (&[("NO_COLOR", "1")][..], false)] {
        let terminal = Terminal::beside(&lb, 80, 24, variables);
        terminal.run("$LB top");
        terminal.wait_for("1 of 1 up");
        assert_eq!(is_coloured(&terminal.painted()), expected, "{variables:?}");
    }
}

#[test]
fn the_terminal_is_left_as_it_was_whatever_ends_the_view() {
    let lb = calm(&["--replicas", "1"]);
    let terminal = Terminal::beside(&lb, 80, 24, &[]);
    terminal.run("before=$(stty -g); echo 'known'");
    terminal.wait_for_line("known");
    for (turn, end) in ["q", "C-c", "TERM", "HUP", "INT", "QUIT"].into_iter().enumerate() {
        terminal.run("$LB top; echo \"left with $?\"");
        terminal.wait_for("1 of 1 up");
        match end {
            "q" | "C-c" => terminal.press(&[end]),
            signal => {
                let process = terminal.process();
                assert!(
                    Command::new("kill").args([&format!("-{signal}"), &process]).status().unwrap().success()
                );
            }
        }
        terminal.wait("the shell", |screen| screen.matches("left with 0").count() == turn + 1);
        terminal.wait_for_shell();
        terminal.run(&format!("[ \"$before\" = \"$(stty -g)\" ] && echo 'same{turn}'"));
        let screen = terminal.wait_for_line(&format!("same{turn}"));
        assert!(!screen.contains("Incidents"), "{screen}");
        assert_eq!(terminal.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
    }
}

#[test]
fn a_view_whose_lb_has_gone_says_so_and_finds_the_next_one() {
    let lb = calm(&["--replicas", "1"]);
    let control = lb.control.to_string();
    let terminal = Terminal::beside(&lb, 80, 24, &[]);
    terminal.run("$LB top");
    terminal.wait_for("1 of 1 up");
    drop(lb);
    terminal.wait_for("not connected, tries again");
    let _next = Lb::start(&["--replicas", "2", "--control", &control]);
    terminal.wait_for("2 of 2 up");
    terminal.press(&["q"]);
}

#[test]
fn without_a_terminal_it_says_what_is_expected() {
    let lb = calm(&["--replicas", "1"]);
    let top = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
        let output = command.args(arguments).env("LB_CONTROL", lb.control.to_string()).output().unwrap();
        (String::from_utf8(output.stderr).unwrap(), output.status.code())
    };
    let (said, code) = top(&["top"]);
    assert!(said.contains("have to be a terminal") && said.contains("lb backends --watch"), "{said}");
    assert_eq!(code, Some(2));
    let (said, code) = top(&["top", "--json"]);
    assert!(said.contains("--json"), "{said}");
    assert_eq!(code, Some(2));
}

#[test]
fn rates_shares_and_percentiles_come_with_load_and_a_wider_screen_has_more() {
    let lb = calm(&["--replicas", "3", "--demo"]);
    let terminal = Terminal::beside(&lb, 80, 24, &[]);
    terminal.run("$LB top");
    let screen = terminal.wait("figures of each slot", |screen| {
        // Slot, replica, state, "6 s", open, rate, "34.4 %", "33.5 %", restarts: a dash would be one word less.
        let has_figures = |row: &Vec<&str>| row.len() == 12 && row[6] != "0.0";
        screen.contains(" ms p99 ") && rows(screen).len() == 3 && rows(screen).iter().all(has_figures)
    });
    assert!(
        screen.lines().count() == 24 && screen.lines().all(|line| line.chars().count() <= 80),
        "{screen}"
    );
    terminal.tmux(&["resize-window", "-x", "200", "-y", "40"]);
    let process = format!("process {}", lb.slot(1)["pid"]);
    terminal.wait("the columns of a wide screen", |screen| {
        screen.contains("RUNS IN") && screen.contains("NOTE") && screen.contains(&process)
    });
}

#[test]
fn ctrl_z_gives_the_terminal_to_the_shell_for_a_while() {
    let lb = calm(&["--replicas", "1"]);
    let terminal = Terminal::beside(&lb, 80, 24, &[]);
    terminal.run("before=$(stty -g); echo 'known'");
    terminal.wait_for_line("known");
    terminal.run("$LB top");
    terminal.wait_for("1 of 1 up");
    terminal.press(&["C-z"]);
    assert!(terminal.wait_for_shell().contains("Stopped"));
    terminal.run("[ \"$before\" = \"$(stty -g)\" ] && echo 'same'");
    terminal.wait_for_line("same");
    terminal.run("fg");
    terminal.wait_for("1 of 1 up");
    terminal.press(&["q"]);
    terminal.wait_for_shell();
    terminal.run("[ \"$before\" = \"$(stty -g)\" ] && echo 'over'");
    terminal.wait_for_line("over");
}

#[test]
fn what_forbids_the_view_is_said_before_anything_is_drawn() {
    let lb = calm(&["--replicas", "1", "--control-token", "a-right-token"]);
    let terminal = Terminal::beside(&lb, 200, 24, &[]);
    for (turn, (command, message, code)) in [
        ("$LB top --control-token wrong", "the token is wrong", 1),
        ("$LB top --control 127.0.0.1:1", "no lb answers on 127.0.0.1:1 (--control)", 1),
        ("TERM=dumb $LB top", "TERM=dumb is a terminal that cannot move its cursor", 2),
    ]
    .into_iter()
    .enumerate()
    {
        terminal.run(&format!("{command}; echo \"turn {turn}: $?\""));
        let screen = terminal.wait_for_line(&format!("turn {turn}: {code}"));
        assert!(screen.contains(message), "{command}: {screen}");
        terminal.wait_for_shell();
    }
}

#[test]
fn a_replica_that_lb_has_not_started_is_not_killed() {
    let replica = Replica::named("a");
    let lb = Lb::start(&flags(&fixed(&[replica.address])));
    let terminal = Terminal::beside(&lb, 80, 24, &[]);
    terminal.run("$LB top");
    terminal.wait_for("1 of 1 up");
    terminal.press(&["k"]);
    terminal.wait_for("a was not started by lb");
}

#[test]
fn a_view_whose_terminal_has_gone_ends_even_without_a_signal() {
    let lb = calm(&["--replicas", "1"]);
    struct View(Child);
    impl Drop for View {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    // A terminal that goes while keys are read is the hard case, and not met each time.
    for turn in 0..10 {
        let terminal = Terminal::beside(&lb, 80, 24, &[]);
        // The kernel sends SIGHUP to those alone whose controlling terminal it is.
        let path = terminal.tmux(&["display-message", "-p", "#{pane_tty}"]);
        let open = || OpenOptions::new().read(true).write(true).open(path.trim()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
        command.arg("top").env("LB_CONTROL", lb.control.to_string()).env("TERM", "screen");
        let mut view = View(command.stdin(open()).stdout(open()).stderr(Stdio::null()).spawn().unwrap());
        terminal.wait_for("1 of 1 up");
        terminal.write(&"sr".repeat(200));
        drop(terminal);
        let ended = eventually(&format!("the end of the view in turn {turn}"), || view.0.try_wait().unwrap());
        assert_eq!(ended.code(), Some(1));
    }
}
