//! The commands of the control port: what each does, in both languages.

use std::collections::BTreeSet;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::control::{
    Conversation, LANGUAGES, as_http, by_line, calm, http, listed, listing, refused, request,
};
use crate::harness::{Lb, Replica, eventually, fixed, flags, id_for, patient, say, session, signal};

#[test]
fn rep_lists_the_hostnames() {
    let lb = calm(&[]);
    let expected =
        r#"{"message":{"N":3,"replicas":["server1","server2","server3"]},"status":"successful"}"#.to_owned();
    assert_eq!(by_line(&lb, &json!({"cmd": "rep"})), expected);
    assert_eq!(by_line(&lb, &json!({"cmd": "replicas"})), expected);
    let response = http(&lb, "GET /rep", "");
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    assert_eq!(response.body, expected);
}

#[test]
fn add_starts_the_named_replicas_in_order_and_then_random_names() {
    for ask in LANGUAGES {
        let lb = calm(&["--replicas", "1"]);
        let hostnames = listed(&ask(&lb, &json!({"cmd": "add", "n": 4, "hostnames": ["S5", "S4"]})));
        assert_eq!(hostnames[..3], ["server1", "S5", "S4"]);
        assert_eq!(hostnames.iter().collect::<BTreeSet<_>>().len(), 5, "{hostnames:?}");
        assert_eq!(lb.hostnames(), hostnames);
        for (index, slot) in (1..).zip(lb.backends()) {
            let hostname = hostnames[index - 1].as_str();
            assert_eq!((&slot["index"], &slot["state"]), (&json!(index), &json!("up")), "{slot}");
            assert_eq!((&slot["name"], &slot["hostname"]), (&json!(hostname), &json!(hostname)));
            lb.process_of(hostname);
        }
    }
}

