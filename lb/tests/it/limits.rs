//! The time limits of a session, and what a slow reader may hold.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::harness::{Lb, Wire, eventually, every_relay_with};
use crate::noise::{FIN, KIB, MIB, RESET, end, noise, receive, send};
use crate::relay::{BOTH_WAYS, flood, narrow_pair, pair};
use crate::splice::ONE_WORKER;

/// How the session of this client ended, as the log says.
fn ending(wire: &Wire, client: &TcpStream) -> String {
    let line = wire.lb.session_of(client.local_addr().unwrap());
    line.split_once("ending=").unwrap().1.to_owned()
}

/// A byte each way, again and again, for this time.
pub(crate) fn talk((client, replica): &(TcpStream, TcpStream), time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        send(client, 1);
        receive(replica, 1);
    }
}

#[test]
fn a_silent_session_is_reset_and_one_that_talks_is_not() {
    for wire in every_relay_with(&["--idle-timeout", "1500ms"]) {
        let (silent, busy) = (pair(&wire), pair(&wire));
        // In one direction only, and longer than the limit.
        talk(&busy, Duration::from_millis(2500));
        assert_eq!((end(&silent.0), end(&silent.1)), (RESET, RESET));
        assert_eq!(ending(&wire, &silent.0), "idle");
        talk(&busy, Duration::from_millis(10));
        assert_eq!((end(&busy.0), end(&busy.1)), (RESET, RESET), "now it is silent");
    }
}

#[test]
fn sessions_may_be_silent_if_nothing_limits_it() {
    let wire = Wire::start(&["--key", "source", "--half-close-timeout", "100ms"]);
    let (silent, other) = (pair(&wire), pair(&wire));
    talk(&other, Duration::from_millis(1000));
    send(&silent.0, 1);
    receive(&silent.1, 1);
}

#[test]
fn a_half_closed_session_that_is_silent_is_reset_and_one_that_moves_bytes_is_not() {
    for wire in every_relay_with(&["--half-close-timeout", "1500ms"]) {
        for (what, turn) in BOTH_WAYS {
            let (silent, busy) = (turn(pair(&wire)), turn(pair(&wire)));
            for (first, other) in [&silent, &busy] {
                first.shutdown(Shutdown::Write).unwrap();
                assert_eq!(end(other), FIN, "{what}");
            }
            talk(&(busy.1.try_clone().unwrap(), busy.0.try_clone().unwrap()), Duration::from_millis(2500));
            assert_eq!(end(&silent.0), RESET, "{what}");
            busy.1.shutdown(Shutdown::Write).unwrap();
            assert_eq!(end(&busy.0), FIN, "{what}");
        }
    }
}

#[test]
fn a_session_that_is_too_old_is_reset_however_busy_it_is() {
    for wire in every_relay_with(&["--max-connection-age", "700ms"]) {
        let (client, replica) = pair(&wire);
        thread::scope(|scope| {
            scope.spawn(|| while (&replica).write(noise(0, KIB)).is_ok() {});
            let error = (&client).read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(Err(error.kind()), RESET);
        });
        assert_eq!(ending(&wire, &client), "too old");
        let (half_closed, other) = pair(&wire);
        half_closed.shutdown(Shutdown::Write).unwrap();
        assert_eq!(end(&other), FIN);
        assert_eq!(end(&half_closed), RESET);
    }
}

#[test]
fn sockets_have_the_options_that_flags_ask_for() {
    let wire = Wire::start(&[
        "--key",
        "source",
        "--keepalive",
        "40s",
        "--ack-timeout",
        "20s",
        "--socket-buffer",
        "16KiB",
    ]);
    let (client, _replica) = pair(&wire);
    // ss(8) shows what the kernel knows of the accepted socket.
    let port = client.local_addr().unwrap().port();
    let data = wire.lb.data.port();
    let shown = std::process::Command::new("ss")
        .args(["-tnoim", &format!("sport = :{data} and dport = :{port}")])
        .output();
    let Ok(shown) = shown else { return assert!(std::env::var_os("CI").is_none(), "there is no ss") };
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("timer:(keepalive,"), "{shown}");
    // The kernel doubles what is asked for (socket(7)).
    assert!(
        shown.contains(&format!("rb{}", 2 * 16 * KIB)) && shown.contains(&format!("tb{}", 2 * 16 * KIB)),
        "{shown}"
    );
}

#[test]
fn a_capped_connection_holds_little_and_still_carries_everything() {
    const LEN: usize = 4 * MIB;
    for wire in every_relay_with(&["--socket-buffer", "16KiB"]) {
        let (client, replica) = narrow_pair(&wire);
        let sent = flood(&replica);
        // The rest is in the test's own send buffer.
        println!("{sent} bytes on their way");
        SockRef::from(&client).set_recv_buffer_size(MIB).unwrap();
        receive(&client, sent);
        let (client, replica) = pair(&wire);
        thread::scope(|scope| {
            scope.spawn(|| send(&replica, LEN));
            receive(&client, LEN);
        });
    }
}

#[test]
fn readers_that_stop_give_their_pipes_back_and_lose_no_byte() {
    const READERS: usize = 30;
    let wire = Wire::start(&[&ONE_WORKER[..], &["--log", "debug"]].concat());
    let pairs: Vec<_> = (0..READERS).map(|_| narrow_pair(&wire)).collect();
    thread::scope(|scope| {
        let floods: Vec<_> = pairs.iter().map(|(_, replica)| scope.spawn(|| flood(replica))).collect();
        let sent: Vec<_> = floods.into_iter().map(|flood| flood.join().unwrap()).collect();
        // Those that a worker keeps are empty.
        eventually("no pipe with bytes", || (bytes_in_pipes(&wire.lb) == 0).then_some(()));
        for ((client, replica), sent) in pairs.iter().zip(sent) {
            SockRef::from(client).set_recv_buffer_size(MIB).unwrap();
            scope.spawn(move || {
                replica.shutdown(Shutdown::Write).unwrap();
                receive(client, sent);
                assert_eq!(end(client), FIN);
            });
        }
    });
}

/// How many bytes are in the pipes of `lb`.
fn bytes_in_pipes(lb: &Lb) -> u64 {
    let files = std::fs::read_dir(format!("/proc/{}/fd", lb.pid())).unwrap().map_while(Result::ok);
    let pipes = files.filter(|file| {
        std::fs::read_link(file.path()).is_ok_and(|what| what.to_string_lossy().starts_with("pipe:"))
    });
    let bytes = |file: std::fs::DirEntry| {
        // Not the read end of the log's pipe, which the test reads.
        let number: u32 = file.file_name().to_str().unwrap().parse().unwrap();
        let pipe = std::fs::File::open(file.path()).ok().filter(|_| number > 2)?;
        rustix::io::ioctl_fionread(&pipe).ok()
    };
    pipes.filter_map(bytes).sum()
}
