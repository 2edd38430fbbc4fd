//! Splicing: when bytes go through pipes, when they are copied instead, and that every pipe comes back.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;

use serde_json::json;

use crate::harness::{Lb, Wire, eventually, every_relay, every_relay_with, reset, with_files};
use crate::noise::{FIN, KIB, MIB, end, noise, receive, send};
use crate::relay::{flood, pair};

pub(crate) const ONE_WORKER: [&str; 4] = ["--key", "source", "--workers", "1"];
/// How many empty pipes a worker keeps.
const KEPT: usize = 16;

/// How many pipes `lb` holds both ends of.
fn pipes(lb: &Lb) -> usize {
    let mut ends: HashMap<_, usize> = HashMap::new();
    for file in std::fs::read_dir(format!("/proc/{}/fd", lb.pid())).unwrap().map_while(Result::ok) {
        if let Ok(what) = std::fs::read_link(file.path())
            && what.to_string_lossy().starts_with("pipe:")
        {
            *ends.entry(what).or_default() += 1;
        }
    }
    ends.values().filter(|count| **count == 2).count()
}

/// How many sessions are open.
fn connections(lb: &Lb) -> usize {
    let backends = lb.backends();
    backends.iter().map(|slot| slot["connections"]["open"].as_u64().unwrap() as usize).sum()
}

/// Sends up to `most` bytes of the noise, as many as fit without a wait. Returns how many.
fn stuff(mut to: &TcpStream, most: usize) -> usize {
    to.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while sent < most {
        match to.write(noise(sent, most - sent)) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("after {sent}: {error}"),
        }
    }
    to.set_nonblocking(false).unwrap();
    sent
}

/// Sends a run of `len` bytes and receives it.
fn pass(from: &TcpStream, to: &TcpStream, len: usize) {
    thread::scope(|scope| {
        scope.spawn(|| send(from, len));
        receive(to, len);
    });
}

#[test]
fn long_runs_go_through_a_pipe_and_messages_do_not() {
    for (splice, expected) in [("auto", true), ("never", false)] {
        let wire = Wire::start(&[&ONE_WORKER[..], &["--splice", splice]].concat());
        let (client, replica) = pair(&wire);
        for _ in 0..100 {
            pass(&client, &replica, 16 * KIB);
            pass(&replica, &client, 16 * KIB);
        }
        assert_eq!(pipes(&wire.lb), 0, "messages are copied");
        // The scheduler decides how long a run is, so there are several.
        for (from, to) in [(&client, &replica), (&replica, &client)] {
            for _ in 0..4 {
                pass(from, to, 8 * MIB);
            }
        }
        assert_eq!(pipes(&wire.lb) > 0, expected, "--splice {splice}");
        assert!(pipes(&wire.lb) <= 2, "one pipe serves all directions that do not wait");
    }
}

#[test]
fn a_thousand_transfers_leak_no_file_however_they_end() {
    let wire = Wire::start(&[&ONE_WORKER[..], &["--drain-timeout", "100ms"]].concat());
    drop(pair(&wire));
    let lb = &wire.lb;
    eventually("no connection", || (connections(lb) == 0).then_some(()));
    let others = || lb.open_files() - 2 * pipes(lb);
    // The control port may still be closing the connection of the last question.
    let (mut looks, mut before) = (0, usize::MAX);
    eventually("a hundred looks", || {
        (looks, before) = (looks + 1, before.min(others()));
        (looks == 100).then_some(())
    });
    let mut most = 0;
    for round in 0..40 {
        let pairs: Vec<_> = (0..25).map(|_| pair(&wire)).collect();
        let sent: Vec<_> =
            pairs.iter().map(|(client, replica)| (stuff(replica, 4 * MIB), stuff(client, 4 * MIB))).collect();
        most = most.max(pipes(lb));
        for (number, ((client, replica), (down, up))) in pairs.into_iter().zip(sent).enumerate() {
            match (round + number) % 5 {
                0 => thread::scope(|scope| {
                    for (from, to, len) in [(&client, &replica, up), (&replica, &client, down)] {
                        from.shutdown(Shutdown::Write).unwrap();
                        scope.spawn(move || {
                            receive(to, len);
                            assert_eq!(end(to), FIN);
                        });
                    }
                }),
                1 => reset(client),
                2 => reset(replica),
                3 => drop(client),
                _ => drop(replica),
            }
        }
        eventually("no connection", || (connections(lb) == 0).then_some(()));
    }
    assert!(most > 0, "no connection had a pipe");
    let pairs: Vec<_> = (0..25).map(|_| pair(&wire)).collect();
    for (client, replica) in &pairs {
        stuff(replica, 4 * MIB);
        stuff(client, 4 * MIB);
    }
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["a"]}));
    eventually("the eviction", || (connections(lb) == 0).then_some(()));
    eventually("as many files as before", || (others() == before).then_some(()));
    assert!(pipes(lb) <= KEPT, "{} pipes", pipes(lb));
}

