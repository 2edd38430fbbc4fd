//! Servers that run already come and go while `lb` runs: `add NAME=HOST:PORT[,weight=W]`, and `rm`.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::control::{LANGUAGES, as_http, by_line, calm, http, listing, refused};
use crate::flags::{command, end};
use crate::harness::{Lb, Replica, eventually, fixed, flags, id_for, say, text};

/// An `lb` with the server `a`, whose probes do not get in the way.
fn with_one(replica: &Replica) -> Lb {
    calm(&flags(&fixed(&[replica.address])))
}

fn adding(server: &str) -> Value {
    json!({"cmd": "add", "n": 1, "hostnames": [server]})
}

fn removing(name: &str) -> Value {
    json!({"cmd": "rm", "n": 1, "hostnames": [name]})
}

/// What `backends` shows of each slot: index, name, address, weight.
fn shown(lb: &Lb) -> Vec<String> {
    let slot = |slot: Value| {
        let weight = slot.get("weight").map_or_else(|| "1".to_owned(), Value::to_string);
        assert_eq!(slot["address"], slot["location"], "{slot}");
        format!("{} {} {} {weight}", slot["index"], text(&slot["name"]), text(&slot["address"]))
    };
    lb.backends().into_iter().map(slot).collect()
}

/// The server that gets the connections of a slot.
fn reached(lb: &Lb, slot: &str) -> String {
    let id = id_for(lb, slot);
    String::from_utf8(lb.exchange(format!("{id}\n").as_bytes())).unwrap()
}

#[test]
fn a_server_is_added_with_its_address_and_weight_and_removed_in_both_languages() {
    let (first, second) = (Replica::named("first"), Replica::named("second"));
    for ask in LANGUAGES {
        let lb = with_one(&first);
        let server = format!("b={},weight=2", second.address);
        assert_eq!(ask(&lb, &adding(&server)), listing(&["a", "b"]));
        let expected = [format!("1 a {} 1", first.address), format!("2 b {} 2", second.address)];
        assert_eq!(shown(&lb), expected);
        assert_eq!((reached(&lb, "a"), reached(&lb, "b")), ("first".to_owned(), "second".to_owned()));
        assert_eq!(ask(&lb, &removing("b")), listing(&["a"]));
        assert_eq!(shown(&lb), expected[..1]);
    }
}

