//! Failover: replicas that cannot be reached, and clients that leave early.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use socket2::SockRef;

use crate::harness::{Lb, PATIENCE, Replica, eventually, field, fixed, flags, id_for, patient, reset};
use crate::metrics::wait_for;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Only the first probe runs, so a replica stays in rotation even if it dies.
const UNWATCHED: [&str; 2] = ["--health-interval", "1h"];

/// Starts an `lb` in front of `replicas`, which are called a, b, c ...
fn front(replicas: &[Replica], more: &[&str]) -> Lb {
    let addresses: Vec<_> = replicas.iter().map(|replica| replica.address).collect();
    Lb::start(&[&flags(&fixed(&addresses)), more, &["--log", "debug"]].concat())
}

/// Replicas that answer with their names.
fn named(n: usize) -> Vec<Replica> {
    NAMES[..n].iter().map(|name| Replica::named(name)).collect()
}

/// `n` ids that are far apart.
fn ids(n: u32) -> impl Iterator<Item = String> {
    (0..n).map(|number| (100_000 + 7_919 * number).to_string())
}

/// Connects with this id. Returns the answer, the replicas that failed before, and the reason of the last failure.
#[track_caller]
fn visit(lb: &Lb, id: &str) -> (String, Vec<String>, String) {
    let mut client = lb.connect();
    writeln!(client, "{id}").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let peer = client.local_addr().unwrap();
    drop(client);
    let line = lb.session_of(peer);
    assert_eq!(field(&line, "id="), id);
    let (_, attempts) = line.split_once("attempts=").unwrap();
    let attempts = attempts.split_once(" up=").map_or(attempts, |(attempts, _)| attempts);
    let attempts = attempts.split("; ").filter_map(|attempt| attempt.split_once(": "));
    let reason = attempts.clone().last().map_or("", |(_, reason)| reason);
    (answer, attempts.map(|(name, _)| name.to_owned()).collect(), reason.to_owned())
}

#[test]
fn each_attempt_goes_to_the_next_distinct_replica_up_to_the_limit() {
    let replicas = named(5);
    let few = front(&replicas, &[&UNWATCHED[..], &["--connect-attempts", "2"]].concat());
    let usual = front(&replicas, &UNWATCHED);
    let many = front(&replicas, &[&UNWATCHED[..], &["--connect-attempts", "9"]].concat());
    for gone in [0, 1, 3, 4] {
        replicas[gone].leave();
    }
    for id in ids(15) {
        for (lb, most) in [(&few, 2), (&usual, 3), (&many, 9)] {
            let order = lb.order(&id);
            let reached = order.iter().position(|name| name == "c").unwrap();
            let answer = if reached < most { "c" } else { "" };
            let failed = order[..reached.min(most)].to_vec();
            let (got, attempts, reason) = visit(lb, &id);
            assert_eq!((got.as_str(), attempts), (answer, failed), "{id}, {most} attempts");
            assert!(reached == 0 || reason.contains("refused"), "{reason}");
        }
    }
    // `many` has tried all that stand before c.
    for name in ["a", "b", "d", "e"] {
        let tried =
            |id: &String| many.order(id).iter().take_while(|other| *other != "c").any(|other| other == name);
        let tried = ids(15).filter(tried).count() as f64;
        let page =
            wait_for(&many, "lb_connect_attempts_total", &format!("slot={name},result=refused"), tried);
        assert!(
            page.value("lb_connect_attempts_total", &format!("slot={name},result=ok")) == 0.0 && tried > 0.0
        );
    }
}

#[test]
fn a_black_hole_is_skipped_after_the_connect_timeout() {
    let replicas = named(3);
    let lb = front(&replicas, &[&UNWATCHED[..], &["--connect-timeout", "200ms"]].concat());
    replicas[0].hang();
    let id = id_for(&lb, "a");
    let (answer, attempts, reason) = visit(&lb, &id);
    assert_eq!((answer.as_str(), attempts), (lb.order(&id)[1].as_str(), vec!["a".to_owned()]));
    assert!(reason.contains("no answer"), "{reason}");
    wait_for(&lb, "lb_connect_attempts_total", "slot=a,result=timeout", 1.0);
}

