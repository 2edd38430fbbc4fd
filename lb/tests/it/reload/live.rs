//! Each kind of setting that a reload changes, seen from outside.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;

use serde_json::json;

use super::Case;
use crate::control::http;
use crate::harness::{Lb, Replica, eventually, id_for, patient, say, session};

/// Whether a new client is reset before it gets an answer.
fn is_reset(lb: &Lb) -> bool {
    let Ok(client) = TcpStream::connect(lb.data) else { return true };
    let mut client = patient(client);
    client.write_all(b"7\n").is_err() || !matches!(client.read(&mut [0]), Ok(1))
}

#[test]
fn lists_and_limits_hold_for_new_connections_and_open_ones_stay() {
    let case = Case::start("replicas = 2\n");
    let (mut open, hostname) = session(&case.lb, "7");
    case.load("replicas = 2\ndeny = \"127.0.0.0/8\"\n");
    assert!(is_reset(&case.lb));
    assert_eq!(say(&mut open, "7"), format!("{hostname} 7\n"), "an open connection stays");
    drop(open);
    at_rest(&case.lb);
    case.load("replicas = 2\nmax-connections-per-source = 1\n");
    let (first, _) = session(&case.lb, "8");
    assert!(is_reset(&case.lb), "the second one of this source");
    case.load("replicas = 2\nmax-connections-per-source = 2\n");
    let (second, _) = session(&case.lb, "8");
    assert!(is_reset(&case.lb), "the first one is still counted");
    drop((first, second));
    case.load("replicas = 2\n");
    assert!(!is_reset(&case.lb));
    // The bound of a replica sends the second connection with the same key elsewhere.
    case.load("replicas = 2\nmax-connections-per-replica = 1\n");
    at_rest(&case.lb);
    let ((_one, one), (_other, other)) = (session(&case.lb, "7"), session(&case.lb, "7"));
    assert_ne!(one, other);
}

/// Waits until no connection is open.
fn at_rest(lb: &Lb) {
    eventually("no connection is open", || {
        lb.backends().iter().all(|slot| slot["connections"]["open"] == 0).then_some(())
    });
}

/// Another connection from this source, if one is let in now.
fn another(lb: &Lb) -> Option<TcpStream> {
    let mut client = patient(TcpStream::connect(lb.data).ok()?);
    (client.write_all(b"7\n").is_ok() && matches!(client.read(&mut [0]), Ok(1))).then_some(client)
}

#[test]
fn connections_that_were_open_count_for_a_limit_that_is_switched_on() {
    for flags in ["workers = 1\n", "workers = 4\n", "ack-timeout = \"off\"\n"] {
        let base = format!("replicas = 2\n{flags}");
        let case = Case::start(&base);
        let mut open: Vec<_> = (0..3).map(|_| session(&case.lb, "7").0).collect();
        // Its replica is not chosen yet.
        let mut early = case.lb.connect();
        early.write_all(b"7").unwrap();
        for _ in 0..2 {
            case.load(&format!("{base}max-connections-per-source = 3\n"));
            eventually("the open ones are counted", || another(&case.lb).is_none().then_some(()));
            case.load(&base);
            assert!(another(&case.lb).is_some());
        }
        case.load(&format!("{base}max-connections-per-source = 3\n"));
        eventually("the open ones are counted", || another(&case.lb).is_none().then_some(()));
        // It begins to count when it has its replica.
        let hostname = say(&mut early, "");
        assert!(hostname.starts_with("server"), "{hostname}");
        for client in &mut open {
            assert!(say(client, "8").ends_with(" 8\n"), "they stay");
        }
        // Four are open. When two have ended there is one place, and not two.
        drop((early, open.pop()));
        let _new = eventually("a place", || another(&case.lb));
        assert!(another(&case.lb).is_none(), "{flags}");
    }
}

#[test]
fn connections_that_were_open_have_places_among_all_when_these_are_limited() {
    let case = Case::start("replicas = 1\n");
    let (first, second) = (session(&case.lb, "7").0, session(&case.lb, "7").0);
    case.load("replicas = 1\nmax-connections = 2\n");
    eventually("the open ones have all places", || {
        (http(&case.lb, "GET /healthz", "").status == 503).then_some(())
    });
    let mut waits = case.lb.connect();
    waits.write_all(b"7\n").unwrap();
    drop(first);
    waits.read_exact(&mut [0]).unwrap();
    drop((second, waits));
    at_rest(&case.lb);
    assert!(!is_reset(&case.lb));
}

