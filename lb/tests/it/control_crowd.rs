//! The control port in a crowd: strangers that say nothing, or one wrong thing after another, hold up neither commands nor healing.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::control::{Conversation, by_line, calm, listing, refused, request};
use crate::harness::{Lb, eventually, field, patient, signal};

/// More than the control port has places for.
const CROWD: usize = 300;
const REP: &str = "{\"cmd\":\"rep\",\"token\":\"secret\"}\n";

fn guarded(flags: &[&str]) -> Lb {
    calm(&[&["--replicas", "1", "--control-token", "secret"], flags].concat())
}

/// How many of these connections `lb` has not closed.
fn open(crowd: &mut [Conversation]) -> usize {
    let mut is_open = |connection: &mut Conversation| {
        let stream = connection.stream();
        stream.set_nonblocking(true).unwrap();
        stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    crowd.iter_mut().map(&mut is_open).filter(|is_open| *is_open).count()
}

#[test]
fn connections_that_finish_no_request_make_room_for_a_command() {
    let lb = guarded(&[]);
    let beginnings = [
        "",
        "{",
        "{\"cmd\":\"rep\",\"token\":\"secret\"",
        "G",
        "GET /rep HTTP/1.1\r\nHost: lb\r\nAuthorization: Bearer secret\r\n",
        "POST /add HTTP/1.1\r\nHost: lb\r\nAuthorization: Bearer secret\r\nContent-Length: 9\r\n\r\n{",
        "POST /add HTTP/1.1\r\nHost: lb\r\nAuthorization: Bearer secret\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{",
    ];
    for begin in beginnings {
        let mut crowd: Vec<_> = (0..CROWD)
            .map(|_| {
                let mut connection = Conversation::with(&lb);
                connection.say(begin);
                connection
            })
            .collect();
        assert_eq!(Conversation::with(&lb).say(REP).line(), listing(&["server1"]), "{begin}");
        let header = "Authorization: Bearer secret\r\n";
        let answer = Conversation::with(&lb).say(request("GET /rep", header, "")).response();
        assert_eq!(answer.body, listing(&["server1"]), "{begin}");
        // The commands did not wait until the deadline of the crowd was over.
        assert!(open(&mut crowd) > CROWD / 4, "{begin}");
    }
}

#[test]
fn a_crowd_of_strangers_takes_no_place_from_a_client_that_has_said_a_command() {
    let lb = guarded(&[]);
    let mut client = Conversation::with(&lb);
    assert_eq!(client.say(REP).line(), listing(&["server1"]));
    let _silent: Vec<_> = (0..CROWD).map(|_| Conversation::with(&lb)).collect();
    let _wrong: Vec<_> = (0..CROWD)
        .map(|_| {
            let mut connection = Conversation::with(&lb);
            connection.say("{\"cmd\":\"rep\",\"token\":\"wrong\"}\n");
            connection
        })
        .collect();
    assert_eq!(by_line(&lb, &json!({"cmd": "rep", "token": "secret"})), listing(&["server1"]));
    assert_eq!(client.say(REP).line(), listing(&["server1"]));
}

#[test]
fn a_command_that_is_carried_out_keeps_its_place_in_a_crowd() {
    let gate = crate::harness::Gate::new();
    gate.open();
    let lb = guarded(&["--command", &gate.command()]);
    gate.close();
    let mut adds = Conversation::with(&lb);
    adds.say("{\"cmd\":\"add\",\"n\":1,\"hostnames\":[\"late\"],\"token\":\"secret\"}\n");
    let state = || by_line(&lb, &json!({"cmd": "backends", "token": "secret"}));
    eventually("the add has begun", || state().contains("late").then_some(()));
    for _ in 0..2 {
        let crowd: Vec<_> = (0..CROWD).map(|_| Conversation::with(&lb)).collect();
        assert!(state().contains("late"));
        drop(crowd);
    }
    gate.open();
    assert_eq!(adds.line(), listing(&["server1", "late"]));
}

#[test]
fn a_connection_with_wrong_tokens_is_closed_and_the_right_token_still_gets_in() {
    let lb = guarded(&[]);
    for token in [",\"token\":\"wrong\"", ""] {
        let mut connection = Conversation::with(&lb);
        for _ in 0..3 {
            refused(&connection.say(format!("{{\"cmd\":\"rep\"{token}}}\n")).line());
        }
        assert_eq!(connection.rest(), "", "closed");
        let mut connection = Conversation::with(&lb);
        connection.say(format!("{{\"cmd\":\"rep\"{token}}}\n").repeat(100));
        assert_eq!(connection.rest().lines().count(), 3, "closed");
    }
    let mut connection = Conversation::with(&lb);
    for number in 1..=3 {
        let wrong = request("GET /rep", "Authorization: Bearer wrong\r\n", "");
        let response = connection.say(wrong).response();
        assert_eq!(response.status, 401);
        assert_eq!(response.header("connection"), (number == 3).then_some("close"));
    }
    assert_eq!(connection.rest(), "");
    let long = "x".repeat(70_000);
    let mut connection = Conversation::with(&lb);
    connection.say(format!("{{\"x\":\"{long}\"}}\n").repeat(3));
    assert_eq!(connection.rest().lines().count(), 3, "lines that are too long to have a token count as well");
    assert_eq!(by_line(&lb, &json!({"cmd": "rep", "token": "secret"})), listing(&["server1"]));
}

#[test]
fn refused_commands_are_counted_in_few_lines() {
    let lb = guarded(&[]);
    for _ in 0..30 {
        refused(&Conversation::with(&lb).say("{\"cmd\":\"rep\",\"token\":\"wrong\"}\n").line());
    }
    let lines = || -> Vec<String> {
        lb.log().into_iter().filter(|line| line.contains("lb::audit: commands refused")).collect()
    };
    let counted = |lines: &[String]| -> u64 {
        lines.iter().map(|line| field(line, "refused=").parse::<u64>().unwrap()).sum()
    };
    eventually("all of them in the log", || (counted(&lines()) == 30).then_some(()));
    assert!(lines().len() < 30, "{:?}", lines());
    assert!(
        lines().iter().all(|line| line.contains(" WARN ") && field(line, "last=").starts_with("127.0.0.1:"))
    );
}

/// Sends lines with a wrong token as fast as it can, until it is told to stop.
fn flood(lb: &Lb, stop: &AtomicBool) {
    let deep = format!("{{\"token\":\"wrong\",\"x\":{}\n", "[".repeat(110).repeat(590));
    while !stop.load(Ordering::Relaxed) {
        let Ok(stream) = TcpStream::connect(lb.control) else { continue };
        let mut stream = patient(stream);
        while !stop.load(Ordering::Relaxed) && stream.write_all(deep.as_bytes()).is_ok() {}
    }
}

#[test]
fn a_flood_of_wrong_tokens_delays_no_healing_and_fells_no_replica() {
    let lb = Lb::start(&["--control-token", "secret", "--health-timeout", "5s"]);
    let stop = AtomicBool::new(false);
    let slots = || -> Vec<Value> {
        let answer = by_line(&lb, &json!({"cmd": "backends", "token": "secret"}));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["message"]["backends"].as_array().unwrap().clone()
    };
    thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| flood(&lb, &stop));
        }
        lb.wait_for_log("commands refused");
        // The flood lasts until every kill has been healed.
        let healed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for kills in 1..=3 {
                signal(lb.process_of(slots()[0]["hostname"].as_str().unwrap()), "KILL");
                eventually("a replacement in rotation", || {
                    (slots()[0]["state"] == "up" && slots()[0]["restarts"] == kills).then_some(())
                });
            }
        }));
        stop.store(true, Ordering::Relaxed);
        healed.unwrap();
    });
    let others = |line: &&String| line.contains("replica down") && !line.contains("slot=server1 ");
    assert_eq!(lb.log().iter().filter(others).count(), 0);
}
