//! The journal: `lb events`, the command `events`, `GET /events` and `--journal`.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::control::calm;
use crate::harness::{Lb, PATIENCE, eventually, signal, text};

/// The JSON lines that a connection brings, without end.
struct Stream(Lines<BufReader<TcpStream>>);

impl Stream {
    fn open(lb: &Lb, command: &Value) -> Stream {
        let mut stream = lb.dial(lb.control);
        stream.write_all(format!("{command}\n").as_bytes()).unwrap();
        Stream(BufReader::new(stream).lines())
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.0.next().expect("the stream has ended").unwrap()).unwrap()
    }

    /// The next event of this kind.
    fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next();
            if event["kind"] == kind {
                return event;
            }
        }
    }
}

/// All events so far.
pub(crate) fn events(lb: &Lb) -> Vec<Value> {
    let mut stream = Stream::open(lb, &json!({"cmd": "events", "follow": false}));
    stream.0.by_ref().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| text(&event["kind"])).collect()
}

#[test]
fn a_start_and_a_death_are_told_in_order() {
    let lb = calm(&["--replicas", "2"]);
    let mut stream = Stream::open(&lb, &json!({"cmd": "events"}));
    let first = stream.next();
    assert_eq!((&first["seq"], &first["kind"]), (&json!(1), &json!("started")));
    assert_eq!(first["control"], lb.control.to_string());
    stream.next_of("ready");
    let process = lb.process_of("server2");
    signal(process, "KILL");
    let ended = stream.next_of("replica_ended");
    assert_eq!((&ended["slot"], &ended["hostname"]), (&json!("server2"), &json!("server2")));
    assert!(text(&ended["reason"]).contains("signal: 9"), "{ended}");
    let starting = stream.next_of("replica_starting");
    let started = stream.next_of("replica_started");
    let up = stream.next_of("replica_up");
    for event in [&starting, &started, &up] {
        assert_eq!(event["slot"], "server2", "{event}");
        assert_eq!(event["hostname"], starting["hostname"], "{event}");
    }
    assert_eq!(started["address"], lb.slot(2)["address"]);
    // Numbers have no hole, and times are in order.
    let all = events(&lb);
    assert!((1..).zip(&all).all(|(seq, event)| event["seq"] == seq), "{all:?}");
    assert!(all.is_sorted_by_key(|event| text(&event["time"]).to_owned()));
}

#[test]
fn commands_and_warnings_are_events() {
    let lb = calm(&["--replicas", "1", "--deny", "127.0.0.9/32"]);
    lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S5"]}));
    lb.refused(&json!({"cmd": "rm", "n": 1, "hostnames": ["none"]}));
    lb.done(&json!({"cmd": "rep"}));
    let all = events(&lb);
    let commands: Vec<_> = all.iter().filter(|event| event["kind"] == "command").collect();
    let [add, rm] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(
        (&add["result"], &add["command"]),
        (&json!("done"), &json!(r#"{"cmd":"add","n":1,"hostnames":["S5"]}"#))
    );
    assert!(text(&add["by"]).starts_with("127.0.0.1:"), "{add}");
    assert!(text(&rm["result"]).contains("none"), "{rm}");
    assert!(kinds(&all).contains(&"mapping"));
    // A wrong `since` changes nothing and is said.
    let refusal = lb.refused(&json!({"cmd": "events", "since": "soon"}));
    assert!(refusal.contains("`since`: invalid value"), "{refusal}");
}

#[test]
fn a_reader_goes_on_where_it_was() {
    let lb = calm(&["--replicas", "1"]);
    let all = events(&lb);
    let last = all.last().unwrap()["seq"].as_u64().unwrap();
    let mut stream = Stream::open(&lb, &json!({"cmd": "events", "since": last - 1}));
    assert_eq!(stream.next(), *all.last().unwrap());
    lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S5"]}));
    assert_eq!(stream.next()["seq"], last + 1);
    // A number that this lb has not reached is of an earlier one.
    let mut stream = Stream::open(&lb, &json!({"cmd": "events", "since": last + 1000}));
    assert_eq!(stream.next()["seq"], 1);
}

/// The head of a response, and the lines of its body, chunk sizes included.
fn get(lb: &Lb, request: &str) -> (Vec<String>, Lines<BufReader<TcpStream>>) {
    let mut stream = lb.dial(lb.control);
    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines();
    let head = lines.by_ref().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
    (head, lines)
}

#[test]
fn a_browser_gets_server_sent_events_and_goes_on_after_the_last_one() {
    let lb = calm(&["--replicas", "1"]);
    let (head, mut lines) = get(&lb, "GET /events?since=1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head[0].contains("200"), "{head:?}");
    assert!(head.iter().any(|line| line.eq_ignore_ascii_case("content-type: text/event-stream")), "{head:?}");
    let mut next = |beginning: &str| {
        let mut lines = lines.by_ref().map(Result::unwrap);
        lines.find_map(|line| line.strip_prefix(beginning).map(str::to_owned)).unwrap()
    };
    assert_eq!(next("id: "), "2");
    let event: Value = serde_json::from_str(&next("data: ")).unwrap();
    assert_eq!(event["seq"], 2);
    let (_, mut lines) = get(&lb, "GET /events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 3\r\n\r\n");
    assert!(lines.any(|line| line.unwrap() == "id: 4"));
    let (head, _) = get(&lb, "GET /events?since=x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head[0].contains("400"), "{head:?}");
    let (head, _) =
        get(&lb, "GET /events HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n");
    assert!(head[0].contains("403"), "{head:?}");
}

/// The most events that are kept (docs/CONTROL.md).
const KEPT: u64 = 10_000;

/// Sends this command so often, each to be refused, a hundred at a time.
fn refuse(lb: &Lb, command: &Value, times: u64) {
    let mut stream = lb.dial(lb.control);
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    for _ in 0..times / 100 {
        stream.write_all(format!("{command}\n").repeat(100).as_bytes()).unwrap();
        let answers = answers.by_ref().take(100).map(Result::unwrap);
        assert_eq!(answers.filter(|answer| answer.contains("failure")).count(), 100);
    }
}

#[test]
fn a_browser_that_reads_nothing_for_too_long_is_told_how_many_events_it_misses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let lb = calm(&[
        "--replicas",
        "1",
        "--log",
        "info,lb::audit=off",
        "--control",
        &format!("unix:{}", path.display()),
    ]);
    // On a Unix socket no time limit of TCP ends it, and little is on its way.
    let mut stalled = UnixStream::connect(&path).unwrap();
    stalled.set_read_timeout(Some(PATIENCE)).unwrap();
    stalled.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stalled).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "id: 1"));
    // Each is an event. 10,000 of this length are less than 8 MiB, and 2,000 are more than is on its way.
    refuse(&lb, &json!({"cmd": "rm", "n": 1, "hostnames": ["x".repeat(60)]}), KEPT + 2_000);
    let newest = events(&lb).last().unwrap()["seq"].as_u64().unwrap();
    let (mut seen, mut gaps) = (0, Vec::new());
    while seen < newest {
        let data = lines.by_ref().find_map(|line| line.strip_prefix("data: ").map(str::to_owned)).unwrap();
        let event: Value = serde_json::from_str(&data).unwrap();
        let seq = event["seq"].as_u64().unwrap();
        if event["kind"] == "gap" {
            assert_eq!(event["missed"], seq - seen, "after {seen}: {event}");
            gaps.push(seq);
        } else {
            assert_eq!(seq, seen + 1, "{event}");
        }
        seen = seq;
    }
    // After the gap it has every event that was kept.
    assert_eq!(gaps, [newest - KEPT]);
}