#[test]
fn time_limits_hold_for_new_connections() {
    let case = Case::start("replicas = 1\nfirst-line-timeout = \"1h\"\n");
    case.load("replicas = 1\nfirst-line-timeout = \"10ms\"\n");
    // No first line comes, so the address is the key, and the server is connected.
    let mut silent = case.lb.connect();
    eventually("the silent client has a replica", || {
        (case.lb.slot(1)["connections"]["total"] == 1).then_some(())
    });
    silent.write_all(b"x\n").unwrap();
    case.load("replicas = 1\nidle-timeout = \"50ms\"\n");
    let (mut idle, _) = session(&case.lb, "7");
    assert!(!matches!(idle.read(&mut [0]), Ok(1..)), "it is reset");
}

#[test]
fn probes_follow_other_rules_at_once() {
    let case = Case::start("replicas = 1\n[health]\ninterval = \"1h\"\n");
    case.load(
        "replicas = 1\nreplace-after = \"1h\"\n[health]\nhealth = \"http:/nowhere\"\ninterval = \"20ms\"\n",
    );
    case.lb.wait_for_state(1, "down");
    case.load("replicas = 1\nreplace-after = \"1h\"\n[health]\nhealth = \"tcp\"\ninterval = \"20ms\"\n");
    case.lb.wait_for_state(1, "up");
    assert_eq!(case.lb.slot(1)["restarts"], 0);
}

#[test]
fn another_token_in_the_same_file_is_the_only_one_then_and_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "the-first-secret-one\n").unwrap();
    let text = format!("replicas = 1\ncontrol-token-file = \"{}\"\n", token.display());
    let case = Case::start(&text);
    let ask = |token: &str, command: &str| case.lb.ask(&json!({"cmd": command, "token": token}));
    assert_eq!(ask("the-first-secret-one", "reload")["message"]["settings"], json!([]));
    fs::write(&token, "the-second-secret-one\n").unwrap();
    let answer = ask("the-first-secret-one", "reload");
    assert_eq!(answer["message"]["settings"][0]["key"], "control-token-file", "{answer}");
    assert_eq!(ask("the-first-secret-one", "rep")["status"], "failure");
    let events = case.lb.ask(&json!({"cmd": "rep", "token": "the-second-secret-one"}));
    assert_eq!(events["status"], "successful");
    let all = format!("{answer}{}", case.lb.log().join("\n"));
    assert!(!all.contains("secret-one"), "{all}");
}

#[test]
fn another_seed_is_refused_without_being_shown() {
    let case = Case::start("replicas = 1\nhash-seed = 31337\n");
    case.write("replicas = 1\nhash-seed = 73313\n");
    let said = case.refused();
    assert!(said.contains("hash-seed: (not shown) -> (not shown)"), "{said}");
    assert!(!said.contains("31337") && !said.contains("73313"), "{said}");
}

#[test]
fn the_filter_of_the_log_changes() {
    let case = Case::start("replicas = 1\n");
    let (quiet, _) = session(&case.lb, "7");
    let before = quiet.local_addr().unwrap();
    drop(quiet);
    case.load("replicas = 1\nlog = \"debug\"\n");
    let (told, _) = session(&case.lb, "8");
    let address = told.local_addr().unwrap();
    drop(told);
    case.lb.session_of(address);
    assert!(!case.lb.log().iter().any(|line| line.contains(&before.to_string())));
    case.load("replicas = 1\nlog = \"off\"\n");
    let lines = case.lb.log().len();
    session(&case.lb, "9");
    case.lb.done(&json!({"cmd": "add", "n": 1}));
    assert!(case.lb.log().len() <= lines + 1, "{:?}", case.lb.log());
}

#[test]
fn the_log_of_connections_comes_moves_and_goes_and_loses_no_line() {
    let case = Case::start("replicas = 1\n");
    let file = |name: &str| case.folder.path().join(name);
    let lines = |name: &str| fs::read_to_string(file(name)).unwrap_or_default();
    let holds = |name: &str, part: &str| {
        eventually(&format!("{part} in {name}"), || lines(name).contains(part).then_some(()));
    };
    let rules = |name: &str, format: &str| {
        let path = file(name).display().to_string();
        format!("replicas = 1\naccess-log = \"{path}\"\naccess-log-format = \"{format}\"\n")
    };
    case.load(&rules("a.log", "{id} here"));
    case.lb.route("first");
    holds("a.log", "first here\n");
    case.load(&rules("a.log", "{id} there"));
    case.lb.route("second");
    holds("a.log", "second there\n");
    case.load(&rules("b.log", "{id} there"));
    case.lb.route("third");
    holds("b.log", "third there\n");
    assert!(!lines("a.log").contains("third"));
    // A file that cannot be opened changes nothing.
    case.write(&format!("{}fall = 9\n", rules("nowhere/c.log", "text")));
    assert!(case.refused().contains("--access-log"), "{}", case.refused());
    case.lb.route("fourth");
    holds("b.log", "fourth there\n");
    case.load("replicas = 1\n");
    case.lb.route("fifth");
    case.load(&rules("b.log", "{id} back"));
    case.lb.route("sixth");
    holds("b.log", "sixth back\n");
    assert!(!lines("b.log").contains("fifth"));
}

