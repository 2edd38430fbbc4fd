//! Workers that fail, cannot accept or hang: `lb` says so, `/healthz` says so, and the worker comes back.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use serde_json::json;

use crate::control::{calm, http};
use crate::harness::{Lb, eventually, say, session};
use crate::metrics::page::scrape;
use crate::tracer::{Tracer, threads_named};

/// Fails once, as the first call after the one that is under way.
const ONCE: &str = "error=ENOMEM:when=1";

fn one_worker() -> Lb {
    calm(&["--replicas", "1", "--workers", "1"])
}

fn threads(lb: &Lb, numbers: &[u32]) -> Vec<u32> {
    numbers.iter().flat_map(|number| threads_named(lb, &format!("worker-{number}"))).collect()
}

/// A new client is served, and `/healthz` says so. (Until the worker is back, the client waits in the kernel's queue.)
#[track_caller]
fn serves(lb: &Lb) {
    assert_ne!(lb.route("132574"), "");
    eventually("a healthz that is fine", || (http(lb, "GET /healthz", "").status == 200).then_some(()));
}

/// Waits until `/healthz` is 503 for this reason.
#[track_caller]
fn is_unhealthy(lb: &Lb, reason: &str) {
    eventually(reason, || {
        let answer = http(lb, "GET /healthz", "");
        (answer.status == 503 && answer.body.contains(reason)).then_some(())
    });
}