#[test]
fn a_replica_that_resets_before_a_byte_was_forwarded_is_skipped() {
    let (a, b) = (TcpListener::bind("127.0.0.1:0").unwrap(), Replica::named("b"));
    SockRef::from(&a).set_read_timeout(Some(PATIENCE)).unwrap();
    let fleet = fixed(&[a.local_addr().unwrap(), b.address]);
    let more = ["--health", "tcp", "--health-interval", "1h", "--connect-timeout", "1h", "--log", "debug"];
    let lb = Lb::start(&[&flags(&fleet)[..], &more].concat());
    drop(a.accept().unwrap());

    // The accept queue is full, so a connect stays pending until there is room.
    SockRef::from(&a).listen(0).unwrap();
    let queued = TcpStream::connect(a.local_addr().unwrap()).unwrap();
    thread::scope(|scope| {
        let visitor = scope.spawn(|| visit(&lb, &id_for(&lb, "a")));
        eventually("a pending connect", || (lb.slot(1)["connections"]["open"] == 1).then_some(()));
        // `lb` is stopped, so the reset is there before it sees the connection.
        lb.signal("STOP");
        assert_eq!(a.accept().unwrap().1, queued.local_addr().unwrap());
        reset(a.accept().unwrap().0);
        lb.signal("CONT");
        let (answer, attempts, reason) = visitor.join().unwrap();
        assert_eq!((answer.as_str(), attempts), ("b", vec!["a".to_owned()]));
        assert!(reason.contains("reset"), "{reason}");
    });
}

#[test]
fn a_replica_that_accepts_and_resets_costs_clients_their_connections_until_a_probe_fails() {
    let (a, b) = (TcpListener::bind("127.0.0.1:0").unwrap(), Replica::named("b"));
    let fleet = fixed(&[a.local_addr().unwrap(), b.address]);
    // It stays in rotation however often it fails its probes.
    let lb =
        Lb::start(&[&flags(&fleet)[..], &["--health", "tcp", "--fall", "1000", "--log", "debug"]].concat());
    let id = id_for(&lb, "a");
    thread::spawn(move || a.incoming().map_while(Result::ok).for_each(reset));
    let ask = || {
        let mut client = lb.connect();
        writeln!(client, "{id}").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).map(|_| answer).map_err(|error| error.kind())
    };
    // The first reset asks for a probe, and the probe fails.
    eventually("an answer of the next candidate", || {
        let answer = ask();
        assert!([Ok("b".to_owned()), Err(ErrorKind::ConnectionReset)].contains(&answer), "{answer:?}");
        answer.is_ok().then_some(())
    });
    for _ in 0..20 {
        assert_eq!(ask(), Ok("b".to_owned()));
    }
}

/// A replica that resets the connection of a line with "garbage" in it, and answers any other line with "a". From the time when
/// `leaves` is set, it closes each connection at once.
fn strict(leaves: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok).map(patient) {
            if leaves.load(Ordering::Relaxed) {
                continue;
            }
            thread::spawn(move || {
                let mut line = [0; 1024];
                let Ok(n @ 1..) = stream.read(&mut line) else { return };
                if line[..n].ends_with(b"garbage\n") {
                    reset(stream);
                } else {
                    let _ = stream.write_all(b"a");
                }
            });
        }
    });
    address
}

#[test]
fn garbage_that_a_replica_resets_is_no_evidence_against_it() {
    let (leaves, b) = (Arc::default(), Replica::named("b"));
    let fleet = fixed(&[strict(Arc::clone(&leaves)), b.address]);
    let more = [&UNWATCHED[..], &["--health", "tcp", "--log", "debug"]].concat();
    let lb = Lb::start(&[&flags(&fleet)[..], &more].concat());
    let id = id_for(&lb, "a");
    for _ in 0..20 {
        let mut client = lb.connect();
        writeln!(client, "{id} garbage").unwrap();
        let cut = client.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(cut, Err(ErrorKind::ConnectionReset));
        lb.session_of(client.local_addr().unwrap());
    }
    assert_eq!(visit(&lb, &id), ("a".to_owned(), vec![], String::new()));
    // A second look would see that the replica closes the connection, and take the next candidate.
    leaves.store(true, Ordering::Relaxed);
    let mut client = lb.connect();
    writeln!(client, "{id}").unwrap();
    let _ = client.read_to_end(&mut Vec::new());
    lb.session_of(client.local_addr().unwrap());
    assert_eq!(b.sessions.load(Ordering::Relaxed), 0, "the session was forwarded at once");
}

