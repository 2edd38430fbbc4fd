//! A reload: what the file says now is made in one step, or nothing is.

mod live;
mod load;
mod written;

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::control::{http, refused};
use crate::flags::{command, end};
use crate::harness::{Gate, Lb, demo_after, eventually, session};

/// A configuration file, and the `lb` that has it.
struct Case {
    folder: TempDir,
    lb: Lb,
}

impl Case {
    /// An `lb` with this file, whose replicas are in rotation. Probes do not get in the way.
    fn start(text: &str) -> Case {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lb.toml");
        fs::write(&path, text).unwrap();
        let lb = Lb::start(&["--config", path.to_str().unwrap()]);
        Case { folder, lb }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("lb.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    /// Writes this file, and loads it.
    #[track_caller]
    fn load(&self, text: &str) -> Value {
        self.write(text);
        self.reload()
    }

    #[track_caller]
    fn reload(&self) -> Value {
        self.lb.done(&json!({"cmd": "reload"}))
    }

    #[track_caller]
    fn dry_run(&self) -> Value {
        self.lb.done(&json!({"cmd": "reload", "dry_run": true}))
    }

    #[track_caller]
    fn refused(&self) -> String {
        self.lb.refused(&json!({"cmd": "reload"}))
    }

    /// What a reload could change, as far as the control port shows it.
    fn state(&self) -> (Vec<String>, Value) {
        (self.lb.hostnames(), self.lb.done(&json!({"cmd": "mapping"})))
    }
}

fn setting(key: &str, from: Option<&str>, to: Option<&str>, by: &str) -> Value {
    json!({"key": key, "from": from, "to": to, "by": by})
}

#[test]
fn a_dry_run_says_what_the_reload_does_and_changes_nothing() {
    let case = Case::start("replicas = 2\n");
    assert_eq!(case.dry_run()["settings"], json!([]), "nothing differs");
    case.write("replicas = 3\nmapping = \"maglev\"\nconnect-attempts = 5\n");
    let before = case.state();
    let shown = case.dry_run();
    assert_eq!((case.state(), &case.dry_run()), (before, &shown));
    assert_eq!(shown["dry_run"], true);
    assert_eq!(
        shown["settings"],
        json!([
            setting("connect-attempts", Some("3"), Some("5"), "file"),
            setting("replicas", Some("2"), Some("3"), "file"),
            setting("mapping", Some("ring"), Some("maglev"), "file"),
        ])
    );
    assert_eq!(shown["slots"], json!([{"slot": "server3", "change": "added", "by": "file"}]));
    assert!(shown["plan"]["moved"].as_f64().unwrap() > 0.3, "{shown}");

    let done = case.reload();
    assert_eq!(
        (done["dry_run"].clone(), &done["settings"], &done["slots"]),
        (json!(false), &shown["settings"], &shown["slots"])
    );
    assert_eq!(case.lb.hostnames(), ["server1", "server2", "server3"]);
    assert_eq!(case.state().1["mapping"], "maglev");
    let again = case.reload();
    assert_eq!((&again["settings"], &again["slots"], again.get("plan")), (&json!([]), &json!([]), None));
}

#[test]
fn the_command_is_there_in_every_language() {
    let case = Case::start("replicas = 1\n");
    case.write("replicas = 1\nfall = 7\n");
    let control = case.lb.control.to_string();
    let client = |arguments: &[&str]| end(command(arguments, &[("LB_CONTROL", &control)]));
    let (code, stdout, _) = client(&["reload", "--dry-run"]);
    let name = case.path().display().to_string();
    let expected = format!("{name} would change:\n  fall: 2 -> 7 (the file has changed)\n");
    assert_eq!((code, stdout), (Some(0), expected));
    let answer = http(&case.lb, "POST /reload", r#"{"dry_run":true}"#);
    assert!(answer.status == 200 && answer.body.contains(r#""key":"fall""#), "{answer:?}");
    assert_eq!(http(&case.lb, "GET /reload", "").status, 405);
    let answer = http(&case.lb, "POST /reload", r#"{"dry":true}"#);
    assert!(answer.status == 400 && refused(&answer.body).contains("unknown field `dry`"), "{answer:?}");
    let answer = http(&case.lb, "POST /reload", "");
    assert!(answer.status == 200 && answer.body.contains(r#""dry_run":false"#), "{answer:?}");
    assert_eq!(
        client(&["reload"]),
        (Some(0), format!("{name}: nothing differs from what runs\n"), String::new())
    );
    let (code, events, _) = client(&["events"]);
    assert!(code == Some(0) && events.contains("is loaded again: fall: 2 -> 7"), "{events}");
    case.write("fall = 0\nworkers = 3\n");
    let (code, stdout, stderr) = client(&["reload"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(
        stderr.lines().nth(1),
        Some(format!("{name}:1:8: fall: invalid value `0`: expected a whole number from 1 to 1000").as_str()),
        "{stderr}"
    );
}

#[test]
fn settings_that_need_another_start_are_refused_by_name_and_nothing_is_changed() {
    let case = Case::start("replicas = 2\n");
    case.write("replicas = 3\nworkers = 7\nfall = 9\nspares = 1\n[ports]\nmetrics = \"127.0.0.1:0\"\n");
    let before = case.state();
    let said = case.refused();
    assert!(said.contains("these settings hold as long as lb runs"), "{said}");
    for named in ["workers: - -> 7", "metrics: - -> 127.0.0.1:0", "spares: 0 -> 1"] {
        assert!(said.lines().any(|line| line == named), "{named}: {said}");
    }
    assert!(!said.contains("fall"), "{said}");
    assert_eq!(case.lb.refused(&json!({"cmd": "reload", "dry_run": true})), said);
    case.write("replicas = 3\nfall = 9\n");
    assert_eq!(case.dry_run()["settings"].as_array().unwrap().len(), 2, "nothing of it was taken");
    assert_eq!(case.state(), before);
}

#[test]
fn a_wrong_a_missing_and_an_unreadable_file_change_nothing() {
    let case = Case::start("replicas = 2\n");
    let before = case.state();
    let name = case.path().display().to_string();
    case.write("replicas = 9\nfal = 3\n[health]\ninterval = \"soon\"\n");
    let said = case.refused();
    for line in
        ["2:1: unknown key `fal`: the nearest is `fall`", "4:12: health-interval: invalid value `soon`"]
    {
        assert!(said.lines().any(|said| said.starts_with(&format!("{name}:{line}"))), "{line}: {said}");
    }
    case.write("replicas = [");
    assert!(case.refused().contains("this is no TOML"));
    fs::remove_file(case.path()).unwrap();
    assert!(case.refused().contains(&format!("--config: {name} cannot be read")), "{}", case.refused());
    fs::create_dir(case.path()).unwrap();
    assert!(case.refused().contains(&format!("--config: {name} ")), "{}", case.refused());
    fs::remove_dir(case.path()).unwrap();
    assert_eq!(case.state(), before);
    case.load("replicas = 3\n");
    assert_eq!(case.lb.hostnames().len(), 3);
}

#[test]
fn without_a_file_there_is_nothing_to_load() {
    let lb = Lb::start(&["--replicas", "1"]);
    let said = lb.refused(&json!({"cmd": "reload"}));
    assert!(said.contains("lb was started without --config"), "{said}");
}

#[test]
fn what_commands_have_changed_is_shown_as_theirs_and_undone() {
    let case = Case::start("replicas = 3\npoints = 100\n");
    case.lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S1"]}));
    case.lb.done(&json!({"cmd": "mapping", "points": 64}));
    case.write("replicas = 3\npoints = 100\nfall = 5\n");
    let shown = case.dry_run();
    assert_eq!(
        shown["settings"],
        json!([
            setting("fall", Some("2"), Some("5"), "file"),
            setting("replicas", Some("4"), Some("3"), "command"),
            setting("points", Some("64"), Some("100"), "command"),
        ])
    );
    assert_eq!(shown["slots"], json!([{"slot": "S1", "change": "removed", "by": "command"}]));
    case.reload();
    assert_eq!(case.lb.hostnames(), ["server1", "server2", "server3"]);
    case.lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["server2"]}));
    assert_eq!(case.reload()["slots"], json!([{"slot": "server2", "change": "added", "by": "command"}]));
    assert_eq!(case.lb.hostnames(), ["server1", "server2", "server3"]);
    // What nothing says stays as it runs.
    case.load("fall = 5\n");
    case.lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S2"]}));
    case.lb.done(&json!({"cmd": "mapping", "mapping": "rendezvous"}));
    let before = case.state();
    assert_eq!(case.load("fall = 6\n")["settings"], json!([setting("fall", Some("5"), Some("6"), "file")]));
    assert_eq!(case.state(), before);
    assert_eq!(case.load("replicas = 3\nfall = 5\n")["slots"][0]["slot"], "S2");
    // What a command has done already differs from nothing.
    case.lb.done(&json!({"cmd": "mapping", "mapping": "maglev"}));
    assert_eq!(case.load("replicas = 3\nmapping = \"maglev\"\nfall = 5\n")["settings"], json!([]));
}

#[test]
fn a_hangup_loads_the_file_and_a_wrong_one_is_told_in_the_log() {
    let case = Case::start("replicas = 1\n");
    case.write("replicas = 2\n");
    case.lb.signal("HUP");
    case.lb.wait_for_log("the configuration is loaded again file=");
    assert_eq!(case.lb.hostnames(), ["server1", "server2"]);
    case.write("replicas = 3\nworkers = 9\n");
    case.lb.signal("HUP");
    let said = case.lb.wait_for_log("SIGHUP: the configuration is not loaded, and nothing is changed");
    assert!(said.contains("ERROR") && said.contains("workers: - -> 9"), "{said}");
    assert_eq!(case.lb.hostnames(), ["server1", "server2"]);
}

#[test]
fn a_replica_that_cannot_start_undoes_all_of_it_and_one_reload_is_under_way_at_a_time() {
    let gate = Gate::new();
    let wait = format!(
        "case $SERVER_ID in server2) until test -e {}; do sleep 0.02; done;; server3) exit 7;; esac;",
        gate.file().display()
    );
    let start = format!("command = \"{}\"\n", demo_after(&wait));
    let case = Case::start(&format!("{start}replicas = 1\n"));
    let (client, _) = session(&case.lb, "7");
    let before = case.state();
    case.write(&format!("{start}replicas = 3\nmapping = \"maglev\"\nfall = 9\ndeny = \"127.0.0.1\"\n"));
    let said = case.refused();
    assert!(said.contains("exited") || said.contains("ended"), "{said}");
    assert_eq!((case.state(), case.lb.backends().len()), (before, 1));
    assert_eq!(case.lb.route("8"), "server1", "nothing is denied");
    drop(client);

    case.write(&format!("{start}replicas = 2\n"));
    let first = std::thread::scope(|scope| {
        let first = scope.spawn(|| case.reload());
        eventually("the start of server2", || {
            case.lb.backends().iter().any(|slot| slot["name"] == "server2").then_some(())
        });
        let said = case.refused();
        assert!(said.contains("another reload is under way"), "{said}");
        gate.open();
        first.join().unwrap()
    });
    assert_eq!(first["slots"], json!([{"slot": "server2", "change": "added", "by": "file"}]));
    assert_eq!(case.lb.hostnames(), ["server1", "server2"]);
}

#[test]
fn slots_that_come_by_another_command_are_waited_for_and_not_added_twice() {
    for (server, is_there) in [("S1", true), ("S2", false)] {
        let gate = Gate::new();
        let wait = format!(
            "case $SERVER_ID in S*) until test -e {}; do sleep 0.02; done;; esac; case $SERVER_ID in S2) exit 7;; esac;",
            gate.file().display()
        );
        let start = format!("command = \"{}\"\n", demo_after(&wait));
        let case = Case::start(&format!("{start}replicas = 1\n"));
        case.write(&format!("{start}replicas = 2\nfall = 9\n"));
        let add = json!({"cmd": "add", "n": 1, "hostnames": [server]});
        let done = std::thread::scope(|scope| {
            let added = scope.spawn(|| case.lb.ask(&add));
            eventually("the start of the replica", || {
                case.lb.backends().iter().any(|slot| slot["name"] == server).then_some(())
            });
            let (answers, answered) = std::sync::mpsc::channel();
            for answers in [answers.clone(), answers] {
                let case = &case;
                scope.spawn(move || answers.send(case.lb.ask(&json!({"cmd": "reload"}))).unwrap());
            }
            // One of them waits, so it is there.
            let said = answered.recv().unwrap()["message"].to_string();
            assert!(said.contains("another reload is under way"), "{said}");
            gate.open();
            assert_eq!(added.join().unwrap()["status"] == "successful", is_there);
            answered.recv().unwrap()["message"].clone()
        });
        let (changes, hostname) = if is_there {
            (json!([]), server)
        } else {
            (json!([{"slot": "server2", "change": "added", "by": "file"}]), "server2")
        };
        assert_eq!(
            (&done["slots"], case.lb.hostnames()),
            (&changes, vec!["server1".to_owned(), hostname.to_owned()])
        );
        assert_eq!(done["settings"][0]["key"], "fall", "{done}");
    }
}
