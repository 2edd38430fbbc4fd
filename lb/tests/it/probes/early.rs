//! What sessions see of a replica brings its next probe forward, and is no verdict.

use std::io::{Read as _, Write as _};

use super::probed;
use crate::harness::{Lb, Replica, eventually, fixed, flags, reset};

/// A tenth of it is the least time between two probes that sessions ask for. Waits end before it is over.
const SELDOM: [&str; 2] = ["--health-interval", "60s"];

#[test]
fn a_refused_connect_brings_the_probe_that_takes_the_replica_out() {
    let replica = Replica::named("one");
    let fleet = fixed(&[replica.address]);
    let lb = Lb::start(&[&flags(&fleet)[..], &SELDOM].concat());
    assert_eq!(lb.exchange(b"7\n"), b"one");
    replica.leave();
    assert_eq!(lb.exchange(b"7\n"), b"");
    lb.wait_for_state(1, "down");
    assert!(probed(&lb, "failed") >= 2, "probes have decided");
}

#[test]
fn a_reset_before_the_first_byte_brings_one_probe_and_no_verdict() {
    let replica = Replica::start(|stream, _| reset(stream));
    let fleet = fixed(&[replica.address]);
    let lb = Lb::start(&[&flags(&fleet)[..], &SELDOM].concat());
    let before = probed(&lb, "ok");
    for _ in 0..50 {
        let mut client = lb.connect();
        client.write_all(b"7\n").unwrap();
        assert!(client.read(&mut [0]).is_err(), "it is reset");
    }
    eventually("an earlier probe", || (probed(&lb, "ok") > before).then_some(()));
    assert!(probed(&lb, "ok") <= before + 2, "one for all of them");
    assert_eq!((probed(&lb, "failed"), lb.slot(1)["state"].as_str()), (0, Some("up")));
}
