//! Limits on connections: what is over them is reset before a byte is read, waits, or goes to the next candidate. Each reason is
//! counted and logged.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::control::http;
use crate::harness::{Lb, eventually, field, id_for, patient, reset, say, session};
use crate::metrics::wait_for;

/// A new connection from this address of the machine. A reset may come before it is made.
fn try_from(source: &str, data: SocketAddr) -> io::Result<TcpStream> {
    let source: IpAddr = source.parse().unwrap();
    let socket = Socket::new(Domain::for_address((source, 0).into()), Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&data.into())?;
    Ok(patient(socket.into()))
}

/// A new connection from this address of the machine.
fn from(source: &str, data: SocketAddr) -> TcpStream {
    try_from(source, data).unwrap()
}

/// Whether a client from this address is reset, without a byte. (One that is served gets nothing before it has sent something.)
fn is_reset(source: &str, data: SocketAddr) -> bool {
    let read = try_from(source, data).and_then(|mut client| client.read(&mut [0]));
    matches!(read, Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

/// The client from this address, if it gets an answer to its line; otherwise it has to be reset.
fn served(source: &str, data: SocketAddr) -> Option<TcpStream> {
    let mut client = try_from(source, data).ok()?;
    is_served(&mut client).then_some(client)
}

/// Whether a client that sends a line gets an answer to it; otherwise it has to be reset.
fn is_served(client: &mut TcpStream) -> bool {
    if client.write_all(b"7\n").is_err() {
        return false; // the reset has come already
    }
    match client.read(&mut [0]) {
        Ok(read) => {
            assert_eq!(read, 1, "closed without an answer");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            false
        }
    }
}

/// How many connections were not served for this reason.
fn refused(lb: &Lb, reason: &str) -> u64 {
    lb.done(&json!({"cmd": "backends"}))["refused"][reason].as_u64().unwrap()
}

/// The connections that lines of the log with this part speak of.
fn logged(lb: &Lb, part: &str) -> Vec<u64> {
    let lines = lb.log().into_iter().filter(|line| line.contains(part));
    lines.map(|line| field(&line, "connections=").parse().unwrap()).collect()
}

#[test]
fn over_the_limit_of_all_connections_new_ones_wait_until_one_has_ended() {
    for flags in [&["--workers", "1"][..], &["--workers", "4"], &["--transport", "handoff"]] {
        let lb = Lb::start(&[&["--max-connections", "2", "--replicas", "1"], flags].concat());
        let (first, _) = session(&lb, "1");
        let (_second, _) = session(&lb, "2");
        let mut third = lb.connect();
        third.write_all(b"3\n").unwrap();
        eventually("a connection that waits", || (refused(&lb, "max_connections") == 1).then_some(()));
        lb.wait_for_log("all that --max-connections allows are open");
        let page = wait_for(&lb, "lb_connections_refused_total", "reason=max_connections", 1.0);
        assert!(page.value("lb_workers", "state=full") >= 1.0, "{flags:?}: {page:?}");
        drop(first);
        let mut answer = [0; 9];
        third.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"server1 3", "{flags:?}: it is served when there is a place");
        drop(third);
        // Each place comes back once: two at a time, again and again.
        for id in 0..20 {
            let (_one, _) = session(&lb, &id.to_string());
        }
    }
}

#[test]
fn a_source_over_its_connections_is_reset_and_others_are_served() {
    for flags in [&["--workers", "1"][..], &["--workers", "4"], &["--transport", "handoff"]] {
        let lb = Lb::start(&[&["--max-connections-per-source", "2", "--replicas", "1"], flags].concat());
        let files = lb.files_at_rest();
        let [mut one, mut two] = [(); 2].map(|()| from("127.0.0.1", lb.data));
        assert!(is_served(&mut one) && is_served(&mut two));
        for _ in 0..20 {
            assert!(is_reset("127.0.0.1", lb.data), "{flags:?}: before a byte is read");
        }
        assert!(served("127.0.0.1", lb.data).is_none(), "{flags:?}");
        assert!(served("127.0.0.2", lb.data).is_some(), "{flags:?}: another source");
        assert_eq!(refused(&lb, "per_source"), 21);
        eventually("a line of the log for each", || {
            (logged(&lb, "--max-connections-per-source").iter().sum::<u64>() == 21).then_some(())
        });
        say(&mut one, "still there");
        // Its place comes back when a connection has ended: once, however it ends.
        drop(two);
        for turn in 0..20 {
            let mut next =
                eventually("the place of the connection that has ended", || served("127.0.0.1", lb.data));
            assert!(served("127.0.0.1", lb.data).is_none(), "{flags:?}: one place, not two");
            if turn % 2 == 0 {
                reset(next);
            } else {
                say(&mut next, "bye");
            }
        }
        drop(one);
        eventually("files as before", || (lb.open_files() <= files).then_some(()));
    }
}

#[test]
fn a_client_that_waits_with_its_first_line_has_a_place_of_its_source() {
    let lb = Lb::start(&[
        "--max-connections-per-source",
        "1",
        "--workers",
        "1",
        "--replicas",
        "1",
        "--first-line-timeout",
        "10m",
    ]);
    let silent = from("127.0.0.1", lb.data);
    assert!(is_reset("127.0.0.1", lb.data), "it counts from accept on");
    drop(silent);
    eventually("its place", || served("127.0.0.1", lb.data).map(drop));
    eventually("a client that left early", || (refused(&lb, "left_early") == 1).then_some(()));
}

#[test]
fn an_address_in_the_clothes_of_ipv6_is_the_same_source() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command.args(["--listen", "[::]:0", "--control", "127.0.0.1:0", "--replicas", "1"]);
    command.args(["--max-connections-per-source", "1", "--deny", "127.0.0.9"]);
    let lb = Lb::launch_as(command);
    lb.wait_for_log("ready data=");
    // The socket of both families shows IPv4 addresses as ::ffff:127.0.0.1.
    let data = SocketAddr::from(([127, 0, 0, 1], lb.data.port()));
    let mut one = from("127.0.0.1", data);
    assert!(is_served(&mut one));
    assert!(is_reset("127.0.0.1", data) && is_reset("127.0.0.9", data));
    let mut other = from("::1", SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], lb.data.port())));
    assert!(is_served(&mut other));
}