#[test]
fn a_worker_that_fails_is_logged_and_started_again_and_nothing_that_it_cut_off_looks_complete() {
    for workers in ["1", "2"] {
        let lb = calm(&["--replicas", "1", "--workers", workers]);
        let mut clients: Vec<TcpStream> = (0..8).map(|id| session(&lb, &id.to_string()).0).collect();
        for client in &mut clients {
            client.write_all(b"the answer to this line may not come\n").unwrap();
        }
        for round in 1..=3 {
            let Some(_tracer) = Tracer::tamper(&threads(&lb, &[1]), "epoll_wait", ONCE) else { return };
            let failures = |line: &&String| {
                line.contains("ERROR") && line.contains("a worker has failed") && line.contains("worker=1")
            };
            eventually("the failure in the log", || {
                (lb.log().iter().filter(failures).count() == round).then_some(())
            });
            eventually("the next worker", || (!threads(&lb, &[1]).is_empty()).then_some(()));
            (0..8).for_each(|_| assert_ne!(lb.route("132574"), ""));
        }
        serves(&lb);
        let fates: Vec<_> = clients.into_iter().map(fate).collect();
        assert!(!fates.contains(&Fate::Ended), "{fates:?}");
        // The second worker, if there is one, has kept its sessions.
        assert!(workers == "2" || fates.iter().all(|fate| *fate == Fate::Reset), "{fates:?}");
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Reset,
    /// It looks complete.
    Ended,
}

/// What has become of a connection. What `lb` did to it before it wrote to its log has arrived.
fn fate(mut client: TcpStream) -> Fate {
    client.set_nonblocking(true).unwrap();
    match client.read_to_end(&mut Vec::new()).map_err(|error| error.kind()) {
        Ok(_) => Fate::Ended,
        Err(ErrorKind::WouldBlock) => Fate::Open,
        Err(ErrorKind::ConnectionReset) => Fate::Reset,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_listener_that_is_destroyed_is_bound_again() {
    for workers in ["1", "3"] {
        let lb = calm(&["--replicas", "1", "--workers", workers]);
        let (mut client, _) = session(&lb, "1");
        for _ in 0..3 {
            let port = format!("sport = :{}", lb.data.port());
            let killed = Command::new("ss").args(["-K", "state", "listening", &port]).output();
            let refused = killed
                .map_or_else(|error| error.to_string(), |killed| String::from_utf8(killed.stderr).unwrap());
            if refused.contains("not supported")
                || refused.contains("not permitted")
                || refused.contains("No such file")
            {
                eprintln!("skipped: no socket can be destroyed here: {refused}");
                return;
            }
            // Until it is bound again, the kernel refuses connections.
            eventually("an open port", || TcpStream::connect(lb.data).ok());
            lb.wait_for_log("cannot accept connections; its listener is bound again: Invalid argument");
            serves(&lb);
        }
        lb.wait_for_log("can accept connections again");
        say(&mut client, "open connections stay");
    }
}

#[test]
fn a_worker_whose_accepts_all_fail_neither_spins_nor_floods_the_log() {
    for error in ["EPERM", "ECONNABORTED", "EBADF"] {
        let lb = one_worker();
        let (mut client, _) = session(&lb, "1");
        let how = format!("error={error}");
        let Some(tracer) = Tracer::tamper(&threads(&lb, &[1]), "accept4", &how) else { return };
        // They wait in the queue of a listener that is bound again meanwhile, so some of them may be reset.
        let _waiting: Vec<TcpStream> = (0..5).map(|_| lb.connect()).collect();
        is_unhealthy(&lb, "no worker accepts connections");
        let complaints = || lb.log().iter().filter(|line| line.contains("cannot accept connections")).count();
        eventually("three complaints", || (complaints() >= 3).then_some(()));
        let calls = tracer.calls();
        assert!(calls < 1000, "{error}: {calls} calls of accept for {} complaints", complaints());
        say(&mut client, "open connections stay");
        drop(tracer);
        lb.wait_for_log("can accept connections again");
        serves(&lb);
    }
}

#[test]
fn the_errors_of_one_connection_cost_the_others_nothing() {
    let lb = one_worker();
    let Some(_tracer) = Tracer::tamper(&threads(&lb, &[1]), "accept4", "error=ECONNABORTED:when=1..20")
    else {
        return;
    };
    (0..20).for_each(|id| assert_ne!(lb.route(&id.to_string()), ""));
    assert_eq!(lb.log().iter().find(|line| line.contains("cannot accept")), None);
}

#[test]
fn a_worker_that_hangs_is_said_and_healthz_says_so() {
    let lb = one_worker();
    let Some(tracer) = Tracer::tamper(&threads(&lb, &[1]), "epoll_wait", "delay_enter=8000000:when=1") else {
        return;
    };
    lb.wait_for_log("a worker is blocked: it does nothing worker=1");
    is_unhealthy(&lb, "no worker accepts connections");
    assert_eq!(scrape(&lb).value("lb_workers", "state=dead"), 1.0);
    assert_eq!(lb.done(&json!({"cmd": "rep"}))["N"], 1, "the control plane goes on");
    drop(tracer);
    lb.wait_for_log("a worker goes on that was blocked worker=1");
    serves(&lb);
}

#[test]
fn a_worker_that_fails_during_a_drain_does_not_keep_lb_from_ending() {
    let mut lb = calm(&["--replicas", "1", "--workers", "1", "--drain-timeout", "10m"]);
    let (client, _) = session(&lb, "1");
    lb.signal("TERM");
    lb.wait_for_log("stopping");
    eventually("the data port closed", || TcpStream::connect(lb.data).is_err().then_some(()));
    let traced = Tracer::tamper(&threads(&lb, &[1]), "epoll_wait", ONCE);
    if traced.is_none() {
        drop(client);
    }
    assert_eq!(lb.wait().code(), Some(0));
}

#[test]
fn healthz_says_that_the_limit_of_connections_is_reached() {
    let lb =
        Lb::launch_as(crate::harness::with_files(64, &Lb::command(&["--replicas", "1", "--workers", "1"])));
    lb.wait_for_log("ready data=");
    let crowd: Vec<TcpStream> = (0..60).map(|_| lb.connect()).collect();
    is_unhealthy(&lb, "the limit of connections is reached");
    drop(crowd);
    serves(&lb);
}

#[test]
fn healthz_says_that_clients_wait_because_none_can_be_accepted() {
    let lb = one_worker();
    let Some(tracer) = Tracer::tamper(&threads(&lb, &[1]), "accept4", "error=EMFILE") else { return };
    let waiting = lb.connect();
    is_unhealthy(&lb, "no worker accepts connections");
    drop(tracer);
    serves(&lb);
    drop(waiting);
}

#[test]
fn a_worker_whose_heartbeat_fails_is_started_again() {
    let lb = one_worker();
    // The runtime wakes itself by writing to a file. While there is no session, only the heartbeat makes it do so.
    let Some(tracer) = Tracer::tamper(&threads(&lb, &[1]), "write", "error=EIO:when=1") else { return };
    lb.wait_for_log("a worker has failed");
    drop(tracer);
    serves(&lb);
}