#[test]
fn a_transfer_that_is_evicted_ends_as_a_reset() {
    for wire in every_relay_with(&["--drain-timeout", "200ms"]) {
        let (client, replica) = pair(&wire);
        thread::scope(|scope| {
            scope.spawn(|| while (&replica).write(noise(0, MIB)).is_ok() {});
            (&client).read_exact(&mut vec![0; 4 * MIB]).unwrap();
            wire.lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["a"]}));
            let error = (&client).read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        });
    }
}

#[test]
fn a_transfer_is_finished_before_lb_ends() {
    const LEN: usize = 64 * MIB;
    for mut wire in every_relay() {
        let (client, replica) = pair(&wire);
        thread::scope(|scope| {
            scope.spawn(|| {
                send(&replica, LEN);
                replica.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(|| {
                receive(&client, LEN);
                assert_eq!(end(&client), FIN);
                client.shutdown(Shutdown::Write).unwrap();
            });
            wire.lb.signal("TERM");
            wire.lb.wait_for_log("stopping");
        });
        assert_eq!(wire.lb.wait().code(), Some(0));
    }
}

#[test]
fn bytes_are_copied_when_no_pipe_is_left() {
    // There is one pipe for every 128 files.
    for (files, most) in [(125, 0), (300, 2)] {
        let wire = Wire::start_as(&ONE_WORKER, |command| with_files(files, &command));
        let pairs: Vec<_> = (0..20).map(|_| pair(&wire)).collect();
        thread::scope(|scope| {
            let floods: Vec<_> = pairs.iter().map(|(_, replica)| scope.spawn(|| flood(replica))).collect();
            let sent: Vec<_> = floods.into_iter().map(|flood| flood.join().unwrap()).collect();
            assert_eq!(pipes(&wire.lb), most, "with {files} files");
            for ((client, replica), sent) in pairs.iter().zip(sent) {
                scope.spawn(move || {
                    replica.shutdown(Shutdown::Write).unwrap();
                    receive(client, sent);
                    assert_eq!(end(client), FIN);
                });
            }
        });
    }
}

#[test]
fn short_messages_are_served_beside_busy_connections() {
    let wire = Wire::start(&ONE_WORKER);
    let busy: Vec<_> = (0..3).map(|_| pair(&wire)).collect();
    let (mut client, mut replica) = pair(&wire);
    thread::scope(|scope| {
        for (client, replica) in &busy {
            scope.spawn(|| while (&mut &*client).write(noise(0, MIB)).is_ok() {});
            scope.spawn(|| {
                let mut buffer = vec![0; MIB];
                while (&mut &*replica).read(&mut buffer).is_ok_and(|n| n > 0) {}
            });
        }
        for at in 0..300 {
            client.write_all(noise(at, 1)).unwrap();
            let mut byte = [0];
            replica.read_exact(&mut byte).unwrap();
            assert_eq!(byte, noise(at, 1));
        }
        for (client, _) in &busy {
            client.shutdown(Shutdown::Both).unwrap();
        }
    });
}