#[test]
fn a_source_over_its_rate_is_reset_and_others_are_served() {
    let lb = Lb::start(&["--rate-per-source", "1/s,burst=5", "--replicas", "1"]);
    let begun = Instant::now();
    let count = (0..50).filter(|_| served("127.0.0.1", lb.data).is_some()).count();
    let most = 5 + begun.elapsed().as_secs() as usize + 1;
    assert!((5..=most).contains(&count), "{count} of at most {most}");
    assert_eq!(refused(&lb, "rate"), 50 - count as u64);
    wait_for(&lb, "lb_connections_refused_total", "reason=rate", 50.0 - count as f64);
    assert!(served("127.0.0.2", lb.data).is_some(), "another source has a rate of its own");
    eventually("the rate lets one in again", || served("127.0.0.1", lb.data).map(drop));
}

#[test]
fn over_the_connections_of_a_replica_the_next_candidate_gets_them_and_then_nobody() {
    for flags in [&["--workers", "1"][..], &["--workers", "4"], &["--transport", "handoff"]] {
        let lb = Lb::start(&[&["--max-connections-per-replica", "2", "--replicas", "2"], flags].concat());
        let id = id_for(&lb, "server2");
        let expected = ["server2", "server2", "server1", "server1"];
        let mut held: Vec<(TcpStream, String)> = expected.iter().map(|_| session(&lb, &id)).collect();
        let hostnames: Vec<&str> = held.iter().map(|(_, hostname)| hostname.as_str()).collect();
        assert_eq!(hostnames, expected, "{flags:?}");
        let explanation = lb.done(&json!({"cmd": "explain", "id": id}));
        assert_eq!((&explanation["owner"], &explanation["pick"]), (&json!("server2"), &Value::Null));
        for candidate in explanation["candidates"].as_array().unwrap() {
            let full = "full: it has 2 of at most 2 connections (--max-connections-per-replica)";
            assert_eq!(candidate["skipped"], full, "{explanation}");
        }
        assert!(lb.get(&format!("/home?id={id}")).starts_with("HTTP/1.1 503 "));
        assert_eq!(lb.exchange(format!("{id}\n").as_bytes()), b"", "closed");
        assert_eq!(refused(&lb, "no_replica"), 2);
        lb.wait_for_log("no replica is available");
        let health = http(&lb, "GET /healthz", "");
        assert_eq!(health.status, 503, "{}", health.body);
        assert!(health.body.contains("--max-connections-per-replica"), "{}", health.body);
        drop(held.remove(0));
        eventually("the place at the owner", || (lb.route(&id) == "server2").then_some(()));
    }
}

