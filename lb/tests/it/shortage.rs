//! More clients than the limit of open files allows: no spin, no storm in the log, and everybody else goes on.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Lb, eventually, signal, with_files};

/// `lb` with at most 64 open files.
fn short_of_files(flags: &[&str]) -> Lb {
    let lb = Lb::launch_as(with_files(64, &Lb::command(flags)));
    lb.wait_for_log("ready data=");
    lb
}

/// The processor time that `lb` has used so far.
fn cpu(lb: &Lb) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", lb.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
    // User and system time (proc(5)), in hundredths of a second on every Linux.
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// Clients that send a line each, and stay.
fn crowd(lb: &Lb, size: usize) -> Vec<TcpStream> {
    let join = |id: usize| {
        let mut client = lb.connect();
        client.write_all(format!("{id}\n").as_bytes()).unwrap();
        client
    };
    (0..size).map(join).collect()
}

fn lines_with(lb: &Lb, part: &str) -> usize {
    lb.log().iter().filter(|line| line.contains(part)).count()
}

#[test]
fn more_clients_than_files_cost_neither_cpu_nor_log_nor_a_replica() {
    for flags in [["--workers", "1"], ["--workers", "4"]] {
        let lb = short_of_files(&flags);
        let begun = Instant::now();
        let crowd = crowd(&lb, 200);
        lb.wait_for_log("no new connections");
        let (cpu_before, watched) = (cpu(&lb), Instant::now());
        eventually("two seconds", || {
            assert_eq!(lb.hostnames(), ["server1", "server2", "server3"], "the control port answers");
            (watched.elapsed() > Duration::from_secs(2)).then_some(())
        });
        let (used, passed) = (cpu(&lb) - cpu_before, watched.elapsed());
        assert!(used < passed.mul_f64(0.5), "{used:?} of processor time in {passed:?}");
        let warnings = lines_with(&lb, " WARN ");
        assert!(warnings <= begun.elapsed().as_secs() as usize + 1, "at most one line a second");
        assert_eq!(lines_with(&lb, "replica down"), 0, "probes pass");
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
            signal(lb.process_of(lb.slot(index)["hostname"].as_str().unwrap()), "KILL");
            eventually("the replacement", || {
                Some(lb.slot(index)).filter(|slot| slot["state"] == "up" && slot["restarts"] == kills)
            });
        }
        assert_eq!(lines_with(&lb, "Too many open files"), 0, "some are kept for this");
    }
}
