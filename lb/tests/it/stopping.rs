//! Signals, and what becomes of both ports and of `/healthz` when one of them ends `lb`.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::json;

use crate::control::http;
use crate::harness::{Lb, eventually, patient, say, session, signal};

#[track_caller]
fn wait_until_closed(port: SocketAddr) {
    eventually("the port closed", || TcpStream::connect(port).is_err().then_some(()));
}

fn is_reset(mut client: TcpStream) -> bool {
    client.read_to_end(&mut Vec::new()).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

/// The answer to one more command, or nothing if the connection is closed.
fn told(mut connection: TcpStream, command: &str) -> String {
    let mut answer = String::new();
    let _ = connection.write_all(format!("{command}\n").as_bytes());
    let _ = BufReader::new(connection).read_line(&mut answer);
    answer
}

/// `lb` on the ports of another one.
fn successor_of(lb: &Lb) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command.args(["serve", "--listen", &lb.data.to_string(), "--control", &lb.control.to_string()]);
    command
}

#[test]
fn other_signals_are_logged_and_ignored() {
    let mut lb = Lb::start(&["--replicas", "1", "--drain-timeout", "10m"]);
    let (mut client, _) = session(&lb, "1");
    for name in ["HUP", "USR1"] {
        lb.signal(name);
        lb.wait_for_log(&format!("SIG{name} is ignored"));
        say(&mut client, "still there");
        assert_ne!(lb.route("2"), "", "SIG{name}: lb serves new clients");
    }
    lb.signal("TERM");
    lb.wait_for_log("stopping");
    for _ in 0..20 {
        lb.signal("HUP");
        say(&mut client, "neither during a drain");
    }
    drop(client);
    assert_eq!(lb.wait().code(), Some(0));
}

#[test]
fn a_successor_can_start_on_both_ports_while_the_old_one_drains() {
    let mut lb = Lb::start(&["--replicas", "1", "--drain-timeout", "10m"]);
    let (mut client, _) = session(&lb, "1");
    let mut operator = patient(TcpStream::connect(lb.control).unwrap());
    assert_eq!(
        say(&mut operator, r#"{"cmd":"health"}"#),
        "{\"message\":{\"up\":1,\"N\":1},\"status\":\"successful\"}\n"
    );
    lb.signal("TERM");
    wait_until_closed(lb.data);
    wait_until_closed(lb.control);

    let next = Lb::launch_as(successor_of(&lb));
    next.wait_for_log("ready data=");
    assert_eq!((next.data, next.control), (lb.data, lb.control));
    assert_eq!(next.hostnames().len(), 3, "the port leads to the successor");
    assert_ne!(next.route("2"), "");
    say(&mut client, "the old one goes on");
    let answer = told(operator, r#"{"cmd":"add","n":1}"#);
    assert!(
        answer.is_empty() || answer.contains("shutting down"),
        "a drain takes no more commands: {answer}"
    );
    drop(client);
    assert_eq!(lb.wait().code(), Some(0));
}

#[test]
fn both_ports_stay_open_for_the_delay_and_healthz_says_that_lb_stops() {
    let mut lb = Lb::start(&["--replicas", "2", "--stop-delay", "1h"]);
    assert_eq!(http(&lb, "GET /healthz", "").status, 200);
    let (client, hostname) = session(&lb, "1");
    lb.signal("TERM");
    let answer = eventually("another status of /healthz", || {
        Some(http(&lb, "GET /healthz", "")).filter(|answer| answer.status != 200)
    });
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("stopping"), "{}", answer.body);
    assert!(lb.refused(&json!({"cmd": "health"})).contains("stopping"));

    assert_ne!(lb.route("2"), "", "new clients are served");
    lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S5"]}));
    let before = lb.slot(3);
    signal(lb.process_of("S5"), "KILL");
    lb.wait_for_replacement(&before);

    lb.signal("INT");
    assert_eq!(lb.wait().code(), Some(0), "a second signal ends lb at once");
    assert!(is_reset(client), "{hostname}: a broken connection must not look complete");
}

#[test]
fn both_ports_are_closed_after_the_delay() {
    let mut lb = Lb::start(&["--replicas", "1", "--stop-delay", "200ms", "--drain-timeout", "10m"]);
    let (mut client, _) = session(&lb, "1");
    lb.signal("TERM");
    lb.wait_for_log("connections may finish");
    wait_until_closed(lb.data);
    wait_until_closed(lb.control);
    say(&mut client, "still there");
    drop(client);
    assert_eq!(lb.wait().code(), Some(0));
}