#[test]
fn denied_networks_are_reset_first_and_allowed_ones_shut_the_others_out() {
    let cases: [(&[&str], &[&str], &[&str]); 4] = [
        (&["--deny", "127.0.0.2"], &["127.0.0.1", "127.0.0.3"], &["127.0.0.2"]),
        (&["--allow", "127.0.1.0/24"], &["127.0.1.7"], &["127.0.0.1", "127.0.2.0"]),
        (
            &["--allow", "127.0.0.0/24,127.0.1.0/24", "--deny", "127.0.0.0/30", "--deny", "127.0.1.9"],
            &["127.0.0.4", "127.0.1.8"],
            &["127.0.0.1", "127.0.0.3", "127.0.1.9", "127.0.2.1"],
        ),
        (&["--allow", "127.0.0.1", "--deny", "0.0.0.0/0"], &[], &["127.0.0.1"]),
    ];
    for (flags, let_in, denied) in cases {
        let lb = Lb::start(&[&["--replicas", "1"], flags].concat());
        for source in let_in {
            assert!(served(source, lb.data).is_some(), "{flags:?}: {source}");
        }
        for source in denied {
            assert!(is_reset(source, lb.data), "{flags:?}: {source}");
        }
        assert_eq!(refused(&lb, "denied"), denied.len() as u64);
        eventually("them in the log", || {
            (logged(&lb, "--deny").iter().sum::<u64>() == denied.len() as u64).then_some(())
        });
    }
}

#[test]
fn a_flood_of_refused_connections_leaves_a_line_a_second_and_no_file() {
    let lb = Lb::start(&["--deny", "127.0.0.2", "--replicas", "1", "--workers", "2"]);
    let (files, begun) = (lb.files_at_rest(), Instant::now());
    for _ in 0..500 {
        assert!(is_reset("127.0.0.2", lb.data));
    }
    assert_eq!(lb.route("7"), "server1", "others are served");
    let counted = || logged(&lb, "--deny").iter().sum::<u64>();
    eventually("all of them in the log", || (counted() == 500).then_some(()));
    let most = begun.elapsed().as_secs() as usize + 1;
    assert!(logged(&lb, "--deny").len() <= most, "{:?}", logged(&lb, "--deny"));
    eventually("no file more than before", || (lb.open_files() <= files).then_some(()));
}

#[test]
fn without_limits_nothing_is_refused_and_backends_says_so() {
    let lb = Lb::start(&["--replicas", "1"]);
    let mut held: Vec<TcpStream> = (0..50).map(|_| from("127.0.0.1", lb.data)).collect();
    assert!(held.iter_mut().all(is_served));
    let none = json!({
        "no_replica": 0, "max_connections": 0, "per_source": 0, "rate": 0, "denied": 0, "left_early": 0, "local": 0
    });
    assert_eq!(lb.done(&json!({"cmd": "backends"}))["refused"], none);
}
