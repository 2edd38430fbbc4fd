//! A file of backends that is watched: each change of it is made in one step, or nothing is.

mod again;
mod way;
mod wrong;

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::control::http;
use crate::flags::{command, end};
use crate::harness::{Lb, Replica, eventually, id_for, say, text};
use crate::upgrade::Successor;

/// A file of backends, and the `lb` that follows it.
struct Case {
    folder: TempDir,
    lb: Lb,
}

impl Case {
    fn start(text: &str, more: &[&str]) -> Case {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backends");
        fs::write(&file, text).unwrap();
        let lb = Lb::start(&[&["--log", "lb=debug"], &flags(&file)[..], more].concat());
        Case { folder, lb }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("backends")
    }

    /// Renames another file into its place.
    fn put(&self, text: &str) {
        put(&self.file(), text);
    }

    /// Waits until the file was taken, or refused, so many times since the start.
    #[track_caller]
    fn wait_for(&self, result: &str, times: usize) {
        let name = format!("lb_backends_file_reads_total{{result=\"{result}\"}} ");
        eventually(&format!("{result}: {times}"), || {
            let page = http(&self.lb, "GET /metrics", "").body;
            let value = page.lines().find_map(|line| line.strip_prefix(&name)).map(str::to_owned);
            (value?.parse::<f64>().ok()? as usize == times).then_some(())
        });
    }

    /// Name, location and weight of each slot, by name.
    fn slots(&self) -> Vec<String> {
        slots(&self.lb)
    }
}

/// The flags for this file. No probe but the first ones gets in the way.
fn flags(file: &Path) -> Vec<&str> {
    vec!["--provider", "fixed", "--backends-file", file.to_str().unwrap(), "--health-interval", "1m"]
}

