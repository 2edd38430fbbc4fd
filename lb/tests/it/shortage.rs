//! More clients than the limit of open files allows: no busy loop, no flood in the log, and the control plane goes on.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;

use crate::harness::{Lb, eventually, signal, text, with_files};

/// `lb` with at most 64 open files.
fn short_of_files(flags: &[&str]) -> Lb {
    let lb = Lb::launch_as(with_files(64, &Lb::command(flags)));
    lb.wait_for_log("ready data=");
    lb
}

/// Whether every thread of `lb` waits in the kernel (state S, proc(5)): a thread in a busy loop never does.
fn all_threads_wait(lb: &Lb) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", lb.pid())).unwrap();
    let mut stats = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).unwrap());
    stats.all(|stat| stat.rsplit(") ").next().unwrap().starts_with('S'))
}

/// Clients that send a line each and stay connected.
fn crowd(lb: &Lb, size: usize) -> Vec<TcpStream> {
    let join = |id: usize| {
        let mut client = lb.connect();
        client.write_all(format!("{id}\n").as_bytes()).unwrap();
        client
    };
    (0..size).map(join).collect()
}

fn lines_with(lb: &Lb, part: &str) -> Vec<String> {
    lb.log().into_iter().filter(|line| line.contains(part)).collect()
}

#[test]
fn more_clients_than_files_cost_neither_cpu_nor_log_nor_a_replica() {
    for flags in [["--workers", "1"], ["--workers", "4"]] {
        let lb = short_of_files(&flags);
        let crowd = crowd(&lb, 200);
        lb.wait_for_log("no new connections");
        for _ in 0..20 {
            assert_eq!(lb.hostnames(), ["server1", "server2", "server3"], "the control port answers");
            eventually("all threads of lb at rest", || all_threads_wait(&lb).then_some(()));
        }
        // The unit test of `net::Complaints` checks that there is at most one a second.
        eventually("a second warning", || (lines_with(&lb, " WARN ").len() > 1).then_some(()));
        assert_eq!(lines_with(&lb, "replica down"), [""; 0], "probes pass");
        drop(crowd);
        assert_ne!(lb.route("132574"), "");
    }
}

#[test]
fn a_replica_killed_during_a_shortage_is_replaced() {
    for flags in [&["--workers", "1"][..], &["--workers", "4"], &["--workers", "2", "--spares", "3"]] {
        let lb = short_of_files(flags);
        let _crowd = crowd(&lb, 200);
        lb.wait_for_log("no new connections");
        for (index, kills) in [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2)] {
            signal(lb.process_of(text(&lb.slot(index)["hostname"])), "KILL");
            lb.wait_for_restarts(index, kills);
        }
        assert_eq!(
            lines_with(&lb, "Too many open files"),
            [""; 0],
            "lb keeps some files in reserve for replacements"
        );
    }
}