#[test]
fn rm_removes_the_named_replicas_and_then_random_ones() {
    for (verb, post) in [("rm", "DELETE /rm"), ("remove", "POST /rm")] {
        let lb = calm(&["--replicas", "6"]);
        let left = listed(&by_line(&lb, &json!({"cmd": verb, "n": 3, "hostnames": ["server4", "server2"]})));
        assert_eq!(left.len(), 3);
        assert!(left.iter().all(|name| name != "server4" && name != "server2"), "{left:?}");
        assert_eq!(http(&lb, post, r#"{"n":1}"#).status, 200);
        let last = lb.hostnames();
        assert_eq!(last.len(), 2);
        assert!(last.iter().all(|name| left.contains(name)), "{left:?}: {last:?}");
        eventually("the end of the removed processes", || (lb.children().len() == 2).then_some(()));
    }
}

#[test]
fn rm_without_names_removes_random_replicas() {
    let replicas = ["a", "b", "c", "d"].map(Replica::named);
    let lb = calm(&flags(&fixed(&replicas.each_ref().map(|replica| replica.address))));
    let gone: BTreeSet<String> = (0..30)
        .map(|_| {
            let left = listed(&by_line(&lb, &json!({"cmd": "rm", "n": 1})));
            let all = listed(&by_line(&lb, &json!({"cmd": "add", "n": 1})));
            assert_eq!((left.len(), all.len()), (3, 4));
            all.into_iter().find(|name| !left.contains(name)).unwrap()
        })
        .collect();
    assert!(gone.len() > 1, "thirty times {gone:?}");
}

#[test]
fn a_new_replica_takes_the_lowest_free_index_and_its_place_in_the_list() {
    let lb = calm(&["--replicas", "4"]);
    let rm = json!({"cmd": "rm", "n": 2, "hostnames": ["server3", "server1"]});
    assert_eq!(by_line(&lb, &rm), listing(&["server2", "server4"]));
    let add = json!({"cmd": "add", "n": 3, "hostnames": ["a", "b", "c"]});
    assert_eq!(by_line(&lb, &add), listing(&["a", "server2", "b", "server4", "c"]));
}

#[test]
fn a_fleet_may_be_emptied_and_filled_again() {
    let lb = calm(&["--replicas", "2"]);
    assert_eq!(
        by_line(&lb, &json!({"cmd": "health"})),
        r#"{"message":{"up":2,"N":2},"status":"successful"}"#
    );
    assert_eq!(http(&lb, "GET /healthz", "").status, 200);
    assert_eq!(by_line(&lb, &json!({"cmd": "rm", "n": 2})), listing(&[]));
    let unavailable = r#"{"message":"<Error> no server replica is available","status":"failure"}"#;
    let response = http(&lb, "GET /healthz", "");
    assert_eq!((response.status, response.body.as_str()), (503, unavailable));
    assert_eq!(by_line(&lb, &json!({"cmd": "health"})), unavailable);
    assert!(lb.done(&json!({"cmd": "explain", "id": "1"}))["pick"].is_null());
    assert!(lb.exchange(b"1\n").is_empty());
    eventually("no process", || lb.children().is_empty().then_some(()));
    assert_eq!(by_line(&lb, &json!({"cmd": "add", "n": 1, "hostnames": ["S5"]})), listing(&["S5"]));
    assert_eq!(lb.route("1"), "S5");
}

#[test]
fn backends_shows_every_slot_with_every_field() {
    let lb = calm(&["--replicas", "2"]);
    let (session, name) = session(&lb, "1");
    let message = lb.done(&json!({"cmd": "backends"}));
    let over_http: Value = serde_json::from_str(&http(&lb, "GET /backends", "").body).unwrap();
    assert_eq!(over_http, json!({"message": message, "status": "successful"}));
    assert_eq!(message["N"], 2);
    for (index, slot) in (1..).zip(message["backends"].as_array().unwrap()) {
        let hostname = format!("server{index}");
        let total = u64::from(hostname == name);
        for (field, expected) in [
            ("index", json!(index)),
            ("name", json!(hostname)),
            ("hostname", json!(hostname)),
            ("state", json!("up")),
            ("restarts", json!(0)),
            ("connections", json!({"open": total, "total": total})),
        ] {
            assert_eq!(slot[field], expected, "{field}: {slot}");
        }
        let address = slot["address"].as_str().unwrap();
        let mut replica = patient(TcpStream::connect(address).unwrap());
        assert_eq!(say(&mut replica, "x"), format!("{hostname} x\n"), "the address is that of this replica");
        let since = slot["since"].as_str().unwrap();
        assert!(since.len() == "2026-01-01T00:00:00.000Z".len() && since.ends_with('Z'), "{since}");
    }
    session.shutdown(Shutdown::Write).unwrap();
    eventually("an end of the session", || {
        let slots = lb.backends();
        slots.iter().all(|slot| slot["connections"]["open"] == 0).then_some(())
    });
}

#[test]
fn add_answers_when_the_replica_is_in_rotation_and_rm_when_it_gets_no_new_connection() {
    let lb = calm(&["--replicas", "1"]);
    for name in ["S5", "S6", "S7"] {
        by_line(&lb, &json!({"cmd": "add", "n": 1, "hostnames": [name]}));
        let id = id_for(&lb, name);
        assert_eq!(lb.route(&id), name);
        assert_eq!(lb.done(&json!({"cmd": "explain", "id": id}))["pick"], name);
        by_line(&lb, &json!({"cmd": "rm", "n": 1, "hostnames": [name]}));
        assert_eq!(lb.route(&id), "server1");
    }
}

#[test]
fn connections_survive_add_and_rm_and_a_drain_waits_for_them() {
    let lb = calm(&["--replicas", "3"]);
    let mut sessions: Vec<_> = (0..12).map(|id| session(&lb, &id.to_string())).collect();
    lb.done(&json!({"cmd": "add", "n": 2, "hostnames": ["S5", "S4"]}));
    let gone = sessions[0].1.clone();
    let process = lb.process_of(&gone);
    lb.done(&json!({"cmd": "rm", "n": 2, "hostnames": [gone, "S5"]}));
    for (stream, name) in &mut sessions {
        assert_eq!(say(stream, "still there"), format!("{name} still there\n"));
    }
    let leaving = lb.backends().into_iter().find(|slot| slot["hostname"] == gone).unwrap();
    let open = sessions.iter().filter(|(_, name)| *name == gone).count();
    assert_eq!((&leaving["state"], &leaving["connections"]["open"]), (&json!("draining"), &json!(open)));
    assert!(lb.children().contains(&process));
    sessions.retain(|(_, name)| *name != gone);
    eventually("the end of the removed process", || (!lb.children().contains(&process)).then_some(()));
    assert!(lb.backends().iter().all(|slot| slot["hostname"] != gone));
}

#[test]
fn after_a_respawn_the_slot_name_and_the_hostname_are_in_use_and_either_can_be_removed() {
    let lb = calm(&["--replicas", "2"]);
    let respawned = |index: u64| {
        signal(lb.process_of(&format!("server{index}")), "KILL");
        let slot = lb.wait_for_restarts(index, 1);
        assert_eq!(slot["name"], format!("server{index}"));
        slot["hostname"].as_str().unwrap().to_owned()
    };
    let hostnames = [respawned(1), respawned(2)];
    assert_eq!(lb.hostnames(), hostnames);
    for taken in ["server1", "server2", &hostnames[0], &hostnames[1]] {
        let message = lb.refused(&json!({"cmd": "add", "n": 1, "hostnames": [taken]}));
        assert!(message.contains(&format!("hostname {taken} is in use")), "{message}");
    }
    let message = lb.refused(&json!({"cmd": "rm", "n": 2, "hostnames": ["server1", hostnames[0]]}));
    assert!(message.contains("repeated"), "both name one replica: {message}");
    let rm = |name: &str| by_line(&lb, &json!({"cmd": "rm", "n": 1, "hostnames": [name]}));
    assert_eq!(rm("server1"), listing(&[&hostnames[1]]));
    assert_eq!(rm(&hostnames[1]), listing(&[]));
}

#[test]
fn only_the_given_fixed_backends_can_be_removed_and_added_again() {
    let replicas = ["a", "b", "c"].map(Replica::named);
    let addresses = replicas.each_ref().map(|replica| replica.address);
    let few = ["--replicas", "2", "--start-timeout", "3s", "--health-timeout", "30s"];
    let lb = Lb::start(&[&flags(&fixed(&addresses))[..], &few].concat());
    let change = |cmd: &str, n: u32, hostnames: &[&str]| {
        by_line(&lb, &json!({"cmd": cmd, "n": n, "hostnames": hostnames}))
    };
    assert_eq!(lb.hostnames(), ["a", "b"]);
    for (n, hostnames, message) in [
        (1, &["z"][..], "none of the backends that --backend or --backends-file gives: a, b, c"),
        (2, &[], "not in use: a, b, c"),
    ] {
        let before = lb.backends();
        let answer = refused(&change("add", n, hostnames));
        assert!(answer.contains(message), "{answer}");
        assert_eq!(lb.backends(), before);
    }
    assert_eq!(change("add", 1, &[]), listing(&["a", "b", "c"]));
    assert_eq!(change("rm", 2, &["b", "a"]), listing(&["c"]));
    assert_eq!(lb.exchange(b"1\n"), b"c");
    replicas[0].healthy.store(false, Ordering::Relaxed);
    let answer = refused(&change("add", 1, &["a"]));
    assert!(answer.contains("a is not ready within 3s"), "{answer}");
    assert_eq!(lb.hostnames(), ["c"]);
    assert_eq!(change("add", 1, &["b"]), listing(&["b", "c"]), "the lowest index");
    replicas[0].healthy.store(true, Ordering::Relaxed);
    assert_eq!(change("add", 1, &[]), listing(&["b", "a", "c"]), "the next lowest");
}

/// A command whose replicas behave by their names: `BAD` exits, `LATE` never listens, any other is a demo server.
fn by_name() -> String {
    let lb = env!("CARGO_BIN_EXE_lb");
    format!(
        "case $SERVER_ID in BAD*) echo no luck >&2; exit 3;; LATE*) exec sleep 1000;; esac; \
         exec '{lb}' replica --parent $PPID"
    )
}

/// Asserts that an `add` fails with this reason and changes nothing.
#[track_caller]
fn assert_add_fails(lb: &Lb, n: u32, hostnames: &[&str], reason: &str) {
    let (before, children) = (lb.backends(), lb.children());
    let response = http(lb, "POST /add", &json!({"n": n, "hostnames": hostnames}).to_string());
    assert_eq!(response.status, 502, "{response:?}");
    let message = refused(&response.body);
    assert!(message.contains(reason), "{message}");
    assert_eq!(lb.backends(), before, "{hostnames:?}");
    eventually("the processes from before", || (lb.children() == children).then_some(()));
}

#[test]
fn a_failed_add_stops_everything_it_has_started() {
    let lb = calm(&["--replicas", "1", "--command", &by_name()]);
    for _ in 0..3 {
        assert_add_fails(&lb, 3, &["GOOD", "BAD"], "ended with exit status: 3");
    }
    let add = json!({"cmd": "add", "n": 1, "hostnames": ["GOOD"]});
    assert_eq!(by_line(&lb, &add), listing(&["server1", "GOOD"]), "the lowest index, and no name is lost");
}

#[test]
fn an_add_fails_as_a_whole_if_one_replica_is_never_ready() {
    let lb = Lb::start(&["--replicas", "0", "--start-timeout", "2s", "--command", &by_name()]);
    assert_add_fails(&lb, 2, &["GOOD", "LATE"], "LATE is not ready within 2s");
    assert_eq!(http(&lb, "GET /rep", "").body, listing(&[]));
}

#[test]
fn each_of_a_hundred_concurrent_commands_is_done_or_refused_as_a_whole() {
    let lb = calm(&[]);
    let commands: Vec<Value> = (0..100)
        .map(|number| match number % 10 {
            0 | 1 => json!({"cmd": "add", "n": 1}),
            2 => json!({"cmd": "add", "n": 2, "hostnames": [format!("S{number}")]}),
            3 | 4 => json!({"cmd": "rm", "n": 1}),
            5 => json!({"cmd": "rm", "n": 2, "hostnames": ["server1"]}),
            _ => json!({"cmd": "rep"}),
        })
        .collect();
    let mut connections: Vec<_> = commands.iter().map(|_| Conversation::with(&lb)).collect();
    for (number, (connection, command)) in connections.iter_mut().zip(&commands).enumerate() {
        let (line, body) = as_http(command);
        let text = if number % 4 < 2 { format!("{command}\n") } else { request(&line, "", &body) };
        connection.say(text).finish();
    }
    let mut expected: i64 = 3;
    for (number, (connection, command)) in connections.iter_mut().zip(&commands).enumerate() {
        let text = if number % 4 < 2 { connection.line() } else { connection.response().body };
        assert_eq!(connection.rest(), "", "one answer each");
        if text.ends_with(r#""status":"failure"}"#) {
            assert_eq!(command["cmd"], "rm", "{command}: {text}");
            continue;
        }
        let hostnames = listed(&text);
        assert_eq!(hostnames.iter().collect::<BTreeSet<_>>().len(), hostnames.len(), "{text}");
        let n = command["n"].as_i64().unwrap_or(0);
        expected += if command["cmd"] == "rm" { -n } else { n };
    }
    assert_agreement(&lb, expected);
}

/// Asserts that `rep`, `explain`, `backends` and the processes agree on `expected` replicas.
#[track_caller]
fn assert_agreement(lb: &Lb, expected: i64) {
    let hostnames = lb.hostnames();
    assert_eq!(hostnames.len() as i64, expected);
    eventually("an end of all drains", || (lb.children().len() == hostnames.len()).then_some(()));
    hostnames.iter().for_each(|hostname| assert!(lb.process_of(hostname) > 0));
    let names = |rows: Vec<Value>| -> BTreeSet<String> {
        assert_eq!(rows.len(), hostnames.len());
        rows.iter().map(|row| row["hostname"].as_str().unwrap().to_owned()).collect()
    };
    let hostnames: BTreeSet<String> = hostnames.iter().cloned().collect();
    let explanation = lb.done(&json!({"cmd": "explain", "id": "132574"}));
    assert_eq!(names(explanation["candidates"].as_array().unwrap().clone()), hostnames);
    assert_eq!(names(lb.backends()), hostnames);
}

#[test]
fn exactly_one_of_many_commands_gets_a_name() {
    let lb = calm(&["--replicas", "1"]);
    let mut connections: Vec<_> = (0..10).map(|_| Conversation::with(&lb)).collect();
    for connection in &mut connections {
        connection.say("{\"cmd\":\"add\",\"n\":2,\"hostnames\":[\"S5\"]}\n");
    }
    let answers: Vec<String> = connections.iter_mut().map(Conversation::line).collect();
    let done: Vec<&String> = answers.iter().filter(|answer| answer.ends_with("\"successful\"}")).collect();
    assert_eq!(done.len(), 1, "{answers:?}");
    assert_agreement(&lb, 3);
}
