//! The log: what programs and people read of it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use syn::visit::{self, Visit};

use crate::harness::{Gate, Lb, demo_after, eventually, signal, text};
use crate::metrics::page::scrape;

/// What an `lb` has logged, beside where it listens.
fn said(lb: &Lb) -> Vec<String> {
    lb.log().into_iter().filter(|line| !line.contains(" lb::service: ")).collect()
}

#[test]
fn at_warn_losses_and_outages_are_said_and_neither_probes_nor_recoveries() {
    let gate = Gate::new();
    gate.open();
    let command = demo_after(&format!("test -e {} || exit 3;", gate.file().display()));
    let patience = ["--health-interval", "20ms", "--health-timeout", "30s"];
    let flags = ["--replicas", "2", "--command", &command, "--access-log", "/dev/full"];
    // What the harness reads of the start is at level info.
    let lb = Lb::start(&[&patience[..], &flags, &["--log", "warn,lb::service=info"]].concat());
    eventually("many probes", || {
        let probes = scrape(&lb).sum("lb_probes_total", ("result", "ok"));
        (probes > 100.0).then_some(())
    });
    assert_eq!(said(&lb), [""; 0], "probes fill no log");

    signal(lb.process_of("server1"), "KILL");
    let after = lb.wait_for_restarts(1, 1);
    let lines = said(&lb);
    let [line] = &lines[..] else { panic!("a loss is one line: {lines:?}") };
    assert!(line.contains(" WARN ") && line.ends_with("hostname=server1"), "{line}");

    gate.close();
    for hostname in ["server2", text(&after["hostname"])] {
        signal(lb.process_of(hostname), "KILL");
    }
    let level = |part: &str| lb.wait_for_log(part).split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(level("no replica is in rotation"), "ERROR");
    assert!(lb.get("/home?id=7").contains("503"));
    assert_eq!(level("no replica is available: clients were turned away"), "ERROR");
    assert_eq!(level("lines are missing in the log of connections"), "WARN");
    assert_eq!(level("replica quarantined slot=server1"), "ERROR");
}

/// The fields of the line of a JSON log whose message begins with this.
#[track_caller]
fn fields(lb: &Lb, message: &str) -> Value {
    let line = lb.wait_for_log(&format!("\"message\":\"{message}"));
    serde_json::from_str::<Value>(&line).unwrap()["fields"].take()
}

#[test]
fn in_json_addresses_counts_and_durations_are_fields() {
    let flags =
        ["--log-format", "json", "--replicas", "2", "--drain-timeout", "1500ms", "--stop-delay", "1ms"];
    let mut lb = Lb::start(&[&flags[..], &["--log", "debug"]].concat());
    let (data, control) = (json!(lb.data.to_string()), json!(lb.control.to_string()));
    let listening = fields(&lb, "listening");
    assert_eq!((&listening["data"], &listening["control"]), (&data, &control));
    let ready = fields(&lb, "ready");
    assert_eq!((&ready["data"], &ready["control"], &ready["replicas"]), (&data, &control, &json!(2)));
    lb.route("7");
    let session = fields(&lb, "session");
    assert!(["first_line", "connect", "duration"].iter().all(|name| session[name].is_f64()), "{session}");
    assert_eq!((&session["up"], &session["tried"]), (&json!(2), &json!(1)), "{session}");
    lb.signal("TERM");
    assert_eq!(fields(&lb, "stopping: /healthz")["stop_delay"], 0.001);
    assert_eq!(fields(&lb, "stopping: connections may finish")["drain_timeout"], 1.5);
    assert!(lb.wait().success());
}

#[test]
fn in_json_a_cause_is_a_field_and_the_message_stays_the_same() {
    let flags = ["--log-format", "json", "--replicas", "1"];
    let lb = Lb::start(&[&flags[..], &["--access-log", "/dev/full"]].concat());
    lb.route("7");
    let lost = fields(&lb, "lines are missing in the log of connections (--access-log)\"");
    assert!(text(&lost["error"]).contains("No space left on device"), "{lost}");
    assert_eq!(lost["lines"], 1, "{lost}");
    signal(lb.process_of("server1"), "KILL");
    let ended = fields(&lb, "process ended");
    assert_eq!(ended["reason"], "ended with signal: 9 (SIGKILL)", "{ended}");
    lb.signal("USR1");
    assert_eq!(fields(&lb, "SIGUSR1")["signal"], "SIGUSR1");
}

/// What stands in a message of the log and in no field.
struct OnlyInWords {
    file: String,
    found: Vec<String>,
}

impl<'ast> Visit<'ast> for OnlyInWords {
    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        let name = called.path.segments.last().unwrap().ident.to_string();
        if ["error", "warn", "info", "debug", "trace"].contains(&name.as_str()) {
            self.judge(&called.tokens.to_string());
        }
        visit::visit_macro(self, called);
    }
}

impl OnlyInWords {
    /// Looks at what such a macro gets. The text in quotes is the message; all else are fields, and names that a message may have: they
    /// say which of a few messages it is.
    fn judge(&mut self, tokens: &str) {
        let whole = tokens.replace("\\\"", "'");
        let fields: String = whole.split('"').step_by(2).collect();
        let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
        let mut known: Vec<&str> = fields.split(|letter| !is_name(letter)).collect();
        known.extend(["what", "LEFT", "name", "port"]);
        for message in whole.split('"').skip(1).step_by(2) {
            let message = message.replace("{{", "");
            for shown in message.split('{').skip(1).map(|rest| rest.split(['}', ':']).next().unwrap()) {
                if shown.is_empty() || !known.contains(&shown) {
                    self.found.push(format!("{}: {{{shown}}} in {message:?}", self.file));
                }
            }
        }
    }
}

#[test]
fn no_value_stands_in_a_message_only() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let (mut files, mut found) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
                let mut words = OnlyInWords { file: path.display().to_string(), found: Vec::new() };
                words.visit_file(&file);
                files += 1;
                found.extend(words.found);
            }
        }
    }
    assert!(files > 100, "{files}");
    // What a replica prints is the message.
    found.retain(|place| !place.contains("process/output.rs: {} in \"{}\""));
    assert!(found.is_empty(), "make it a field: {}", found.join("\n"));
}

#[test]
fn in_text_nothing_is_said_twice() {
    let lb = Lb::start(&["--replicas", "1"]);
    let ready = lb.wait_for_log("ready data=");
    assert!(
        ready.ends_with(&format!(": ready data={} control={} replicas=1", lb.data, lb.control)),
        "{ready}"
    );
    signal(lb.process_of("server1"), "KILL");
    let ended = lb.wait_for_log("process ended");
    assert!(ended.ends_with("process ended with signal: 9 (SIGKILL) hostname=server1"), "{ended}");
    let down = lb.wait_for_log("replica starting slot=server1");
    assert!(down.ends_with(" reason=\"ended with signal: 9 (SIGKILL)\""), "{down}");
    let listening = lb.wait_for_log("listening data=");
    assert!(
        listening.ends_with(&format!(": listening data={} control={}", lb.data, lb.control)),
        "{listening}"
    );
}
