//! The relay: all bytes arrive in order both ways, at the pace of the slower side, and every end arrives as it was sent.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::harness::{Lb, Wire, eventually, every_relay, field, patient, reset};
use crate::noise::{FIN, KIB, MIB, RESET, end, noise, receive, send, wait_until_taken};

/// Both ends of a session that has begun. (A replica that resets earlier counts as one that cannot be reached.)
pub(crate) fn pair(wire: &Wire) -> (TcpStream, TcpStream) {
    settled(wire.pair())
}

/// Like [`pair`], with small receive buffers at both ends, so that most unread bytes stay with `lb`.
pub(crate) fn narrow_pair(wire: &Wire) -> (TcpStream, TcpStream) {
    const ROOM: usize = 4 * KIB;
    SockRef::from(&wire.listener).set_recv_buffer_size(ROOM).unwrap();
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.set_recv_buffer_size(ROOM).unwrap();
    client.connect(&wire.lb.data.into()).unwrap();
    settled((patient(client.into()), wire.accept()))
}

fn settled((client, replica): (TcpStream, TcpStream)) -> (TcpStream, TcpStream) {
    send(&client, 1);
    receive(&replica, 1);
    (client, replica)
}

/// Orders the two ends of a session: the sender comes first.
pub(crate) type Turn = fn((TcpStream, TcpStream)) -> (TcpStream, TcpStream);
/// What holds for one side holds for the other, so tests run with either one as the sender.
pub(crate) const BOTH_WAYS: [(&str, Turn); 2] =
    [("from the client", |pair| pair), ("from the replica", |(a, b)| (b, a))];

/// The log line of the session of this client.
fn session(lb: &Lb, client: TcpStream) -> String {
    let peer = client.local_addr().unwrap();
    drop(client);
    lb.session_of(peer)
}

#[test]
fn sixty_four_mib_each_way_at_once_arrive_as_they_were_sent() {
    const LEN: usize = 64 * MIB;
    for wire in every_relay() {
        let (client, replica) = wire.pair();
        thread::scope(|scope| {
            for stream in [&client, &replica] {
                scope.spawn(|| {
                    send(stream, LEN);
                    stream.shutdown(Shutdown::Write).unwrap();
                });
            }
            scope.spawn(|| receive(&replica, LEN));
            receive(&client, LEN);
        });
        assert_eq!((end(&client), end(&replica)), (FIN, FIN));
        let line = session(&wire.lb, client);
        let all = LEN.to_string();
        assert_eq!((field(&line, "up="), field(&line, "down=")), (all.as_str(), all.as_str()));
        assert!(line.ends_with("ending=complete"), "{line}");
    }
}

#[test]
fn single_bytes_arrive_one_by_one() {
    for wire in every_relay() {
        let (mut client, mut replica) = wire.pair();
        for stream in [&client, &replica] {
            stream.set_nodelay(true).unwrap();
        }
        for at in 0..2000 {
            client.write_all(noise(at, 1)).unwrap();
            let mut byte = [0];
            replica.read_exact(&mut byte).unwrap();
            assert_eq!(byte, noise(at, 1));
            replica.write_all(&byte).unwrap();
            client.read_exact(&mut byte).unwrap();
            assert_eq!(byte, noise(at, 1));
        }
        drop(replica);
        let line = session(&wire.lb, client);
        assert_eq!((field(&line, "up="), field(&line, "down=")), ("2000", "2000"));
    }
}

#[test]
fn after_a_half_close_the_other_direction_goes_on() {
    for wire in every_relay() {
        for (what, turn) in BOTH_WAYS {
            let (first, other) = turn(pair(&wire));
            send(&first, 3 * KIB);
            first.shutdown(Shutdown::Write).unwrap();
            receive(&other, 3 * KIB);
            assert_eq!(end(&other), FIN, "{what}");
            for _ in 0..20 {
                thread::scope(|scope| {
                    scope.spawn(|| send(&other, MIB));
                    receive(&first, MIB);
                });
            }
            other.shutdown(Shutdown::Write).unwrap();
            assert_eq!(end(&first), FIN, "{what}");
        }
    }
}

#[test]
fn both_sides_may_half_close_at_once() {
    for wire in every_relay() {
        for _ in 0..50 {
            let (client, replica) = wire.pair();
            for stream in [&client, &replica] {
                stream.shutdown(Shutdown::Write).unwrap();
            }
            assert_eq!((end(&client), end(&replica)), (FIN, FIN));
            let line = session(&wire.lb, client);
            assert!(line.ends_with("ending=complete"), "{line}");
        }
    }
}

#[test]
fn a_reset_arrives_as_a_reset_after_every_byte_before_it() {
    for wire in every_relay() {
        for (what, turn) in BOTH_WAYS {
            for (len, half_closed) in [(0, false), (1, true), (200 * KIB, false), (2 * MIB + 1, true)] {
                let (from, to) = turn(pair(&wire));
                if half_closed {
                    to.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(end(&from), FIN);
                }
                thread::scope(|scope| {
                    scope.spawn(|| receive(&to, len));
                    send(&from, len);
                });
                reset(from);
                assert_eq!(end(&to), RESET, "{what}, {len} bytes");
            }
        }
    }
}