/// A file of these fixed servers.
fn backends(servers: &[(&str, SocketAddr, u32)]) -> String {
    let one = |(name, address, weight): &(&str, SocketAddr, u32)| {
        format!("[[backend]]\nname = \"{name}\"\naddress = \"{address}\"\nweight = {weight}\n")
    };
    let all: String = servers.iter().map(one).collect();
    format!("provider = \"fixed\"\nstart-timeout = \"1s\"\n[health]\ninterval = \"20ms\"\n{all}")
}

#[test]
fn backends_come_go_and_get_other_weights() {
    let [a, b, c] = ["a", "b", "c"].map(|name| (name, Replica::named(name)));
    let [a, b, c] = [a, b, c].map(|(name, replica)| (name, replica.address, replica));
    let case = Case::start(&backends(&[(a.0, a.1, 1), (b.0, b.1, 1)]));
    let done = case.load(&backends(&[(b.0, b.1, 5), (c.0, c.1, 1)]));
    assert_eq!(
        done["slots"],
        json!([
            {"slot": "c", "change": "added", "by": "file"},
            {"slot": "a", "change": "removed", "by": "file"},
            {"slot": "b", "change": "weighed", "from": 1, "to": 5, "by": "file"},
        ])
    );
    assert_eq!(case.state().1["weights"], json!({"b": 5, "c": 1}));
    case.lb.done(&json!({"cmd": "mapping", "weights": {"b": 9}}));
    let undone = case.reload();
    let expected = json!([{"slot": "b", "change": "weighed", "from": 9, "to": 5, "by": "command"}]);
    assert_eq!(undone["slots"], expected);
    // The slots are what a command can add again.
    case.lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["c"]}));
    assert!(
        case.lb.refused(&json!({"cmd": "add", "n": 1, "hostnames": ["a"]})).contains("none of the backends")
    );
    assert_eq!(case.reload()["slots"], json!([{"slot": "c", "change": "added", "by": "command"}]));
}

#[test]
fn a_backend_moves_to_another_address_when_it_is_ready_there_and_its_keys_stay() {
    let (old, new, other) = (Replica::named("old"), Replica::named("new"), Replica::named("other"));
    let case = Case::start(&backends(&[("a", old.address, 1), ("b", other.address, 1)]));
    let id = id_for(&case.lb, "a");
    let order = case.lb.order(&id);
    let route = || String::from_utf8(case.lb.exchange(format!("{id}\n").as_bytes())).unwrap();
    assert_eq!(route(), "old");
    new.healthy.store(false, Ordering::SeqCst);
    case.write(&backends(&[("a", new.address, 1), ("b", other.address, 3)]));
    let said = case.refused();
    assert!(said.contains("a is not ready within 1s"), "{said}");
    assert_eq!(
        (route().as_str(), case.state().1["weights"]["b"].clone()),
        ("old", json!(1)),
        "nothing has changed"
    );
    new.healthy.store(true, Ordering::SeqCst);
    let done = case.load(&backends(&[("a", new.address, 1), ("b", other.address, 1)]));
    assert_eq!(done["slots"][0], json!({"slot": "a", "change": "replaced", "by": "file"}));
    assert_eq!((route().as_str(), case.lb.order(&id)), ("new", order));
    let slot = case.lb.slot(1);
    assert_eq!(
        (&slot["state"], &slot["restarts"], &slot["address"]),
        (&json!("up"), &json!(0), &json!(new.address.to_string()))
    );
}

#[test]
fn counters_keep_their_values() {
    let case = Case::start("replicas = 1\n");
    for id in 0..5 {
        case.lb.route(&id.to_string());
    }
    let count = || {
        let page = http(&case.lb, "GET /metrics", "").body;
        let line = page
            .lines()
            .find(|line| line.starts_with("lb_connections_total{") && line.contains("complete"))
            .map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    eventually("five connections", || (count() == Some(5.0)).then_some(()));
    case.load("replicas = 2\nmapping = \"maglev\"\nmax-connections = 50\nlog = \"warn\"\n");
    assert_eq!(count(), Some(5.0));
}
