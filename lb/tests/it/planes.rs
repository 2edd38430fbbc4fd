//! Threads of `lb` beside its workers that fail: the control port is opened again, and without a control plane `lb` ends with an error.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::control::{calm, http};
use crate::harness::{Lb, eventually, is_alive, say, session, signal, text};
use crate::tracer::{Tracer, threads_named};

/// Fails once, as the first call after the one that is under way.
const ONCE: &str = "error=ENOMEM:when=1";

/// Clients with an answer on its way, or so they think.
fn clients_in_the_middle(lb: &Lb) -> Vec<TcpStream> {
    let mut clients: Vec<TcpStream> = (0..8).map(|id| session(lb, &id.to_string()).0).collect();
    for client in &mut clients {
        client.write_all(b"the answer to this line may not come\n").unwrap();
    }
    clients
}

/// Checks that every connection was reset.
#[track_caller]
fn are_reset(clients: Vec<TcpStream>) {
    for mut client in clients {
        let ended = client.read_to_end(&mut Vec::new());
        assert_eq!(ended.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    }
}

#[test]
fn a_control_port_that_fails_is_opened_again_and_costs_the_data_port_nothing() {
    let folder = TempDir::new().unwrap();
    let unix = format!("unix:{}", folder.path().join("control.sock").display());
    let lb = calm(&["--replicas", "1", "--control", &unix]);
    let (mut client, _) = session(&lb, "1");
    for round in 1..=3 {
        let Some(_tracer) = Tracer::tamper(&threads_named(&lb, "control"), "epoll_wait", ONCE) else {
            return;
        };
        let failures =
            |line: &&String| line.contains("ERROR") && line.contains("the control port has failed");
        eventually("the failure in the log", || {
            // A connection wakes the port up, and may be lost with it.
            drop(TcpStream::connect(lb.control));
            (lb.log().iter().filter(failures).count() == round).then_some(())
        });
        assert_eq!(http(&lb, "GET /healthz", "").status, 200);
        let rep = Command::new(env!("CARGO_BIN_EXE_lb")).args(["rep", "--control", &unix]).output().unwrap();
        assert!(rep.status.success(), "{}", String::from_utf8_lossy(&rep.stderr));
    }
    say(&mut client, "open connections stay");
}

#[test]
fn a_listener_of_the_control_port_that_is_destroyed_listens_again_also_without_the_rights_of_root() {
    let nobody: &[&str] = if rustix::process::geteuid().is_root() { &["--user", "nobody"] } else { &[] };
    for flags in [&[], nobody] {
        let lb = calm(&[&["--replicas", "1"], flags].concat());
        for _ in 0..3 {
            let port = format!("sport = :{}", lb.control.port());
            let killed = Command::new("ss").args(["-K", "state", "listening", &port]).output();
            let refused = killed
                .map_or_else(|error| error.to_string(), |killed| String::from_utf8(killed.stderr).unwrap());
            if ["not supported", "not permitted", "No such file"].iter().any(|why| refused.contains(why)) {
                eprintln!("skipped: no socket can be destroyed here: {refused}");
                return;
            }
            eventually("an open port", || TcpStream::connect(lb.control).ok());
            lb.wait_for_log("control port: no new connections for the moment: Invalid argument");
            assert_eq!(http(&lb, "GET /healthz", "").status, 200);
        }
    }
}

#[test]
fn without_its_control_plane_lb_ends_with_an_error_and_no_connection_looks_complete() {
    let mut lb = calm(&["--replicas", "2", "--workers", "2"]);
    let (clients, children) = (clients_in_the_middle(&lb), lb.children());
    let Some(_tracer) = Tracer::tamper(&[lb.pid()], "epoll_wait", ONCE) else { return };
    assert_eq!(lb.wait().code(), Some(1));
    lb.wait_for_log("error: the control plane has failed: unexpected error when polling");
    are_reset(clients);
    eventually("no child", || (!children.iter().any(|&child| is_alive(child))).then_some(()));
}

#[test]
fn a_part_of_the_control_plane_that_fails_ends_lb_in_order_and_with_an_error() {
    let mut lb = calm(&["--replicas", "1", "--drain-timeout", "10m"]);
    let (mut client, _) = session(&lb, "1");
    // The thread that reads what replicas print.
    let Some(_tracer) = Tracer::tamper(&threads_named(&lb, "output"), "epoll_wait", ONCE) else { return };
    // The next replica wakes it up.
    let stream = TcpStream::connect(lb.control);
    drop(stream.and_then(|mut stream| stream.write_all(b"{\"cmd\":\"add\",\"n\":1}\n").map(|()| stream)));
    lb.wait_for_log("a part of the control plane has failed, so lb ends");
    eventually("the data port closed", || TcpStream::connect(lb.data).is_err().then_some(()));
    say(&mut client, "open connections may finish");
    drop(client);
    assert_eq!(lb.wait().code(), Some(1));
    lb.wait_for_log("error: a part of the control plane has failed");
}

#[test]
fn a_kernel_that_does_not_show_sockets_is_said_and_costs_no_replica() {
    // So many replicas at once that there are threads for all that may block, later too.
    let lb = Lb::start(&["--replicas", "8", "--ack-timeout", "2s"]);
    let (mut client, hostname) = session(&lb, "1");
    let threads = threads_named(&lb, "tokio-rt-worker");
    let Some(tracer) = Tracer::tamper(&threads, "socket", "error=EPERM") else { return };
    let line = lb.wait_for_log("the kernel does not say which peers answer");
    assert!(line.contains(" WARN ") && line.contains("Operation not permitted"), "{line}");
    let victim = lb.backends().into_iter().find(|slot| slot["hostname"] != *hostname).unwrap();
    signal(lb.process_of(text(&victim["hostname"])), "KILL");
    lb.wait_for_replacement(&victim);
    assert!(lb.wait_for_log("it cannot be checked who listens").contains(" WARN "));
    say(&mut client, "open connections stay");
    drop(tracer);
    lb.wait_for_log("the kernel says again which peers answer");
    lb.done(&json!({"cmd": "rep"}));
}