#[test]
fn after_a_failed_connect_the_next_session_looks_twice() {
    let (a, b) = (TcpListener::bind("127.0.0.1:0").unwrap(), Replica::named("b"));
    let address = a.local_addr().unwrap();
    let fleet = fixed(&[address, b.address]);
    let more = [&UNWATCHED[..], &["--health", "tcp", "--log", "debug"]].concat();
    let lb = Lb::start(&[&flags(&fleet)[..], &more].concat());
    let id = id_for(&lb, "a");
    drop(a);
    let (answer, _, reason) = visit(&lb, &id);
    assert_eq!(answer, "b");
    assert!(reason.contains("refused"), "{reason}");
    let a = TcpListener::bind(address).unwrap();
    thread::spawn(move || a.incoming().map_while(Result::ok).for_each(drop));
    for _ in 0..3 {
        let (answer, _, reason) = visit(&lb, &id);
        assert_eq!(answer, "b");
        assert!(reason.contains("closed at once"), "{reason}");
    }
}

#[test]
fn clients_for_whom_there_is_no_replica_are_counted_in_an_error() {
    const CLIENTS: u64 = 50;
    let replicas = named(1);
    let lb = front(&replicas, &UNWATCHED);
    replicas[0].leave();
    for id in ids(CLIENTS as u32) {
        assert_eq!(lb.exchange(format!("{id}\n").as_bytes()), b"");
    }
    eventually("an error with each client", || {
        let log = lb.log();
        let errors =
            log.iter().filter(|line| line.contains(" ERROR ") && line.contains("no replica is available"));
        let clients = errors.map(|line| field(line, "clients=").parse::<u64>().unwrap()).sum::<u64>();
        assert!(clients <= CLIENTS, "{clients} are counted");
        (clients == CLIENTS).then_some(())
    });
}

#[test]
fn an_http_client_gets_503_when_the_only_replica_cannot_be_reached() {
    let replicas = named(1);
    let lb = front(&replicas, &UNWATCHED);
    replicas[0].leave();
    let answer = String::from_utf8(lb.exchange(b"GET /home?id=5 HTTP/1.1\r\n\r\n")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let message = r#"{"message":"<Error> no server replica is available","status":"failure"}"#;
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, message);
    assert_eq!(visit(&lb, "5").0, "");
}

#[test]
fn a_replica_that_fails_its_probes_but_runs_is_the_last_candidate() {
    let replicas = named(3);
    // A probe of a black hole hangs for an hour, so the black hole stays in rotation.
    let watch = ["--health-interval", "50ms", "--health-timeout", "1h", "--replace-after", "1h"];
    let lb = front(&replicas, &[&watch[..], &["--connect-timeout", "200ms"]].concat());
    let id = id_for(&lb, "a");
    let order = lb.order(&id);
    let (second, third) = (order[1].clone(), order[2].clone());
    let replica = |name: &str| &replicas[NAMES.iter().position(|known| *known == name).unwrap()];

    replicas[0].healthy.store(false, Ordering::Relaxed);
    lb.wait_for_state(1, "down");
    assert_eq!(visit(&lb, &id), (second.clone(), vec![], String::new()), "a healthy replica comes first");
    replica(&second).hang();
    let (answer, attempts, _) = visit(&lb, &id);
    assert_eq!((&answer, &attempts), (&third, &vec![second.clone()]), "every healthy replica comes first");
    replica(&third).hang();
    let (answer, attempts, _) = visit(&lb, &id);
    assert_eq!(
        (answer.as_str(), attempts),
        ("a", vec![second, third]),
        "a failing replica is better than none"
    );
    replicas[0].healthy.store(true, Ordering::Relaxed);
    lb.wait_for_state(1, "up");
    assert_eq!(visit(&lb, &id).0, "a", "its keys are back in its slot");
}