#[test]
fn the_client_takes_what_backend_takes() {
    let (first, second) = (Replica::named("first"), Replica::named("second"));
    let lb = with_one(&first);
    let control = lb.control.to_string();
    let client = |arguments: &[&str]| end(command(arguments, &[("LB_CONTROL", &control)]));
    let servers = [format!("b={},weight=7", second.address), format!("c={}", second.address)];
    let (code, stdout, stderr) = client(&["add", "2", &servers[0], &servers[1]]);
    assert_eq!((code, stdout.as_str()), (Some(0), "3 replicas\n  a\n  b\n  c\n"), "{stderr}");
    let (code, stdout, _) = client(&["rm", "1", "c"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "2 replicas\n  a\n  b\n"));
    let (code, stdout, _) = client(&["add", &servers[1]]);
    assert_eq!((code, stdout.as_str()), (Some(0), "3 replicas\n  a\n  b\n  c\n"), "a name alone is one");
    let (code, stdout, stderr) = client(&["add", "1", "d=nowhere"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("`hostnames`: invalid value `d=nowhere`: expected NAME=HOST:PORT"), "{stderr}");
    assert_eq!(lb.hostnames(), ["a", "b", "c"]);
}

#[test]
fn a_name_that_has_left_comes_back_at_another_address_while_its_old_sessions_go_on() {
    let (first, old, new) = (Replica::named("first"), Replica::echo(), Replica::named("new"));
    let lb = with_one(&first);
    lb.done(&adding(&format!("b={}", old.address)));
    let id = id_for(&lb, "b");
    let mut session = lb.connect();
    assert_eq!(say(&mut session, &id), format!("{id}\n"));
    assert_eq!(lb.done(&removing("b"))["replicas"], json!(["a"]));
    assert_eq!(lb.done(&adding(&format!("b={}", new.address)))["replicas"], json!(["a", "b"]));
    assert_eq!(reached(&lb, "b"), "new");
    assert_eq!(say(&mut session, "still there"), "still there\n");
    drop(session);
    eventually("the old one to be gone", || (lb.backends().len() == 2).then_some(()));
    assert_eq!(reached(&lb, "b"), "new");
}

#[test]
fn an_address_that_came_with_a_command_is_forgotten_and_one_of_the_flags_is_not() {
    let (first, second) = (Replica::named("first"), Replica::named("second"));
    let lb = with_one(&first);
    lb.done(&adding(&format!("b={}", second.address)));
    lb.done(&removing("b"));
    let message = lb.refused(&adding("b"));
    assert!(
        message.contains("hostname b is none of the backends that --backend or --backends-file gives: a"),
        "{message}"
    );
    assert!(message.contains("b=HOST:PORT"), "it says how: {message}");
    lb.done(&removing("a"));
    lb.done(&adding(&format!("a={}", second.address)));
    assert_eq!(reached(&lb, "a"), "second");
    lb.done(&removing("a"));
    lb.done(&json!({"cmd": "add", "n": 1}));
    assert_eq!(reached(&lb, "a"), "first");
}

#[test]
fn a_new_server_has_the_lowest_free_index() {
    let replica = Replica::named("all");
    let lb = calm(&flags(&fixed(&[replica.address; 3])));
    lb.done(&removing("b"));
    let server = |name: &str| format!("{name}={}", replica.address);
    let names = [server("z"), server("y")];
    let listed = by_line(&lb, &json!({"cmd": "add", "n": 2, "hostnames": names}));
    assert_eq!(listed, listing(&["a", "z", "c", "y"]));
}

#[test]
fn what_cannot_be_added_is_refused_with_the_reason_and_changes_nothing() {
    let replica = Replica::named("first");
    let lb = with_one(&replica);
    let before = lb.backends();
    for (command, expected) in [
        (json!({"n": 1, "hostnames": ["a=127.0.0.1:1"]}), "hostname a is in use or repeated"),
        (json!({"n": 2, "hostnames": ["b=h:1", "b=h:2"]}), "hostname b is in use or repeated"),
        (json!({"n": 1, "hostnames": ["b=h"]}), "`hostnames`: invalid value `b=h`: expected NAME=HOST:PORT"),
        (json!({"n": 1, "hostnames": ["b=h:0"]}), "invalid value `b=h:0`: expected NAME=HOST:PORT"),
        (json!({"n": 1, "hostnames": ["b=300.0.0.1:80"]}), "invalid value `b=300.0.0.1:80`"),
        (json!({"n": 1, "hostnames": ["../b=h:1"]}), "invalid value `../b=h:1`"),
        (
            json!({"n": 1, "hostnames": ["b=h:1,weight=101"]}),
            "expected as weight a whole number from 0 to 100",
        ),
        (
            json!({"n": 1, "hostnames": ["b=h:1,weight=2"], "weights": [2]}),
            "which has a weight: give it once",
        ),
        (
            json!({"n": 1, "hostnames": ["b=h:1", "c=h:1"]}),
            "Length of hostname list is more than newly added",
        ),
        (json!({"n": 2, "hostnames": ["b=h:1"]}), "`n` is more than the backends that --backend or"),
        (json!({"n": 100_000, "hostnames": ["b=h:1"]}), "`n` is 100000, but the fleet has 1 slots"),
        (json!({"n": 1, "hostnames": ["b"]}), "hostname b is none of the backends"),
    ] {
        let mut command = command;
        command["cmd"] = json!("add");
        let message = lb.refused(&command);
        assert!(message.contains(expected), "{command}: {message}");
        let (line, body) = as_http(&command);
        let response = http(&lb, &line, &body);
        assert_eq!((response.status, refused(&response.body)), (400, message));
    }
    let message = lb.refused(&removing("a=127.0.0.1:1"));
    assert!(message.contains("invalid value `a=127.0.0.1:1`: expected a hostname"), "{message}");
    assert_eq!(lb.backends(), before);
}

#[test]
fn a_server_that_does_not_answer_is_not_added_and_the_answer_says_why() {
    let replica = Replica::named("first");
    let lb = Lb::start(&[&flags(&fixed(&[replica.address]))[..], &["--start-timeout", "300ms"]].concat());
    let gone = Replica::echo();
    gone.leave();
    for (server, reason) in
        [(format!("b={}", gone.address), "refused"), ("b=nowhere.invalid:80".to_owned(), "nowhere.invalid")]
    {
        let (line, body) = as_http(&adding(&server));
        let response = http(&lb, &line, &body);
        let message = refused(&response.body);
        assert!(response.status == 502 && message.contains(reason), "{}: {message}", response.status);
        assert_eq!(lb.hostnames(), ["a"]);
    }
    lb.done(&adding(&format!("b={}", Replica::echo().address)));
}

#[test]
fn the_first_name_that_has_to_be_resolved_may_come_with_a_command() {
    let (first, second) = (Replica::named("first"), Replica::named("second"));
    let lb = with_one(&first);
    let port = second.address.port();
    lb.done(&adding(&format!("b=localhost:{port}")));
    let slot = lb.slot(2);
    assert_eq!(text(&slot["location"]), format!("localhost:{port}"));
    let address: SocketAddr = text(&slot["address"]).parse().unwrap();
    assert!(address.ip().is_loopback() && address.port() == port, "{address}");
    assert_eq!(reached(&lb, "b"), "second");
    assert!(lb.done(&json!({"cmd": "backends"}))["dns"]["records"].as_u64() > Some(0));
}

#[test]
fn a_plan_takes_a_server_and_names_the_command_that_adds_it() {
    let (first, second) = (Replica::named("first"), Replica::named("second"));
    let lb = with_one(&first);
    let server = format!("b={},weight=3", second.address);
    let plan = lb.done(&json!({"cmd": "plan", "change": adding(&server)}));
    assert_eq!(text(&plan["command"]), format!("lb add 1 {server}"));
    assert!((0.7..0.8).contains(&plan["moved"].as_f64().unwrap()), "{plan}");
    assert_eq!(lb.hostnames(), ["a"], "nothing is added");
    let control = lb.control.to_string();
    let said = text(&plan["command"]).strip_prefix("lb ").unwrap();
    let arguments: Vec<&str> = said.split(' ').collect();
    assert_eq!(end(command(&arguments, &[("LB_CONTROL", &control)])).0, Some(0));
    assert_eq!(lb.slot(2)["weight"], 3);
}

#[test]
fn an_lb_that_starts_its_replicas_takes_no_addresses() {
    let lb = calm(&["--replicas", "1"]);
    let message = lb.refused(&adding("b=127.0.0.1:1"));
    let expected = "hostname b has an address, which goes with --provider fixed only";
    assert!(message.contains(expected) && message.ends_with("lb add 1 b"), "{message}");
    assert_eq!(lb.hostnames(), ["server1"]);
}