#[test]
fn a_reset_that_is_noticed_by_sending_arrives_after_every_byte_before_it_too() {
    for wire in every_relay() {
        for (what, turn) in BOTH_WAYS {
            // `lb` looks at a random direction first.
            for _ in 0..10 {
                let (from, to) = turn(pair(&wire));
                wire.lb.signal("STOP");
                send(&from, 30 * KIB);
                send(&to, 1);
                wait_until_taken(&from);
                reset(from);
                wire.lb.signal("CONT");
                receive(&to, 30 * KIB);
                assert_eq!(end(&to), RESET, "{what}");
            }
        }
    }
}

#[test]
fn a_reset_does_not_overtake_bytes_that_a_slow_reader_has_not_read_yet() {
    for wire in every_relay() {
        for (what, turn) in BOTH_WAYS {
            for len in [1, 40 * KIB, 200 * KIB] {
                let (from, to) = turn(narrow_pair(&wire));
                send(&from, len);
                wait_until_taken(&from);
                reset(from);
                receive(&to, len);
                assert_eq!(end(&to), RESET, "{what}, {len} bytes");
            }
        }
    }
}

#[test]
fn a_reset_arrives_behind_a_half_close_too() {
    for wire in every_relay() {
        let resets = BOTH_WAYS.map(|(what, turn)| {
            let (from, to) = turn(pair(&wire));
            send(&from, 3 * KIB);
            from.shutdown(Shutdown::Write).unwrap();
            receive(&to, 3 * KIB);
            assert_eq!(end(&to), FIN, "{what}");
            reset(from);
            (what, to)
        });
        for (what, to) in resets {
            // Nothing is left to read, so the reset shows only as an error of the socket.
            let error = eventually("the reset", || to.take_error().unwrap());
            let expected = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(expected.contains(&error.kind()), "{what}: {error}");
        }
    }
}

#[test]
fn an_early_answer_arrives_whole_although_the_server_does_not_read_the_rest_of_the_request() {
    let leaves: [(fn(TcpStream), usize); 3] = [
        (reset, 300 * KIB),
        (drop, 300 * KIB),
        (|server| server.shutdown(Shutdown::Write).unwrap(), 30 * KIB),
    ];
    for wire in every_relay() {
        for (what, turn) in BOTH_WAYS {
            for (leave, answer) in leaves {
                let (server, client) = turn(pair(&wire));
                thread::scope(|scope| {
                    scope.spawn(|| {
                        receive(&server, MIB);
                        send(&server, answer);
                        wait_until_taken(&server);
                        leave(server);
                    });
                    // The client reads nothing before it has sent everything, or cannot send more.
                    let mut sent = 0;
                    while sent < 64 * MIB
                        && let Ok(n) = (&client).write(noise(sent, 64 * KIB))
                    {
                        sent += n;
                    }
                });
                receive(&client, answer);
                assert!([FIN, RESET].contains(&end(&client)), "{what}");
            }
        }
    }
}

/// Sends the noise until the receiver takes no more. Returns how many bytes were sent.
pub(crate) fn flood(mut to: &TcpStream) -> usize {
    to.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while let Ok(n) = to.write(noise(sent, 64 * KIB)) {
        sent += n;
        assert!(sent < 64 * MIB, "the sender is not slowed");
    }
    sent
}

#[test]
fn a_reader_that_stops_slows_the_sender_and_costs_little_memory() {
    const PAIRS: usize = 30;
    for wire in every_relay() {
        wire.pair();
        let before = wire.lb.resident();
        let pairs: Vec<_> = (0..PAIRS).map(|_| narrow_pair(&wire)).collect();
        thread::scope(|scope| {
            let floods: Vec<_> = pairs
                .iter()
                .map(|(client, replica)| (scope.spawn(|| flood(client)), scope.spawn(|| flood(replica))))
                .collect();
            let sent: Vec<_> =
                floods.into_iter().map(|(up, down)| (up.join().unwrap(), down.join().unwrap())).collect();
            let grown = wire.lb.resident().saturating_sub(before);
            assert!(grown < PAIRS * 64 * KIB + 2 * MIB, "{} bytes a connection", grown / PAIRS);

            let (client, replica) = wire.pair();
            send(&client, 10);
            receive(&replica, 10);

            for ((client, replica), (up, down)) in pairs.iter().zip(sent) {
                for (stream, len) in [(replica, up), (client, down)] {
                    SockRef::from(stream).set_recv_buffer_size(MIB).unwrap();
                    scope.spawn(move || receive(stream, len));
                }
            }
        });
    }
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    const PAIRS: usize = 300;
    for wire in every_relay() {
        wire.pair();
        let before = wire.lb.resident();
        let pairs: Vec<_> = (0..PAIRS).map(|_| wire.pair()).collect();
        for (client, replica) in &pairs {
            for (from, to) in [(client, replica), (replica, client)] {
                send(from, 40 * KIB);
                receive(to, 40 * KIB);
            }
        }
        let grown = wire.lb.resident().saturating_sub(before);
        assert!(grown < PAIRS * 8 * KIB, "{} bytes a connection", grown / PAIRS);
    }
}