#[test]
fn events_need_the_token() {
    let lb = calm(&["--replicas", "1", "--control-token", "a long enough token"]);
    let (head, _) = get(&lb, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head[0].contains("401"), "{head:?}");
    let mut stream = Stream::open(&lb, &json!({"cmd": "events"}));
    assert_eq!(stream.next()["status"], "failure");
    let mut stream = Stream::open(&lb, &json!({"cmd": "events", "token": "a long enough token"}));
    assert_eq!(stream.next()["kind"], "started");
}

#[test]
fn readers_that_read_nothing_delay_no_command_and_make_room() {
    let lb = calm(&["--replicas", "1"]);
    // More than there are places.
    let readers: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = lb.dial(lb.control);
            stream.write_all(b"{\"cmd\":\"events\"}\n").unwrap();
            stream
        })
        .collect();
    (0..20).for_each(|_| drop(lb.done(&json!({"cmd": "rep"}))));
    drop(readers);
    lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S5"]}));
}

#[test]
fn a_reader_that_has_closed_its_side_gets_what_happens() {
    let lb = calm(&["--replicas", "1"]);
    let mut stream = lb.dial(lb.control);
    stream.write_all(b"{\"cmd\":\"events\"}\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut stream = Stream(BufReader::new(stream).lines());
    stream.next_of("ready");
    lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S5"]}));
    stream.next_of("command");
}

/// A client of an `lb`, and what it prints.
fn client(lb: &Lb, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command.args(arguments).env("LB_CONTROL", lb.control.to_string()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

#[test]
fn the_client_shows_events_and_follows_them() {
    let mut lb = calm(&["--replicas", "1"]);
    let (mut child, lines) = client(&lb, &["events"]);
    let lines: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(lines.len(), events(&lb).len());
    assert!(lines.iter().any(|line| line.ends_with("server1 is up")), "{lines:?}");
    let (mut child, lines) = client(&lb, &["events", "--since", "1h", "--json"]);
    let shown: Vec<Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(shown, events(&lb));
    let (mut child, mut lines) = client(&lb, &["events", "--follow", "--since", &shown.len().to_string()]);
    lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S5"]}));
    let line = lines.find(|line| line.as_ref().unwrap().contains("S5 runs at")).unwrap().unwrap();
    assert!(line.trim_start().starts_with(|first: char| first.is_ascii_digit()), "{line}");
    lb.signal("TERM");
    assert!(lb.wait().success());
    // It has been told to follow.
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// The events in a file, without the steps of the fleet (`lb replay`).
pub(crate) fn entries(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line.get("step").is_none()).collect()
}

#[test]
fn the_file_has_every_event_and_the_next_lb_goes_on_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let flags = ["--replicas", "1", "--journal", path.to_str().unwrap()];
    let mut lb = calm(&flags);
    let known = events(&lb);
    eventually("the events in the file", || (entries(&path) == known).then_some(()));
    lb.signal("TERM");
    assert!(lb.wait().success());
    let first = entries(&path);
    assert_eq!(first[..known.len()], known);
    assert!(kinds(&first).contains(&"stopping") && kinds(&first).contains(&"replica_stopped"), "{first:?}");
    let lb = calm(&flags);
    let known = events(&lb);
    eventually("both in the file", || {
        (entries(&path) == [first.clone(), known.clone()].concat()).then_some(())
    });
}

#[test]
fn a_journal_that_cannot_be_written_is_said_at_the_start() {
    for path in ["/dev/null", "/nowhere/journal", "/"] {
        let output = Lb::command(&["--journal", path]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{path}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&format!("cannot write to {path} (--journal)")), "{said}");
    }
}