fn put(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

fn slots(lb: &Lb) -> Vec<String> {
    let slot = |slot: Value| {
        let weight = slot.get("weight").map_or_else(String::new, |weight| format!(",weight={weight}"));
        format!("{}={}{weight}", text(&slot["name"]), text(&slot["location"]))
    };
    let stays = |slot: &Value| slot["state"] != "draining";
    let mut slots: Vec<String> = lb.backends().into_iter().filter(stays).map(slot).collect();
    slots.sort();
    slots
}

/// The line of a server.
fn line(name: &str, address: SocketAddr) -> String {
    format!("{name}={address}\n")
}

/// The server that answers for a slot.
fn reached(lb: &Lb, slot: &str) -> String {
    String::from_utf8(lb.exchange(format!("{}\n", id_for(lb, slot)).as_bytes())).unwrap()
}

/// The changes of each time at which the journal says that something was loaded again.
fn loads(lb: &Lb) -> Vec<Value> {
    let stream = lb.dial(lb.control);
    (&stream).write_all(b"{\"cmd\":\"events\",\"follow\":false}\n").unwrap();
    let text = std::io::read_to_string(stream).unwrap();
    let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.filter(|entry| entry["kind"] == "reloaded").map(|entry| entry["changes"].clone()).collect()
}

#[test]
fn a_change_of_the_file_is_one_step() {
    let [first, second, third] = ["first", "second", "third"].map(Replica::named);
    let text = format!("# all\n\n{}b={},weight=2 # the big one\n", line("a", first.address), second.address);
    let case = Case::start(&text, &[]);
    let before = [format!("a={}", first.address), format!("b={},weight=2", second.address)];
    assert_eq!(case.slots(), before);
    let mut session = case.lb.connect();
    // b moves, and gets another weight; a leaves; c comes.
    case.put(&format!("{}{}", line("c", third.address), line("b", first.address)));
    case.wait_for("applied", 1);
    assert_eq!(case.slots(), [format!("b={}", first.address), format!("c={}", third.address)]);
    assert_eq!((reached(&case.lb, "b"), reached(&case.lb, "c")), ("first".into(), "third".into()));
    let changes = json!([
        "slot c: added (the file has changed)",
        "slot a: removed (the file has changed)",
        "slot b: another replica (the file has changed)",
        "slot b: weight 2 -> 1 (the file has changed)",
    ]);
    assert_eq!(loads(&case.lb), [changes]);
    let said = case.lb.wait_for_log("the file of backends is taken");
    assert!(said.contains("changes=4") && said.contains("moved=0."), "it is planned: {said}");
    let reads = case.lb.done(&json!({"cmd": "backends"}))["backends_file"].clone();
    assert_eq!(reads, json!({"applied": 1, "refused": 0}));
    session.write_all(b"1\n").unwrap();
}

#[test]
fn the_first_connection_to_a_new_backend_comes_soon_after_its_line() {
    let (first, second) = (Replica::named("first"), Replica::named("second"));
    let case = Case::start(&line("a", first.address), &[]);
    let times = (0..5).map(|_| {
        case.put(&format!("{}{}", line("a", first.address), line("b", second.address)));
        let begun = Instant::now();
        eventually("an answer of the new backend", || {
            let ids = (0..8).map(|id| case.lb.exchange(format!("{id}\n").as_bytes()));
            ids.into_iter().any(|answer| answer == b"second").then_some(())
        });
        let took = begun.elapsed();
        case.put(&line("a", first.address));
        eventually("its end", || (case.slots().len() == 1).then_some(()));
        took
    });
    let mut times: Vec<_> = times.collect();
    times.sort();
    println!("from the rename of the file to an answer of the new backend: {times:?}");
}

#[test]
fn a_file_is_read_when_it_is_complete() {
    let (first, second) = (Replica::named("first"), Replica::named("second"));
    let case = Case::start(&line("a", first.address), &[]);
    let mut writing = File::create(case.file()).unwrap();
    writing.write_all(line("b", second.address).as_bytes()).unwrap();
    // What happens beside it has lb look at the file, too.
    fs::write(case.folder.path().join("other"), "").unwrap();
    case.lb.wait_for_log("a file that is watched is being written");
    assert_eq!(case.slots(), [format!("a={}", first.address)]);
    writing.write_all(line("a", first.address).as_bytes()).unwrap();
    drop(writing);
    case.wait_for("applied", 1);
    assert_eq!(case.slots(), [format!("a={}", first.address), format!("b={}", second.address)]);
    assert_eq!(loads(&case.lb), [json!(["slot b: added (the file has changed)"])]);
}

#[test]
fn a_file_that_is_a_link_is_followed_as_a_config_map_of_kubernetes_changes() {
    let (first, second) = (Replica::named("first"), Replica::named("second"));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let version = |name: &str, text: &str| {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("backends"), text).unwrap();
        symlink(name, path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
    };
    version("..1", &line("a", first.address));
    symlink("..data/backends", path("backends")).unwrap();
    let lb = Lb::start(&flags(&path("backends")));
    for (now, before, text) in [
        ("..2", "..1", line("b", second.address)),
        ("..3", "..2", format!("{}{}", line("b", second.address), line("c", first.address))),
    ] {
        version(now, &text);
        fs::remove_dir_all(path(before)).unwrap();
        eventually("the next version", || (slots(&lb) == text.lines().collect::<Vec<_>>()).then_some(()));
    }
    // Where it leads to, it may be written as well; and the link itself may be another one.
    fs::write(path("..3").join("backends"), line("d", first.address)).unwrap();
    eventually("what was written there", || (lb.hostnames() == ["d"]).then_some(()));
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("list"), line("e", first.address)).unwrap();
    fs::remove_file(path("backends")).unwrap();
    symlink(elsewhere.path().join("list"), path("backends")).unwrap();
    eventually("where the link leads", || (lb.hostnames() == ["e"]).then_some(()));
    put(&elsewhere.path().join("list"), &line("f", first.address));
    eventually("what is renamed there", || (lb.hostnames() == ["f"]).then_some(()));
}