#[test]
fn replicas_that_all_fail_their_probes_still_get_their_own_keys() {
    let replicas = named(3);
    let lb = front(&replicas, &["--health-interval", "50ms", "--replace-after", "1h"]);
    replicas.iter().for_each(|replica| replica.healthy.store(false, Ordering::Relaxed));
    (1..=3).for_each(|index| drop(lb.wait_for_state(index, "down")));
    for id in ids(9) {
        assert_eq!(visit(&lb, &id).0, lb.order(&id)[0]);
    }
}

#[test]
fn after_the_first_byte_was_forwarded_there_is_no_second_replica() {
    /// How the replica leaves, and what the client reads then.
    type Leave = (fn(TcpStream), Result<usize, ErrorKind>);
    let leaves: [Leave; 2] = [(reset, Err(ErrorKind::ConnectionReset)), (drop, Ok(0))];
    for (leave, expected) in leaves {
        let replicas =
            [Replica::start(move |stream, _| leave(stream)), Replica::named("b"), Replica::named("c")];
        let lb = front(&replicas, &UNWATCHED);
        let id = id_for(&lb, "a");
        for _ in 0..20 {
            let mut client = lb.connect();
            writeln!(client, "{id}").unwrap();
            assert_eq!(client.read(&mut [0]).map_err(|error| error.kind()), expected);
        }
        let sessions = replicas.map(|replica| replica.sessions.load(Ordering::Relaxed));
        assert_eq!(sessions, [20, 0, 0]);
    }
}

/// Waits until every connection is closed and its files with it, and checks that a shutdown ends: `lb` counts no session
/// either.
#[track_caller]
fn nothing_is_left(mut lb: Lb, files: usize) {
    eventually("no open connection to a replica", || {
        lb.backends().iter().all(|slot| slot["connections"]["open"] == 0).then_some(())
    });
    eventually("as many open files as before", || (lb.open_files() <= files).then_some(()));
    lb.signal("TERM");
    assert!(lb.wait().success());
}

#[test]
fn two_thousand_clients_that_leave_early_leave_nothing_behind() {
    let replicas = [Replica::echo(), Replica::echo(), Replica::echo()];
    let lb = front(&replicas, &["--drain-timeout", "1h"]);
    lb.route("132574");
    let files = lb.files_at_rest();
    let leaves: [fn(TcpStream); 6] = [
        drop,
        reset,
        |mut client| client.write_all(b"GET /home?i").unwrap(),
        |mut client| {
            client.write_all(b"13257").unwrap();
            reset(client);
        },
        |mut client| client.write_all(b"132574\nand then nothing").unwrap(),
        |mut client| {
            client.write_all(b"132574\nand then a reset").unwrap();
            reset(client);
        },
    ];
    thread::scope(|scope| {
        for begin in 0..4 {
            let (lb, leaves) = (&lb, leaves.into_iter().cycle().skip(begin).take(500));
            scope.spawn(move || leaves.for_each(|leave| leave(lb.connect())));
        }
    });
    assert_eq!(lb.exchange(b"132574\n"), b"132574\n", "other clients are still served");
    nothing_is_left(lb, files);
}

#[test]
fn clients_that_leave_during_the_connect_to_their_replica_leave_nothing_behind() {
    let replicas = [Replica::echo()];
    let lb =
        front(&replicas, &[&UNWATCHED[..], &["--drain-timeout", "1h", "--connect-timeout", "2s"]].concat());
    lb.route("132574");
    let files = lb.files_at_rest();
    replicas[0].hang();
    let leaves: [fn(TcpStream); 3] = [drop, reset, |client| client.shutdown(Shutdown::Both).unwrap()];
    let clients: Vec<TcpStream> = (0..60).map(|_| lb.connect()).collect();
    for mut client in &clients {
        client.write_all(b"132574\n").unwrap();
    }
    eventually("pending connects", || (lb.slot(1)["connections"]["open"].as_u64() > Some(0)).then_some(()));
    clients.into_iter().zip(leaves.into_iter().cycle()).for_each(|(client, leave)| leave(client));
    nothing_is_left(lb, files);
}