#[test]
fn what_commands_change_holds_until_the_file_changes_or_is_loaded() {
    let (first, second) = (Replica::named("first"), Replica::named("second"));
    let (a, b) = (line("a", first.address), line("b", second.address));
    let case = Case::start(&a, &[]);
    let added = format!("c={},weight=3", second.address);
    case.lb.done(&json!({"cmd": "add", "n": 1, "hostnames": [added]}));
    // The same again is no change.
    case.put(&format!("# {a}{a}"));
    case.put(&format!("{a}{b}"));
    case.wait_for("applied", 1);
    assert_eq!(case.lb.hostnames(), ["a", "b"]);
    let changes = json!(["slot b: added (the file has changed)", "slot c: removed (the file has changed)"]);
    assert_eq!(loads(&case.lb), [changes]);
    // A reload undoes commands, too, and needs no --config.
    case.lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["b"]}));
    let dry = case.lb.done(&json!({"cmd": "reload", "dry_run": true}));
    assert_eq!(dry["slots"], json!([{"slot": "b", "change": "added", "by": "command"}]));
    case.lb.done(&json!({"cmd": "reload"}));
    assert_eq!(case.lb.hostnames(), ["a", "b"]);
    // What runs is written beside the name of the file.
    case.lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["a"]}));
    let (code, written, _) =
        end(command(&["config", "--control", &case.lb.control.to_string(), "--write"], &[]));
    let name = format!("backends-file = \"{}\"\n", case.file().display());
    assert!(code == Some(0) && written.contains(&name) && !written.contains("[[backend]]"), "{written}");
    let lines = "\n# The lines of --backends-file for the backends that run:\n# b=";
    assert!(written.contains(lines) && written.trim_end().ends_with(b.trim_end()), "{written}");
}

#[test]
fn a_successor_reads_the_file_and_follows_it() {
    let (first, second) = (Replica::named("first"), Replica::echo());
    let (a, b) = (line("a", first.address), line("b", second.address));
    let case = Case::start(&format!("{a}{b}"), &[]);
    let id = id_for(&case.lb, "b");
    let mut session = case.lb.connect();
    say(&mut session, &id);
    case.lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["a"]}));
    let _successor = Successor::of(&case.lb);
    assert_eq!(case.lb.hostnames(), ["b"], "the file says what it said");
    let c = line("c", first.address);
    case.put(&format!("{b}{c}"));
    case.wait_for("applied", 1);
    assert_eq!((case.slots().join("\n") + "\n", reached(&case.lb, "c")), (b + &c, "first".to_owned()));
    assert_eq!(say(&mut session, "still there"), "still there\n");
}

#[test]
fn a_reload_may_name_another_file_or_the_backends_themselves() {
    let replica = Replica::named("all");
    let folder = tempfile::tempdir().unwrap();
    let [config, one, two] = ["lb.toml", "one", "two"].map(|name| folder.path().join(name));
    fs::write(&one, line("a", replica.address)).unwrap();
    fs::write(&two, line("b", replica.address)).unwrap();
    let named = |file: &Path| format!("provider = \"fixed\"\nbackends-file = \"{}\"\n", file.display());
    fs::write(&config, named(&one)).unwrap();
    let lb = Lb::start(&["--config", config.to_str().unwrap()]);
    let load = |text: &str| {
        fs::write(&config, text).unwrap();
        lb.done(&json!({"cmd": "reload"}))
    };
    load(&named(&two));
    assert_eq!(lb.hostnames(), ["b"]);
    put(&two, &line("c", replica.address));
    eventually("the other file", || (lb.hostnames() == ["c"]).then_some(()));
    load(&format!("provider = \"fixed\"\nbackend = \"d={}\"\n", replica.address));
    assert_eq!(lb.hostnames(), ["d"]);
    put(&two, &line("e", replica.address));
    load(&named(&one));
    assert_eq!(lb.hostnames(), ["a"]);
    put(&one, &line("f", replica.address));
    eventually("the first file", || (lb.hostnames() == ["f"]).then_some(()));
}
